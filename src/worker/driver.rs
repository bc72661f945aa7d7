//! Sockets ⇄ an engine, for one protocol in one worker.
//!
//! Each connection has one task, which reads: a readable socket is read once, its whole frames are decided and
//! appended to outboxes, and each outbox that got bytes is noted once. One further task, the *flusher*, is woken by the
//! first note; the runtime runs it after every task that was ready in the same poll, so the calls of many callers share one
//! write. Only a full socket buffer makes a connection's own task wait for writability.
//!
//! It must never hold the engine across an await, nor write from a reader.

use std::{
    cell::{Cell, RefCell, RefMut},
    io,
    net::Shutdown,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context as Wakeable, Poll, Waker},
    time::Duration,
};

use outrigger_codec::Sniff;
use outrigger_core::Tick;
use socket2::TcpKeepalive;
use tokio::{
    io::AsyncReadExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
};
use tokio_util::io::poll_read_buf;

use super::{
    ProtocolReport, Shared,
    accept::{Origin, Protocol},
};
use crate::session::{Arrival, Bounds, Context, Effect, Engine, Leg, Renewed, arena::Key};

/// One protocol's sockets in one worker.
pub struct Driver<E> {
    shared: Rc<Shared>,
    engine: RefCell<E>,
    downs: RefCell<Vec<Option<Rc<Socket>>>>,
    ups: RefCell<Vec<Option<Rc<Socket>>>>,
    /// Connections whose outbox has bytes to write.
    dirty: RefCell<Vec<Leg>>,
    flusher: RefCell<Option<Waker>>,
    /// Exchanged for the engine's effects.
    effects: RefCell<Vec<Effect>>,
    /// When the timer task will look; earlier deadlines wake it.
    armed: Cell<Tick>,
    earlier: Notify,
}

/// The half of a connection that others than its own task touch.
struct Socket {
    key: Key,
    /// `None` once it was reset.
    write: RefCell<Option<OwnedWriteHalf>>,
    /// Its own task, while it waits.
    task: RefCell<Option<Waker>>,
    /// The socket's buffer is full: its own task waits for room.
    blocked: Cell<bool>,
    /// Whether it is read.
    reading: Cell<bool>,
    closed: Cell<bool>,
    /// It takes no more bytes. What its peer said before is read first: it may be the answer that explains why.
    deaf: Cell<bool>,
    /// Closed, but what the peer still sends is read and dropped for a moment.
    lingering: Cell<bool>,
}

impl Socket {
    /// The socket to write to, unless it was reset.
    fn write<R>(&self, act: impl FnOnce(&TcpStream) -> R) -> Option<R> {
        self.write.borrow().as_ref().map(|half| act(half.as_ref()))
    }

    /// Gives it up so that the peer sees that something is missing.
    fn reset(&self) {
        if let Some(half) = self.write.take() {
            let _ = socket2::SockRef::from(half.as_ref()).set_linger(Some(Duration::ZERO));
            // Dropped, it would say goodbye in order.
            half.forget();
        }
    }

    fn wake(&self) {
        if let Some(task) = self.task.borrow().as_ref() {
            task.wake_by_ref();
        }
    }
}

/// Reads of one connection in a row before others get their turn.
const READS_MAX: usize = 4;
/// How long a caller that is done with is still read from.
const LINGER: Duration = Duration::from_secs(1);
/// An endpoint from which nothing is awaited but an answer is asked for a sign of life by the kernel.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(10))
    .with_interval(Duration::from_secs(3))
    .with_retries(3);

impl<E: Engine> Driver<E> {
    /// A driver without connections; its flusher and its timer run from now on.
    pub fn start(shared: &Rc<Shared>, bounds: Bounds) -> Rc<Self> {
        let driver = Rc::new(Self {
            shared: Rc::clone(shared),
            engine: RefCell::new(E::new(bounds)),
            downs: RefCell::default(),
            ups: RefCell::default(),
            dirty: RefCell::default(),
            flusher: RefCell::default(),
            effects: RefCell::default(),
            armed: Cell::new(Tick::NEVER),
            earlier: Notify::new(),
        });
        tokio::task::spawn_local(Rc::clone(&driver).flush_forever());
        tokio::task::spawn_local(Rc::clone(&driver).tick_forever());
        driver
    }

    /// Lets the engine handle one event, then does what it asks for.
    fn handle<R>(self: &Rc<Self>, event: impl FnOnce(&mut E, &mut Context<'_>) -> R) -> R {
        let snapshot = self.shared.snapshot.borrow();
        let mut local = self.shared.local.borrow_mut();
        let mut context = Context { snapshot: &snapshot, local: &mut local, now: self.shared.clock.now() };
        let mut engine = self.engine.borrow_mut();
        let result = event(&mut engine, &mut context);
        self.obey(&mut engine, &mut context);
        if context.local.has_untold() {
            self.shared.tell(context.local);
        }
        let wake = engine.next_wake(context.now);
        if wake < self.armed.get() {
            self.armed.set(wake);
            self.earlier.notify_one();
        }
        result
    }

    /// Does what the engine asks for, until it asks for nothing.
    fn obey(self: &Rc<Self>, engine: &mut RefMut<'_, E>, context: &mut Context<'_>) {
        while engine.has_effects() {
            let mut effects = self.effects.take();
            engine.effects(&mut effects);
            for effect in effects.drain(..) {
                match effect {
                    Effect::Flush(leg) => self.note(leg),
                    Effect::Dial { up, address, timeout, patience } => {
                        tokio::task::spawn_local(Rc::clone(self).dial(up, address, timeout, patience));
                    }
                    Effect::Close(leg) => drop(self.close(leg)),
                    Effect::Reset(leg) => {
                        if let Some(socket) = self.close(leg) {
                            socket.reset();
                        }
                    }
                    Effect::Shut(leg) => {
                        if let Some(socket) = self.socket(leg) {
                            let shut = |stream: &TcpStream| {
                                let _ = socket2::SockRef::from(stream).shutdown(Shutdown::Write); // gone: reading tells
                            };
                            socket.write(shut);
                        }
                    }
                    Effect::Finish(key) => {
                        if let Some(socket) = self.close(Leg::Down(key)) {
                            socket.lingering.set(true);
                        }
                    }
                    Effect::Resume(leg) => {
                        let reads = engine.resume(context, leg);
                        if let Some(socket) = self.socket(leg) {
                            socket.reading.set(reads);
                            socket.wake();
                        }
                    }
                }
            }
            self.effects.replace(effects);
        }
    }

    /// Takes a connection from its task, which ends.
    fn close(&self, leg: Leg) -> Option<Rc<Socket>> {
        let socket = self.unregister(leg)?;
        socket.closed.set(true);
        socket.wake();
        Some(socket)
    }

    /// Notes that a connection has bytes to write; the first note wakes the flusher.
    fn note(&self, leg: Leg) {
        let mut dirty = self.dirty.borrow_mut();
        dirty.push(leg);
        if dirty.len() == 1
            && let Some(flusher) = self.flusher.borrow().as_ref()
        {
            flusher.wake_by_ref();
        }
    }

    /// Writes what was noted, each connection once.
    async fn flush_forever(self: Rc<Self>) {
        let mut legs = Vec::new();
        std::future::poll_fn(move |waking: &mut Wakeable<'_>| {
            remember(&self.flusher, waking.waker());
            legs.append(&mut self.dirty.borrow_mut());
            survive(|| self.flush_all(&mut legs));
            if !legs.is_empty() {
                // One panicked: the others have been noted, and will not be noted again.
                waking.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        })
        .await;
    }

    /// Writes the outboxes of connections, all of them at one time for the engine.
    fn flush_all(self: &Rc<Self>, legs: &mut Vec<Leg>) {
        let mut failed = Vec::new();
        self.handle(|engine, context| {
            while let Some(leg) = legs.pop() {
                if let Some(socket) =
                    self.socket(leg).filter(|socket| !socket.blocked.get() && !socket.deaf.get())
                    && let Err(error) = write_out(engine, context, leg, &socket)
                {
                    failed.push((socket, leg, error));
                }
            }
        });
        for (socket, leg, error) in failed {
            self.not_written(leg, &socket, &error);
        }
    }

    /// A socket takes no more bytes.
    fn not_written(self: &Rc<Self>, leg: Leg, socket: &Socket, error: &io::Error) {
        // An answer that is not read now, because its caller is slow, is read later.
        if matches!(leg, Leg::Up(_)) {
            socket.deaf.set(true);
            socket.wake();
        } else {
            self.lost(leg, &error.to_string(), false);
        }
    }

    /// Writes a connection's outbox.
    fn flush(self: &Rc<Self>, leg: Leg, socket: &Socket) {
        let written = self.handle(|engine, context| write_out(engine, context, leg, socket));
        if let Err(error) = written {
            self.not_written(leg, socket, &error);
        }
    }

    /// A connection ended by itself; `clean`: in order.
    fn lost(self: &Rc<Self>, leg: Leg, why: &str, clean: bool) {
        self.close(leg);
        self.handle(|engine, context| match leg {
            Leg::Down(key) => engine.down_closed(context, key),
            Leg::Up(key) => engine.up_closed(context, key, why, clean),
        });
    }

    /// Connects to an endpoint and lives with the connection.
    async fn dial(self: Rc<Self>, key: Key, address: Box<str>, timeout: Duration, patience: Duration) {
        let connected = tokio::time::timeout(timeout, TcpStream::connect(&*address)).await;
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.lost(Leg::Up(key), &error.to_string(), false),
            Err(_) => return self.lost(Leg::Up(key), "connect timeout", false),
        };
        let _ = stream.set_nodelay(true); // costs latency when it fails, nothing else
        let options = socket2::SockRef::from(&stream);
        let _ = options.set_tcp_user_timeout(Some(patience)); // costs time to notice the dead when it fails
        let _ = options.set_tcp_keepalive(&KEEPALIVE);
        let (read, write) = stream.into_split();
        self.register(Leg::Up(key), write);
        if self.handle(|engine, context| engine.up_open(context, key)) {
            self.live(Leg::Up(key), read).await;
        } else {
            self.unregister(Leg::Up(key));
        }
    }

    /// A connection's own task: reads it, and waits for room when its socket is full.
    async fn live(self: Rc<Self>, leg: Leg, mut read: OwnedReadHalf) {
        let Some(socket) = self.socket(leg) else { return };
        // Also when this task panics: the engine must not wait for a connection that has no task.
        let _guard = Guard { driver: Rc::clone(&self), leg };
        std::future::poll_fn(|waking| self.poll(waking, leg, &socket, &mut read)).await;
        if socket.lingering.get() {
            // The last hold on the writing half: our side of the connection ends here.
            drop(socket);
            // Apart, so that a connection that does not linger does not carry the room for it.
            let _ = tokio::time::timeout(LINGER, Box::pin(drop_all(read))).await;
        }
    }

    fn poll(
        self: &Rc<Self>,
        waking: &mut Wakeable<'_>,
        leg: Leg,
        socket: &Socket,
        read: &mut OwnedReadHalf,
    ) -> Poll<()> {
        remember(&socket.task, waking.waker());
        while socket.blocked.get() && !socket.closed.get() {
            match socket.write(|stream| stream.poll_write_ready(waking)).unwrap_or(Poll::Pending) {
                Poll::Ready(_) => {
                    socket.blocked.set(false);
                    self.flush(leg, socket);
                }
                Poll::Pending => break,
            }
        }
        for _ in 0..READS_MAX {
            if socket.closed.get() {
                return Poll::Ready(());
            }
            if !socket.reading.get() {
                return Poll::Pending;
            }
            let mut scratch = self.shared.scratch.borrow_mut();
            scratch.clear();
            match poll_read_buf(Pin::new(&mut *read), waking, &mut *scratch) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => {
                    drop(scratch);
                    self.ended(leg, socket);
                }
                // What the engine says of reading is noted before its effects are obeyed: they may say more.
                Poll::Ready(Ok(_)) => self.handle(|engine, context| {
                    socket.reading.set(match leg {
                        Leg::Down(key) => engine.down_bytes(context, key, &mut scratch),
                        Leg::Up(key) => engine.up_bytes(context, key, &mut scratch),
                    });
                }),
                Poll::Ready(Err(error)) => {
                    drop(scratch);
                    self.lost(leg, &error.to_string(), false);
                    return Poll::Ready(());
                }
            }
        }
        waking.waker().wake_by_ref();
        Poll::Pending
    }

    /// The peer sends no more. A caller may still wait for answers; an endpoint is gone.
    fn ended(self: &Rc<Self>, leg: Leg, socket: &Socket) {
        let waits = match leg {
            Leg::Down(key) => self.handle(|engine, context| engine.down_ended(context, key)),
            Leg::Up(_) => false,
        };
        if waits {
            socket.reading.set(false);
        } else {
            self.lost(leg, "closed by peer", true);
        }
    }

    /// Sleeps until the next deadline or the next look around, whichever is earlier.
    async fn tick_forever(self: Rc<Self>) {
        loop {
            let wake = self.engine.borrow().next_wake(self.shared.clock.now());
            self.armed.set(wake);
            let sleep = tokio::time::sleep_until(self.shared.clock.instant(wake));
            tokio::select! {
                () = sleep => survive(|| self.handle(E::tick)),
                () = self.earlier.notified() => {}
            }
        }
    }

    fn sockets(&self, leg: Leg) -> (RefMut<'_, Vec<Option<Rc<Socket>>>>, Key) {
        match leg {
            Leg::Down(key) => (self.downs.borrow_mut(), key),
            Leg::Up(key) => (self.ups.borrow_mut(), key),
        }
    }

    fn socket(&self, leg: Leg) -> Option<Rc<Socket>> {
        let (sockets, key) = self.sockets(leg);
        sockets.get(key.index())?.as_ref().filter(|socket| socket.key == key).cloned()
    }

    fn register(&self, leg: Leg, write: OwnedWriteHalf) {
        let (mut sockets, key) = self.sockets(leg);
        if sockets.len() <= key.index() {
            sockets.resize_with(key.index() + 1, || None);
        }
        sockets[key.index()] = Some(Rc::new(Socket {
            key,
            write: RefCell::new(Some(write)),
            task: RefCell::default(),
            blocked: Cell::new(false),
            reading: Cell::new(true),
            closed: Cell::new(false),
            deaf: Cell::new(false),
            lingering: Cell::new(false),
        }));
    }

    fn unregister(&self, leg: Leg) -> Option<Rc<Socket>> {
        let (mut sockets, key) = self.sockets(leg);
        let place = sockets.get_mut(key.index())?;
        place.take_if(|socket| socket.key == key)
    }
}

/// Writes an outbox; where the socket takes no more, its own task is woken to wait for it.
fn write_out<E: Engine>(
    engine: &mut E,
    context: &mut Context<'_>,
    leg: Leg,
    socket: &Socket,
) -> io::Result<()> {
    loop {
        let bytes = engine.outgoing(leg);
        if bytes.is_empty() {
            return Ok(());
        }
        match socket.write(|stream| stream.try_write(bytes)).unwrap_or(Ok(bytes.len())) {
            Ok(n) => engine.wrote(context, leg, n),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket.blocked.set(true);
                socket.wake();
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
}

/// Reads until the peer has said everything, and drops it.
async fn drop_all(mut read: OwnedReadHalf) {
    let mut dropped = vec![0; 16 << 10];
    while read.read(&mut dropped).await.is_ok_and(|n| n > 0) {}
}

/// Goes on when what serves all connections panics (the panic was counted and told by then): one that cannot be served
/// must not end the others.
fn survive(act: impl FnOnce()) {
    let _ = panic::catch_unwind(AssertUnwindSafe(act));
}

/// Keeps a task's waker; cloned only when it is another task's.
fn remember(place: &RefCell<Option<Waker>>, waker: &Waker) {
    let mut place = place.borrow_mut();
    if place.as_ref().is_none_or(|known| !known.will_wake(waker)) {
        *place = Some(waker.clone());
    }
}

/// Ends a connection in the engine when its task ends, however it ends.
struct Guard<E: Engine> {
    driver: Rc<Driver<E>>,
    leg: Leg,
}

impl<E: Engine> Drop for Guard<E> {
    fn drop(&mut self) {
        if self.driver.socket(self.leg).is_some() {
            self.driver.lost(self.leg, "connection task ended", false);
        }
    }
}

impl<E: Engine> Protocol for Driver<E> {
    fn name(&self) -> &'static str {
        E::NAME
    }

    fn translates(&self) -> Option<&'static str> {
        E::TRANSLATES
    }

    fn sniff(&self, first: &[u8]) -> Sniff {
        E::sniff(first)
    }

    fn serve(self: Rc<Self>, stream: TcpStream, mut first: Vec<u8>, origin: Origin, foreign: bool) {
        let Some(listener) = origin.listener(&self.shared) else { return };
        let manners = Arc::clone(&origin.speaks.manners);
        let peer = stream.peer_addr().ok().map(|address| address.ip());
        let arrival = Arrival { listener, manners, peer, foreign };
        let (read, write) = stream.into_split();
        let key = self.handle(|engine, context| engine.down_open(arrival, context.now));
        let leg = Leg::Down(key);
        self.register(leg, write);
        // What is said first, if anything, is noted only now that there is a socket to say it on.
        self.note(leg);
        if !first.is_empty() {
            let socket = self.socket(leg);
            self.handle(|engine, context| {
                let reads = engine.down_bytes(context, key, &mut first);
                socket.inspect(|socket| socket.reading.set(reads));
            });
        }
        tokio::task::spawn_local(async move {
            self.live(leg, read).await;
            drop(origin);
        });
    }

    fn reconcile(self: Rc<Self>, renewed: &[Option<Renewed>], bounds: Bounds) {
        self.handle(|engine, context| {
            engine.reconcile(context, bounds, &|id| renewed.get(id.0 as usize).cloned().flatten());
        });
    }

    fn drain(self: Rc<Self>) {
        self.handle(|engine, context| engine.drain(context.now));
        self.earlier.notify_one();
    }

    fn press(self: Rc<Self>) {
        self.handle(|engine, _| engine.press());
    }

    fn shut(self: Rc<Self>) {
        self.handle(E::shut);
    }

    fn report(&self) -> ProtocolReport {
        let engine = self.engine.borrow();
        ProtocolReport {
            protocol: E::NAME,
            callers: engine.callers() as u64,
            upstreams: engine.upstreams() as u64,
            counters: engine.counts(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use outrigger_core::Snapshot;
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;
    use crate::{
        session::{Manners, arena::Arena, counters::Counts},
        worker::{Clock, Load, Place, Speaks},
    };

    /// Gives back what it is sent; panics where it is told to.
    struct Echo {
        downs: Arena<Vec<u8>>,
        effects: Vec<Effect>,
        panics: Option<&'static str>,
    }

    impl Echo {
        fn say(&mut self, key: Key, bytes: &[u8]) {
            self.downs.get_mut(key).expect("it is open").extend_from_slice(bytes);
            self.effects.push(Effect::Flush(Leg::Down(key)));
        }

        fn may_panic(&mut self, place: &str) {
            assert!(
                self.panics.take_if(|wanted| *wanted == place).is_none(),
                "as it was told to, in {place}"
            );
        }
    }

    impl Engine for Echo {
        const NAME: &'static str = "echo";

        fn new(_: Bounds) -> Self {
            Self { downs: Arena::default(), effects: Vec::new(), panics: None }
        }

        fn sniff(_: &[u8]) -> Sniff {
            Sniff::Yes
        }

        fn has_effects(&self) -> bool {
            !self.effects.is_empty()
        }

        fn effects(&mut self, into: &mut Vec<Effect>) {
            std::mem::swap(&mut self.effects, into);
        }

        fn down_open(&mut self, _: Arrival, _: Tick) -> Key {
            self.downs.insert(Vec::new())
        }

        fn down_bytes(&mut self, _: &mut Context<'_>, key: Key, bytes: &mut [u8]) -> bool {
            self.say(key, bytes);
            true
        }

        fn down_ended(&mut self, _: &mut Context<'_>, _: Key) -> bool {
            false
        }

        fn down_closed(&mut self, _: &mut Context<'_>, key: Key) {
            self.downs.remove(key);
        }

        fn up_open(&mut self, _: &mut Context<'_>, _: Key) -> bool {
            false
        }

        fn up_bytes(&mut self, _: &mut Context<'_>, _: Key, _: &mut [u8]) -> bool {
            false
        }

        fn up_closed(&mut self, _: &mut Context<'_>, _: Key, _: &str, _: bool) {}

        fn resume(&mut self, _: &mut Context<'_>, _: Leg) -> bool {
            true
        }

        fn outgoing(&mut self, leg: Leg) -> &[u8] {
            self.may_panic("write");
            let Leg::Down(key) = leg else { return &[] };
            self.downs.get(key).map_or(&[], Vec::as_slice)
        }

        fn wrote(&mut self, _: &mut Context<'_>, leg: Leg, n: usize) {
            let Leg::Down(key) = leg else { return };
            self.downs.get_mut(key).expect("it is open").drain(..n);
        }

        fn next_wake(&self, now: Tick) -> Tick {
            now.after(Duration::from_millis(5))
        }

        fn tick(&mut self, _: &mut Context<'_>) {
            self.may_panic("tick");
        }

        fn reconcile(
            &mut self,
            _: &mut Context<'_>,
            _: Bounds,
            _: &dyn Fn(outrigger_core::ListenerId) -> Option<Renewed>,
        ) {
        }
        fn drain(&mut self, _: Tick) {}
        fn press(&mut self) {}
        fn shut(&mut self, _: &mut Context<'_>) {}

        fn callers(&self) -> usize {
            self.downs.len()
        }

        fn upstreams(&self) -> usize {
            0
        }

        fn counts(&self) -> Counts {
            Counts::default()
        }
    }

    /// A new caller.
    async fn caller(driver: &Rc<Driver<Echo>>) -> TcpStream {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let caller = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let (stream, _) = listener.accept().await.expect("a caller");
        let speaks = Speaks {
            listener: "only".to_owned(),
            protocols: vec!["echo"],
            tcp: false,
            detect_timeout: Duration::from_secs(1),
            manners: Arc::new(Manners::default()),
        };
        let origin = Origin { speaks: Arc::new(speaks), place: Place::take(&Arc::new(Load::default()), 1) };
        Rc::clone(driver).serve(stream, Vec::new(), origin, false);
        caller
    }

    /// Whether a caller is told `hello`.
    async fn hears(caller: &mut TcpStream) -> bool {
        let mut told = [0; 5];
        let read = tokio::time::timeout(Duration::from_secs(1), caller.read_exact(&mut told)).await;
        read.is_ok_and(|read| read.is_ok()) && told == *b"hello"
    }

    #[test]
    fn a_panic_while_writing_or_ticking_ends_nobody_elses_connection() {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let options = tokio::runtime::LocalOptions::default();
        let runtime = builder.enable_all().build_local(options).expect("a runtime");
        runtime.block_on(async {
            let listener = outrigger_core::Listener {
                name: "only".into(),
                routes: outrigger_core::RouteTable::new(Vec::new()).into(),
            };
            let snapshot = Arc::new(Snapshot::new(1, vec![listener], Vec::new()));
            let shared = Shared::new(Clock::start(), snapshot, 1, tokio::sync::mpsc::channel(1).0);
            let driver = Driver::<Echo>::start(&shared, Bounds::default());
            for place in ["write", "tick"] {
                let (mut one, mut other) = (caller(&driver).await, caller(&driver).await);
                // Noted together, so both are written in one go.
                driver.handle(|engine, _| {
                    engine.panics = Some(place);
                    let mut keys = Vec::new();
                    engine.downs.keys_where(&mut keys, |_| true);
                    for key in keys {
                        engine.say(key, b"hello");
                    }
                });
                let heard = [hears(&mut one).await, hears(&mut other).await];
                assert!(heard.contains(&true), "one is lost at most, in {place}");
                // Long enough for the timer to have looked.
                tokio::time::sleep(Duration::from_millis(30)).await;
                assert!(driver.engine.borrow().panics.is_none(), "it panicked in {place}");
                let mut next = caller(&driver).await;
                next.write_all(b"hello").await.expect("it takes bytes");
                assert!(hears(&mut next).await, "after {place}");
            }
        });
    }
}
