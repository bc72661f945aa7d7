//! What either side sends as a body, in every framing, held to the promises of its decoder.
//!
//! It must know nothing but where the promises are.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| outrigger_fuzz::http1::bodies(bytes));
