//! What an endpoint sends as the head of an answer, held to the promises of the gate.
//!
//! It must know nothing but where the promises are.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| outrigger_fuzz::http1::replies(bytes));
