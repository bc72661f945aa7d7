//! A reload that changes what is registered, and one that changes where the registry is.

use super::registry::Server;
use super::world::{Conf, Provider, Traffic, until};

pub(crate) fn story(here: &Server, there: &Server) {
    renamed(here);
    moved(here, there);
}

/// Another service is made known in the place of the first.
fn renamed(server: &Server) {
    let provider = Provider::start(server, "t.Old");
    let address = provider.address();
    let conf = provider.conf.clone().registers("t.New", &provider.app.address());
    provider.sidecar.reload(&conf.text());
    until("the new one is registered", || server.lists("t.New", &[&address]));
    until("the old one is taken away", || server.lists("t.Old", &[]));
    assert_eq!(provider.sidecar.why_not(), None);
}

/// The registry is another one: for those who give a service, and for who calls it. And then the same one by another name.
fn moved(here: &Server, there: &Server) {
    const SERVICE: &str = "t.Moved";
    let providers = [0, 1].map(|_| Provider::start(here, SERVICE));
    let addresses = providers.each_ref().map(Provider::address);
    let addresses = addresses.each_ref().map(String::as_str);
    let conf = Conf::new(here).calls(SERVICE);
    let caller = conf.start();
    caller.until_endpoints("up", 2);
    let traffic = Traffic::start(here.kind, conf.port);
    traffic.goes_on("before the move");
    // A registry that nobody answers for, and one that knows nobody yet, take nothing away.
    caller.reload(&conf.clone().at(&there.nowhere()).text());
    until("nobody answers there", || caller.is_lost());
    traffic.goes_on("where there is no registry");
    caller.reload(&conf.clone().at(&there.address()).text());
    until("a list that is empty is doubted", || caller.watch("up")["held"] == true);
    traffic.goes_on("where nobody is known yet");
    for registry in [there.address(), there.by_another_name()] {
        for provider in &providers {
            provider.sidecar.reload(&provider.conf.clone().at(&registry).text());
        }
        until("both are registered there", || there.lists(SERVICE, &addresses));
        caller.reload(&conf.clone().at(&registry).text());
        let is_there = || {
            let page = caller.registries();
            page["registries"]["reg"]["connected"] == true && caller.watch("up")["generation"] != 0
        };
        until("the caller asks there", is_there);
        traffic.goes_on("after the move");
        until("nobody is registered here any more", || here.lists(SERVICE, &[]));
        // The connections of before end a while later, and take nothing with them.
        there.keeps(SERVICE, &addresses);
        assert_eq!(caller.endpoints("up"), 2, "{}", caller.registries());
    }
    let third = Provider::start_by(there, SERVICE, Conf::new(there));
    caller.until_endpoints("up", 3);
    third.leaves();
    caller.until_endpoints("up", 2);
    traffic.end("moved");
}
