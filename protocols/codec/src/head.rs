//! A request head: a table of offsets over bytes that somebody else owns.
//!
//! Codecs fill a [`HeadIndex`] (reused for every request of a worker), the core reads a [`Head`]. Nothing is
//! copied and nothing is decoded that no route reads: [`Wants`], compiled from the routes, tells the codec which
//! parts anyone asks for. Offsets are 32 bits because a frame is never longer than `frame_max`.

/// A run of bytes inside a frame. The absent span is [`Span::NONE`]; an empty value has `len == 0` and is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte from the start of the frame.
    pub at: u32,
    /// Number of bytes; `u32::MAX` marks an absent span.
    pub len: u32,
}

impl Span {
    /// No value at all, as opposed to an empty one.
    pub const NONE: Self = Self { at: 0, len: u32::MAX };

    /// The span of `len` bytes at offset `at`.
    pub const fn new(at: usize, len: usize) -> Self {
        Self { at: at as u32, len: len as u32 }
    }

    /// Whether there is a value, be it empty.
    pub const fn is_some(self) -> bool {
        self.len != u32::MAX
    }

    /// The bytes, or `None` when the span is absent or does not lie inside `bytes`.
    pub fn of(self, bytes: &[u8]) -> Option<&[u8]> {
        if !self.is_some() {
            return None;
        }
        let from = self.at as usize;
        bytes.get(from..from.checked_add(self.len as usize)?)
    }
}

/// The parts of a head that have a meaning of their own in every protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Slot {
    /// The service without its version: a Bolt interface, a Dubbo path.
    Service,
    /// The service as the protocol spells it when that differs from [`Slot::Service`]: Bolt's
    /// `interface:version[:uniqueId]`. A route's `service` may name either form.
    ServiceKey,
    /// The method; for Dubbo's `$invoke` the method it names.
    Method,
    /// The service version.
    Version,
    /// The service group (Dubbo).
    Group,
    /// The authority (HTTP), with its port if one was given.
    Authority,
    /// The authority without its port (HTTP).
    Host,
    /// The path without its query (HTTP).
    Path,
    /// The query without its question mark (HTTP); absent when there is no question mark.
    Query,
    /// What stands on the first line where it is not a slot of its own (HTTP: the target as it goes on, or the status and its
    /// reason).
    Target,
    /// The scheme (HTTP/2); absent where the protocol does not name one.
    Scheme,
    /// HTTP's own method, where [`Slot::Method`] is the one that a dialect names (gRPC).
    Verb,
}

/// How many [`Slot`]s there are.
pub const SLOTS: usize = 12;

/// A header: Bolt's header map entry, Dubbo's attachment, HTTP's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Where the name is.
    pub name: Span,
    /// Where the value is.
    pub value: Span,
}

/// Headers one head may carry into the table; a codec refuses a head with more.
pub const FIELDS_MAX: usize = 1024;

/// Offsets of one request's head. Scratch of a worker: cleared, never freed, between requests.
#[derive(Debug)]
pub struct HeadIndex {
    slots: [Span; SLOTS],
    /// The headers in wire order, only those that [`Wants`] asked for.
    pub fields: Vec<Field>,
    /// The caller's own timeout in milliseconds; `None` when it set none (0 and negative mean none).
    pub timeout_ms: Option<u32>,
    /// Where it is written, if that is as text: it may be written in more than one place.
    pub timeouts: [Span; 2],
    /// Where one can be put in, if none is written and the codec knows such a place.
    pub timeout_room: Span,
    /// Who calls, where anybody wants to know.
    pub source: Option<core::net::IpAddr>,
    /// Nothing inside can be read (an unknown serialization, a foreign class): only routes that ask for nothing may
    /// match, and none that asks for an absence.
    pub opaque: bool,
    /// Names of headers are the same in upper and lower case.
    pub caseless: bool,
    /// Which of `fields` must enter no compression table, by their place; ascending.
    pub sensitive: Vec<u32>,
    /// Slots whose bytes had to be spelled anew to be compared (a host in capitals, a path with needless escapes).
    spelled: Vec<u8>,
    /// Which slots lie in `spelled`, by bit.
    anew: u16,
}

impl Default for HeadIndex {
    fn default() -> Self {
        Self { fields: Vec::with_capacity(32), ..Self::none() }
    }
}

impl HeadIndex {
    /// One that holds no memory: a place to take another from.
    pub const fn none() -> Self {
        Self {
            slots: [Span::NONE; SLOTS],
            fields: Vec::new(),
            timeout_ms: None,
            timeouts: [Span::NONE; 2],
            timeout_room: Span::NONE,
            source: None,
            opaque: false,
            caseless: false,
            sensitive: Vec::new(),
            spelled: Vec::new(),
            anew: 0,
        }
    }

    /// Forgets the last request; keeps the memory.
    pub fn clear(&mut self) {
        self.slots = [Span::NONE; SLOTS];
        self.fields.clear();
        self.timeout_ms = None;
        self.timeouts = [Span::NONE; 2];
        self.timeout_room = Span::NONE;
        self.source = None;
        self.opaque = false;
        self.caseless = false;
        self.sensitive.clear();
        self.spelled.clear();
        self.anew = 0;
    }

    /// Becomes equal to another; keeps the memory.
    pub fn copy(&mut self, other: &Self) {
        self.slots = other.slots;
        self.fields.clone_from(&other.fields);
        self.timeout_ms = other.timeout_ms;
        self.timeout_room = other.timeout_room;
        self.timeouts = other.timeouts;
        self.source = other.source;
        self.opaque = other.opaque;
        self.caseless = other.caseless;
        self.sensitive.clone_from(&other.sensitive);
        self.spelled.clone_from(&other.spelled);
        self.anew = other.anew;
    }

    /// Sets a slot.
    pub fn set(&mut self, slot: Slot, span: Span) {
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = span;
        }
        self.anew &= !(1 << slot as u16);
    }

    /// Gives a slot bytes that stand nowhere in the head. They are copied.
    pub fn spell(&mut self, slot: Slot, bytes: impl Iterator<Item = u8>) {
        let at = self.spelled.len();
        self.spelled.extend(bytes);
        self.set(slot, Span::new(at, self.spelled.len().saturating_sub(at)));
        self.anew |= 1 << slot as u16;
    }

    /// A slot's span in the head's bytes, absent when it was not set or was spelled anew.
    pub fn slot(&self, slot: Slot) -> Span {
        if self.anew & (1 << slot as u16) != 0 {
            return Span::NONE;
        }
        self.slots.get(slot as usize).copied().unwrap_or(Span::NONE)
    }

    fn slot_anew(&self, slot: Slot) -> Option<&[u8]> {
        if self.anew & (1 << slot as u16) == 0 {
            return None;
        }
        self.slots.get(slot as usize).and_then(|span| span.of(&self.spelled))
    }
}

/// What the core reads of a request: offsets and the bytes they point into.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The bytes that the spans of `index` point into: usually the whole frame.
    pub bytes: &'a [u8],
    /// The offsets.
    pub index: &'a HeadIndex,
}

impl<'a> Head<'a> {
    /// A slot's bytes, or `None` when the head has none.
    pub fn slot(&self, slot: Slot) -> Option<&'a [u8]> {
        self.index.slot(slot).of(self.bytes).or_else(|| self.index.slot_anew(slot))
    }

    /// The value of the first header called `name`, or `None`. Capitals count unless the protocol says they do not.
    pub fn field(&self, name: &[u8]) -> Option<&'a [u8]> {
        let same =
            |theirs: &[u8]| theirs == name || (self.index.caseless && theirs.eq_ignore_ascii_case(name));
        self.index
            .fields
            .iter()
            .find(|field| field.name.of(self.bytes).is_some_and(same))
            .and_then(|field| field.value.of(self.bytes))
    }
}

/// Which parts of a head anyone reads, as a set compiled from the routes of a listener.
///
/// A codec may always give more than was wanted. What stands for nothing in the set it may leave absent, and it
/// must not refuse a request because a part that nobody wants cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Wants(u16);

impl Wants {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// [`Slot::Service`] and [`Slot::ServiceKey`].
    pub const SERVICE: Self = Self(1);
    /// [`Slot::Method`].
    pub const METHOD: Self = Self(1 << 1);
    /// [`Slot::Version`].
    pub const VERSION: Self = Self(1 << 2);
    /// [`Slot::Group`].
    pub const GROUP: Self = Self(1 << 3);
    /// [`Slot::Authority`], [`Slot::Host`], [`Slot::Path`] and [`Slot::Query`].
    pub const TARGET: Self = Self(1 << 4);
    /// [`HeadIndex::fields`].
    pub const FIELDS: Self = Self(1 << 5);
    /// [`HeadIndex::timeout_ms`] and [`HeadIndex::timeouts`]. Wanted, but never worth a refusal: a timeout that cannot be read is none.
    pub const TIMEOUT: Self = Self(1 << 6);
    /// Everything.
    pub const ALL: Self = Self(0x7f);

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any part of `other` is wanted.
    pub const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}
