//! What an instance says that is asked what it serves: a frame of Dubbo, and in it a tree of Hessian 2.
//!
//! It must end, whatever is in it, and a tree that was built must be one that can be walked over.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrigger_dubbo::hessian::tree::Seen;

/// Walks over a value as far as somebody who reads it would: trees may hold themselves.
fn walk(value: Seen<'_>, depth: u32) -> usize {
    let own = value.text().map_or(0, str::len) + value.class().map_or(0, str::len);
    let seen = usize::from(value.is_null())
        + usize::from(value.truth().is_some())
        + usize::from(value.number().is_some());
    if depth == 0 {
        return own + seen;
    }
    let items: usize = value.items().take(8).map(|item| walk(item, depth - 1)).sum();
    let entries = value.entries().take(8).map(|(key, value)| walk(key, depth - 1) + walk(value, depth - 1));
    own + seen + items + entries.sum::<usize>()
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(outrigger_dubbo::invoke::Returned::Value(tree)) = outrigger_dubbo::invoke::read(bytes) {
        walk(tree.root(), 4);
    }
});
