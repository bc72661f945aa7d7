//! The plain relay: bytes that are nobody's protocol, passed on as they are.
//!
//! One connection to an endpoint for each caller. A connection holds memory only while one side takes bytes slower
//! than the other sends them, and then at most one read's worth each way: the faster side is not read meanwhile.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use outrigger_codec::{Head, HeadIndex, Refusal};
use outrigger_core::{End, ListenerId, Plan, decide, settle};
use tokio::{io::AsyncWrite, net::TcpStream};
use tokio_util::io::poll_read_buf;

use super::{Shared, accept::Origin};

/// Relays one connection; runs until both sides are done or one fails.
pub fn serve(shared: &Rc<Shared>, stream: TcpStream, first: Vec<u8>, origin: Origin) {
    shared.sniffed.borrow_mut().count("tcp");
    let shared = Rc::clone(shared);
    tokio::task::spawn_local(async move {
        let Some(plan) = origin.listener(&shared).and_then(|listener| plan(&shared, listener)) else {
            return;
        };
        let end = match connect(&shared, &plan).await {
            Ok(upstream) => relay(&shared, stream, upstream, first).await,
            Err(error) => {
                tracing::debug!(%error, "a relayed connection found no endpoint");
                End::Refused(Refusal::Unreachable)
            }
        };
        settle(&mut shared.local.borrow_mut(), plan, end, shared.clock.now());
        drop(origin);
    });
}

/// A relayed connection is a call of which nothing is known: only a route that asks for nothing matches.
fn plan(shared: &Shared, listener: ListenerId) -> Option<Plan> {
    let mut index = HeadIndex::default();
    index.opaque = true;
    let (snapshot, now) = (shared.snapshot.borrow(), shared.clock.now());
    let head = Head { bytes: &[], index: &index };
    decide(&snapshot, listener, &mut shared.local.borrow_mut(), head, now, now).ok()
}

async fn connect(shared: &Shared, plan: &Plan) -> io::Result<TcpStream> {
    let (address, timeout) = {
        let local = shared.local.borrow();
        let endpoint = local.endpoint(plan.endpoint).ok_or(io::ErrorKind::NotFound)?;
        (endpoint.address.clone(), endpoint.settings.connect_timeout)
    };
    let stream = tokio::time::timeout(timeout, TcpStream::connect(&*address)).await??;
    let _ = stream.set_nodelay(true); // costs latency when it fails, nothing else
    Ok(stream)
}

/// One way of a relayed connection.
#[derive(Default)]
struct Way {
    /// Read and not yet written.
    waiting: Vec<u8>,
    written: usize,
    /// The reader said there is no more.
    ended: bool,
    /// The writer was told so.
    closed: bool,
}

/// Relays both ways. A side that ends is ended on the other side too, while the other way goes on.
async fn relay(shared: &Shared, mut down: TcpStream, mut up: TcpStream, first: Vec<u8>) -> End {
    let mut out = Way { waiting: first, ..Way::default() };
    let mut back = Way::default();
    let result: io::Result<()> = std::future::poll_fn(|waking| {
        let there = pass(shared, waking, &mut down, &mut up, &mut out)?;
        let again = pass(shared, waking, &mut up, &mut down, &mut back)?;
        if there.is_ready() && again.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await;
    match result {
        Ok(()) => End::Sent,
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            End::Sent
        }
        Err(_) => End::Refused(Refusal::Unreachable),
    }
}

/// Passes bytes one way until there are none, or nobody takes them; ready when this way is done.
fn pass(
    shared: &Shared,
    waking: &mut Context<'_>,
    from: &mut TcpStream,
    to: &mut TcpStream,
    way: &mut Way,
) -> io::Result<Poll<()>> {
    // Other connections get their turn after this many reads.
    for _ in 0..4 {
        while way.written < way.waiting.len() {
            match Pin::new(&mut *to).poll_write(waking, &way.waiting[way.written..]) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(n) => way.written += n?,
            }
        }
        // Also gives the memory back.
        (way.waiting, way.written) = (Vec::new(), 0);
        if way.ended {
            if !way.closed {
                match Pin::new(&mut *to).poll_shutdown(waking) {
                    Poll::Pending => return Ok(Poll::Pending),
                    // The other side may have closed before: then it knows.
                    Poll::Ready(_) => way.closed = true,
                }
            }
            return Ok(Poll::Ready(()));
        }
        let mut scratch = shared.scratch.borrow_mut();
        scratch.clear();
        let read = match poll_read_buf(Pin::new(&mut *from), waking, &mut *scratch) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(read) => read?,
        };
        if read == 0 {
            way.ended = true;
            continue;
        }
        let written = match Pin::new(&mut *to).poll_write(waking, &scratch) {
            Poll::Pending => 0,
            Poll::Ready(n) => n?,
        };
        way.waiting.extend_from_slice(&scratch[written.min(read)..]);
    }
    waking.waker().wake_by_ref();
    Ok(Poll::Pending)
}
