//! A provider of prices on this machine: it answers in the documented shapes, and misbehaves as told.
//!
//! Written on bare connections, since no web framework breaks off in the middle of an answer. The shapes are recorded by hand:
//! Yahoo's chart from the public endpoint `/v8/finance/chart`, Alpha Vantage's from <https://www.alphavantage.co/documentation/>,
//! the central bank's from <https://www.ecb.europa.eu/stats/eurofxref/eurofxref-daily.xml>, Stooq's from its download links.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What is said to one request.
#[derive(Debug, Clone)]
pub enum Say {
    /// A body, with these headers.
    Body(String, Vec<(&'static str, String)>),
    /// A status without a body, with these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// This after a while.
    After(Duration, Box<Say>),
    /// The beginning of a body whose length was told.
    Half(String),
    /// A body whose end is that of the connection.
    Unframed(String),
    /// A body that never ends.
    Endless,
    /// Nothing: the connection is reset.
    Reset,
}

impl Say {
    pub fn body(text: impl Into<String>) -> Self {
        Self::Body(text.into(), Vec::new())
    }

    pub fn status(status: u16) -> Self {
        Self::Status(status, Vec::new())
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub headers: HashMap<String, String>,
}

type Answers = dyn Fn(&Asked) -> Say + Send + Sync;

/// A running provider. Gone when dropped.
pub struct Provider {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    /// What is said to a path that has this in it, one after the other; the last goes on.
    scripts: Mutex<Vec<(String, VecDeque<Say>)>>,
    answers: Box<Answers>,
    asked: Mutex<Vec<Asked>>,
}

impl Provider {
    /// One that answers like this where no script says otherwise.
    pub async fn start(answers: impl Fn(&Asked) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            scripts: Mutex::default(),
            answers: Box::new(answers),
            asked: Mutex::default(),
        });
        let serving = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, Arc::clone(&shared)));
                }
            }
        });
        Self { address, shared, serving }
    }

    /// From now on says this to requests with `part` in their path, one after the other; the last goes on.
    pub fn script(&self, part: &str, says: impl IntoIterator<Item = Say>) {
        let mut scripts = self.shared.scripts.lock().unwrap();
        scripts.retain(|(known, _)| known != part);
        scripts.push((part.to_owned(), says.into_iter().collect()));
    }

    /// Requests with `part` in their path so far.
    pub fn asked(&self, part: &str) -> Vec<Asked> {
        let asked = self.shared.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.path.contains(part)).cloned().collect()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    fn say(&self, asked: &Asked) -> Say {
        self.asked.lock().unwrap().push(asked.clone());
        let mut scripts = self.scripts.lock().unwrap();
        let script = scripts.iter_mut().find(|(part, _)| asked.path.contains(part.as_str()));
        match script.map(|(_, says)| says) {
            Some(says) if says.len() > 1 => says.pop_front().unwrap(),
            Some(says) => says[0].clone(),
            None => (self.answers)(asked),
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    while let Some(asked) = read(&mut stream).await {
        if say(stream.get_mut(), shared.say(&asked)).await.is_none() {
            return;
        }
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|bytes| *bytes > 0)?;
    let path = line.split_whitespace().nth(1)?.to_owned();
    let mut headers = HashMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await.ok().filter(|bytes| *bytes > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    Some(Asked { path, headers })
}

/// `None` where the connection is of no use any more.
async fn say(stream: &mut TcpStream, mut say: Say) -> Option<()> {
    while let Say::After(pause, then) = say {
        tokio::time::sleep(pause).await;
        say = *then;
    }
    let head = |status: u16, headers: &[(&str, String)], length: Option<usize>| {
        let mut head = format!("HTTP/1.1 {status} Told\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(length) = length {
            head.push_str(&format!("content-length: {length}\r\n"));
        }
        head + "\r\n"
    };
    match say {
        Say::Body(text, headers) => {
            let whole = head(200, &headers, Some(text.len())) + &text;
            stream.write_all(whole.as_bytes()).await.ok()
        }
        Say::Status(status, headers) => {
            let length = (status != 304).then_some(0);
            stream.write_all(head(status, &headers, length).as_bytes()).await.ok()
        }
        Say::Half(text) => {
            let half = head(200, &[], Some(text.len())) + &text[..text.len() / 2];
            stream.write_all(half.as_bytes()).await.ok()?;
            None
        }
        Say::Unframed(text) => {
            let whole = head(200, &[("connection", "close".to_owned())], None) + &text;
            stream.write_all(whole.as_bytes()).await.ok()?;
            None
        }
        Say::Endless => {
            let chunked = [("transfer-encoding", "chunked".to_owned())];
            stream.write_all(head(200, &chunked, None).as_bytes()).await.ok()?;
            let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
            loop {
                stream.write_all(chunk.as_bytes()).await.ok()?;
            }
        }
        Say::Reset => {
            // Without lingering, closing sends a reset.
            let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
            None
        }
        Say::After(..) => None,
    }
}

/// Yahoo's chart with a price of now.
pub fn yahoo_quote(symbol: &str, currency: &str, price: &str, at: i64) -> String {
    format!(
        r#"{{"chart":{{"result":[{{"meta":{{"currency":"{currency}","symbol":"{symbol}","exchangeName":"NMS","gmtoffset":0,
        "regularMarketTime":{at},"regularMarketPrice":{price},"priceHint":2}},"timestamp":[],
        "indicators":{{"quote":[{{}}]}}}}],"error":null}}}}"#
    )
}

/// Yahoo's chart with closes: seconds and prices.
pub fn yahoo_history(symbol: &str, bars: &[(i64, String)]) -> String {
    let times: Vec<String> = bars.iter().map(|(at, _)| at.to_string()).collect();
    let closes: Vec<&str> = bars.iter().map(|(_, close)| close.as_str()).collect();
    format!(
        r#"{{"chart":{{"result":[{{"meta":{{"currency":"USD","symbol":"{symbol}","gmtoffset":0,"priceHint":2}},
        "timestamp":[{}],"indicators":{{"quote":[{{"close":[{}],"volume":[]}}]}}}}],"error":null}}}}"#,
        times.join(","),
        closes.join(",")
    )
}

/// The symbol in the path of Yahoo's chart.
pub fn yahoo_symbol(asked: &Asked) -> String {
    let rest = asked.path.strip_prefix("/v8/finance/chart/").unwrap_or_default();
    rest.split('?').next().unwrap_or_default().to_owned()
}

/// The central bank's document, of one day.
pub fn ecb_day(day: &str, rates: &[(&str, &str)]) -> String {
    let rates: String =
        rates.iter().map(|(currency, rate)| format!("<Cube currency='{currency}' rate='{rate}'/>")).collect();
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01"
        xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref"><gesmes:subject>Reference rates</gesmes:subject>
        <Cube><Cube time='{day}'>{rates}</Cube></Cube></gesmes:Envelope>"#
    )
}
