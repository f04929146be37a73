//! The least HTTP/1.1 client that will do: one kept connection, bodies with a length. A general client would take a good part of the
//! cores that are being measured.

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A kept connection.
pub struct Connection {
    stream: TcpStream,
    /// What has been received and not been used.
    received: Vec<u8>,
    request: Vec<u8>,
}

/// An answer.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON, or what the server said instead.
    pub fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        if !(200..300).contains(&self.status) {
            bail!("status {}: {}", self.status, String::from_utf8_lossy(&self.body));
        }
        serde_json::from_slice(&self.body).context("an answer that is no JSON of the kind expected")
    }
}

impl Connection {
    /// To `127.0.0.1:port`.
    pub async fn open(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(8 << 10), request: Vec::with_capacity(1 << 10) })
    }

    /// Asks.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        self.request.clear();
        self.request.extend_from_slice(format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").as_bytes());
        self.exchange(&[]).await
    }

    /// Sends JSON under an idempotency key.
    pub async fn post(&mut self, path: &str, key: &str, body: &str) -> anyhow::Result<Answer> {
        self.send(path, key, "application/json", body).await
    }

    /// Sends lines of JSON under an idempotency key.
    pub async fn post_lines(&mut self, path: &str, key: &str, body: &str) -> anyhow::Result<Answer> {
        self.send(path, key, "application/x-ndjson", body).await
    }

    async fn send(&mut self, path: &str, key: &str, kind: &str, body: &str) -> anyhow::Result<Answer> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: {kind}\r\nidempotency-key: {key}\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        self.request.clear();
        self.request.extend_from_slice(head.as_bytes());
        self.exchange(body.as_bytes()).await
    }

    async fn exchange(&mut self, body: &[u8]) -> anyhow::Result<Answer> {
        self.request.extend_from_slice(body);
        self.stream.write_all(&self.request).await?;
        let head_end = loop {
            if let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.receive().await?;
        };
        let head = std::str::from_utf8(&self.received[..head_end]).context("a head that is no text")?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
        let length = content_length(head)?;
        while self.received.len() < head_end + length {
            self.receive().await?;
        }
        let body = self.received[head_end..head_end + length].to_vec();
        self.received.drain(..head_end + length);
        Ok(Answer { status, body })
    }

    async fn receive(&mut self) -> anyhow::Result<()> {
        match self.stream.read_buf(&mut self.received).await? {
            0 => bail!("the server closed the connection"),
            _ => Ok(()),
        }
    }
}

fn content_length(head: &str) -> anyhow::Result<usize> {
    for line in head.lines() {
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                return value.trim().parse().context("a length that is no number");
            }
            Some((name, _)) if name.eq_ignore_ascii_case("transfer-encoding") => {
                bail!("an answer in chunks, which this client does not read");
            }
            _ => {}
        }
    }
    Ok(0)
}
