//! The static table, and where a name stands in it. It must never differ from the RFC's by a byte.
//!
//! Source: RFC 7541 Appendix A.

/// An entry of the static table.
#[derive(Debug)]
pub(super) struct Static {
    /// Its name and, right behind, its value.
    pub(super) text: &'static [u8],
    /// How much of that is the name.
    pub(super) name_len: usize,
}

impl Static {
    /// The name.
    pub(super) fn name(&self) -> &'static [u8] {
        self.text.get(..self.name_len).unwrap_or_default()
    }

    /// The value.
    pub(super) fn value(&self) -> &'static [u8] {
        self.text.get(self.name_len..).unwrap_or_default()
    }
}

/// How many entries there are. The dynamic table's newest entry has the index behind them.
pub(super) const STATICS: usize = 61;

macro_rules! statics {
    ($($name:literal $value:literal,)*) => {
        [$(Static { text: concat!($name, $value).as_bytes(), name_len: $name.len() },)*]
    };
}

/// The entries; the first has index 1. Those of one name stand together.
pub(super) static STATIC: [Static; STATICS] = ENTRIES;

const ENTRIES: [Static; STATICS] = statics![
    ":authority" "",
    ":method" "GET",
    ":method" "POST",
    ":path" "/",
    ":path" "/index.html",
    ":scheme" "http",
    ":scheme" "https",
    ":status" "200",
    ":status" "204",
    ":status" "206",
    ":status" "304",
    ":status" "400",
    ":status" "404",
    ":status" "500",
    "accept-charset" "",
    "accept-encoding" "gzip, deflate",
    "accept-language" "",
    "accept-ranges" "",
    "accept" "",
    "access-control-allow-origin" "",
    "age" "",
    "allow" "",
    "authorization" "",
    "cache-control" "",
    "content-disposition" "",
    "content-encoding" "",
    "content-language" "",
    "content-length" "",
    "content-location" "",
    "content-range" "",
    "content-type" "",
    "cookie" "",
    "date" "",
    "etag" "",
    "expect" "",
    "expires" "",
    "from" "",
    "host" "",
    "if-match" "",
    "if-modified-since" "",
    "if-none-match" "",
    "if-range" "",
    "if-unmodified-since" "",
    "last-modified" "",
    "link" "",
    "location" "",
    "max-forwards" "",
    "proxy-authenticate" "",
    "proxy-authorization" "",
    "range" "",
    "referer" "",
    "refresh" "",
    "retry-after" "",
    "server" "",
    "set-cookie" "",
    "strict-transport-security" "",
    "transfer-encoding" "",
    "user-agent" "",
    "vary" "",
    "via" "",
    "www-authenticate" "",
];

/// The place in [`STATIC`] of the first entry with this name.
#[inline]
pub(super) fn first(name: &[u8]) -> Option<usize> {
    let (head, middle, tail) = (name.first()?, name.get(name.len() / 2)?, name.last()?);
    let place = usize::from(*FIRST.get(slot(name.len(), *head, *middle, *tail))?);
    STATIC.get(place).filter(|entry| entry.name() == name).map(|_| place)
}

/// The place in [`STATIC`] of a field whose name has its first entry at `first`.
#[inline]
pub(super) fn whole(first: usize, value: &[u8]) -> Option<usize> {
    let run = usize::from(*RUNS.get(first)?);
    (first..first.saturating_add(run))
        .find(|place| STATIC.get(*place).is_some_and(|entry| entry.value() == value))
}

/// Where to look for a name: its first entry's place in [`STATIC`], or one that does not exist. No two names share a slot,
/// or this would not compile.
static FIRST: [u8; 128] = first_entries();

/// A number that spreads the 52 names over 128 slots without a collision; found by trying.
const SPREAD: u32 = 0x3f81_1bab;

const fn slot(len: usize, head: u8, middle: u8, tail: u8) -> usize {
    let key = u32::from_le_bytes([head, middle, tail, len as u8]);
    (key.wrapping_mul(SPREAD) >> 25) as usize
}

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)] // evaluated by the compiler, which would refuse to go outside
const fn first_entries() -> [u8; 128] {
    let mut first = [u8::MAX; 128];
    let mut before = 0;
    let mut at = 0;
    while at < STATICS {
        let (text, len) = (ENTRIES[at].text, ENTRIES[at].name_len);
        let slot = slot(len, text[0], text[len / 2], text[len - 1]);
        // Entries of one name stand together, and meet in one slot.
        if at == 0 || slot != before {
            assert!(first[slot] == u8::MAX, "two names in one slot");
            first[slot] = at as u8;
        }
        before = slot;
        at += 1;
    }
    first
}

/// How many entries each name has, by the place of the first.
static RUNS: [u8; STATICS] = runs();

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)] // as above
const fn runs() -> [u8; STATICS] {
    let (mut runs, first) = ([0; STATICS], first_entries());
    let (mut at, mut begins) = (0, 0);
    while at < STATICS {
        let (text, len) = (ENTRIES[at].text, ENTRIES[at].name_len);
        if first[slot(len, text[0], text[len / 2], text[len - 1])] as usize == at {
            begins = at;
        }
        runs[begins] += 1;
        at += 1;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found_and_nothing_else() {
        for (place, entry) in STATIC.iter().enumerate() {
            let at = first(entry.name());
            let begins = STATIC.iter().position(|other| other.name() == entry.name());
            assert_eq!(at, begins, "{entry:?}");
            assert_eq!(at.and_then(|at| whole(at, entry.value())), Some(place), "{entry:?}");
            assert_eq!(at.and_then(|at| whole(at, b"none of them")), None);
        }
        for name in ["", ":", "te", "grpc-timeout", "traceparent", ":statuS", "accept-encodinh", "viavia"] {
            assert_eq!(first(name.as_bytes()), None, "{name}");
        }
        assert_eq!(first(&b"a".repeat(70_000)), None);
    }

    #[test]
    fn the_lists_of_values_end_where_they_should() {
        // Two names in a row, of which the second has the first one's length.
        assert_eq!(first(b":method").and_then(|at| whole(at, b"/")), None);
        assert_eq!(first(b"accept-encoding").and_then(|at| whole(at, b"")), None);
    }
}
