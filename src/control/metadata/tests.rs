//! Instances that are played here answer as real ones do, or badly; the answer of a real one is among them.

use outrigger_codec::{Event, Link, Message, Policy, ReplyKind, Slot, Tag};
use outrigger_discovery::{ServiceKey, formats::application::Member};
use tokio::net::TcpListener;

use super::*;
use crate::plugins;

/// What Dubbo 3.3.6 answered.
const ANSWER: &str = include_str!("../../../protocols/dubbo/tests/data/dubbo-3.3/metadata_service.resp.hex");
const REVISION: &str = "4c9c3a3c183931d1b1d9c5b7b3cf3534";
/// Bytes of the header of Dubbo2.
const HEADER: usize = 16;

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// The captured answer, to the question that is asked here.
fn captured() -> Vec<u8> {
    let mut frame = unhex(ANSWER);
    Dubbo::set_id(&mut frame, ID);
    frame
}

/// A frame of an answer.
fn frame(status: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xda, 0xbb, 2, status];
    frame.extend(ID.to_be_bytes());
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend(body);
    frame
}

fn question(protocol: &str, version: &str, address: String) -> Question {
    let (protocol, version) = (protocol.into(), version.into());
    Question { address, protocol, app: "shop-provider".into(), revision: REVISION.into(), version }
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

// === Dubbo2 =========================================================================================================

/// Asks an instance that says these pieces, one after another, once it was asked; and what it was asked.
async fn asked(pieces: &[&[u8]]) -> (Result<MetadataInfo, String>, Vec<u8>) {
    let (listener, address) = listener().await;
    let asker = Asker::new();
    let asking = asker.ask(question("dubbo", "1.0.0", address));
    let playing = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = vec![0; 4_096];
        let len = stream.read(&mut heard).await.unwrap();
        heard.truncate(len);
        for piece in pieces {
            stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        stream.shutdown().await.unwrap();
        let _ = stream.read_to_end(&mut heard).await;
        heard
    };
    tokio::join!(asking, playing)
}

fn held(info: &MetadataInfo) {
    let services: Vec<_> = info.services().collect();
    assert_eq!((info.app.as_str(), info.revision.as_str(), services.len()), ("shop-provider", REVISION, 1));
    let service = services[0];
    assert_eq!((service.name.as_str(), service.protocol.as_str()), ("peer.api.DemoService", "dubbo"));
    assert_eq!((service.port, &service.group, &service.version), (21_999, &None, &None));
    assert_eq!(
        (service.params.len(), service.params["prefer.serialization"].as_str()),
        (14, "hessian2,fastjson2")
    );
    let member = Member { app: info.app.clone(), address: "10.0.0.1:1".into(), ..Member::default() };
    let found = info.instances(&ServiceKey::new("peer.api.DemoService"), &member);
    assert_eq!(found.iter().map(|one| one.address.as_str()).collect::<Vec<_>>(), ["10.0.0.1:21999"]);
}

#[tokio::test]
async fn the_answer_of_a_real_provider_is_understood() {
    let (answer, heard) = asked(&[&captured()]).await;
    held(&answer.unwrap());
    let Scan::Frame(framed) = Dubbo::scan(&heard, ANSWER_MAX) else { panic!("{heard:x?}") };
    assert_eq!((framed.kind, framed.id, framed.len), (FrameKind::Request, ID, heard.len()));
    let text = String::from_utf8_lossy(&heard[HEADER..]).into_owned();
    for said in [SERVICE, METHOD, VERSION, REVISION, "\u{5}group\rshop-provider"] {
        assert!(text.contains(said), "{said}: {text:?}");
    }
}

#[tokio::test]
async fn what_else_is_said_is_no_answer() {
    let mut heartbeat = Vec::new();
    Dubbo::heartbeat(0, 9, &mut heartbeat);
    let mut other = captured();
    Dubbo::set_id(&mut other, ID + 1);
    let said = [&heartbeat[..], &other, &captured()].concat();
    let pieces: Vec<&[u8]> = said.chunks(100).collect();
    let (answer, heard) = asked(&pieces).await;
    held(&answer.unwrap());
    let mut ack = Vec::new();
    Dubbo::heartbeat_ack(&heartbeat, &mut ack);
    assert!(heard.ends_with(&ack), "a sign of life is given");
}

#[tokio::test]
async fn what_is_no_answer_says_why() {
    let mut large = frame(20, b"");
    large[12..16].copy_from_slice(&(ANSWER_MAX as u32).to_be_bytes());
    let mut foreign = captured();
    let at = foreign.windows(4).rposition(|four| four == &REVISION.as_bytes()[..4]).unwrap();
    foreign[at] = b'5';
    for (said, why) in [
        (foreign, "another revision"),
        (frame(20, &[0x92]), UNKNOWN),
        (frame(20, &[0x91, 0x4e]), UNKNOWN),
        (frame(20, b"\x91\x02no"), "no MetadataInfo"),
        (frame(20, b"\x91\x43\x01M\x91\x08services\x60\x48\x5a"), UNKNOWN),
        (frame(40, b"\x07no such"), "status 40 no such"),
        (frame(20, b"\x90\x43\x01E\x91\x0ddetailMessage\x60\x04boom"), "E: boom"),
        (frame(20, b"\x91\x48"), "ends inside a value"),
        (large, TOO_LARGE),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "does not speak Dubbo2"),
        (captured()[..300].to_vec(), "ended before the answer"),
    ] {
        let (answer, _) = asked(&[&said]).await;
        let told = answer.unwrap_err();
        assert!(told.starts_with("127.0.0.1:") && told.contains(why), "{why}: {told}");
    }
}

#[tokio::test]
async fn nobody_waits_for_who_is_silent_or_not_there() {
    let (listener, address) = listener().await;
    let silent = Asker::new().ask(question("dubbo", "1.0.0", address.clone())).await.unwrap_err();
    assert!(silent.contains("no answer within"), "{silent}");
    drop(listener);
    let gone = Asker::new().ask(question("tri", "2.0.0", address.clone())).await.unwrap_err();
    assert!(gone.contains("cannot connect"), "{gone}");
    let foreign = Asker::new().ask(question("rest", "1.0.0", address)).await.unwrap_err();
    assert!(foreign.contains("nobody here speaks"), "{foreign}");
}

// === Triple =========================================================================================================

/// How an instance answers over HTTP/2.
#[derive(Clone, Debug, Default)]
struct Played {
    head: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// `None`: the head is all.
    trailers: Option<Vec<(&'static str, String)>>,
}

fn message(fields: &[(&str, String)]) -> Message {
    let mut message = Message::default();
    for (name, value) in fields {
        match name.strip_prefix(':') {
            Some(_) => message.set(Slot::Target, value.as_bytes()),
            None => message.add(name.as_bytes(), value.as_bytes()),
        }
    }
    message
}

/// A server that answers the first call so; the call's head, and its body.
async fn play(listener: &TcpListener, played: &Played) -> (Message, Vec<u8>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut link: Box<dyn Link + Send> = plugins::link(true);
    let (mut read, mut out) = (BytesMut::new(), Vec::new());
    let (mut message_read, mut request, mut asked) = (Message::default(), Message::default(), Vec::new());
    let (mut open, mut due, mut sent) = (None, false, 0);
    link.greet(&mut out);
    loop {
        while !read.is_empty() {
            let step = link.receive(&read, &Policy::default(), &mut message_read, &mut out);
            match step.event {
                Event::Partial { .. } => break,
                Event::Request { stream, .. } => {
                    request.copy(&message_read);
                    link.adopt(stream, Tag(1));
                    open = Some(stream);
                }
                Event::Data { at, len, end, .. } => {
                    asked.extend_from_slice(&read[at..at + len]);
                    due |= end;
                }
                _ => {}
            }
            let _ = read.split_to(step.used);
        }
        if let Some(stream) = open.filter(|_| due) {
            if sent == 0 {
                link.answer(
                    stream,
                    message(&played.head).head(),
                    ReplyKind::Final,
                    played.trailers.is_none(),
                    &mut out,
                );
            }
            if let Some(trailers) = &played.trailers {
                sent += link.data(stream, &played.body[sent..], false, &mut out);
                if sent == played.body.len() {
                    link.trailers(stream, message(trailers).head(), &mut out);
                    due = false;
                    open = None;
                }
            }
        }
        let _ = stream.write_all(&out).await;
        out.clear();
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return (request, asked);
        }
    }
}

async fn called(version: &str, played: &Played) -> (Result<MetadataInfo, String>, Message, Vec<u8>) {
    let (listener, address) = listener().await;
    let asker = Asker::new();
    let (answer, (request, body)) =
        tokio::join!(asker.ask(question("tri", version, address)), play(&listener, played));
    (answer, request, body)
}

fn ok(body: &[u8]) -> Played {
    let prefixed = [&[0][..], &(body.len() as u32).to_be_bytes(), body].concat();
    Played {
        head: vec![(":status", "200".into()), ("content-type", "application/grpc".into())],
        body: prefixed,
        trailers: Some(vec![("grpc-status", "0".into())]),
    }
}

/// A field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    answer::field(number, bytes, &mut out);
    out
}

fn entry(name: &str, value: &[u8]) -> Vec<u8> {
    [field(1, name.as_bytes()), field(2, value)].concat()
}

/// A `MetadataInfoV2` with so many services.
fn contract(services: usize) -> Vec<u8> {
    let mut out = [field(1, b"shop-provider"), field(2, REVISION.as_bytes())].concat();
    for number in 0..services {
        let service = [
            field(1, format!("peer.api.S{number}").as_bytes()),
            field(2, b"g"),
            field(3, b""),
            field(4, b"tri"),
            vec![5 << 3, 0xe1, 0x86, 0x03],
            field(6, b"peer.api.DemoService"),
            field(7, &entry("methods", &[b'm'; 200])),
            field(7, &entry("weight", b"7")),
            vec![9 << 3 | 5, 1, 2, 3, 4],
        ];
        out.extend(field(3, &entry("key", &service.concat())));
    }
    out
}

fn header(message: &Message, name: &str) -> String {
    String::from_utf8_lossy(message.head().field(name.as_bytes()).unwrap_or_default()).into_owned()
}

#[tokio::test]
async fn the_contract_of_dubbo_is_called_over_http2() {
    let (answer, request, body) = called("2.0.0", &ok(&contract(1))).await;
    let info = answer.unwrap();
    let service = info.services().next().unwrap();
    assert_eq!(
        (service.name.as_str(), service.port, service.protocol.as_str()),
        ("peer.api.S0", 50_017, "tri")
    );
    assert_eq!((service.group.as_deref(), &service.version), (Some("g"), &None));
    assert_eq!(service.params["weight"], "7");
    let target = request.head().slot(Slot::Path).or_else(|| request.head().slot(Slot::Target));
    assert_eq!(target, Some(&b"/org.apache.dubbo.metadata.MetadataServiceV2/GetMetadataInfo"[..]));
    for (name, value) in [
        ("tri-service-group", "shop-provider"),
        ("tri-service-version", "2.0.0"),
        ("content-type", "application/grpc+proto"),
        ("te", "trailers"),
    ] {
        assert_eq!(header(&request, name), value);
    }
    assert_eq!(body, [&b"\0\0\0\0\x22\x0a\x20"[..], REVISION.as_bytes()].concat());
}

/// All that a provider of Dubbo 3.3.6 said on its connection when it was asked so.
async fn replayed(version: &str, stream: &str) -> MetadataInfo {
    let (listener, address) = listener().await;
    let mut question = question("tri", version, address);
    (question.app, question.revision) = ("shop-tri".into(), "9860b0cb42908d3fb83f0dee2fcfdca1".into());
    let asker = Asker::new();
    let said = unhex(stream);
    let playing = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        for piece in said.chunks(50) {
            stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let (answer, ()) = tokio::join!(asker.ask(question), playing);
    answer.unwrap()
}

#[tokio::test]
async fn the_answers_of_a_real_provider_over_http2_are_the_same() {
    let contract = replayed("2.0.0", include_str!("tests/contract_3.3.6.hex")).await;
    let wrapper = replayed("1.0.0", include_str!("tests/wrapper_3.3.6.hex")).await;
    assert_eq!(contract, wrapper);
    let service = contract.services().next().unwrap();
    assert_eq!((service.group.as_deref(), service.version.as_deref()), (Some("g1"), Some("1.2.0")));
    assert_eq!((service.port, service.params["weight"].as_str(), service.params.len()), (50_051, "50", 17));
}

#[tokio::test]
async fn an_answer_larger_than_any_window_comes_whole() {
    let (answer, ..) = called("2.0.0", &ok(&contract(3_000))).await;
    assert_eq!(answer.unwrap().services().count(), 3_000);
}

#[tokio::test]
async fn before_the_contract_an_interface_of_java_is_called() {
    let captured = unhex(ANSWER);
    let hessian = &captured[HEADER + 1..];
    let wrapped =
        [field(1, b"hessian4"), field(2, hessian), field(3, b"org.apache.dubbo.metadata.MetadataInfo")];
    let (answer, request, body) = called("1.0.0", &ok(&wrapped.concat())).await;
    held(&answer.unwrap());
    let target = request.head().slot(Slot::Path).or_else(|| request.head().slot(Slot::Target));
    assert_eq!(target, Some(&b"/org.apache.dubbo.metadata.MetadataService/getMetadataInfo"[..]));
    assert_eq!(header(&request, "tri-service-version"), "1.0.0");
    let text = String::from_utf8_lossy(&body).into_owned();
    assert!(
        text.contains("hessian4") && text.contains(REVISION) && text.contains("java.lang.String"),
        "{text:?}"
    );
}

#[tokio::test]
async fn what_is_no_good_answer_over_http2_says_why() {
    let good = ok(&contract(1));
    let head = |name: &'static str, value: &str| {
        let mut head = good.head.clone();
        head.retain(|(other, _)| *other != name);
        head.push((name, value.into()));
        head
    };
    let failed = vec![("grpc-status", "12".into()), ("grpc-message", "no such method".into())];
    for (played, why) in [
        (Played { trailers: None, ..good.clone() }, "no gRPC status"),
        (
            Played { head: [good.head.clone(), failed.clone()].concat(), trailers: None, ..good.clone() },
            "gRPC status 12 no such method",
        ),
        (
            Played { trailers: Some(failed), body: Vec::new(), ..good.clone() },
            "gRPC status 12 no such method",
        ),
        (Played { head: head("tri-exception-code", "3"), ..good.clone() }, "an exception"),
        (Played { head: head(":status", "404"), ..good.clone() }, "HTTP status 404"),
        (Played { head: head("content-type", "text/html"), ..good.clone() }, "does not speak Triple"),
        (Played { body: [&[1], &good.body[1..]].concat(), ..good.clone() }, "not one message"),
        (Played { body: good.body[..9].to_vec(), ..good.clone() }, "not one message"),
        (ok(b""), UNKNOWN),
        (ok(&[0xff; 20]), "no message of Protocol Buffers"),
        (ok(&field(1, &[0xff])), "a text that is none"),
        (ok(&[contract(1), field(2, b"0123")].concat()), "another revision"),
    ] {
        let (answer, ..) = called("2.0.0", &played).await;
        let told = answer.unwrap_err();
        assert!(told.contains(why), "{why}: {told}");
    }
    for (body, why) in [
        (field(1, b"fastjson2"), "not in Hessian"),
        (field(2, b"\x48"), "ends inside"),
        (Vec::new(), UNKNOWN),
    ] {
        let (answer, ..) = called("1.0.0", &ok(&body)).await;
        let told = answer.unwrap_err();
        assert!(told.contains(why), "{why}: {told}");
    }
}

#[test]
fn rubbish_does_no_harm() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let (message, hessian) = (contract(2), unhex(ANSWER));
    for round in 0..5_000 {
        let (mut message, mut hessian) = (message.clone(), hessian.clone());
        for _ in 0..=round % 4 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            for bytes in [&mut message, &mut hessian] {
                let at = (seed as usize >> 8) % bytes.len();
                bytes[at] = seed as u8;
            }
        }
        let _ = (answer::of_message(&message), answer::of_wrapper(&message), returned(&hessian));
    }
}
