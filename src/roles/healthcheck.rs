//! `insight healthcheck`: is the API at LISTEN_ADDRESS ready? For containers, which have no client of their own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::Settings;

const PATIENCE: Duration = Duration::from_secs(3);

/// Prints what is wrong, and tells by the exit code.
///
/// # Errors
/// Nobody listens there, or not in time.
pub async fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    match ask_ready(settings.http.listen_address).await? {
        None => Ok(ExitCode::SUCCESS),
        Some(reason) => {
            eprintln!("{reason}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Asks whether the API is ready; if not, what it says.
pub(super) async fn ask_ready(address: SocketAddr) -> anyhow::Result<Option<String>> {
    let address = reachable(address);
    let answer = tokio::time::timeout(PATIENCE, ask(address)).await;
    let answer = answer.map_err(anyhow::Error::from).and_then(|answer| answer.map_err(Into::into));
    let answer = answer.with_context(|| format!("no answer from {address}"))?;
    if answer.starts_with("HTTP/1.1 200") {
        return Ok(None);
    }
    let body = answer.split_once("\r\n\r\n").map_or(answer.as_str(), |(_, body)| body);
    Ok(Some(body.trim().to_owned()))
}

/// An address that listens on everything is asked on loopback.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer).await?;
    Ok(answer)
}
