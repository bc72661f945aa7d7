//! What holds of HPACK for any fields, any bytes and any sizes: the same list at the other end, whoever wrote or reads it;
//! one verdict on what is malformed; limits that hold; no panic.
//!
//! Source: RFC 7541. The other reader and writer is `httlib-hpack`.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests may panic"
)]

use std::cell::Cell;

use outrigger_http2::hpack::{Broken, Decoded, Decoder, Encoder, Indexing, Line, ListLimits};
use proptest::collection::vec;
use proptest::prelude::*;

const WIDE: ListLimits = ListLimits { bytes: 1 << 24, lines: 1 << 16 };

/// A field with the way it goes.
type Sent = (Vec<u8>, Vec<u8>, u8);

fn classify(name: &[u8], value: &[u8]) -> u8 {
    (name.len() * 31 + value.len()) as u8 ^ name.first().copied().unwrap_or(0)
}

/// Reads a block into buffers that have something in them already.
fn read(
    decoder: &mut Decoder,
    block: &[u8],
    limits: ListLimits,
) -> Result<(Decoded, Vec<u8>, Vec<Line>), Broken> {
    let (mut arena, mut lines) = (b"before".to_vec(), Vec::new());
    let decoded = decoder.decode(block, limits, classify, &mut arena, |line| lines.push(line))?;
    assert!(arena.starts_with(b"before"));
    Ok((decoded, arena, lines))
}

/// Names, values and whether they must stay out of tables.
fn fields(decoder: &mut Decoder, block: &[u8]) -> Vec<(Vec<u8>, Vec<u8>, bool)> {
    let (decoded, arena, lines) = read(decoder, block, WIDE).unwrap();
    assert_eq!(decoded, Decoded::Whole);
    let mut end = 6;
    let mut found = Vec::new();
    for line in lines {
        assert_eq!((line.name.at, line.value.at), (end, end + line.name.len));
        end = line.value.at + line.value.len;
        let (name, value) = (line.name.of(&arena).unwrap(), line.value.of(&arena).unwrap());
        assert_eq!(line.class, classify(name, value));
        found.push((name.to_vec(), value.to_vec(), line.never));
    }
    assert_eq!(end as usize, arena.len());
    found
}

fn indexing(way: u8) -> Indexing {
    [Indexing::Auto, Indexing::Auto, Indexing::Auto, Indexing::Plain, Indexing::Never][usize::from(way) % 5]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let known =
        [":path", ":method", ":status", "accept-encoding", "te", "content-type", "cookie", "x-a", "x-b"];
    prop_oneof![
        8 => prop::sample::select(known.to_vec()).prop_map(|name| name.as_bytes().to_vec()),
        2 => "[a-z-]{0,12}".prop_map(String::into_bytes),
        1 => "[a-z]{60,90}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..300),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let known = ["", "/", "GET", "200", "gzip, deflate", "trailers", "application/grpc", "1", "2", "3"];
    prop_oneof![
        8 => prop::sample::select(known.to_vec()).prop_map(|value| value.as_bytes().to_vec()),
        3 => "[ -~]{0,60}".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..700),
        1 => vec(prop::sample::select(vec![b'a', b'X', 0xff]), 900..5000),
    ]
}

fn blocks() -> impl Strategy<Value = Vec<Vec<Sent>>> {
    vec(vec((name(), value(), any::<u8>()), 0..10), 1..24)
}

/// Sizes that a peer asks for before a block.
fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        6 => Just(vec![]),
        1 => vec(prop_oneof![Just(0), 30_usize..400, Just(4096), 1000_usize..10_000], 1..4),
    ]
}

/// The list in the words of the other implementation: fields, and those never indexed.
fn others(decoder: &mut httlib_hpack::Decoder<'_>, block: &[u8]) -> Vec<(Vec<u8>, Vec<u8>, bool)> {
    let mut found = Vec::new();
    decoder.decode(&mut block.to_vec(), &mut found).unwrap();
    found.into_iter().map(|(name, value, flags)| (name, value, flags & 8 != 0)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_written_is_read_by_both(blocks in blocks(), sizes in vec(sizes(), 24)) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        let mut other = httlib_hpack::Decoder::with_dynamic_size(4096);
        for (block, sizes) in blocks.iter().zip(&sizes) {
            for size in sizes {
                encoder.set_table_max(*size);
            }
            let mut out = Vec::new();
            encoder.begin(&mut out);
            for (name, value, way) in block {
                encoder.field(name, value, indexing(*way), &mut out);
            }
            let sent: Vec<_> = block
                .iter()
                .map(|(name, value, way)| (name.clone(), value.clone(), indexing(*way) == Indexing::Never))
                .collect();
            prop_assert_eq!(&others(&mut other, &out), &sent);
            prop_assert_eq!(&fields(&mut decoder, &out), &sent);
        }
    }

    /// The other side indexes everything, names by index too, and codes at will; its table may be small.
    #[test]
    fn what_the_other_writes_is_read(
        blocks in blocks(),
        size in prop_oneof![Just(4096_u32), 0_u32..600],
        named in vec((0_u32..140, value(), any::<u8>()), 0..40),
    ) {
        let (mut decoder, mut tight) = (Decoder::new(4096), Decoder::new(4096));
        let mut encoder = httlib_hpack::Encoder::with_dynamic_size(4096);
        let mut other = httlib_hpack::Decoder::with_dynamic_size(4096);
        let mut start = Vec::new();
        encoder.update_max_dynamic_size(size, &mut start).unwrap();
        let mut named = named.iter();
        for block in &blocks {
            let mut out = std::mem::take(&mut start);
            for (name, value, flags) in block {
                encoder.encode((name.clone(), value.clone(), flags & 0x1f), &mut out).unwrap();
                if let Some((index, value, flags)) = named.next() {
                    // It may have no such entry.
                    let mut more = Vec::new();
                    if encoder.encode((*index, value.clone(), flags & 0x0f), &mut more).is_ok() {
                        out.extend(more);
                    }
                }
            }
            let mut list = Vec::new();
            // An index that the other refuses: nothing to compare any more.
            if other.decode(&mut out.clone(), &mut list).is_err() {
                prop_assert!(read(&mut decoder, &out, WIDE).is_err());
                break;
            }
            let list: Vec<_> = list.into_iter().map(|(name, value, flags)| (name, value, flags & 8 != 0)).collect();
            prop_assert_eq!(&fields(&mut decoder, &out), &list);
            // One that had no room for the list has the same table all the same.
            let small = ListLimits { bytes: 100, lines: 2 };
            let (_, arena, lines) = read(&mut tight, &out, small).unwrap();
            let cost: usize = lines.iter().map(|line| (line.name.len + line.value.len) as usize + 32).sum();
            prop_assert!(cost <= 100 && lines.len() <= 2 && arena.len() <= 6 + 100);
        }
        for index in 62_u8..110 {
            let one = [index | 0x80];
            let whole = read(&mut decoder, &one, WIDE);
            prop_assert_eq!(&read(&mut tight, &one, WIDE), &whole);
            let mut list = Vec::new();
            prop_assert_eq!(other.decode(&mut one.to_vec(), &mut list).is_ok(), whole.is_ok());
        }
    }

    #[test]
    fn no_bytes_panic_and_limits_hold(
        blocks in vec(vec(any::<u8>(), 0..200), 1..6),
        bytes in 0_usize..2000,
        lines in 0_usize..20,
        table in prop_oneof![Just(4096_usize), 0_usize..200, Just(1 << 16)],
    ) {
        let (mut decoder, mut wide) = (Decoder::new(table), Decoder::new(table));
        for block in &blocks {
            let all = read(&mut wide, block, WIDE);
            let some = read(&mut decoder, block, ListLimits { bytes, lines });
            // Whether a block can be read does not depend on the limits.
            prop_assert_eq!(all.as_ref().err(), some.as_ref().err());
            let (Ok((whole, full, every)), Ok((decoded, arena, found))) = (all, some) else { break };
            prop_assert_eq!(whole, Decoded::Whole);
            prop_assert_eq!(decoded == Decoded::Whole, found.len() == every.len());
            prop_assert!(found.len() <= lines && arena.len() - 6 <= bytes);
            prop_assert_eq!(&every[..found.len()], &found[..]);
            prop_assert!(full.starts_with(&arena));
        }
    }

    /// Blocks that make sense, with damage.
    #[test]
    fn no_damage_panics(blocks in blocks(), damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        for block in &blocks {
            let mut out = Vec::new();
            encoder.begin(&mut out);
            for (name, value, way) in block {
                encoder.field(name, value, indexing(*way), &mut out);
            }
            for (at, byte) in &damage {
                let at = at.index(out.len().max(1));
                if let Some(place) = out.get_mut(at) {
                    *place = *byte;
                }
            }
            if read(&mut decoder, &out, WIDE).is_err() {
                break;
            }
        }
    }
}

/// A long string in the block's own form.
fn string(len: usize, byte: u8) -> Vec<u8> {
    let (mut out, mut left) = (vec![0x7f], len - 127);
    while left > 127 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
    out.resize(out.len() + len, byte);
    out
}

#[test]
fn what_is_malformed_ends_the_connection() {
    let cases: &[(&str, &[u8])] = &[
        ("index 0", &[0x80]),
        ("an index behind the table", &[0xbe]),
        ("an index far behind the table", &[0xff, 0xff, 0xff, 0xff, 0x07]),
        ("a name behind the table", &[0x7e, 0x00]),
        ("a name behind the table, not for it", &[0x0f, 0x2f, 0x00]),
        ("an integer that ends early", &[0xff]),
        ("an integer that ends early", &[0xff, 0x80]),
        ("an integer without end", &[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]),
        ("an integer beyond 31 bits", &[0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("a string's length beyond 31 bits", &[0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("no name", &[0x40]),
        ("no value", &[0x40, 0x01, b'a']),
        ("a name that ends early", &[0x40, 0x02, b'a']),
        ("a value that ends early", &[0x40, 0x01, b'a', 0x03, b'b']),
        ("a string's declared 2 GiB", &[0x00, 0x7f, 0x80, 0xff, 0xff, 0xff, 0x07]),
        ("the end of a string inside it", &[0x00, 0x01, b'a', 0x85, 0x07, 0xff, 0xff, 0xff, 0xff]),
        ("the end of a string, alone", &[0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00]),
        ("a padding of eight bits", &[0x00, 0x01, b'a', 0x81, 0xff]),
        ("a padding of more than eight bits", &[0x00, 0x01, b'a', 0x82, 0x07, 0xff]),
        ("a padding that is not all ones", &[0x00, 0x01, b'a', 0x81, 0x06]),
        ("a padding of zeros", &[0x00, 0x01, b'a', 0x81, 0x00]),
        ("such a padding in a name", &[0x40, 0x81, 0x06, 0x00]),
        ("a size update behind a field", &[0x82, 0x20]),
        ("a size update behind an update and a field", &[0x20, 0x82, 0x20]),
        ("three size updates", &[0x20, 0x20, 0x20]),
        ("a size beyond what was allowed", &[0x3f, 0xe2, 0x1f]),
        ("a second size beyond what was allowed", &[0x20, 0x3f, 0xe2, 0x1f]),
        ("a size that ends early", &[0x3f]),
    ];
    for (what, block) in cases {
        for limits in [WIDE, ListLimits { bytes: 0, lines: 0 }] {
            let found = read(&mut Decoder::new(4096), block, limits);
            assert!(found.is_err(), "{what}: {found:?}");
        }
    }
    // Hard by what is malformed.
    let fine: &[&[u8]] =
        &[&[], &[0x20], &[0x20, 0x3f, 0xe1, 0x1f], &[0x00, 0x00, 0x00], &[0x00, 0x81, 0x07, 0x80]];
    for block in fine {
        read(&mut Decoder::new(4096), block, WIDE).unwrap();
    }
}

#[test]
fn an_entry_repeated_is_not_copied_beyond_the_limits() {
    let mut decoder = Decoder::new(4096);
    let block = [&[0x40, 0x01, b'a'][..], &string(4000, b'b')].concat();
    assert_eq!(fields(&mut decoder, &block).len(), 1);
    let limits = ListLimits { bytes: 16_384, lines: 100 };
    let (decoded, arena, lines) = read(&mut decoder, &[0xbe; 10_000], limits).unwrap();
    assert_eq!((decoded, lines.len(), arena.len()), (Decoded::TooLarge, 4, 6 + 4 * 4001));
    assert!(arena.capacity() <= 2 * 16_384);
    // Fields that cost nothing but their 32 bytes, and those that only count.
    let (decoded, arena, lines) = read(&mut decoder, &[0x82; 10_000], limits).unwrap();
    assert_eq!((decoded, lines.len(), arena.len()), (Decoded::TooLarge, 100, 6 + 1000));
}

#[test]
fn the_bytes_of_a_list_are_counted_as_the_rfc_says() {
    // `:method: GET` is 10 and 32.
    for (bytes, lines, found) in [(42, 1, 1), (41, 1, 0), (83, 9, 1), (84, 9, 2), (84, 1, 1), (0, 0, 0)] {
        for field in [&[0x82][..], &[0x02, 0x03, b'G', b'E', b'T'], &[0x02, 0x83, 0xc5, 0x83, 0x7f]] {
            let block = field.repeat(3);
            let limits = ListLimits { bytes, lines };
            let (decoded, _, list) = read(&mut Decoder::new(4096), &block, limits).unwrap();
            assert_eq!((decoded, list.len()), (Decoded::TooLarge, found), "{bytes} {lines} {field:x?}");
        }
    }
    let limits = ListLimits { bytes: 126, lines: 3 };
    assert_eq!(read(&mut Decoder::new(4096), &[0x82; 3], limits).unwrap().0, Decoded::Whole);
    // Nothing comes behind a field that was left out, though it would have room.
    let block = [&[0x00, 0x01, b'a'][..], &string(200, b'b'), &[0x82]].concat();
    let limits = ListLimits { bytes: 100, lines: 9 };
    let (decoded, arena, lines) = read(&mut Decoder::new(4096), &block, limits).unwrap();
    assert_eq!((decoded, &arena[..], lines.len()), (Decoded::TooLarge, &b"before"[..], 0));
}

#[test]
fn a_field_beyond_the_limits_enters_the_table_or_empties_it() {
    let tight = ListLimits { bytes: 100, lines: 9 };
    let mut decoder = Decoder::new(4096);
    let block = [&[0x40, 0x01, b'a'][..], &string(200, b'b')].concat();
    assert_eq!(read(&mut decoder, &block, tight).unwrap().0, Decoded::TooLarge);
    assert_eq!(fields(&mut decoder, &[0xbe]), [(vec![b'a'], vec![b'b'; 200], false)]);
    // Larger than the table, in either form.
    let coded = [&[0x40, 0x01, b'a', 0xff, 0x81, 0x13][..], &[0; 2560]].concat();
    for large in [[&[0x40, 0x01, b'a'][..], &string(4096 - 32, b'b')].concat(), coded] {
        assert_eq!(fields(&mut decoder, &block).len(), 1);
        assert_eq!(read(&mut decoder, &large, tight).unwrap().0, Decoded::TooLarge);
        assert!(read(&mut decoder, &[0xbe], WIDE).is_err());
        let mut decoder = Decoder::new(4096);
        assert_eq!(fields(&mut decoder, &large).len(), 1);
        assert!(read(&mut decoder, &[0xbe], WIDE).is_err());
    }
    // One byte less fits.
    let block = [&[0x40, 0x01, b'a'][..], &string(4096 - 33, b'b')].concat();
    fields(&mut decoder, &block);
    assert_eq!(fields(&mut decoder, &[0xbe]).len(), 1);
}

#[test]
fn an_entry_may_take_the_name_of_one_that_goes_for_it() {
    for name in [10, 70, 1000] {
        let mut decoder = Decoder::new(4096);
        let block =
            [&[0x40, 0x00, 0x01, b'0', 0x40][..], &string(name + 127, b'n'), &string(1500, b'1')].concat();
        fields(&mut decoder, &block);
        for round in 0..20_u8 {
            // The oldest of two or three, whichever there is.
            let value = string(1800 + usize::from(round), round);
            let block = [&[0x7e][..], &value].concat();
            let expected = (vec![b'n'; name + 127], vec![round; 1800 + usize::from(round)], false);
            assert_eq!(fields(&mut decoder, &block), std::slice::from_ref(&expected));
            assert_eq!(fields(&mut decoder, &[0xbe]), [expected]);
        }
    }
}

/// A name that an entry took over stands before entries that are older than it, and must survive when all are moved.
#[test]
fn a_name_taken_over_outlives_its_first_entry() {
    let mut decoder = Decoder::new(4096);
    let literal = |name: Vec<u8>, value: Vec<u8>| [vec![0x40], name, value].concat();
    fields(&mut decoder, &literal(string(200, b'n'), vec![0]));
    fields(&mut decoder, &literal(string(300, b'o'), vec![0]));
    // The second newest's name, then enough to drive out both, and to move what is left again and again.
    fields(&mut decoder, &[0x7f, 0x00, 0x01, b'v']);
    for round in 0..120_u8 {
        let len = 127 + usize::from(round) * 97 % 900;
        fields(&mut decoder, &literal(vec![1, b'x'], string(len, round)));
        let newest = (vec![b'x'], vec![round; len], false);
        assert_eq!(fields(&mut decoder, &[0xbe]), [newest]);
        // Kept alive by taking it over each time.
        fields(&mut decoder, &[0x7f, 0x00, 0x01, round]);
        assert_eq!(fields(&mut decoder, &[0xbe]), [(vec![b'n'; 200], vec![round], false)]);
    }
}

thread_local! {
    static ASKED: Cell<u32> = const { Cell::new(0) };
}

#[test]
fn the_class_of_an_indexed_field_is_asked_for_once() {
    let counted = |name: &[u8], value: &[u8]| {
        ASKED.set(ASKED.get() + 1);
        classify(name, value)
    };
    let mut decoder = Decoder::new(4096);
    let (mut arena, mut lines) = (Vec::new(), Vec::new());
    let block = [&[0x82, 0x87, 0x40, 0x01, b'a', 0x01, b'b'][..], &[0xbe, 0x82, 0x87].repeat(100)].concat();
    decoder.decode(&block, WIDE, counted, &mut arena, |line| lines.push(line)).unwrap();
    assert_eq!((ASKED.get(), lines.len()), (3, 303));
    decoder.decode(&block[..2], WIDE, counted, &mut arena, |line| lines.push(line)).unwrap();
    assert_eq!(ASKED.get(), 3);
    decoder
        .decode(&[0x00, 0x01, b'a', 0x01, b'b'], WIDE, counted, &mut arena, |line| lines.push(line))
        .unwrap();
    assert_eq!(ASKED.get(), 4);
}

/// The head of a gRPC request: fields that stay, one that is new each time, and one that comes again.
fn grpc(round: u64, encoder: &mut Encoder, out: &mut Vec<u8>) {
    let mut trace = *b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for at in 0..16 {
        trace[3 + at] = b"0123456789abcdef"[(round >> (at * 4)) as usize & 15];
    }
    encoder.begin(out);
    for (name, value) in [
        (&b":method"[..], &b"POST"[..]),
        (b":scheme", b"http"),
        (b":path", b"/helloworld.Greeter/SayHello"),
        (b":authority", b"greeter.example:8080"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"user-agent", b"grpc-go/1.75.0"),
        (b"grpc-timeout", b"999970u"),
        (b"traceparent", &trace),
    ] {
        encoder.field(name, value, Indexing::Auto, out);
    }
}

#[test]
fn nothing_is_allocated_once_warm() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
    let (mut out, mut arena, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    let mut round = 0;
    let mut rounds = |count: u64| {
        for _ in 0..count {
            round += 1;
            out.clear();
            arena.clear();
            lines.clear();
            grpc(round, &mut encoder, &mut out);
            // A peer that is less careful with our table: entries come and go.
            let at = out.len();
            out.extend_from_slice(&[0x40, 0x01, b'x', 0x08]);
            out.extend_from_slice(&round.to_be_bytes());
            let small = ListLimits { bytes: 4096, lines: 64 };
            assert_eq!(
                decoder.decode(&out[at..], small, classify, &mut arena, |line| lines.push(line)),
                Ok(Decoded::Whole)
            );
        }
    };
    rounds(1000);
    let counted = allocation_counter::measure(|| rounds(1000));
    assert_eq!(counted.count_total, 0, "{counted:?}");
}

#[test]
fn a_warm_grpc_head_is_small_and_allocates_nothing() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
    let (mut out, mut arena, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    let mut round = 0;
    let mut rounds = |count: u64| {
        for _ in 0..count {
            round += 1;
            out.clear();
            arena.clear();
            lines.clear();
            grpc(round, &mut encoder, &mut out);
            let decoded = decoder.decode(&out, WIDE, classify, &mut arena, |line| lines.push(line));
            assert_eq!((decoded, lines.len()), (Ok(Decoded::Whole), 9));
        }
        out.len()
    };
    rounds(100);
    let mut len = 0;
    let counted = allocation_counter::measure(|| len = rounds(1000));
    assert_eq!(counted.count_total, 0, "{counted:?}");
    // Eight indices, and the one new value with its name.
    assert!(len < 70, "{len}");
}
