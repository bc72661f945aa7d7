//! A relay in front of a server that can stop passing on what the server says. Test code: it asserts and panics.

use std::sync::Arc;

use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// A relay; it ends with this.
pub(crate) struct Relay {
    address: String,
    open: Arc<watch::Sender<bool>>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// One in front of `server`, `host:port`.
    pub(crate) async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a port").to_string();
        let open = Arc::new(watch::Sender::new(true));
        let mut tasks = JoinSet::new();
        let gate = Arc::clone(&open);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                let (server, gate) = (server.clone(), gate.subscribe());
                connections.spawn(async move {
                    let Ok(server) = TcpStream::connect(&server).await else { return };
                    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                        (client.into_split(), server.into_split());
                    let up = async move { drop(io::copy(&mut from_client, &mut to_server).await) };
                    let down = async move {
                        let (mut gate, mut some) = (gate, vec![0; 4096]);
                        while gate.wait_for(|open| *open).await.is_ok()
                            && let Ok(count @ 1..) = from_server.read(&mut some).await
                            && to_client.write_all(&some[..count]).await.is_ok()
                        {}
                    };
                    tokio::join!(up, down);
                });
            }
        });
        Self { address, open, _tasks: tasks }
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// Passes on what the server says, or no more.
    pub(crate) fn passes(&self, open: bool) {
        self.open.send_replace(open);
    }
}
