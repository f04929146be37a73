//! A line between a process and a server that can be cut: a proxy on a port of the loopback address.
//!
//! Held, it takes what is sent and passes nothing on: to both ends it looks like a network that drops packets, without a
//! reset. Healed, it passes on what it held, or resets what it carried, or has forgotten it for ever, as a router does
//! that was restarted: then only new connections work, and nobody is told.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Where a line leads.
#[derive(Debug, Clone)]
pub enum End {
    Port(SocketAddr),
    Socket(PathBuf),
}

/// What becomes of connections that were there while the line was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heal {
    /// They go on.
    Resume,
    /// They are closed.
    Reset,
    /// They never carry anything again. The server has given them up; the client is never told.
    Forget,
}

#[derive(Debug, Clone, Default)]
struct State {
    end: Option<End>,
    held: bool,
    /// Connections accepted so far.
    count: u64,
    reset_before: u64,
    forgotten_before: u64,
}

/// A line. Dropping it closes what it carries.
#[derive(Debug)]
pub struct Line {
    pub address: SocketAddr,
    state: watch::Sender<State>,
    _task: AbortOnDropHandle<()>,
}

impl Line {
    /// A line whose other end is not known yet: it takes connections and passes nothing on.
    pub async fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = watch::Sender::new(State::default());
        let task = AbortOnDropHandle::new(tokio::spawn(accept(listener, state.clone())));
        Self { address, state, _task: task }
    }

    pub async fn to(end: End) -> Self {
        let line = Self::new().await;
        line.lead_to(end);
        line
    }

    pub fn lead_to(&self, end: End) {
        self.state.send_modify(|state| state.end = Some(end));
    }

    /// Passes nothing on from now on.
    pub fn hold(&self) {
        self.state.send_modify(|state| state.held = true);
    }

    pub fn heal(&self, how: Heal) {
        self.state.send_modify(|state| {
            state.held = false;
            match how {
                Heal::Resume => {}
                Heal::Reset => state.reset_before = state.count,
                Heal::Forget => state.forgotten_before = state.count,
            }
        });
    }
}

async fn accept(listener: TcpListener, state: watch::Sender<State>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let mut number = 0;
                state.send_modify(|state| {
                    number = state.count;
                    state.count += 1;
                });
                let connection = Connection { number, state: state.subscribe() };
                connections.spawn(connection.run(client));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

#[derive(Clone)]
struct Connection {
    number: u64,
    state: watch::Receiver<State>,
}

impl Connection {
    /// Carries until either side ends, or the line is reset. An error of one side is the end of the other.
    async fn run(self, mut client: TcpStream) {
        let (number, mut state) = (self.number, self.state.clone());
        let over = |state: &State| number < state.reset_before.max(state.forgotten_before);
        let is_forgotten = tokio::select! {
            _ = self.carry(&mut client) => false,
            over = state.wait_for(over) => over.is_ok_and(|state| number < state.forgotten_before),
        };
        if is_forgotten {
            // The server's end is closed by now; the client's stays open, silent.
            let _ = state.wait_for(|state| number < state.reset_before).await;
        }
    }

    async fn carry(mut self, client: &mut TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        self.may_pass().await;
        let end =
            self.state.wait_for(|state| state.end.is_some()).await.ok().and_then(|state| state.end.clone());
        let (from_client, to_client) = client.split();
        match end {
            None => Ok(()),
            Some(End::Port(address)) => {
                let server = TcpStream::connect(address).await?;
                server.set_nodelay(true)?;
                let (from_server, to_server) = server.into_split();
                self.both((from_client, to_server), (from_server, to_client)).await
            }
            Some(End::Socket(path)) => {
                let (from_server, to_server) = UnixStream::connect(path).await?.into_split();
                self.both((from_client, to_server), (from_server, to_client)).await
            }
        }
    }

    async fn both(
        self,
        up: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
        down: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    ) -> io::Result<()> {
        let other = self.clone();
        tokio::select! {
            ended = self.pass(up.0, up.1) => ended,
            ended = other.pass(down.0, down.1) => ended,
        }
    }

    async fn pass(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let count = from.read(&mut buffer).await?;
            // Also an end is passed on only when the line passes anything.
            self.may_pass().await;
            if count == 0 {
                return to.shutdown().await;
            }
            to.write_all(&buffer[..count]).await?;
        }
    }

    /// Waits while the line is held.
    async fn may_pass(&mut self) {
        // Without a line there is nothing to wait for: the task that runs this ends with it.
        let _ = self.state.wait_for(|state| !state.held).await;
    }
}
