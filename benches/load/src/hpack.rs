//! HPACK (RFC 7541) for the bench: a whole decoder, and an encoder for heads that are alike.
//!
//! The decoder takes whatever a proxy may send: static and dynamic table, size updates, Huffman code. The encoder
//! writes as `grpc-go` does: everything goes into the dynamic table, strings are Huffman coded where that is shorter;
//! a field that did not change is one byte from then on, until changing ones have pushed it out of the table. It knows
//! its fields in advance and so searches for nothing.
//! Must never take a block for good that RFC 7541 calls a decoding error: tables of two peers that differ mix heads up.

use std::collections::VecDeque;
use std::sync::LazyLock;

/// Size of the dynamic table where nothing else was agreed on, and the largest that is used here.
pub const TABLE_MAX: usize = 4096;
/// Bytes of names and values that one head may have.
const HEAD_MAX: usize = 64 * 1024;
/// What each entry counts besides its bytes.
const ENTRY: usize = 32;
const END_OF_STRING: u16 = 256;

/// Appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// Appendix B by the length of each code, the end of the string last; codes of a length stand in the symbols' order.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6,
    6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6,
    6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22,
    20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23,
    22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22,
    23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22,
    25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// Names and values of one head, in their order.
#[derive(Default)]
pub struct Fields {
    text: Vec<u8>,
    places: Vec<(usize, usize, usize)>,
}

impl Fields {
    /// Every field, names as they came.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let part = |&(start, middle, end): &(usize, usize, usize)| {
            (&self.text[start..middle], &self.text[middle..end])
        };
        self.places.iter().map(part)
    }

    /// The first value of a name.
    pub fn value(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find_map(|(have, value)| (have == name).then_some(value))
    }

    fn clear(&mut self) {
        self.text.clear();
        self.places.clear();
    }

    fn push(&mut self, name: &[u8], value: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(name);
        let middle = self.text.len();
        self.text.extend_from_slice(value);
        self.places.push((start, middle, self.text.len()));
    }
}

/// The receiving side of one direction of a connection.
#[derive(Default)]
pub struct Decoder {
    /// Name and value in one, and where the name ends; the newest first.
    table: VecDeque<(Vec<u8>, usize)>,
    size: usize,
    /// What the peer shrank the table by.
    less: usize,
}

impl Decoder {
    /// Decodes one whole block into `fields`; nothing when it is wrong, and then the connection is.
    pub fn decode(&mut self, mut block: &[u8], fields: &mut Fields) -> Option<()> {
        fields.clear();
        while let Some(&first) = block.first() {
            if first & 0x80 != 0 {
                let (name, value) = self.entry(integer(&mut block, 7)?)?;
                fields.push(name, value);
            } else if first & 0xc0 == 0x40 {
                let (name, whole) = self.literal(&mut block, 6, fields)?;
                self.insert(name, &fields.text[whole..]);
            } else if first & 0xe0 == 0x20 {
                let max = integer(&mut block, 5)?;
                if max > TABLE_MAX || !fields.places.is_empty() {
                    return None;
                }
                self.less = TABLE_MAX - max;
                self.evict(0);
            } else {
                self.literal(&mut block, 4, fields)?;
            }
            if fields.text.len() > HEAD_MAX {
                return None;
            }
        }
        Some(())
    }

    /// Length of the name, and where in the text the field starts.
    fn literal(&self, block: &mut &[u8], prefix: u32, fields: &mut Fields) -> Option<(usize, usize)> {
        let index = integer(block, prefix)?;
        let start = fields.text.len();
        if index == 0 {
            read_string(block, &mut fields.text)?;
        } else {
            fields.text.extend_from_slice(self.entry(index)?.0);
        }
        let middle = fields.text.len();
        read_string(block, &mut fields.text)?;
        fields.places.push((start, middle, fields.text.len()));
        Some((middle - start, start))
    }

    fn entry(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let index = index.checked_sub(1)?;
        if let Some((name, value)) = STATIC.get(index) {
            return Some((name.as_bytes(), value.as_bytes()));
        }
        let (text, name) = self.table.get(index - STATIC.len())?;
        Some(text.split_at(*name))
    }

    fn insert(&mut self, name: usize, text: &[u8]) {
        let mut entry = self.evict(text.len() + ENTRY).unwrap_or_default();
        if text.len() + ENTRY <= TABLE_MAX - self.less {
            entry.clear();
            entry.extend_from_slice(text);
            self.size += text.len() + ENTRY;
            self.table.push_front((entry, name));
        }
    }

    /// Makes room for `more` bytes; gives back one of the buffers that became free.
    fn evict(&mut self, more: usize) -> Option<Vec<u8>> {
        let mut free = None;
        while self.size + more > TABLE_MAX - self.less {
            let Some((text, _)) = self.table.pop_back() else { break };
            self.size -= text.len() + ENTRY;
            free = Some(text);
        }
        free
    }
}

/// One field of heads that are alike: what is known of it in advance, and where it stands in the peer's table.
pub struct Field {
    /// Index in the static table of name and value, or 0.
    whole: usize,
    /// Index in the static table of the name, or 0; then the name as a string.
    name: usize,
    name_text: Vec<u8>,
    name_len: usize,
    value_text: Vec<u8>,
    value_len: usize,
    /// Number of its last insertion into the dynamic table, from 1.
    inserted: u64,
}

impl Field {
    /// A field; `value` is what it always has, or nothing to speak of when it changes.
    pub fn new(name: &str, value: &str) -> Self {
        let place = |found: Option<usize>| found.map_or(0, |at| at + 1);
        let encoded = |text: &str| {
            let mut out = Vec::new();
            write_string(text.as_bytes(), &mut out);
            out
        };
        Self {
            whole: place(STATIC.iter().position(|entry| *entry == (name, value) && !value.is_empty())),
            name: place(STATIC.iter().position(|entry| entry.0 == name)),
            name_text: encoded(name),
            name_len: name.len(),
            value_text: encoded(value),
            value_len: value.len(),
            inserted: 0,
        }
    }

    /// Every pair as a field with a fixed value.
    pub fn all(pairs: &[(&str, &str)]) -> Vec<Self> {
        pairs.iter().map(|(name, value)| Self::new(name, value)).collect()
    }
}

/// The sending side of one direction of a connection: what the peer's table holds, by sizes only.
pub struct Encoder {
    /// The newest first.
    sizes: VecDeque<usize>,
    size: usize,
    inserted: u64,
    max: usize,
    changed: bool,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { sizes: VecDeque::new(), size: 0, inserted: 0, max: TABLE_MAX, changed: false }
    }
}

impl Encoder {
    /// The peer allows a table of this size (`SETTINGS_HEADER_TABLE_SIZE`); the next block says what is used of it.
    pub fn allow(&mut self, max: usize) {
        let max = max.min(TABLE_MAX);
        self.changed |= max != self.max;
        self.max = max;
        self.evict(0);
    }

    /// Must be called before the first field of each block.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.changed) {
            write_integer(self.max, 5, 0x20, out);
        }
    }

    /// Appends a field with its fixed value.
    pub fn fixed(&mut self, field: &mut Field, out: &mut Vec<u8>) {
        match (field.whole, self.index(field)) {
            (0, 0) => {
                self.literal(field, field.value_len, out);
                out.extend_from_slice(&field.value_text);
            }
            (0, index) | (index, _) => write_integer(index, 7, 0x80, out),
        }
    }

    /// Appends fields with their fixed values.
    pub fn all(&mut self, fields: &mut [Field], out: &mut Vec<u8>) {
        for field in fields {
            self.fixed(field, out);
        }
    }

    /// Appends a field with a value that it did not have before.
    pub fn changing(&mut self, field: &mut Field, value: &[u8], out: &mut Vec<u8>) {
        self.literal(field, value.len(), out);
        write_string(value, out);
    }

    /// All of a literal but its value.
    fn literal(&mut self, field: &mut Field, value: usize, out: &mut Vec<u8>) {
        let size = field.name_len + value + ENTRY;
        let name = if field.name == 0 { self.index(field) } else { field.name };
        let (prefix, pattern) = if size <= self.max { (6, 0x40) } else { (4, 0) };
        write_integer(name, prefix, pattern, out);
        if name == 0 {
            out.extend_from_slice(&field.name_text);
        }
        if size <= self.max {
            self.evict(size);
            self.sizes.push_front(size);
            self.size += size;
            self.inserted += 1;
            field.inserted = self.inserted;
        }
    }

    /// Index of a field's last insertion, or 0 when it is not in the table any more.
    fn index(&self, field: &Field) -> usize {
        let age = (self.inserted - field.inserted) as usize;
        if field.inserted == 0 || age >= self.sizes.len() { 0 } else { STATIC.len() + 1 + age }
    }

    fn evict(&mut self, more: usize) {
        while self.size + more > self.max {
            let Some(size) = self.sizes.pop_back() else { break };
            self.size -= size;
        }
    }
}

/// Section 5.1: an integer whose first bits are the rest of `block`'s first byte.
fn integer(block: &mut &[u8], prefix: u32) -> Option<usize> {
    let (first, mut rest) = block.split_first()?;
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(*first) & mask;
    let mut shift = 0;
    while value >= mask {
        let (next, after) = rest.split_first()?;
        rest = after;
        value += usize::from(next & 0x7f) << shift;
        shift += 7;
        if next & 0x80 == 0 {
            break;
        }
        if shift > 21 {
            return None;
        }
    }
    *block = rest;
    Some(value)
}

fn write_integer(value: usize, prefix: u32, pattern: u8, out: &mut Vec<u8>) {
    let mask = (1_usize << prefix) - 1;
    if value < mask {
        out.push(pattern | value as u8);
        return;
    }
    out.push(pattern | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Section 5.2: a string, its bytes appended to `out`.
fn read_string(block: &mut &[u8], out: &mut Vec<u8>) -> Option<()> {
    let huffman = block.first()? & 0x80 != 0;
    let len = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(len)?;
    *block = rest;
    if huffman {
        return CODE.unpack(text, out);
    }
    out.extend_from_slice(text);
    Some(())
}

fn write_string(text: &[u8], out: &mut Vec<u8>) {
    let bits: usize = text.iter().map(|byte| usize::from(LENGTHS[usize::from(*byte)])).sum();
    let packed = bits.div_ceil(8);
    if packed < text.len() {
        write_integer(packed, 7, 0x80, out);
        CODE.pack(text, out);
    } else {
        write_integer(text.len(), 7, 0, out);
        out.extend_from_slice(text);
    }
}

static CODE: LazyLock<Code> = LazyLock::new(Code::new);

/// Codes of one length, left-aligned in 32 bits.
struct Class {
    len: u32,
    first: u64,
    /// Behind the last.
    end: u64,
    /// Where in `symbols` the first one stands.
    symbols: usize,
}

/// The Huffman code, for both directions.
struct Code {
    codes: [u32; LENGTHS.len()],
    classes: Vec<Class>,
    symbols: Vec<u16>,
}

impl Code {
    fn new() -> Self {
        let mut symbols: Vec<u16> = (0..=END_OF_STRING).collect();
        symbols.sort_by_key(|symbol| LENGTHS[usize::from(*symbol)]);
        let (mut codes, mut classes, mut next) = ([0; LENGTHS.len()], Vec::<Class>::new(), 0_u64);
        for (at, symbol) in symbols.iter().enumerate() {
            let len = u32::from(LENGTHS[usize::from(*symbol)]);
            codes[usize::from(*symbol)] = (next >> (32 - len)) as u32;
            if classes.last().is_none_or(|class| class.len != len) {
                classes.push(Class { len, first: next, end: next, symbols: at });
            }
            next += 1 << (32 - len);
            if let Some(class) = classes.last_mut() {
                class.end = next;
            }
        }
        Self { codes, classes, symbols }
    }

    fn pack(&self, text: &[u8], out: &mut Vec<u8>) {
        let (mut bits, mut have) = (0_u64, 0);
        for byte in text {
            let len = u32::from(LENGTHS[usize::from(*byte)]);
            bits = bits << len | u64::from(self.codes[usize::from(*byte)]);
            have += len;
            while have >= 8 {
                have -= 8;
                out.push((bits >> have) as u8);
            }
        }
        if have > 0 {
            out.push((bits << (8 - have)) as u8 | (0xff >> have));
        }
    }

    fn unpack(&self, text: &[u8], out: &mut Vec<u8>) -> Option<()> {
        // The bits not decoded yet, from the highest on.
        let (mut bits, mut have, mut rest) = (0_u64, 0_u32, text.iter());
        loop {
            while have <= 56 {
                let Some(byte) = rest.next() else { break };
                bits |= u64::from(*byte) << (56 - have);
                have += 8;
            }
            let top = bits >> 32;
            let class = self.classes.iter().find(|class| top < class.end)?;
            if class.len > have {
                // What fills the last byte: ones, fewer than eight.
                let ones = !(u64::MAX.checked_shr(have).unwrap_or(0));
                return (have < 8 && bits == ones).then_some(());
            }
            let symbol = self.symbols[class.symbols + ((top - class.first) >> (32 - class.len)) as usize];
            out.push(u8::try_from(symbol).ok()?);
            bits <<= class.len;
            have -= class.len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter_map(|b| (b as char).to_digit(16)).map(|d| d as u8).collect();
        digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Option<Vec<(String, String)>> {
        let mut fields = Fields::default();
        decoder.decode(block, &mut fields)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Some(fields.iter().map(|(name, value)| (text(name), text(value))).collect())
    }

    #[test]
    fn the_examples_of_the_specification_decode() {
        // Appendix C.4: three requests with Huffman code on one connection.
        let mut decoder = Decoder::default();
        let first = decoded(&mut decoder, &bytes("828684418cf1e3c2e5f23a6ba0ab90f4ff")).unwrap();
        assert_eq!(first[3], (":authority".into(), "www.example.com".into()));
        let second = decoded(&mut decoder, &bytes("828684be5886a8eb10649cbf")).unwrap();
        assert_eq!(second[3..], [first[3].clone(), ("cache-control".into(), "no-cache".into())]);
        let third =
            decoded(&mut decoder, &bytes("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf")).unwrap();
        assert_eq!(third[4], ("custom-key".into(), "custom-value".into()));
        assert_eq!((decoder.size, decoder.table.len()), (164, 3));
    }

    #[test]
    fn every_octet_survives_the_huffman_code() {
        let text: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        for end in 0..text.len() {
            let (mut packed, mut back) = (Vec::new(), Vec::new());
            CODE.pack(&text[..end], &mut packed);
            assert_eq!(CODE.unpack(&packed, &mut back), Some(()));
            assert_eq!(back, &text[..end]);
        }
        // The end of the string as a symbol, padding of zeros, padding of eight bits.
        for bad in ["ffffffff", "00", "1fff"] {
            assert_eq!(CODE.unpack(&bytes(bad), &mut Vec::new()), None, "{bad}");
        }
    }

    #[test]
    fn what_stays_is_one_byte_and_both_tables_agree_for_long() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let mut same =
            Field::all(&[(":method", "POST"), ("te", "trailers"), ("user-agent", "grpc-go/1.64.0")]);
        let mut trace = Field::new("traceparent", "");
        let mut small = 0;
        for turn in 0..2000_u32 {
            // The peer changes its mind about the table now and then.
            if turn % 300 == 299 {
                encoder.allow([0, 100, 4096, 1 << 20][(turn / 300) as usize % 4]);
            }
            let (mut block, value) = (Vec::new(), format!("00-{turn:032x}-01"));
            encoder.begin(&mut block);
            for field in &mut same {
                encoder.fixed(field, &mut block);
            }
            small += u32::from(block.len() == same.len());
            encoder.changing(&mut trace, value.as_bytes(), &mut block);
            let back = decoded(&mut decoder, &block).unwrap();
            assert_eq!(back[3], ("traceparent".into(), value));
            assert_eq!(
                back[1..3],
                [("te".into(), "trailers".into()), ("user-agent".into(), "grpc-go/1.64.0".into())]
            );
        }
        assert!(small > 700, "{small}");
    }

    #[test]
    fn blocks_that_are_wrong_are_refused() {
        for bad in ["80", "be", "40", "0085", "3fe23f", "823f", "ffffffffffff7f", "8220"] {
            assert_eq!(decoded(&mut Decoder::default(), &bytes(bad)), None, "{bad}");
        }
    }
}
