//! What happens around a registry that is well: instances vanish, a sidecar hangs, an application comes and goes, a sidecar
//! leaves, the past is forgotten.

use super::registry::{Kind, Server};
use super::support::echo::Upstream;
use super::support::free_port;
use super::support::raw::{Client, ECHO, Frame, Wire};
use super::together;
use super::world::{Conf, PATIENCE, Provider, Traffic, until, until_within};
use serde_json::Value;
use std::io::Write as _;
use std::time::Duration;

/// Longer than a sidecar's watch in Kubernetes lasts, which its server ends after a minute; and shorter than the minute and a half
/// for which that keeps a connection over which nothing goes.
const WATCHED: Duration = Duration::from_secs(65);

pub(crate) fn story(server: &Server) {
    // Most of each is waiting, and none knows of the others.
    std::thread::scope(|scope| {
        let all: [fn(&Server); 6] = [emptied, hanging, gated, leaving, robbed, expired];
        together(all.map(|one| scope.spawn(move || one(server))).into());
    });
}

/// All instances are taken out of the registry at once, though they answer. `up` holds what it had for as long as this lasts,
/// `brief` for two seconds.
fn emptied(server: &Server) {
    const SERVICE: &str = "t.Emptied";
    let apps = [0, 1, 2].map(|_| Upstream::start_outside());
    let [one, two, three] = &apps.each_ref().map(Upstream::address);
    server.put(SERVICE, &[one, two, three]);
    let conf = Conf::new(server).finds("up", SERVICE, "1h").finds("brief", SERVICE, "2s");
    let sidecar = conf.start();
    let both = |count| ["up", "brief"].iter().all(|name| sidecar.endpoints(name) == count);
    until("all three are found", || both(3));
    let traffic = Traffic::start(server.kind, conf.port);
    traffic.goes_on("with all three");
    // One that leaves in view of everybody is believed at once, however long doubt would last.
    server.take(SERVICE, &[three]);
    until("one has left", || both(2));
    assert_eq!(sidecar.watch("up")["held"], false);
    traffic.goes_on("with two of three");
    server.take(SERVICE, &[one, two]);
    until("an empty list is doubted", || sidecar.watch("up")["held"] == true);
    traffic.goes_on("with none that the registry knows of");
    sidecar.until_endpoints("brief", 0);
    assert_eq!(sidecar.watch("brief")["held"], false, "{}", sidecar.registries());
    assert_eq!(sidecar.watch("up")["held"], true, "{}", sidecar.registries());
    assert!(sidecar.endpoints("up") > 0);
    traffic.goes_on("while they are held");
    server.put(SERVICE, &[one, two, three]);
    until("all three are back", || both(3));
    until("nothing is held any more", || sidecar.watch("up")["held"] == false);
    traffic.end("emptied");
}

/// The sidecar hangs until it is given up: by the registry, or by those who find it there.
fn hanging(server: &Server) {
    const CALLED: &str = "t.Called";
    const OWN: &str = "t.Hanging";
    let apps = [0, 1].map(|_| Upstream::start_outside());
    let own = Upstream::start();
    let addresses = apps.each_ref().map(Upstream::address);
    server.put(CALLED, &addresses.each_ref().map(String::as_str));
    let stays = Provider::start(server, OWN);
    let finds = Conf::new(server).calls(OWN);
    let finder = finds.start();
    let conf = Conf::new(server).calls(CALLED).registers(OWN, &own.address());
    let mut sidecar = conf.start();
    let (one, other) = (conf.address(), stays.address());
    until("it is registered", || server.lists(OWN, &[&one, &other]));
    sidecar.until_endpoints("up", 2);
    finder.until_endpoints("up", 2);
    let traffic = Traffic::start(server.kind, conf.port);
    traffic.goes_on("before it hangs");
    sidecar.signal("STOP");
    server.forgets(sidecar.pid());
    until_within(server.kind.given_up(), "it is found no more", || finder.endpoints("up") == 1);
    if server.kind.forgets() {
        assert!(server.lists(OWN, &[&other]), "it is given up");
    }
    // Who found it can call, and never calls it.
    let found = Traffic::start(server.kind, finds.port);
    found.goes_on("while it hangs");
    sidecar.signal("CONT");
    until("it is registered again", || server.lists(OWN, &[&one, &other]));
    finder.until_endpoints("up", 2);
    traffic.goes_on("when it goes on");
    found.end("who found one that hung");
    server.keeps(OWN, &[&one, &other]);
    assert_eq!(sidecar.endpoints("up"), 2);
    traffic.end("hanging");
}

/// The application is made known while it answers, and a single answer that is missing is no reason to take it back.
fn gated(server: &Server) {
    const SERVICE: &str = "t.Gated";
    let port = free_port();
    let app = format!("127.0.0.1:{port}");
    let conf = Conf::new(server).carries(&app).registers(SERVICE, &app);
    let sidecar = conf.start();
    let address = conf.address();
    let asked = || sidecar.why_not().is_some_and(|why| !why.contains("not asked yet"));
    until("the application is asked", asked);
    // Who does not answer is not made known.
    server.keeps(SERVICE, &[]);
    let mut app = Upstream::start_at(port);
    until("who answers is made known", || server.lists(SERVICE, &[&address]));
    assert_eq!(sidecar.why_not(), None);

    // One question goes unanswered.
    let before = app.heartbeats();
    app.ignore_heartbeats();
    until("it is asked again", || app.heartbeats() > before);
    app.answer_heartbeats(true);
    let before = app.heartbeats();
    until("it is asked a few times more", || {
        assert!(server.lists(SERVICE, &[&address]), "a single answer is no reason");
        app.heartbeats() > before + 3
    });

    app.stop();
    until("who does not answer any more is taken back", || server.lists(SERVICE, &[]));
    until("why is said", || sidecar.why_not().is_some());
    let app = Upstream::start_at(port);
    until("who answers again is made known again", || server.lists(SERVICE, &[&address]));
    let mut client = sidecar.client();
    client.well(server.kind.wire(), 1);
    assert!(app.calls() > 0);
}

/// A sidecar is told to end: it is taken out of the registry first, and its callers are told afterwards.
fn leaving(server: &Server) {
    const SERVICE: &str = "t.Leaving";
    let stays = Provider::start(server, SERVICE);
    let mut leaves = Provider::start(server, SERVICE);
    let conf = Conf::new(server).calls(SERVICE);
    let caller = conf.start();
    caller.until_endpoints("up", 2);
    let traffic = Traffic::start(server.kind, conf.port);
    traffic.goes_on("with both");
    let (kind, port, address) = (server.kind, leaves.conf.port, leaves.address());
    std::thread::scope(|scope| {
        // A caller that knows nothing of registries: whether the registry still had it when it was told to leave.
        let told = scope.spawn(move || {
            let mut client = Client::connect(port);
            for id in 1.. {
                client.stream.write_all(&kind.wire().call(id).bytes()).expect("nobody told us to leave yet");
                match Frame::read(&mut client.stream) {
                    Ok(Some(frame)) if frame.bytes == kind.wire().answer(id, ECHO) => {}
                    Ok(Some(frame)) if is_answer(kind, &frame) => panic!("call {id} was refused: {frame:?}"),
                    _ => break,
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            server.listed(SERVICE).expect("the registry can be asked")
        });
        leaves.sidecar.term();
        until("it is taken away", || server.lists(SERVICE, &[&stays.address()]));
        let listed = told.join().expect("calls are good until then");
        assert!(!listed.contains(&address), "told to leave while it was registered: {listed:?}");
    });
    assert!(leaves.sidecar.wait(PATIENCE).success());
    caller.until_endpoints("up", 1);
    traffic.end("leaving");
}

/// An operator takes away what sidecars wrote: it is written again, and nobody misses a call.
fn robbed(server: &Server) {
    const SERVICE: &str = "t.Robbed";
    if !matches!(server.kind, Kind::Etcd | Kind::Kubernetes) {
        // Others tell by the connection what is whose.
        return;
    }
    let of_one_app = || Conf::new(server).of("robbed");
    let providers = [0, 1].map(|_| Provider::start_by(server, SERVICE, of_one_app()));
    let addresses = providers.each_ref().map(Provider::address);
    let addresses = addresses.each_ref().map(String::as_str);
    let conf = Conf::new(server).calls(SERVICE);
    let caller = conf.start();
    caller.until_endpoints("up", 2);
    let traffic = Traffic::start(server.kind, conf.port);
    traffic.goes_on("before anything is taken away");
    for _ in 0..2 {
        server.robbed(SERVICE);
        until("both are registered again", || server.lists(SERVICE, &addresses));
        until("both are found", || caller.endpoints("up") == 2 && caller.watch("up")["held"] == false);
        traffic.goes_on("after a theft");
    }
    server.keeps(SERVICE, &addresses);
    traffic.end("robbed");
}

/// A sidecar stands still until its watch in Kubernetes is over; one comes, one goes, and the store forgets it. When the sidecar goes
/// on, the server cannot tell what was in between (410): all is listed anew, and nobody misses a call.
fn expired(server: &Server) {
    const SERVICE: &str = "t.Expired";
    if server.kind != Kind::Kubernetes {
        // etcd forgets while it is away; the others tell no past.
        return;
    }
    let [stays, goes, comes] = [0, 1, 2].map(|_| Upstream::start_outside());
    server.put(SERVICE, &[&stays.address(), &goes.address()]);
    let conf = Conf::new(server).calls(SERVICE);
    let mut caller = conf.start();
    caller.until_endpoints("up", 2);
    let traffic = Traffic::start(server.kind, conf.port);
    traffic.goes_on("before the past is forgotten");
    until("who will go is called", || goes.calls() > 0);
    let before = caller.watch("up");
    caller.signal("STOP");
    let version = server.hands().version();
    std::thread::sleep(WATCHED);
    server.put(SERVICE, &[&comes.address()]);
    server.take(SERVICE, &[&goes.address()]);
    server.compacted();
    let told = server.hands().watched(&version);
    assert_eq!((&told["type"], &told["object"]["code"]), (&"ERROR".into(), &410.into()), "{told:#}");
    caller.signal("CONT");
    until("who came is called", || comes.calls() > 0);
    caller.until_endpoints("up", 2);
    let after = caller.watch("up");
    let why = after["gap"].as_str().expect("why all was listed anew is told");
    assert!(why.contains("did not keep the changes"), "{before:#} {after:#}");
    assert!(after["gaps"].as_u64() > before["gaps"].as_u64(), "{before:#} {after:#}");
    assert_eq!((&after["held"], &after["lost"]), (&false.into(), &Value::Null), "{after:#}");
    traffic.goes_on("when all was listed anew");
    let called = goes.calls();
    traffic.goes_on("without who went");
    assert_eq!(goes.calls(), called, "who went is called no more");
    // And it goes on from there.
    server.put(SERVICE, &[&goes.address()]);
    caller.until_endpoints("up", 3);
    traffic.end("expired");
}

fn is_answer(kind: Kind, frame: &Frame) -> bool {
    match kind.wire() {
        Wire::Dubbo => frame.bytes[2] & 0x80 == 0,
        _ => frame.bytes[1] == 0,
    }
}
