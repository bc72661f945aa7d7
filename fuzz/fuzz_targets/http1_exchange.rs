//! The bytes as what callers, endpoints, sockets and time do to the exchange engine.
//!
//! It must know nothing but where the promises are.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| outrigger_fuzz::exchange::life(bytes));
