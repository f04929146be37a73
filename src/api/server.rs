//! Serving: connections in, answers out, and an end that finishes what was begun.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long requests may take that were begun before the end: less than the process as a whole may take.
const GRACE: Duration = Duration::from_secs(6);
/// How long a client may leave what it was sent untaken before its connection is cut.
const UNTAKEN_WITHIN: Duration = Duration::from_secs(20);

/// Serves until `stop`; then takes no connection any more, and answers what it has.
///
/// # Errors
/// The listener's. That of one connection ends only that connection.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    serve_cutting_after(UNTAKEN_WITHIN, listener, router, stop).await
}

async fn serve_cutting_after(
    untaken: Duration,
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = listener.tap_io(move |connection| {
        // An answer is one write: waiting for more to send would only delay it.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "a connection stays with delayed writes");
        }
        // A client that takes nothing any more would hold its connection, and what stands behind it, for ever.
        if let Err(error) = SockRef::from(&*connection).set_tcp_user_timeout(Some(untaken)) {
            tracing::debug!(%error, "a connection may stand still for ever");
        }
    });
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let grace_ended = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = serving => served,
        () = grace_ended => {
            tracing::warn!("connections were cut that did not end");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::{Body, Bytes};
    use axum::routing::get;
    use futures::stream;
    use tokio::io::AsyncWriteExt;
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
        let serving =
            tokio::spawn(serve_cutting_after(Duration::from_secs(1), listener, router, stop.clone()));

        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
        // The sender is dropped with the body.
        let cut = tokio::time::timeout(Duration::from_secs(20), gone.changed()).await;
        assert!(cut.expect("the connection is cut").is_err());
        stop.cancel();
        serving.await.unwrap().unwrap();
    }
}
