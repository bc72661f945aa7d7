//! A timeout of gRPC, and how much of it is gone.
//!
//! It must know nothing but where the promises are.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| outrigger_fuzz::grpc::timeouts(bytes));
