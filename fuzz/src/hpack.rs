//! Header compression under any bytes: no block costs more than its limits, and what was read is read again when written.
//!
//! Source: RFC 7541. It must never excuse a difference between the list that was sent and the one that arrived.

use outrigger_codec::Span;
use outrigger_http2::hpack::{Broken, Decoded, Decoder, Encoder, Indexing, Line, ListLimits};

const WIDE: ListLimits = ListLimits { bytes: 1 << 20, lines: 1 << 12 };
const TIGHT: ListLimits = ListLimits { bytes: 200, lines: 4 };

type Fields = Vec<(Vec<u8>, Vec<u8>, bool)>;

/// Takes the bytes as blocks of one connection, each behind its length.
pub fn blocks(bytes: &[u8]) {
    let Some((first, mut rest)) = bytes.split_first() else { return };
    let size = [4096, 256, 0, 100, 65_536][usize::from(first & 7).min(4)];
    let (mut wide, mut tight, mut again) = (Decoder::new(size), Decoder::new(size), Decoder::new(4096));
    let mut encoder = Encoder::new();
    while let Some((len, later)) = rest.split_first() {
        let (block, later) = later.split_at(usize::from(*len).min(later.len()));
        rest = later;
        let (read, short) = (read(&mut wide, block, WIDE), read(&mut tight, block, TIGHT));
        let Ok((whole, fields)) = read else {
            assert!(short.is_err(), "broken only where there is room");
            return;
        };
        let (enough, some) = short.expect("broken only where there is no room");
        // What is left out is left out from somewhere on.
        assert!(fields.starts_with(&some) && (enough == Decoded::Whole) == (fields == some));
        let cost = some.iter().map(|(name, value, _)| name.len() + value.len() + 32).sum::<usize>();
        assert!(cost <= TIGHT.bytes && some.len() <= TIGHT.lines, "{cost} bytes in {} lines", some.len());
        assert_eq!(whole, Decoded::Whole);
        write(&mut encoder, &mut again, &fields, *len);
    }
}

fn read(decoder: &mut Decoder, block: &[u8], limits: ListLimits) -> Result<(Decoded, Fields), Broken> {
    let (mut arena, mut lines) = (b"before".to_vec(), Vec::new());
    let decoded = decoder.decode(block, limits, classify, &mut arena, |line| lines.push(line))?;
    let text = |span: Span| span.of(&arena).expect("a line lies in the arena").to_vec();
    let field = |line: &Line| {
        let (name, value) = (text(line.name), text(line.value));
        assert_eq!(line.class, classify(&name, &value), "another class");
        (name, value, line.never)
    };
    let fields: Fields = lines.iter().map(field).collect();
    let text: usize = fields.iter().map(|(name, value, _)| name.len() + value.len()).sum();
    assert!(arena.len() == 6 + text && arena.starts_with(b"before"));
    Ok((decoded, fields))
}

fn classify(name: &[u8], value: &[u8]) -> u8 {
    (name.len() * 31 + value.len()) as u8 ^ name.first().copied().unwrap_or(0)
}

/// Writes a list and reads it.
fn write(encoder: &mut Encoder, decoder: &mut Decoder, fields: &Fields, how: u8) {
    if how & 7 == 7 {
        encoder.set_table_max(usize::from(how) * 8);
        encoder.set_table_max(usize::from(how >> 4) * 300);
    }
    let mut out = Vec::new();
    encoder.begin(&mut out);
    for (at, (name, value, never)) in fields.iter().enumerate() {
        let indexing = match (never, (usize::from(how) + at) % 3) {
            (true, _) => Indexing::Never,
            (false, 0) => Indexing::Plain,
            _ => Indexing::Auto,
        };
        let before = out.len();
        encoder.field(name, value, indexing, &mut out);
        assert!(out.len() - before <= name.len() + value.len() + 16, "longer than it was");
    }
    let (decoded, found) = read(decoder, &out, WIDE).expect("what was written is read");
    assert_eq!((decoded, &found), (Decoded::Whole, fields));
}
