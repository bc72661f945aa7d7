//! Blocks of compressed headers, held to the promises of both ends.
//!
//! It must know nothing but where the promises are.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| outrigger_fuzz::hpack::blocks(bytes));
