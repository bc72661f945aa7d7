//! What a peer sends on an HTTP/2 connection, and what an engine asks of it meanwhile.
//!
//! It must know nothing but where the promises are.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    outrigger_fuzz::http2::life(bytes);
    outrigger_fuzz::http2::splits(bytes);
});
