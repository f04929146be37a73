//! Serving: connections in, answers out, and an end that finishes what was begun.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::serve::{Listener, ListenerExt};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::problem::Problem;

/// How long requests may take that were begun before the end: less than the tasks of a process may take, with what they leave to
/// be decided.
const GRACE: Duration = Duration::from_secs(5);
/// Connections beyond the bound that are told so at a time; the next ones wait.
const REFUSED_MAX: usize = 64;
/// How long one of them may take to be told.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many there may be at a time; what is asked on one more is answered 503.
    pub connections_max: usize,
    /// How long the head of a request may take to come whole, counted from the end of the answer before: longer than the
    /// proxies in front of us leave a connection without a request.
    pub head_within: Duration,
    /// How long a client may leave what it was sent untaken before its connection is cut.
    pub untaken_within: Duration,
}

impl Limits {
    /// So many connections, and the usual times.
    pub fn of(connections_max: usize) -> Self {
        let (head_within, untaken_within) = (Duration::from_secs(75), Duration::from_secs(20));
        Self { connections_max, head_within, untaken_within }
    }
}

/// Serves until `stop`; then takes no connection any more, and answers what it has.
///
/// # Errors
/// The listener's. That of one connection ends only that connection.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = listener.tap_io(move |connection| {
        // An answer is one write: waiting for more to send would only delay it.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "a connection stays with delayed writes");
        }
        // A client that takes nothing any more would hold its connection, and what stands behind it, for ever.
        if let Err(error) = SockRef::from(&*connection).set_tcp_user_timeout(Some(limits.untaken_within)) {
            tracing::debug!(%error, "a connection may stand still for ever");
        }
    });
    let serving = async {
        let connections = TaskTracker::new();
        accept(listener, router, limits, &stop, &connections).await;
        connections.close();
        connections.wait().await;
    };
    let grace_ended = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        () = serving => {}
        () = grace_ended => tracing::warn!("connections were cut that did not end"),
    }
    Ok(())
}

/// Takes connections until `stop`, and gives each to a task.
async fn accept(
    mut listener: impl Listener<Io = TcpStream>,
    router: Router,
    limits: Limits,
    stop: &CancellationToken,
    connections: &TaskTracker,
) {
    let (places, refusals) =
        (Arc::new(Semaphore::new(limits.connections_max)), Arc::new(Semaphore::new(REFUSED_MAX)));
    let refusing = Router::new().fallback(refuse);
    let refused = Limits { head_within: REFUSED_WITHIN, ..limits };
    loop {
        let next = async {
            let (connection, _) = listener.accept().await;
            (connection, place(&places, &refusals).await)
        };
        let Some((connection, (permit, is_within))) = stop.run_until_cancelled(next).await else { return };
        let (router, limits) = if is_within { (&router, limits) } else { (&refusing, refused) };
        let attended = attend(connection, router.clone(), limits, stop.clone());
        connections.spawn(async move {
            let _permit = permit;
            if is_within {
                attended.await;
            } else {
                // Whoever asks on and on is told no more.
                let _ = tokio::time::timeout(REFUSED_WITHIN, attended).await;
            }
        });
    }
}

/// A place for a connection: among those that are served, or else among those that are told to come back.
async fn place(places: &Arc<Semaphore>, refusals: &Arc<Semaphore>) -> (OwnedSemaphorePermit, bool) {
    const OPEN: &str = "it is never closed";
    tokio::select! {
        biased;
        permit = Arc::clone(places).acquire_owned() => (permit.expect(OPEN), true),
        permit = Arc::clone(refusals).acquire_owned() => (permit.expect(OPEN), false),
    }
}

async fn refuse() -> Response {
    let mut response = Problem::busy("there are too many connections", 1).into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Answers what comes on one connection, until it ends.
async fn attend(connection: TcpStream, router: Router, limits: Limits, stop: CancellationToken) {
    let begun = Arc::new(AtomicBool::new(false));
    let (router, noted) = (TowerToHyperService::new(router), Arc::clone(&begun));
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        noted.store(true, Ordering::Relaxed);
        router.call(request)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head_within);
    // A client that is gone does not say so.
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.head_within)
        .enable_connect_protocol();
    let mut served = pin!(builder.serve_connection_with_upgrades(TokioIo::new(connection), service));
    let mut stopping = pin!(stop.cancelled());
    // Which version of HTTP it is, the library waits to see for as long as it takes.
    let mut silent = pin!(tokio::time::sleep(limits.head_within));
    let (mut is_stopping, mut may_be_silent) = (false, true);
    loop {
        tokio::select! {
            served = served.as_mut() => {
                if let Err(error) = served {
                    tracing::debug!(%error, "a connection has ended");
                }
                return;
            }
            () = &mut stopping, if !is_stopping => {
                is_stopping = true;
                served.as_mut().graceful_shutdown();
            }
            () = &mut silent, if may_be_silent => {
                may_be_silent = false;
                if !begun.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::SocketAddr;

    use axum::body::{Body, Bytes};
    use axum::routing::get;
    use futures::stream;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_cut_off() {
        let (alive, mut gone) = watch::channel(());
        let alive = std::sync::Mutex::new(Some(alive));
        let endless = move || {
            let alive = alive.lock().unwrap().take();
            let body = stream::repeat_with(move || {
                let _kept = &alive;
                Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 65_536]))
            });
            std::future::ready(Body::from_stream(body))
        };
        let endless = std::sync::Arc::new(endless);
        let router = Router::new().route("/", get(move || endless()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let limits = Limits { untaken_within: Duration::from_secs(1), ..Limits::of(8) };
        let serving = tokio::spawn(serve(listener, router, limits, stop.clone()));

        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
        // The sender is dropped with the body.
        let cut = tokio::time::timeout(Duration::from_secs(20), gone.changed()).await;
        assert!(cut.expect("the connection is cut").is_err());
        stop.cancel();
        serving.await.unwrap().unwrap();
    }

    /// What is heard on a connection until it ends, after this was said.
    async fn heard(address: SocketAddr, said: &str) -> String {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(said.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), client.read_to_end(&mut heard)).await;
        // A reset is an end as well.
        drop(ended.expect("the connection is cut"));
        String::from_utf8(heard).unwrap()
    }

    async fn start(limits: Limits) -> (SocketAddr, CancellationToken) {
        let router = Router::new().route("/", get(async || "here"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        tokio::spawn(serve(listener, router, limits, stop.clone()));
        (address, stop)
    }

    #[tokio::test]
    async fn a_request_whose_head_does_not_come_whole_is_cut_off() {
        let limits = Limits { head_within: Duration::from_millis(500), ..Limits::of(100) };
        let (address, stop) = start(limits).await;
        let whole = "GET / HTTP/1.1\r\nhost: here\r\n\r\n";
        let halves = ["", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nhost: he"];
        let cut = futures::future::join_all(halves.map(|half| heard(address, half))).await;
        for (half, heard) in halves.iter().zip(cut) {
            assert!(!heard.contains("200 OK"), "{half:?}: {heard}");
        }
        let (one, second) = (heard(address, whole).await, heard(address, &format!("{whole}GET / HT")).await);
        assert!(one.contains("200 OK") && second.matches("200 OK").count() == 1, "{one}, {second}");
        stop.cancel();
    }

    #[tokio::test]
    async fn beyond_the_bound_a_connection_is_told_so_and_served_when_there_is_a_place() {
        let (address, stop) = start(Limits::of(2)).await;
        let whole = "GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n";
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(TcpStream::connect(address).await.unwrap());
        }
        let told = heard(address, whole).await.to_lowercase();
        for part in ["503 service unavailable", "retry-after: 1", "connection: close", "/problems/busy"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        // Those that are told so may not be all the others either.
        let mut silent = Vec::new();
        for _ in 0..REFUSED_MAX {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(heard(address, whole).await.contains("503"), "they are cut soon");
        drop(held);
        let began = std::time::Instant::now();
        while !heard(address, whole).await.contains("200 OK") {
            assert!(began.elapsed() < Duration::from_secs(10), "a place is taken when it is free");
        }
        stop.cancel();
    }
}
