//! Header blocks to header lists. It must never copy beyond the limits of the list, never lose step with the peer's table
//! because of them, and never let an index cost more than a look at the table.
//!
//! Source: RFC 7541 §3, §4.2, §6.

use outrigger_codec::Span;

use super::{
    Broken, Decoded, ENTRY, Line, ListLimits, TABLE, huffman, integer,
    statics::{STATIC, STATICS},
    table::{Entry, Table},
};

/// Table size updates that may open a block: the smallest size in between, and the last (§4.2).
const UPDATES_MAX: usize = 2;

/// The receiving end of a connection's header compression.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    table_max: usize,
    statics: Classes,
}

/// What `classify` said of the static table, so far as it was asked: by bit of `known`.
#[derive(Debug)]
struct Classes {
    of: [u8; STATICS],
    known: u64,
}

/// Says what a field is to the caller, by its name and value.
type Classify = fn(&[u8], &[u8]) -> u8;

/// The list as it grows.
struct List<'a, F> {
    arena: &'a mut Vec<u8>,
    each: F,
    left: ListLimits,
    whole: bool,
}

/// A string as it stands in the block.
#[derive(Clone, Copy)]
struct Text<'b> {
    bytes: &'b [u8],
    coded: bool,
}

/// A literal's name.
#[derive(Clone, Copy)]
enum Name<'b> {
    Here(Text<'b>),
    Static(&'static [u8]),
    /// Of this entry of the dynamic table.
    Dynamic(usize, Entry),
}

/// How a literal arrived.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Inserted,
    Plain,
    Never,
}

impl Decoder {
    /// A decoder for a peer that was told `table_max` as `SETTINGS_HEADER_TABLE_SIZE`. It begins with the protocol's 4096 or
    /// with less if so told, and takes no memory before the first insertion.
    pub fn new(table_max: usize) -> Self {
        let table = Table::new(table_max.min(TABLE), table_max);
        Self { table, table_max, statics: Classes { of: [0; STATICS], known: 0 } }
    }

    /// Decodes one whole header block: names and values go to the end of `arena`, and `each` is given
    /// its lines, one after the other.
    ///
    /// `classify` is asked once for each literal, with its name and value; its answer stays with the entries of the tables.
    /// It must be the same for all blocks.
    ///
    /// Where a limit is met the list ends. The rest of the block is read for the table's sake only.
    #[inline]
    pub fn decode(
        &mut self,
        block: &[u8],
        limits: ListLimits,
        classify: fn(&[u8], &[u8]) -> u8,
        arena: &mut Vec<u8>,
        each: impl FnMut(Line),
    ) -> Result<Decoded, Broken> {
        let mut list = List { arena, each, left: limits, whole: true };
        let mut rest = block;
        self.updates(&mut rest)?;
        while let Some((&first, later)) = rest.split_first() {
            rest = later;
            if first & 0x80 != 0 {
                let index = integer::read(first, 0x7f, &mut rest)?;
                self.indexed(index, classify, &mut list)?;
            } else if first & 0x40 != 0 {
                self.literal(first, 0x3f, Kind::Inserted, &mut rest, classify, &mut list)?;
            } else if first & 0x20 != 0 {
                return Err(Broken("a table size update behind a field, or a third one"));
            } else {
                let kind = if first & 0x10 == 0 { Kind::Plain } else { Kind::Never };
                self.literal(first, 0x0f, kind, &mut rest, classify, &mut list)?;
            }
        }
        Ok(if list.whole { Decoded::Whole } else { Decoded::TooLarge })
    }

    /// Table size updates (§6.3), which open a block if there are any.
    fn updates(&mut self, rest: &mut &[u8]) -> Result<(), Broken> {
        for _ in 0..UPDATES_MAX {
            let Some((&first, later)) = rest.split_first().filter(|(first, _)| **first & 0xe0 == 0x20) else {
                break;
            };
            *rest = later;
            let size = integer::read(first, 0x1f, rest)?;
            if size > self.table_max {
                return Err(Broken("a table size beyond what was allowed"));
            }
            self.table.resize(size);
        }
        Ok(())
    }

    /// An indexed field (§6.1).
    #[inline]
    fn indexed<F: FnMut(Line)>(
        &mut self,
        index: usize,
        classify: Classify,
        list: &mut List<'_, F>,
    ) -> Result<(), Broken> {
        let place = index.wrapping_sub(1);
        if let Some(entry) = STATIC.get(place) {
            if list.takes(entry.text.len()) {
                let at = list.arena.len();
                list.arena.extend_from_slice(entry.text);
                list.push(at, entry.name_len, self.statics.class(place, classify), false);
            }
            return Ok(());
        }
        let Some(entry) = self.table.get(place.wrapping_sub(STATICS)) else {
            return Err(Broken("an index that means nothing"));
        };
        if list.takes(entry.len()) {
            let at = list.arena.len();
            self.table.copy(&entry, list.arena);
            list.push(at, entry.name_len(), entry.class, false);
        }
        Ok(())
    }

    /// A literal field (§6.2), whose name may have an index all the same.
    fn literal<F: FnMut(Line)>(
        &mut self,
        first: u8,
        mask: u8,
        kind: Kind,
        rest: &mut &[u8],
        classify: Classify,
        list: &mut List<'_, F>,
    ) -> Result<(), Broken> {
        let index = integer::read(first, mask, rest)?;
        let name = if index == 0 { Name::Here(Text::read(rest)?) } else { self.named(index)? };
        let value = Text::read(rest)?;
        let inserted = kind == Kind::Inserted;

        // What the code may stand for is often enough to know; if not, it is counted.
        let mut fits = list.has_room(name.most().saturating_add(value.most()));
        if !fits {
            let len = name.len()?.saturating_add(value.len()?);
            fits = list.has_room(len);
            if !fits {
                list.end();
                if !inserted {
                    return Ok(());
                }
                if !self.table.holds(len) {
                    self.table.clear();
                    return Ok(());
                }
            }
        }

        let at = list.arena.len();
        // The name of an entry is not copied for the table's sake, which has it.
        let (len, class) = match name {
            Name::Dynamic(_, entry) => {
                if fits {
                    list.arena.extend_from_slice(self.table.name(&entry));
                }
                let value_at = list.arena.len();
                value.copy(list.arena)?;
                let value = list.arena.get(value_at..).unwrap_or_default();
                (entry.name_len(), classify(self.table.name(&entry), value))
            }
            Name::Here(_) | Name::Static(_) => {
                name.copy(list.arena)?;
                let len = list.arena.len().saturating_sub(at);
                value.copy(list.arena)?;
                let text = list.arena.get(at..).unwrap_or_default();
                let (name, value) = text.split_at_checked(len).unwrap_or_default();
                (len, classify(name, value))
            }
        };
        if inserted {
            let text = list.arena.get(at..).unwrap_or_default();
            match name {
                Name::Dynamic(place, _) => {
                    let value = text.get(if fits { len } else { 0 }..).unwrap_or_default();
                    self.table.insert_named(place, value, class);
                }
                Name::Here(_) | Name::Static(_) => self.table.insert(text, len, class),
            }
        }
        if fits && list.takes(list.arena.len().saturating_sub(at)) {
            list.push(at, len, class, kind == Kind::Never);
        } else {
            list.arena.truncate(at);
        }
        Ok(())
    }

    fn named(&self, index: usize) -> Result<Name<'static>, Broken> {
        let place = index.wrapping_sub(1);
        if let Some(entry) = STATIC.get(place) {
            return Ok(Name::Static(entry.name()));
        }
        let place = place.wrapping_sub(STATICS);
        let entry = self.table.get(place).ok_or(Broken("a name's index that means nothing"))?;
        Ok(Name::Dynamic(place, entry))
    }
}

impl Classes {
    #[inline]
    fn class(&mut self, place: usize, classify: Classify) -> u8 {
        let bit = 1_u64.wrapping_shl(place as u32);
        if self.known & bit == 0 {
            self.learn(place, classify);
            self.known |= bit;
        }
        self.of.get(place).copied().unwrap_or(0)
    }

    #[cold]
    fn learn(&mut self, place: usize, classify: Classify) {
        if let (Some(class), Some(entry)) = (self.of.get_mut(place), STATIC.get(place)) {
            *class = classify(entry.name(), entry.value());
        }
    }
}

impl<F: FnMut(Line)> List<'_, F> {
    /// Whether a field with this much text may be in the list.
    #[inline]
    fn has_room(&self, text: usize) -> bool {
        text.saturating_add(ENTRY) <= self.left.bytes && self.left.lines > 0
    }

    /// Takes a field's cost from what is left; ends the list where it is too much.
    #[inline]
    fn takes(&mut self, text: usize) -> bool {
        if self.has_room(text) {
            self.left.bytes = self.left.bytes.saturating_sub(text).saturating_sub(ENTRY);
            self.left.lines = self.left.lines.saturating_sub(1);
            return true;
        }
        self.end();
        false
    }

    /// Nothing may be in the list any more, be it ever so short.
    #[cold]
    fn end(&mut self) {
        self.left = ListLimits { bytes: 0, lines: 0 };
        self.whole = false;
    }

    /// A line whose name begins at `at` and whose value ends the arena.
    #[inline]
    fn push(&mut self, at: usize, name_len: usize, class: u8, never: bool) {
        let value_at = at.saturating_add(name_len);
        let value_len = self.arena.len().saturating_sub(value_at);
        let (name, value) = (Span::new(at, name_len), Span::new(value_at, value_len));
        (self.each)(Line { name, value, class, never });
    }
}

impl<'b> Text<'b> {
    /// The string that `rest` begins with (§5.2).
    #[inline]
    fn read(rest: &mut &'b [u8]) -> Result<Self, Broken> {
        let Some((&first, later)) = rest.split_first() else {
            return Err(Broken("a block ends before a string"));
        };
        *rest = later;
        let len = integer::read(first, 0x7f, rest)?;
        let Some((bytes, later)) = rest.split_at_checked(len) else {
            return Err(Broken("a block ends inside a string"));
        };
        *rest = later;
        Ok(Self { bytes, coded: first & 0x80 != 0 })
    }

    /// The most bytes it may stand for.
    #[inline]
    fn most(self) -> usize {
        if self.coded { huffman::most(self.bytes.len()) } else { self.bytes.len() }
    }

    /// The bytes it stands for.
    fn len(self) -> Result<usize, Broken> {
        if self.coded { huffman::measure(self.bytes) } else { Ok(self.bytes.len()) }
    }

    #[inline]
    fn copy(self, out: &mut Vec<u8>) -> Result<(), Broken> {
        if self.coded {
            return huffman::decode(self.bytes, out);
        }
        out.extend_from_slice(self.bytes);
        Ok(())
    }
}

impl Name<'_> {
    #[inline]
    fn most(self) -> usize {
        match self {
            Self::Here(text) => text.most(),
            Self::Static(name) => name.len(),
            Self::Dynamic(_, entry) => entry.name_len(),
        }
    }

    fn len(self) -> Result<usize, Broken> {
        if let Self::Here(text) = self { text.len() } else { Ok(self.most()) }
    }

    /// The dynamic table's names are copied by whoever has it.
    #[inline]
    fn copy(self, out: &mut Vec<u8>) -> Result<(), Broken> {
        match self {
            Self::Here(text) => text.copy(out),
            Self::Static(name) => {
                out.extend_from_slice(name);
                Ok(())
            }
            Self::Dynamic(..) => Ok(()),
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a failing test is the point"
)]
mod tests {
    use super::*;

    const LIMITS: ListLimits = ListLimits { bytes: 1 << 20, lines: 1 << 10 };

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pairs = digits.chunks(2).map(|two| std::str::from_utf8(two).unwrap());
        pairs.map(|two| u8::from_str_radix(two, 16).unwrap()).collect()
    }

    fn list(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, String, bool)> {
        let (mut arena, mut lines) = (vec![0; 3], Vec::new());
        let read = decoder.decode(block, LIMITS, |_, _| 0, &mut arena, |line| lines.push(line));
        assert_eq!(read, Ok(Decoded::Whole));
        let text = |span: Span| String::from_utf8(span.of(&arena).unwrap().to_vec()).unwrap();
        lines.iter().map(|line| (text(line.name), text(line.value), line.never)).collect()
    }

    fn owned(pairs: Pairs<'_>, never: bool) -> Vec<(String, String, bool)> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into(), never)).collect()
    }

    /// Decodes a block and compares the list, and then the table with its size.
    fn example(decoder: &mut Decoder, block: &str, fields: Pairs<'_>, table: Pairs<'_>, size: usize) {
        assert_eq!(list(decoder, &hex(block)), owned(fields, false));
        let entries = (0..decoder.table.len()).map(|at| decoder.table.get(at).unwrap());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let found: Vec<_> = entries
            .map(|entry| (text(decoder.table.name(&entry)), text(decoder.table.value(&entry)), false))
            .collect();
        assert_eq!(found, owned(table, false));
        assert_eq!(decoder.table.size(), size);
    }

    #[test]
    fn rfc_c2_fields() {
        let custom = [("custom-key", "custom-header")];
        let mut decoder = Decoder::new(4096);
        let block = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
        example(&mut decoder, block, &custom, &custom, 55);
        let mut decoder = Decoder::new(4096);
        example(&mut decoder, "040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")], &[], 0);
        let never = list(&mut decoder, &hex("1008 7061 7373 776f 7264 0673 6563 7265 74"));
        assert_eq!(never, owned(&[("password", "secret")], true));
        assert_eq!(decoder.table.len(), 0);
        example(&mut decoder, "82", &[(":method", "GET")], &[], 0);
    }

    /// C.3 without and C.4 with the Huffman code.
    #[test]
    fn rfc_c3_and_c4_requests() {
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let coded = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for blocks in [plain, coded] {
            let mut decoder = Decoder::new(4096);
            let authority = (":authority", "www.example.com");
            let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":path", "/"), authority];
            example(&mut decoder, blocks[0], &fields, &[authority], 57);
            let cache = ("cache-control", "no-cache");
            fields.push(cache);
            example(&mut decoder, blocks[1], &fields, &[cache, authority], 110);
            let custom = ("custom-key", "custom-value");
            let fields =
                [(":method", "GET"), (":scheme", "https"), (":path", "/index.html"), authority, custom];
            example(&mut decoder, blocks[2], &fields, &[custom, cache, authority], 164);
        }
    }

    /// C.5 without and C.6 with the Huffman code, in a table of 256 bytes.
    #[test]
    fn rfc_c5_and_c6_answers() {
        let plain = [
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
             2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
             6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d
             54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049
             5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e
             3d31",
        ];
        let coded = [
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6
             2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab
             77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f
             9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ];
        for blocks in [plain, coded] {
            let mut decoder = Decoder::new(256);
            let (found, moved) = ((":status", "302"), (":status", "307"));
            let private = ("cache-control", "private");
            let date = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
            let location = ("location", "https://www.example.com");
            let table = [location, date, private, found];
            example(&mut decoder, blocks[0], &[found, private, date, location], &table, 222);
            let table = [moved, location, date, private];
            example(&mut decoder, blocks[1], &[moved, private, date, location], &table, 222);
            let later = ("date", "Mon, 21 Oct 2013 20:13:22 GMT");
            let gzip = ("content-encoding", "gzip");
            let cookie = ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
            let fields = [(":status", "200"), private, later, location, gzip, cookie];
            example(&mut decoder, blocks[2], &fields, &[cookie, gzip, later], 215);
        }
    }

    #[test]
    fn the_memory_is_bounded_and_comes_with_the_first_entry() {
        let (mut arena, mut lines) = (Vec::new(), Vec::new());
        let mut decoder = Decoder::new(4096);
        let mut decode = |decoder: &mut Decoder, block: &[u8]| {
            arena.clear();
            lines.clear();
            decoder.decode(block, LIMITS, |_, _| 0, &mut arena, |line| lines.push(line)).unwrap()
        };
        decode(&mut decoder, &hex("82 87 84 0003 61 62 63 03 64 65 66"));
        assert_eq!((decoder.table.memory(), decoder.table.len()), (0, 0));
        // Entries of every length, their names new, taken over while they go, long and short.
        for round in 0..3000_usize {
            let name = vec![b'n'; [3, 40, 70, 900][round % 4]];
            let value = vec![b'v'; round * 7 % 1500];
            let mut block = vec![0x40];
            integer::write(name.len(), 0, 0x7f, &mut block);
            block.extend_from_slice(&name);
            for length in [value.len(), round % 50, 3] {
                integer::write(length, 0, 0x7f, &mut block);
                block.extend_from_slice(&value[..length.min(value.len())]);
                block.extend(std::iter::repeat_n(b'w', length - length.min(value.len())));
                integer::write(decoder.table.len().clamp(1, 2) + 60 + 1, 0x40, 0x3f, &mut block);
            }
            block.extend_from_slice(&[0]);
            // Sometimes the second of two is not there yet.
            let _ = decode(&mut decoder, &block);
            let entries = (0..decoder.table.len()).map(|at| decoder.table.get(at).unwrap());
            assert_eq!(entries.map(|entry| entry.len() + ENTRY).sum::<usize>(), decoder.table.size());
            assert!(decoder.table.size() <= 4096);
            assert!(decoder.table.memory() <= 2 * 4096);
        }
    }

    /// Two bytes of a block that take over a long name must not cost a copy of it.
    #[test]
    fn a_long_name_is_not_copied_for_each_entry_that_takes_it() {
        let mut decoder = Decoder::new(4096);
        let mut block = vec![0x40, 0x7f, 0xb5, 0x0f];
        block.extend_from_slice(&[b'n'; 2100]);
        block.extend_from_slice(&[1, b'v']);
        list(&mut decoder, &block);
        let before = decoder.table.used();
        let tight = ListLimits { bytes: 64, lines: 1 };
        let (mut arena, mut lines) = (Vec::new(), Vec::new());
        let block = [0x7e, 0].repeat(100_000);
        let read = decoder.decode(&block, tight, |_, _| 0, &mut arena, |line| lines.push(line));
        assert_eq!((read, arena.len(), lines.len()), (Ok(Decoded::TooLarge), 0, 0));
        assert!(arena.capacity() < 64);
        assert_eq!((decoder.table.used(), decoder.table.len(), decoder.table.size()), (before, 1, 2132));
        let fields = list(&mut decoder, &[0xbe]);
        assert_eq!(fields, owned(&[(&"n".repeat(2100), "")], false));
    }
}
