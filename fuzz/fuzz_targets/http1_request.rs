//! What a caller sends as the head of a request, held to the promises of the gate.
//!
//! It must know nothing but where the promises are.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| outrigger_fuzz::http1::requests(bytes));
