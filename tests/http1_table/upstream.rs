//! The upstream of a lane: accepts, keeps what each connection brought in the order it came, and writes what the
//! script says. It must never answer anything by itself.

use std::{cell::Cell, collections::BTreeMap, net::TcpListener as StdListener, rc::Rc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::{JoinHandle, spawn_local},
};

/// How long anything may take to come that has to come.
pub(crate) const COMES_MAX: Duration = Duration::from_secs(10);

enum Event {
    Opened(Rc<TcpStream>, JoinHandle<()>),
    Bytes(Vec<u8>),
    Ended,
}

/// One connection that the sidecar made.
struct Connection {
    stream: Rc<TcpStream>,
    reader: JoinHandle<()>,
    /// What came and was not expected yet.
    seen: Vec<u8>,
    ended: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

pub(crate) struct Upstream {
    address: String,
    events: UnboundedReceiver<(u64, Event)>,
    connections: BTreeMap<u64, Connection>,
    accepting: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Upstream {
    /// Serves a socket that is bound already.
    pub(crate) fn start(listener: StdListener) -> Self {
        let address = listener.local_addr().expect("it is bound").to_string();
        listener.set_nonblocking(true).expect("a socket option");
        let listener = TcpListener::from_std(listener).expect("a runtime is there");
        let (sender, events) = unbounded_channel();
        let accepting = spawn_local(async move {
            let next = Cell::new(0);
            while let Ok((stream, _)) = listener.accept().await {
                accepted(stream, next.replace(next.get() + 1), &sender);
            }
        });
        Self { address, events, connections: BTreeMap::new(), accepting }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Takes in one event.
    async fn next(&mut self) -> Result<(), String> {
        let event = tokio::time::timeout(COMES_MAX, self.events.recv()).await;
        let (id, event) = event.map_err(|_| "nothing came".to_owned())?.ok_or("the upstream ended")?;
        self.take(id, event);
        Ok(())
    }

    fn take(&mut self, id: u64, event: Event) {
        match (event, self.connections.get_mut(&id)) {
            (Event::Opened(stream, reader), _) => {
                let connection = Connection { stream, reader, seen: Vec::new(), ended: false };
                self.connections.insert(id, connection);
            }
            (Event::Bytes(bytes), Some(connection)) => connection.seen.extend(bytes),
            (Event::Ended, Some(connection)) => connection.ended = true,
            // The script ended that connection itself.
            (_, None) => {}
        }
    }

    /// Takes in what has come by now.
    fn settle(&mut self) {
        while let Ok((id, event)) = self.events.try_recv() {
            self.take(id, event);
        }
        self.connections.retain(|_, connection| !(connection.ended && connection.seen.is_empty()));
    }

    /// Waits until some connection has brought something, and gives its number with what it brought.
    pub(crate) async fn somebody(&mut self) -> Result<(u64, &[u8]), String> {
        loop {
            self.settle();
            let found = self.connections.iter().find(|(_, connection)| !connection.seen.is_empty());
            if let Some(id) = found.map(|(id, _)| *id) {
                return Ok((id, &self.connections[&id].seen));
            }
            self.next().await?;
        }
    }

    /// Waits until this connection has brought more than `len` bytes.
    pub(crate) async fn more(&mut self, id: u64, len: usize) -> Result<&[u8], String> {
        loop {
            match self.connections.get(&id) {
                Some(connection) if connection.seen.len() > len => break,
                Some(connection) if !connection.ended => {}
                _ => return Err("its connection was ended".to_owned()),
            }
            self.next().await?;
        }
        Ok(&self.connections[&id].seen)
    }

    /// What came by connections and was not expected.
    pub(crate) fn unexpected(&mut self) -> Vec<(u64, Vec<u8>)> {
        self.settle();
        let those = self.connections.iter().filter(|(_, connection)| !connection.seen.is_empty());
        those.map(|(id, connection)| (*id, connection.seen.clone())).collect()
    }

    /// So many bytes were expected.
    pub(crate) fn expected(&mut self, id: u64, len: usize) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.seen.drain(..len);
        }
    }

    /// Writes; the sidecar may have ended the connection, what is then seen elsewhere tells.
    pub(crate) async fn write(&self, id: u64, bytes: &[u8]) {
        let Some(connection) = self.connections.get(&id) else { return };
        write(&connection.stream, bytes).await;
    }

    /// Waits for the end of a connection, and gives what it brought before.
    pub(crate) async fn ended(&mut self, id: u64) -> Result<Vec<u8>, String> {
        while self.connections.get(&id).is_some_and(|connection| !connection.ended) {
            self.next().await.map_err(|_| "it was not ended".to_owned())?;
        }
        Ok(self
            .connections
            .remove(&id)
            .map_or(Vec::new(), |mut connection| std::mem::take(&mut connection.seen)))
    }

    /// Ends a connection.
    pub(crate) fn end(&mut self, id: u64, reset: bool) {
        let Some(connection) = self.connections.remove(&id) else { return };
        let socket = socket2::SockRef::from(&*connection.stream);
        if reset {
            // The last holder of the socket sends the reset: its reader ends at the next turn.
            let _ = socket.set_linger(Some(Duration::ZERO));
        } else {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Ends all connections.
    pub(crate) fn end_all(&mut self) {
        self.settle();
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in ids {
            self.end(id, false);
        }
    }
}

fn accepted(stream: TcpStream, id: u64, sender: &UnboundedSender<(u64, Event)>) {
    let _ = stream.set_nodelay(true);
    let stream = Rc::new(stream);
    let (reading, events) = (Rc::clone(&stream), sender.clone());
    let reader = spawn_local(async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Some(len) = read(&reading, &mut buffer).await.ok().filter(|len| *len > 0) {
            if events.send((id, Event::Bytes(buffer[..len].to_vec()))).is_err() {
                return;
            }
        }
        let _ = events.send((id, Event::Ended));
    });
    // The reader has not run yet: it is told of first.
    let _ = sender.send((id, Event::Opened(stream, reader)));
}

/// Reads what there is, once there is something; 0 at the end.
pub(crate) async fn read(stream: &TcpStream, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
}

/// Writes all, or as much as the other side takes before it ends the connection.
pub(crate) async fn write(stream: &TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        if tokio::time::timeout(COMES_MAX, stream.writable()).await.is_err() {
            return;
        }
        match stream.try_write(bytes) {
            Ok(len) => bytes = &bytes[len..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
