//! A request of HTTP/2 that goes on as HTTP/1.
//!
//! It must know nothing but where the promises are.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| outrigger_fuzz::downgrade::request(bytes));
