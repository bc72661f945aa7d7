//! Header lists to header blocks. It must never put into the table what is to stay out of it, nor what is not likely to
//! come again: each entry costs both sides, and drives out another.
//!
//! Source: RFC 7541 §4.2, §6, §7.1.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;

use super::{
    ENTRY, TABLE, huffman, integer,
    statics::{self, STATICS},
    table::Table,
};

/// What the peer's table may keep of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexing {
    /// Whatever helps: it may enter the table.
    Auto,
    /// Nothing: a literal without indexing (§6.2.2).
    Plain,
    /// Nothing, neither here nor on any connection further on: a literal never indexed (§6.2.3).
    Never,
}

/// The sending end of a connection's header compression.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    /// Where entries of the table are found by their hashes; there is none before the first.
    index: Option<Box<Index>>,
    /// Hashes of fields and names that came lately and had no entry, each in the slot that it shows to.
    lately: Option<Box<[u32; LATELY]>>,
    /// The smallest size of the table that the peer asked for since the last block, and the last.
    asked: Option<(usize, usize)>,
}

/// Slots for what came lately.
const LATELY: usize = 64;

/// An entry may take this part of the table.
const PART: usize = 4;

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An encoder for a peer that has said nothing yet: its table has 4096 bytes. It takes no memory before the first
    /// insertion.
    pub fn new() -> Self {
        Self { table: Table::new(TABLE, TABLE), index: None, lately: None, asked: None }
    }

    /// The peer's `SETTINGS_HEADER_TABLE_SIZE`, of which at most 4096 bytes are used. The next block will begin with it.
    pub fn set_table_max(&mut self, size: usize) {
        let size = size.min(TABLE);
        let smallest = self.asked.map_or(size, |(smallest, _)| smallest.min(size));
        self.asked = Some((smallest, size));
    }

    /// Begins a block.
    #[inline]
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((smallest, last)) = self.asked.take() {
            if smallest < self.table.max() {
                self.update(smallest, out);
            }
            if last != self.table.max() {
                self.update(last, out);
            }
        }
    }

    /// Appends a field. Its name is in lower case.
    #[inline]
    pub fn field(&mut self, name: &[u8], value: &[u8], indexing: Indexing, out: &mut Vec<u8>) {
        match indexing {
            Indexing::Auto => self.auto(name, value, out),
            Indexing::Plain => self.outside(name, value, 0x00, out),
            Indexing::Never => self.outside(name, value, 0x10, out),
        }
    }

    fn auto(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let first = statics::first(name);
        if let Some(place) = first.and_then(|first| statics::whole(first, value)) {
            return integer::write(place.saturating_add(1), 0x80, 0x7f, out);
        }
        let (named, whole) = hashes(name, value);
        if let Some(at) = self.find_whole(name, value, whole) {
            return integer::write(dynamic(at), 0x80, 0x7f, out);
        }
        let index = match first {
            Some(place) => place.saturating_add(1),
            None => self.find_name(name, named).map_or(0, dynamic),
        };
        if self.enters(name, value, (index == 0).then_some(named), whole) {
            integer::write(index, 0x40, 0x3f, out);
            if index == 0 {
                string(name, out);
            }
            string(value, out);
            self.insert(name, value, named, whole);
        } else {
            literal(index, name, value, 0x00, out);
        }
    }

    /// A field that stays out of the table. Its name may have an index.
    fn outside(&mut self, name: &[u8], value: &[u8], first: u8, out: &mut Vec<u8>) {
        let index = match statics::first(name) {
            Some(place) => place.saturating_add(1),
            None => self.find_name(name, hash_of_name(name)).map_or(0, dynamic),
        };
        literal(index, name, value, first, out);
    }

    /// Whether a field that has no entry is to have one: it came before, or is of those that come again and there is room, or
    /// its name came before and has no index, so that others need not spell it. What came once only drives nothing out.
    fn enters(&mut self, name: &[u8], value: &[u8], unnamed: Option<u32>, whole: u32) -> bool {
        let text = name.len().saturating_add(value.len());
        if text.saturating_add(ENTRY) > self.table.max() / PART || varies(name) {
            return false;
        }
        if repeats(name) && self.table.has_room(text) {
            return true;
        }
        let whole = self.came_lately(whole);
        unnamed.is_some_and(|named| self.came_lately(named)) || whole
    }

    /// Whether what has this hash came lately. From now on it did.
    fn came_lately(&mut self, hash: u32) -> bool {
        let lately = self.lately.get_or_insert_with(|| Box::new([0; LATELY]));
        let Some(slot) = lately.get_mut(hash as usize % LATELY) else { return false };
        let known = *slot == hash;
        *slot = hash;
        known
    }

    fn find_whole(&self, name: &[u8], value: &[u8], whole: u32) -> Option<usize> {
        let index = self.index.as_deref()?;
        index.wholes.find(whole, |id| {
            let place = index.place(id);
            let entry = self.table.get(place)?;
            let same = index.hashes(id).whole == whole
                && self.table.name(&entry) == name
                && self.table.value(&entry) == value;
            same.then_some(place)
        })
    }

    fn find_name(&self, name: &[u8], named: u32) -> Option<usize> {
        let index = self.index.as_deref()?;
        index.names.find(named, |id| {
            let place = index.place(id);
            let entry = self.table.get(place)?;
            let same = index.hashes(id).name == named && self.table.name(&entry) == name;
            same.then_some(place)
        })
    }

    fn insert(&mut self, name: &[u8], value: &[u8], named: u32, whole: u32) {
        let text = name.len().saturating_add(value.len());
        while !self.table.has_room(text) && self.table.len() > 0 {
            self.evict();
        }
        let older = self.find_name(name, named);
        let index = self.index.get_or_insert_default();
        index.make_room(self.table.len());
        self.table.insert_apart(name, value);
        index.add(Hashes { name: named, whole }, older);
    }

    fn evict(&mut self) {
        if let (Some(index), Some(oldest)) = (self.index.as_deref_mut(), self.table.len().checked_sub(1)) {
            index.remove(oldest);
        }
        self.table.evict();
    }

    /// A table size update (§6.3).
    fn update(&mut self, size: usize, out: &mut Vec<u8>) {
        while self.table.size() > size {
            self.evict();
        }
        self.table.resize(size);
        integer::write(size, 0x20, 0x1f, out);
    }
}

/// The index of an entry of the dynamic table.
fn dynamic(at: usize) -> usize {
    at.saturating_add(STATICS).saturating_add(1)
}

/// A literal that stays out of the table: `index` is its name's, or 0. Its strings are sent as they are: a code saves a few
/// bytes each time, and costs both sides more than all else that is done for the field.
fn literal(index: usize, name: &[u8], value: &[u8], first: u8, out: &mut Vec<u8>) {
    integer::write(index, first, 0x0f, out);
    if index == 0 {
        plain(name, out);
    }
    plain(value, out);
}

/// A string of an entry, which is spelled once: in whichever form is shorter (§5.2).
fn string(text: &[u8], out: &mut Vec<u8>) {
    let coded = huffman::coded_len(text);
    if coded < text.len() {
        integer::write(coded, 0x80, 0x7f, out);
        huffman::encode(text, out);
    } else {
        plain(text, out);
    }
}

fn plain(text: &[u8], out: &mut Vec<u8>) {
    integer::write(text.len(), 0x00, 0x7f, out);
    out.extend_from_slice(text);
}

/// Names whose values nearly always come again.
fn repeats(name: &[u8]) -> bool {
    matches!(
        name,
        b":authority"
            | b":method"
            | b":path"
            | b":scheme"
            | b":status"
            | b"accept"
            | b"accept-encoding"
            | b"accept-language"
            | b"content-encoding"
            | b"content-type"
            | b"grpc-accept-encoding"
            | b"grpc-encoding"
            | b"grpc-status"
            | b"server"
            | b"te"
            | b"user-agent"
            | b"vary"
    )
}

/// Names whose values are worth no entry even when they come again: too short, and soon different.
fn varies(name: &[u8]) -> bool {
    matches!(name, b"content-length")
}

/// The hashes of a name and of a field, as they are looked for. Neither needs a secret: what an entry can collide with is
/// bounded by the table, and each find is compared.
#[inline]
fn hashes(name: &[u8], value: &[u8]) -> (u32, u32) {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(name);
    let named = hasher.finish() as u32;
    hasher.write(value);
    (named, hasher.finish() as u32)
}

#[inline]
fn hash_of_name(name: &[u8]) -> u32 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(name);
    hasher.finish() as u32
}

/// The most entries that a table can have.
const ENTRIES: usize = TABLE / ENTRY;

/// No entry.
const NONE: u8 = u8::MAX;

/// Finds entries by their hashes. Entries have numbers that follow each other round and round. It has room for few at first,
/// as most connections never have many, and grows with the table.
#[derive(Debug)]
struct Index {
    /// The newest of each name.
    names: Slots,
    wholes: Slots,
    /// By number. Their count is a power of two.
    hashes: Box<[Hashes]>,
    /// The number of the newest entry.
    newest: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Hashes {
    name: u32,
    whole: u32,
}

/// Numbers of entries, each in the slot that its hash shows to or, if that is taken, in one of the next. There are twice as
/// many slots as entries can be.
#[derive(Debug)]
struct Slots(Box<[u8]>);

/// Entries that there is room for at first.
const FIRST: usize = 16;
const _: () = assert!(ENTRIES <= NONE as usize && ENTRIES.is_power_of_two() && FIRST.is_power_of_two());

impl Default for Index {
    fn default() -> Self {
        Self::with_room(FIRST)
    }
}

impl Index {
    fn with_room(entries: usize) -> Self {
        let none = || Slots(vec![NONE; entries.saturating_mul(2)].into());
        Self { names: none(), wholes: none(), hashes: vec![Hashes::default(); entries].into(), newest: 0 }
    }

    /// Room for another entry beside so many.
    fn make_room(&mut self, len: usize) {
        if len < self.hashes.len() {
            return;
        }
        let mut more = Self::with_room(self.hashes.len().saturating_mul(2));
        more.newest = len.saturating_sub(1);
        for place in 0..len {
            let (id, new) = (self.id(place), more.id(place));
            let hashes = self.hashes(id);
            more.keep(new, hashes);
            more.wholes.put(hashes.whole, NONE, new);
            if self.names.find(hashes.name, |there| (there == id).then_some(())).is_some() {
                more.names.put(hashes.name, NONE, new);
            }
        }
        *self = more;
    }

    /// The place in the table of an entry, the newest being 0.
    #[inline]
    fn place(&self, id: u8) -> usize {
        self.newest.wrapping_sub(usize::from(id)) & self.hashes.len().wrapping_sub(1)
    }

    /// The number of the entry at a place.
    fn id(&self, place: usize) -> u8 {
        (self.newest.wrapping_sub(place) & self.hashes.len().wrapping_sub(1)) as u8
    }

    #[inline]
    fn hashes(&self, id: u8) -> Hashes {
        self.hashes.get(usize::from(id)).copied().unwrap_or_default()
    }

    fn keep(&mut self, id: u8, hashes: Hashes) {
        if let Some(place) = self.hashes.get_mut(usize::from(id)) {
            *place = hashes;
        }
    }

    /// Adds the entry that has just become the newest. `older` was the place of one with its name, before.
    fn add(&mut self, hashes: Hashes, older: Option<usize>) {
        let older = older.map(|place| self.id(place));
        self.newest = self.newest.wrapping_add(1) & self.hashes.len().wrapping_sub(1);
        let id = self.id(0);
        self.keep(id, hashes);
        self.wholes.put(hashes.whole, NONE, id);
        self.names.put(hashes.name, older.unwrap_or(NONE), id);
    }

    /// Removes the oldest entry, which is at `place`.
    fn remove(&mut self, place: usize) {
        let id = self.id(place);
        let Hashes { name, whole } = self.hashes(id);
        let all = &self.hashes;
        let of = |id: u8| all.get(usize::from(id)).copied().unwrap_or_default();
        self.wholes.remove(whole, id, |id| of(id).whole);
        self.names.remove(name, id, |id| of(id).name);
    }
}

impl Slots {
    /// The slot that a hash shows to, or any number.
    #[inline]
    fn slot(&self, of: usize) -> usize {
        of & self.0.len().wrapping_sub(1)
    }

    #[inline]
    fn get(&self, slot: usize) -> u8 {
        self.0.get(slot).copied().unwrap_or(NONE)
    }

    fn set(&mut self, slot: usize, id: u8) {
        if let Some(place) = self.0.get_mut(slot) {
            *place = id;
        }
    }

    #[inline]
    fn after(&self, slot: usize) -> usize {
        self.slot(slot.wrapping_add(1))
    }

    /// The first answer for the entries that may have a hash.
    #[inline]
    fn find<T>(&self, hash: u32, mut is: impl FnMut(u8) -> Option<T>) -> Option<T> {
        let mut slot = self.slot(hash as usize);
        // Half of the slots are empty at least, so that this ends.
        loop {
            let id = self.get(slot);
            if id == NONE {
                return None;
            }
            if let Some(found) = is(id) {
                return Some(found);
            }
            slot = self.after(slot);
        }
    }

    /// Puts an entry where `old` is, or into the first empty slot.
    fn put(&mut self, hash: u32, old: u8, id: u8) {
        let mut slot = self.slot(hash as usize);
        loop {
            let there = self.get(slot);
            if there == old || there == NONE {
                return self.set(slot, id);
            }
            slot = self.after(slot);
        }
    }

    /// Removes an entry, if it is here, and moves up those behind it that were waiting for its slot.
    fn remove(&mut self, hash: u32, id: u8, hash_of: impl Fn(u8) -> u32) {
        let mut hole = self.slot(hash as usize);
        loop {
            match self.get(hole) {
                NONE => return,
                there if there == id => break,
                _ => hole = self.after(hole),
            }
        }
        let mut next = hole;
        loop {
            next = self.after(next);
            let there = self.get(next);
            if there == NONE {
                return self.set(hole, NONE);
            }
            let home = self.slot(hash_of(there) as usize);
            if self.slot(next.wrapping_sub(home)) >= self.slot(next.wrapping_sub(hole)) {
                self.set(hole, there);
                hole = next;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a failing test is the point")]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn block(encoder: &mut Encoder, fields: &[(&str, &str)], indexing: Indexing) -> Vec<u8> {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        for (name, value) in fields {
            encoder.field(name.as_bytes(), value.as_bytes(), indexing, &mut out);
        }
        out
    }

    /// As if the field had come before.
    fn known(encoder: &mut Encoder, name: &str, value: &str) {
        let (_, whole) = hashes(name.as_bytes(), value.as_bytes());
        encoder.enters(name.as_bytes(), value.as_bytes(), None, whole);
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }

    /// C.4, whose encoder puts into the table what ours does only when it comes again.
    #[test]
    fn rfc_c4_requests() {
        let mut encoder = Encoder::new();
        let authority = (":authority", "www.example.com");
        let first = [(":method", "GET"), (":scheme", "http"), (":path", "/"), authority];
        assert_eq!(hex(&block(&mut encoder, &first, Indexing::Auto)), "828684418cf1e3c2e5f23a6ba0ab90f4ff");
        known(&mut encoder, "cache-control", "no-cache");
        let second = [&first[..], &[("cache-control", "no-cache")]].concat();
        assert_eq!(hex(&block(&mut encoder, &second, Indexing::Auto)), "828684be5886a8eb10649cbf");
        known(&mut encoder, "custom-key", "custom-value");
        let custom = ("custom-key", "custom-value");
        let third = [(":method", "GET"), (":scheme", "https"), (":path", "/index.html"), authority, custom];
        let expected = "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf";
        assert_eq!(hex(&block(&mut encoder, &third, Indexing::Auto)), expected);
        assert_eq!(encoder.table.size(), 164);
    }

    /// The forms of C.2.
    #[test]
    fn what_stays_out_stays_out() {
        let mut encoder = Encoder::new();
        let path = block(&mut encoder, &[(":path", "/sample/path")], Indexing::Plain);
        assert_eq!(hex(&path), "040c2f73616d706c652f70617468");
        let secret = block(&mut encoder, &[("password", "secret")], Indexing::Never);
        assert_eq!(hex(&secret), "100870617373776f726406736563726574");
        // However often, and be it in a table already.
        for _ in 0..5 {
            assert_eq!(block(&mut encoder, &[("password", "secret")], Indexing::Never), secret);
            assert_eq!(
                block(&mut encoder, &[(":method", "GET")], Indexing::Never),
                [0x12, 3, b'G', b'E', b'T']
            );
            assert_eq!(
                block(&mut encoder, &[(":method", "GET")], Indexing::Plain),
                [0x02, 3, b'G', b'E', b'T']
            );
        }
        assert_eq!(encoder.table.len(), 0);
        assert!(encoder.index.is_none() && encoder.lately.is_none());
    }

    #[test]
    fn what_comes_once_never_enters() {
        let mut encoder = Encoder::new();
        let lasting = [(":authority", "a.example"), ("te", "trailers"), ("user-agent", "grpc-go/1")];
        block(&mut encoder, &lasting, Indexing::Auto);
        for id in 0..10_000 {
            let (trace, len) = (format!("00-{id:032x}-{id:016x}-01"), (id % 7).to_string());
            let fields = [("traceparent", &*trace), ("content-length", &*len)];
            let out = block(&mut encoder, &fields, Indexing::Auto);
            // The name does, as it comes again: a literal with one of the table's indices from then on.
            assert_eq!(out[..2], [[0x00, 0x0b], [0x40, 0x88], [0x0f, 0x2f]][id.min(2)]);
        }
        assert_eq!(encoder.table.len(), 4);
        assert_eq!(block(&mut encoder, &lasting, Indexing::Auto), [0xc1, 0xc0, 0xbf]);
        // What comes again does enter.
        let again = [("x-tenant", "blue")];
        assert_eq!(block(&mut encoder, &again, Indexing::Auto)[0], 0x00);
        assert_eq!(block(&mut encoder, &again, Indexing::Auto)[0], 0x40);
        assert_eq!(block(&mut encoder, &again, Indexing::Auto), [0xbe]);
        // A name that is there is not spelled again.
        assert_eq!(block(&mut encoder, &[("x-tenant", "red")], Indexing::Plain)[..2], [0x0f, 0x2f]);
        // A quarter of the table is too much, even for what comes again.
        let long = "v".repeat(1024 - 32 - 8 + 1);
        for _ in 0..5 {
            assert_eq!(block(&mut encoder, &[("x-tenant", &*long)], Indexing::Auto)[0], 0x0f);
        }
    }

    #[test]
    fn names_that_repeat_drive_nothing_out() {
        let mut encoder = Encoder::new();
        block(&mut encoder, &[("te", "trailers")], Indexing::Auto);
        for id in 0..1000 {
            block(&mut encoder, &[(":path", &format!("/users/{id}"))], Indexing::Auto);
        }
        assert!(encoder.table.len() > 50);
        let out = block(&mut encoder, &[("te", "trailers")], Indexing::Auto);
        assert_eq!((out[0] & 0x80, encoder.table.len() + 61 - 127), (0x80, usize::from(out[1])));
    }

    #[test]
    fn size_updates_are_those_of_the_rfc() {
        let mut encoder = Encoder::new();
        let mut asks = |sizes: &[usize]| {
            for size in sizes {
                encoder.set_table_max(*size);
            }
            let first = block(&mut encoder, &[], Indexing::Auto);
            assert_eq!(block(&mut encoder, &[], Indexing::Auto), []);
            hex(&first)
        };
        assert_eq!(asks(&[]), "");
        assert_eq!(asks(&[4096]), "");
        assert_eq!(asks(&[65_536]), "");
        assert_eq!(asks(&[100]), "3f45");
        assert_eq!(asks(&[100]), "");
        assert_eq!(asks(&[200]), "3fa901");
        assert_eq!(asks(&[0, 4096]), "203fe11f");
        assert_eq!(asks(&[4096, 16, 30, 8, 30]), "283e");
        assert_eq!(asks(&[0]), "20");
        assert_eq!(asks(&[500, 1 << 30]), "3fe11f");
    }

    /// 32 bits are soon alike by chance; bytes are not.
    #[test]
    fn a_hash_is_never_taken_for_a_field() {
        let (mut names, mut wholes) = (HashMap::new(), HashMap::new());
        let (mut same_name, mut same_whole) = (None, None);
        for at in 0.. {
            let text = format!("n{at}");
            let (named, _) = hashes(text.as_bytes(), b"v");
            let (_, whole) = hashes(b"n", text.as_bytes());
            same_name = same_name.or(names.insert(named, text.clone()).map(|other| (other, text.clone())));
            same_whole = same_whole.or(wholes.insert(whole, text.clone()).map(|other| (other, text)));
            if same_name.is_some() && same_whole.is_some() {
                break;
            }
        }
        let (one, other) = same_name.unwrap_or_default();
        let mut encoder = Encoder::new();
        known(&mut encoder, &one, "v");
        block(&mut encoder, &[(&one, "v")], Indexing::Auto);
        assert_eq!(encoder.table.len(), 1);
        assert_eq!(block(&mut encoder, &[(&other, "w")], Indexing::Plain)[0], 0x00);
        let (one, other) = same_whole.unwrap_or_default();
        known(&mut encoder, "n", &one);
        block(&mut encoder, &[("n", &one)], Indexing::Auto);
        assert_eq!(encoder.table.len(), 2);
        assert_eq!(block(&mut encoder, &[("n", &other)], Indexing::Auto)[0], 0x7e);
        // Names that differ where values do not.
        let (name, value) = ("m".to_owned(), "v");
        known(&mut encoder, &name, value);
        block(&mut encoder, &[(&name, value)], Indexing::Auto);
        let (_, whole) = hashes(name.as_bytes(), value.as_bytes());
        assert_eq!(encoder.find_whole(b"m", b"v", whole), Some(0));
        assert_eq!(encoder.find_whole(b"k", b"v", whole), None);
    }

    /// Each entry is found by its name and as a whole, and no other, whatever came and went.
    #[test]
    fn the_index_is_true_to_the_table() {
        let mut encoder = Encoder::new();
        let mut seed = 7_u32;
        let mut random = move |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        for round in 0..20_000 {
            let (name, value) = (format!("n{}", random(40)), format!("{}", random(300)));
            known(&mut encoder, &name, &value);
            block(&mut encoder, &[(&name, &value)], Indexing::Auto);
            if round % 1000 == 999 {
                encoder.set_table_max([4096, 0, 300, 1000][round / 1000 % 4]);
            }
            let table = &encoder.table;
            let entries: Vec<_> = (0..table.len()).filter_map(|at| table.get(at)).collect();
            if round % 16 != 0 {
                continue;
            }
            for (at, entry) in entries.iter().enumerate() {
                let (name, value) = (table.name(entry), table.value(entry));
                let (named, whole) = hashes(name, value);
                assert_eq!(encoder.find_whole(name, value, whole), Some(at));
                let newest = entries.iter().position(|other| table.name(other) == name);
                assert_eq!(encoder.find_name(name, named), newest);
            }
            let Some(index) = &encoder.index else { continue };
            let count = |slots: &Slots| slots.0.iter().filter(|id| **id != NONE).count();
            let mut names: Vec<_> = entries.iter().map(|entry| table.name(entry)).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!((count(&index.wholes), count(&index.names)), (entries.len(), names.len()));
        }
    }
}
