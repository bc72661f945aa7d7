//! What reading one frame costs, for each codec: on requests captured from real Java programs.
//!
//! `names` is what most routes want; `all` walks to the headers or attachments too. No sockets.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use outrigger_bolt::Bolt;
use outrigger_codec::{FrameCodec, HeadIndex, Wants};
use outrigger_dubbo::Dubbo;

const FRAME_MAX: usize = 8 << 20;

fn frame(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let nibble = |digit: u8| (digit as char).to_digit(16).unwrap_or(0) as u8;
    digits.chunks_exact(2).map(|pair| nibble(pair[0]) << 4 | nibble(pair[1])).collect()
}

fn codec<C: FrameCodec>(criterion: &mut Criterion, what: &str, hex: &str) {
    let mut frame = frame(hex);
    let names = Wants::SERVICE.and(Wants::METHOD).and(Wants::TIMEOUT);
    let mut index = HeadIndex::default();
    criterion.bench_function(&format!("{} {what}: scan", C::NAME), |b| {
        b.iter(|| C::scan(black_box(&frame), FRAME_MAX));
    });
    for (name, wants) in [("names", names), ("all", Wants::ALL)] {
        criterion.bench_function(&format!("{} {what}: head, {name}", C::NAME), |bencher| {
            bencher.iter(|| {
                index.clear();
                C::head(black_box(&frame), wants, &mut index)
            });
        });
    }
    criterion.bench_function(&format!("{} {what}: set_id", C::NAME), |b| {
        b.iter(|| C::set_id(black_box(&mut frame), 77));
    });
}

fn codecs(criterion: &mut Criterion) {
    codec::<Bolt>(criterion, "echo", include_str!("../protocols/bolt/tests/data/frames/echo.req.hex"));
    codec::<Bolt>(criterion, "pojo", include_str!("../protocols/bolt/tests/data/frames/process.req.hex"));
    codec::<Dubbo>(criterion, "echo", include_str!("../protocols/dubbo/tests/data/dubbo-3.3/echo.req.hex"));
    codec::<Dubbo>(
        criterion,
        "pojo",
        include_str!("../protocols/dubbo/tests/data/dubbo-3.3/process.req.hex"),
    );
}

criterion_group!(benches, codecs);
criterion_main!(benches);
