//! What an application of Dubbo 3 serves, asked of one of its instances: Dubbo's own `MetadataService`.
//!
//! A registry that has no metadata of a revision says whom to ask; this asks, in Dubbo2 or over HTTP/2, each time over a
//! connection of its own, and believes an answer only if it is about what was asked. It must never wait longer than
//! [`WHOLE`], hold more of an answer than [`ANSWER_MAX`], or ask more than [`ASKED_MAX`] at once.
//!
//! Source: `MetadataService`, `MetadataServiceV2` (`metadata_service_v2.proto`) and `MetadataUtils` of Apache Dubbo 3.3.6,
//! whose call was captured (`protocols/dubbo/tests/data/dubbo-3.3/metadata_service`).

mod answer;
mod triple;

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use outrigger_codec::{FrameCodec as _, FrameKind, Scan};
use outrigger_discovery::{
    Answering,
    formats::application::{AskMetadata, MetadataInfo, Question},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};

use crate::plugins::dubbo2::{self, Dubbo, Invocation, Returned};

/// How long a connection may take.
pub const CONNECT: Duration = Duration::from_secs(1);
/// How long a question may take in all.
pub const WHOLE: Duration = Duration::from_secs(3);
/// The longest answer, in bytes: Dubbo's own bound of a message.
pub const ANSWER_MAX: usize = 8 << 20;
/// Questions asked at once; the others wait.
pub const ASKED_MAX: usize = 16;
/// Bytes read at once.
const SCRATCH: usize = 16 << 10;
/// Bytes that are heard beside the answer's own.
const BESIDE_MAX: usize = 256 << 10;

/// The interface that is asked in Dubbo2.
const SERVICE: &str = "org.apache.dubbo.metadata.MetadataService";
const METHOD: &str = "getMetadataInfo";
const VERSION: &str = "1.0.0";

/// Asks instances what they serve.
#[derive(Clone, Debug)]
pub struct Asker {
    slots: Arc<Semaphore>,
}

impl Asker {
    /// Nobody is asked yet.
    pub fn new() -> Self {
        Self { slots: Arc::new(Semaphore::new(ASKED_MAX)) }
    }
}

impl Default for Asker {
    fn default() -> Self {
        Self::new()
    }
}

impl AskMetadata for Asker {
    fn ask(&self, question: Question) -> Answering<MetadataInfo> {
        let slots = Arc::clone(&self.slots);
        Box::pin(async move {
            let Ok(_slot) = slots.acquire().await else { return Err("nobody is asked any more".into()) };
            let asked = timeout(WHOLE, ask(&question)).await;
            let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {WHOLE:?}")));
            asked.map_err(|why| format!("{} does not say what it serves: {why}", question.address))
        })
    }
}

/// One question on a connection.
trait Talk: Send {
    /// Appends the question.
    fn begin(&mut self, out: &mut Vec<u8>);

    /// Takes what it understands out of the bytes that came; what they say in the end.
    fn hear(&mut self, read: &mut BytesMut, out: &mut Vec<u8>) -> Option<Result<MetadataInfo, String>>;
}

async fn ask(question: &Question) -> Result<MetadataInfo, String> {
    let mut talk: Box<dyn Talk> = match question.protocol.as_str() {
        "dubbo" => Box::new(Call::new(question)),
        "tri" => Box::new(triple::Call::new(question)),
        other => return Err(format!("nobody here speaks {other:?}")),
    };
    let stream = timeout(CONNECT, TcpStream::connect(&question.address)).await;
    let stream = stream.map_err(|_| format!("no connection within {CONNECT:?}"))?;
    let mut stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
    let info =
        converse(&mut stream, &mut *talk).await.map_err(|error| format!("connection lost: {error}"))??;
    check(info, question)
}

/// Whether the answer is about what was asked.
fn check(mut info: MetadataInfo, question: &Question) -> Result<MetadataInfo, String> {
    if info.services().next().is_none() {
        return Err(UNKNOWN.into());
    }
    if info.revision.is_empty() {
        info.revision.clone_from(&question.revision);
    }
    if info.revision != question.revision {
        return Err("it tells of another revision".into());
    }
    Ok(info)
}

/// An instance that was started anew has forgotten what it was.
const UNKNOWN: &str = "it knows nothing of this revision";

/// Says and hears until there is an answer.
async fn converse(stream: &mut TcpStream, talk: &mut dyn Talk) -> io::Result<Result<MetadataInfo, String>> {
    let _ = stream.set_nodelay(true);
    let (mut read, mut out) = (BytesMut::new(), Vec::new());
    let mut heard = 0_usize;
    talk.begin(&mut out);
    loop {
        if !out.is_empty() {
            stream.write_all(&out).await?;
            out.clear();
        }
        read.reserve(SCRATCH);
        let len = stream.read_buf(&mut read).await?;
        if len == 0 {
            return Ok(Err("the connection ended before the answer".into()));
        }
        heard = heard.saturating_add(len);
        if let Some(answer) = talk.hear(&mut read, &mut out) {
            return Ok(answer);
        }
        if heard > ANSWER_MAX + BESIDE_MAX {
            return Ok(Err(TOO_LARGE.into()));
        }
    }
}

const TOO_LARGE: &str = "its answer is too large";

// === Dubbo2 =========================================================================================================

/// The question's id; there is no other question on its connection.
const ID: u64 = 1;

/// The question in Dubbo2.
struct Call {
    question: Question,
}

impl Call {
    fn new(question: &Question) -> Self {
        Self { question: question.clone() }
    }
}

impl Talk for Call {
    fn begin(&mut self, out: &mut Vec<u8>) {
        let Question { app, revision, .. } = &self.question;
        let limit = WHOLE.as_millis().to_string();
        let attachments = [("path", SERVICE), ("version", VERSION), ("timeout", &limit), ("group", app)];
        let call = Invocation {
            service: SERVICE,
            version: VERSION,
            method: METHOD,
            arguments: &[revision],
            attachments: &attachments,
        };
        dubbo2::write(ID, &call, out);
    }

    fn hear(&mut self, read: &mut BytesMut, out: &mut Vec<u8>) -> Option<Result<MetadataInfo, String>> {
        while !read.is_empty() {
            let framed = match Dubbo::scan(read, ANSWER_MAX) {
                Scan::Partial { .. } => return None,
                Scan::TooLarge(_) => return Some(Err(TOO_LARGE.into())),
                Scan::Broken(why) => return Some(Err(format!("it does not speak Dubbo2: {}", why.0))),
                Scan::Frame(framed) => framed,
            };
            let frame = read.split_to(framed.len.min(read.len()));
            match framed.kind {
                FrameKind::Response if framed.id == ID => return Some(returned(&frame)),
                FrameKind::Heartbeat => Dubbo::heartbeat_ack(&frame, out),
                // It may leave soon; what it serves it can say all the same.
                _ => {}
            }
        }
        None
    }
}

fn returned(frame: &[u8]) -> Result<MetadataInfo, String> {
    match dubbo2::read(frame).map_err(|why| why.0)? {
        Returned::Value(tree) => answer::of_object(tree.root()),
        Returned::Null => Err(UNKNOWN.into()),
        Returned::Failed(why) => Err(why),
        Returned::Refused(status, why) => Err(format!("status {status} {why}")),
    }
}

#[cfg(test)]
mod tests;
