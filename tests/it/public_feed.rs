//! The public feed: whoever follows it, however they come and go, sees every event once and in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use insight::api::server::{Limits, serve};
use insight::domain::ids::Position;
use insight::event_store::read;
use insight::postgres::{EmbeddedPostgres, Session, connect};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::environment;
use crate::processes::{Place, http};
use crate::service::{EVENT_STREAMS_MAX, Service};

const PATIENCE: Duration = Duration::from_secs(60);

/// Serves on a real socket.
async fn served(service: &Service) -> (SocketAddr, JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, tokio::spawn(serve(listener, service.router.clone(), Limits::of(1_000), service.stop.clone())))
}

/// A client of server-sent events, as a browser is one: it remembers the last id.
struct Client {
    http: reqwest::Client,
    url: String,
    last_id: Option<String>,
    seen: Vec<Seen>,
}

/// Position and event id.
type Seen = (i64, String);

impl Client {
    fn new(address: SocketAddr, query: &str) -> Self {
        let url = format!("http://{address}/v1/events{query}");
        Self { http: http().build().unwrap(), url, last_id: None, seen: Vec::new() }
    }

    async fn connect(&self) -> Option<reqwest::Response> {
        let mut request = self.http.get(&self.url).header("accept", "text/event-stream");
        if let Some(last_id) = &self.last_id {
            request = request.header("last-event-id", last_id);
        }
        let answer = request.send().await.ok()?;
        match answer.status().as_u16() {
            200 => {
                assert_eq!(answer.headers()["content-type"], "text/event-stream");
                Some(answer)
            }
            503 => {
                assert!(answer.headers().contains_key("retry-after"));
                None
            }
            status => panic!("{status}: {}", answer.text().await.unwrap()),
        }
    }

    /// Connects and reads until so many events came, the head was reached, or the stream ended; then goes away.
    async fn read(&mut self, events: usize, head: i64) {
        let Some(mut answer) = self.connect().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            return;
        };
        let (mut text, mut read) = (String::new(), 0);
        while read < events && self.last_position() < head {
            let Ok(Ok(Some(bytes))) = tokio::time::timeout(PATIENCE, answer.chunk()).await else { return };
            text.push_str(std::str::from_utf8(&bytes).unwrap());
            while let Some(end) = text.find("\n\n") {
                let block: String = text.drain(..end + 2).collect();
                read += usize::from(self.take(&block));
            }
        }
    }

    /// Takes a block in; says whether it was an event.
    fn take(&mut self, block: &str) -> bool {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        if let Some(id) = field("id: ") {
            self.last_id = Some(id.to_owned());
        }
        let Some(data) = field("data: ") else { return false };
        let event: Value = serde_json::from_str(data).unwrap();
        assert_eq!(Some(event["type"].as_str().unwrap()), field("event: "));
        let (epoch, position) = (event["epoch"].as_i64().unwrap(), event["position"].as_str().unwrap());
        assert_eq!(self.last_id.as_deref(), Some(format!("{epoch}:{position}").as_str()));
        self.seen.push((position.parse().unwrap(), event["id"].as_str().unwrap().to_owned()));
        true
    }

    fn last_position(&self) -> i64 {
        let position = self.last_id.as_deref().and_then(|id| id.split_once(':')?.1.parse().ok());
        position.unwrap_or(0)
    }
}

async fn log_of(pool: &PgPool) -> Vec<Seen> {
    let events = read::after(pool, Position(0), i64::MAX).await.unwrap().events;
    events.iter().map(|event| (event.position.0, event.event_id.to_string())).collect()
}

async fn deposits(service: &Service, portfolio: &str, count: usize) {
    for n in 1..=count {
        let answer = service.post(&format!("{portfolio}/deposit"), json!({"amount": n.to_string()})).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_streams_and_twenty_pollers_that_come_and_go_see_every_event_once_and_in_order() {
    const WRITERS: usize = 4;
    const DEPOSITS: usize = 250;
    let database = environment::database().await;
    let service = Arc::new(Service::start(&database));
    let (address, serving) = served(&service).await;
    // Each writer: an investor and a portfolio, then deposits.
    let head = (WRITERS * (2 + DEPOSITS)) as i64;
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let service = Arc::clone(&service);
        writers.spawn(async move {
            let portfolio = service.portfolio("tracked").await;
            deposits(&service, &portfolio, DEPOSITS).await;
        });
    }
    let mut readers: JoinSet<Vec<Seen>> = JoinSet::new();
    for seed in 0..20 {
        readers.spawn(async move {
            let (mut client, mut random) = (Client::new(address, ""), StdRng::seed_from_u64(seed));
            let began = Instant::now();
            while client.last_position() < head {
                client.read(random.random_range(1..200), head).await;
                assert!(began.elapsed() < PATIENCE, "at {}", client.last_position());
            }
            client.seen
        });
        readers.spawn(async move {
            let (http, mut random) = (http().build().unwrap(), StdRng::seed_from_u64(1_000 + seed));
            let (mut next, mut seen) = ("0".to_owned(), Vec::<Seen>::new());
            let began = Instant::now();
            while seen.last().is_none_or(|last| last.0 < head) {
                let limit = random.random_range(1..=100);
                let url = format!("http://{address}/v1/events?after={next}&limit={limit}");
                let page: Value = http.get(url).send().await.unwrap().json().await.unwrap();
                let items = page["items"].as_array().unwrap();
                assert!(items.len() <= limit);
                seen.extend(items.iter().map(|event| {
                    let position = event["position"].as_str().unwrap().parse().unwrap();
                    (position, event["id"].as_str().unwrap().to_owned())
                }));
                next = page["next"].as_str().unwrap().to_owned();
                assert!(began.elapsed() < PATIENCE, "at {next}");
                tokio::time::sleep(Duration::from_millis(random.random_range(0..40))).await;
            }
            seen
        });
    }
    writers.join_all().await;
    let log = log_of(&database.pool).await;
    assert_eq!(log.len() as i64, head);
    let all = readers.join_all().await;
    assert_eq!(all.len(), 40);
    for seen in all {
        assert_eq!(seen, log);
    }
    service.stop.cancel();
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_leave_out_and_still_move_on() {
    let database = environment::database().await;
    let service = Service::start(&database);
    let portfolio = service.portfolio("tracked").await;
    let other = service.portfolio("tracked").await;
    for _ in 0..3 {
        deposits(&service, &portfolio, 2).await;
        deposits(&service, &other, 1).await;
    }
    let stream = portfolio.replace("/v1/portfolios/", "portfolio-");
    let head = service.head().await;
    let types = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap().iter();
        items.map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    };

    let page = service.get("/v1/events?type=PortfolioOpened&limit=1").await.body;
    assert_eq!(types(&page), ["PortfolioOpened"]);
    let next = page["next"].as_str().unwrap();
    assert_eq!(next, "1:2");
    let page = service.get(&format!("/v1/events?type=PortfolioOpened&after={next}")).await.body;
    assert_eq!(
        (types(&page), page["next"].as_str().unwrap()),
        (vec!["PortfolioOpened".to_owned()], &*format!("1:{head}"))
    );
    // Nothing of the kind, and yet a place that is further on.
    let page = service.get("/v1/events?type=AssetSold").await.body;
    assert_eq!((types(&page).len(), page["next"].as_str().unwrap()), (0, &*format!("1:{head}")));

    let mut next = "0".to_owned();
    let mut versions = Vec::new();
    loop {
        let page = service.get(&format!("/v1/events?stream={stream}&limit=2&after={next}")).await.body;
        let items = page["items"].as_array().unwrap();
        assert!(items.iter().all(|event| event["subject"] == stream.as_str()));
        versions.extend(items.iter().map(|event| event["version"].as_str().unwrap().to_owned()));
        next = page["next"].as_str().unwrap().to_owned();
        if next == format!("1:{head}") {
            break;
        }
    }
    assert_eq!(versions, ["1", "2", "3", "4", "5", "6", "7"]);
    let both = format!("/v1/events?stream={stream}&type=CashDeposited&after=1:{}", head.0 - 3);
    assert_eq!(service.get(&both).await.body["items"].as_array().unwrap().len(), 2);

    // A stream of events with a filter is told places that are further on, too.
    let (address, _serving) = served(&service).await;
    let mut client = Client::new(address, &format!("?stream={stream}&type=CashDeposited"));
    client.read(6, i64::MAX).await;
    let positions: Vec<i64> = client.seen.iter().map(|seen| seen.0).collect();
    deposits(&service, &other, 3).await;
    client.read(1, head.0 + 3).await;
    assert_eq!(client.last_id, Some(format!("1:{}", head.0 + 3)));
    assert_eq!(client.seen.iter().map(|seen| seen.0).collect::<Vec<_>>(), positions, "and no event twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_answered_as_it_stands_in_the_log() {
    let database = environment::database().await;
    let service = Service::start(&database);
    let portfolio = service.portfolio("tracked").await;
    deposits(&service, &portfolio, 1).await;
    let answer = service.get("/v1/events?after=1:2").await;
    let event = &answer.body["items"][0];
    let stored = read::find(&database.pool, Position(3)).await.unwrap().unwrap();
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["id"], stored.event_id.to_string());
    assert_eq!(event["subject"], stored.stream_id.as_str());
    assert_eq!(event["data"], serde_json::from_str::<Value>(&stored.payload).unwrap());
    assert_eq!(answer.body["as_of"]["position"], 3);
    assert_eq!(answer.body["next"], "1:3");
    // What the document says of an event is what is there.
    let document: Value = serde_json::from_str(&insight::api::openapi_json()).unwrap();
    let described = document["components"]["schemas"]["CloudEvent"]["properties"].as_object().unwrap();
    let optional = ["causationposition"];
    let mut names: Vec<&String> =
        described.keys().filter(|name| !optional.contains(&name.as_str())).collect();
    names.sort();
    let mut found: Vec<&String> = event.as_object().unwrap().keys().collect();
    found.sort();
    assert_eq!(found, names);
    // A poller that has the page is not sent it again.
    let etag = answer.headers["etag"].to_str().unwrap();
    let again = Request::get("/v1/events?after=1:2").header("if-none-match", etag);
    assert_eq!(service.send(again.body(Body::empty()).unwrap()).await.status, 304);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_questions_are_told_what_is_wrong() {
    let database = environment::database().await;
    let service = Service::start(&database);
    service.portfolio("tracked").await;
    for (query, status, field) in [
        ("after=-1", 422, "after"),
        ("after=abc", 422, "after"),
        ("after=1:", 422, "after"),
        ("after=99999999999999999999", 422, "after"),
        ("limit=0", 422, "limit"),
        ("limit=1000000000", 422, "limit"),
        ("limit=x", 422, "limit"),
        ("type=Nonsense", 422, "type"),
        ("type=", 422, "type"),
        ("stream=", 422, "stream"),
        ("stream=%00", 422, "stream"),
        ("after=0&after=1", 422, "after"),
        ("colour=red", 422, "colour"),
        ("stream=portfolio-nobody", 404, ""),
        ("after=3", 409, ""),
        ("after=1:3", 409, ""),
        ("after=2:1", 409, ""),
        ("after=0:0", 409, ""),
        ("after=9223372036854775807", 409, ""),
        ("after=9223372036854775807&type=AssetSold", 409, ""),
    ] {
        for accept in ["application/json", "text/event-stream"] {
            let request = Request::get(format!("/v1/events?{query}")).header("accept", accept);
            let answer = service.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, status, "{query}: {}", answer.body);
            assert_eq!(answer.headers["content-type"], "application/problem+json", "{query}");
            assert!(field.is_empty() || answer.fields().contains(&field), "{query}: {}", answer.body);
        }
    }
    for id in ["abc", "1", "-1:3", "1:2:3"] {
        let request =
            Request::get("/v1/events").header("accept", "text/event-stream").header("last-event-id", id);
        let answer = service.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, answer.fields()), (400, vec!["Last-Event-ID"]), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_of_a_dead_epoch_is_refused() {
    let database = environment::database().await;
    let service = Service::start(&database);
    let portfolio = service.portfolio("tracked").await;
    deposits(&service, &portfolio, 3).await;
    sqlx::query("insert into log_epochs (epoch, first_position, reason) values (2, 4, 'a restore')")
        .execute(&database.pool)
        .await
        .unwrap();
    for (place, status) in [("1:3", 200), ("1:4", 409), ("2:4", 200), ("3:1", 409)] {
        let page = service.get(&format!("/v1/events?after={place}")).await;
        assert_eq!(page.status, status, "{place}: {}", page.body);
        if status == 409 {
            assert_eq!(page.body["type"], "/problems/dead-epoch");
            let request = Request::get("/v1/events").header("accept", "text/event-stream");
            let request = request.header("last-event-id", place).body(Body::empty()).unwrap();
            assert_eq!(service.send(request).await.status, 409, "{place}");
        }
    }
    let page = service.get("/v1/events?after=1:3").await.body;
    assert_eq!((page["items"][0]["epoch"].as_i64(), page["next"].as_str()), (Some(2), Some("2:5")));
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_only_so_many_streams_and_they_end_with_the_process() {
    let database = environment::database().await;
    let service = Service::start(&database);
    service.portfolio("tracked").await;
    let (address, serving) = served(&service).await;
    let client = Client::new(address, "");
    let mut open = Vec::new();
    for _ in 0..EVENT_STREAMS_MAX {
        open.push(client.connect().await.expect("there is room"));
    }
    assert!(client.connect().await.is_none(), "one more is told to come back");
    open.pop();
    let began = Instant::now();
    while client.connect().await.is_none() {
        assert!(began.elapsed() < PATIENCE, "the place of one that left is not given to another");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A request for a page is no stream.
    assert_eq!(service.get("/v1/events").await.status, 200);

    let began = Instant::now();
    service.stop.cancel();
    serving.await.unwrap().unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "streams held the process up for {:?}",
        began.elapsed()
    );
    for mut answer in open {
        while answer.chunk().await.expect("a stream ends, it does not break off").is_some() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_postgresql_makes_nobody_miss_an_event() {
    let place = Place::new();
    let server = EmbeddedPostgres::start(place.data_folder()).await.unwrap();
    let pool = connect(server.options(), &Session::of("test")).await.unwrap();
    insight::event_store::schema::apply(&pool).await.unwrap();
    let service = Arc::new(Service::over(server.options(), pool.clone()));
    let (address, _serving) = served(&service).await;
    let portfolio = service.portfolio("tracked").await;

    let stop = Arc::new(AtomicBool::new(false));
    let (writer, stopped) = (Arc::clone(&service), Arc::clone(&stop));
    let writing = tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            let answer = writer.post(&format!("{portfolio}/deposit"), json!({"amount": "1"})).await;
            assert!([201, 503].contains(&answer.status), "{}", answer.body);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut client = Client::new(address, "");
    client.read(50, i64::MAX).await;
    server.stop().await.unwrap();
    let server = EmbeddedPostgres::start(place.data_folder()).await.unwrap();
    let (before, began) = (client.last_position(), Instant::now());
    while client.last_position() < before + 300 {
        client.read(100, i64::MAX).await;
        assert!(began.elapsed() < PATIENCE, "nothing comes after {}", client.last_position());
    }
    stop.store(true, Ordering::Relaxed);
    writing.await.unwrap();
    let log = log_of(&pool).await;
    assert_eq!(client.seen, log[..client.seen.len()]);
    service.stop.cancel();
    pool.close().await;
    server.stop().await.unwrap();
}
