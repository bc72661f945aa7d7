//! What a peer sends on a connection that speaks Bolt, held to the promises of every frame codec.
//!
//! It must know nothing but the codec and the width of its ids.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| outrigger_fuzz::frames::<outrigger_bolt::Bolt>(bytes, 0xffff_ffff));
