//! Serving: connections in, answers out, and an end that finishes what was begun.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long requests may take that were begun before the end: less than the process as a whole may take.
const GRACE: Duration = Duration::from_secs(6);

/// Serves until `stop`; then takes no connection any more, and answers what it has.
///
/// # Errors
/// The listener's. That of one connection ends only that connection.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    let listener = listener.tap_io(|connection| {
        // An answer is one write: waiting for more to send would only delay it.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "a connection stays with delayed writes");
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
