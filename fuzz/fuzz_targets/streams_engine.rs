//! The bytes as what callers, endpoints, sockets and time do to the streams engine, and to its translation.
//!
//! It must know nothing but where the promises are.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| outrigger_fuzz::streams::life(bytes));
