//! Headers that a route sets and takes away, read behind the sidecar by what it decides with: a second listener.

use crate::endpoint::Endpoint;
use crate::protocol::{Ask, Speaks, each, every};
use crate::support::echo::conf;
use crate::support::free_port;
use crate::world::World;

/// Calls pass the listener `main` with these keys of its route, then `inner`, whose routes read what came: endpoint 0 gets
/// what passes `test`, endpoint 1 the rest.
fn world(protocol: &'static dyn Speaks, keys: &str, test: &str) -> World {
    let endpoints: Vec<_> = (0..2).map(|at| Endpoint::start(protocol, at)).collect();
    let (speaks, inner) = (protocol.conf(), free_port());
    let listener = format!(
        "    protocol: {speaks}\n    routes: [{{ match: {{}}, to: inner, {keys} }}]\n  inner:\n    bind: 127.0.0.1:{inner}\n    \
         protocol: {speaks}\n    routes: [{{ match: {{ {test} }}, to: passed }}, {{ to: rest }}]"
    );
    let clusters = format!(
        "clusters:\n  inner: {{ endpoints: [127.0.0.1:{inner}] }}\n  passed: {{ endpoints: [\"{}\"] }}\n  rest: {{ endpoints: [\"{}\"] }}",
        endpoints[0].address(),
        endpoints[1].address()
    );
    World::with(protocol, endpoints, &conf(&listener, &clusters), 1)
}

#[track_caller]
fn passes(world: &mut World, ask: &Ask, wanted: bool) {
    for _ in 0..3 {
        let got = world.ask(ask);
        assert!(got.is_ok(), "{got:?}");
        assert_eq!(got.by, Some(usize::from(!wanted)), "{ask:?}");
    }
}

#[test]
fn what_a_route_sets_is_what_the_next_one_reads() {
    every(|protocol| {
        let keys = "request: { set: { x-from: shop, x-old: new }, add: { x-more: a }, remove: [x-gone] }";
        let test =
            "headers: { x-from: shop, x-old: new, x-more: { present: true }, x-gone: { present: false } }";
        let mut some = world(protocol, keys, test);
        passes(&mut some, &Ask::new("plain"), true);
        let both = Ask::new("both").header("x-old", "old").header("x-gone", "here").header("x-from", "mars");
        passes(&mut some, &both, true);
        // A long call whose frame or head does not come in one piece.
        passes(&mut some, &Ask::new("long").header("x-gone", "here").size(100_000), true);
        let mut none = world(protocol, "timeout: 9s", test);
        passes(&mut none, &Ask::new("unchanged"), false);
    });
}

#[test]
fn a_changed_call_that_is_tried_again_is_changed_as_before() {
    every(|protocol| {
        let keys =
            "idempotent: true, retry: { on: [reset, error], tries: 2 }, request: { set: { x-from: shop } }";
        let mut world = world(protocol, keys, "headers: { x-from: shop }");
        passes(&mut world, &Ask::new("first"), true);
        // The inner listener answers for the endpoint that is gone: with a failure, whichever try it is.
        world.endpoints[0].kill();
        let got = world.ask(&Ask::new("gone"));
        assert!(!got.is_ok(), "{got:?}");
        let stats = world.sidecar.stats();
        let protocols = stats["protocols"].as_object().expect("protocols");
        let resent: u64 = protocols.values().filter_map(|one| one["events"]["resent"].as_u64()).sum();
        assert!(resent > 0 && world.endpoints[1].calls() == 0, "{resent} {:?}", world.counts());
    });
}

#[test]
fn a_path_and_a_host_are_written_anew() {
    each(
        |protocol| protocol.is_http(),
        |protocol| {
            for (rewrite, path, test) in [
                ("{ path: /new }", "/old?x=1", "path: /new, query: { x: '1' }"),
                (
                    "{ strip_prefix: /api, add_prefix: /v2 }",
                    "/api/cart?x=1",
                    "path: /v2/cart, query: { x: '1' }",
                ),
                ("{ strip_prefix: /api }", "/api", "path: /"),
                ("{ strip_prefix: /api }", "/other", "path: /other"),
                ("{ add_prefix: /v2 }", "/cart", "path: /v2/cart"),
                ("{ authority: 'shop.example:81' }", "/", "authority: 'shop.example:81', path: /"),
            ] {
                let mut world = world(protocol, &format!("rewrite: {rewrite}"), test);
                passes(&mut world, &Ask::new("rewritten").path(path), true);
            }
        },
    );
}
