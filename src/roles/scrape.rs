//! What a process shows to Prometheus: every one counts for itself, so every one can be asked.

use anyhow::Context;
use tokio::net::TcpListener;
use tracing::info;

use crate::api::{operations, server};
use crate::config::Settings;
use crate::shutdown::Shutdown;
use crate::telemetry::MetricsHandle;

/// Who asks is a handful of machines.
const CONNECTIONS_MAX: usize = 64;

/// Shows the metrics of this process at METRICS_ADDRESS, where that is set.
pub(super) async fn spawn(
    settings: &Settings,
    shutdown: &Shutdown,
    metrics: &MetricsHandle,
) -> anyhow::Result<()> {
    let Some(address) = settings.http.metrics_address else { return Ok(()) };
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot show metrics at {address}, the METRICS_ADDRESS"))?;
    info!(address = %listener.local_addr()?, "showing metrics");
    let metrics = metrics.clone();
    let router = operations::router(Box::new(move || metrics.render()));
    let serving = server::serve(listener, router, server::Limits::of(CONNECTIONS_MAX), shutdown.token());
    shutdown.spawn("metrics", serving);
    Ok(())
}
