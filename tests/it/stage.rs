//! One process of the program on a PostgreSQL of its own that may be broken, and what clients say to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use insight::postgres::{Session, connect};
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::caller::Caller;
use crate::line::{End, Line};
use crate::own_servers::{Ground, Postgres};
use crate::processes::{Process, answers, free_address, http};

/// What is allowed beyond the second in which a client is told: this machine has other things to do.
const SLACK: Duration = Duration::from_millis(500);

/// A process, its line to PostgreSQL, and PostgreSQL.
pub struct Stage {
    pub process: Process,
    pub line: Line,
    pub postgres: Postgres,
    pub address: SocketAddr,
    /// What a client may act upon: paths of a portfolio, and an asset.
    pub portfolio: String,
    pub asset: String,
    http: reqwest::Client,
    _ground: Ground,
}

/// One answer, without any patience.
#[derive(Debug)]
pub struct Told {
    pub status: u16,
    pub took: Duration,
    pub retry_after: bool,
    pub body: Value,
}

impl Stage {
    /// Every role in one process on a server with these settings.
    pub async fn new(settings: &[&str], environment: &[(&'static str, &str)]) -> Self {
        let ground = Ground::new();
        let postgres = Postgres::start(ground.folder("postgres"), settings);
        Self::on(ground, postgres, environment).await
    }

    /// The same on a server that runs already.
    pub async fn on(ground: Ground, postgres: Postgres, environment: &[(&'static str, &str)]) -> Self {
        let line = Line::to(End::Socket(postgres.socket())).await;
        let (url, address) = (format!("postgres://insight@{}/insight", line.address), free_address());
        let listen = address.to_string();
        let always = [
            ("DATABASE_URL", url.as_str()),
            ("LISTEN_ADDRESS", listen.as_str()),
            ("RISK_WINDOW", "60"),
            ("RISK_PATHS", "1024"),
            ("RISK_THREADS", "1"),
        ];
        let environment = [&always[..], environment].concat();
        let process = Process::start(&ground.folder("roles"), "all", &["all"], &environment);
        answers(address).await;
        let mut stage = Self {
            process,
            line,
            postgres,
            address,
            portfolio: String::new(),
            asset: String::new(),
            http: http().build().unwrap(),
            _ground: ground,
        };
        let mut caller = stage.caller();
        let investor = json!({"name": "Stage", "email": format!("{}@example.invalid", Uuid::now_v7())});
        let investor = caller.create("/v1/investors", investor).await;
        let listing = json!({"symbol": "AAA", "name": "A", "class": "equity", "currency": "USD"});
        stage.asset = caller.create("/v1/assets", listing).await;
        let opening =
            json!({"investor_id": investor, "name": "P", "base_currency": "USD", "cash": "tracked"});
        stage.portfolio = format!("/v1/portfolios/{}", caller.create("/v1/portfolios", opening).await);
        let place = caller.command(format!("{}/deposit", stage.portfolio), deposit()).await.place();
        let seen = caller
            .read(&format!("{}/holdings?min_position={place}&max_wait_ms=10000", stage.portfolio))
            .await;
        assert_eq!(seen.status, 200, "{seen:?}");
        stage
    }

    /// A client that sends until it is answered.
    pub fn caller(&self) -> Caller {
        Caller::new(&[self.address], rand::random(), Arc::default())
    }

    /// Looks at the database past the line.
    pub async fn pool(&self) -> PgPool {
        connect(self.postgres.options(), &Session::of("test")).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Told {
        told(self.http.get(format!("http://{}{path}", self.address))).await
    }

    /// Reads over and over until it is told to come back; how it was.
    pub fn read_until_told(&self) -> impl Future<Output = Told> + use<> {
        let address = format!("http://{}{}/events?limit=500", self.address, self.portfolio);
        let http = self.http.clone();
        async move {
            loop {
                let told = told(http.get(&address)).await;
                if told.status != 200 {
                    return told;
                }
            }
        }
    }

    pub async fn post(&self, path: &str, body: &Value) -> Told {
        told(self.http.post(format!("http://{}{path}", self.address)).json(body)).await
    }

    /// Everything that a client may ask for, all at once: each is told within a second to come back.
    pub async fn assert_everybody_is_told(&self, why: &str) {
        let unknown = format!("/v1/portfolios/{}/deposit", Uuid::now_v7());
        let (deposits, holdings) =
            (format!("{}/deposit", self.portfolio), format!("{}/holdings", self.portfolio));
        let waits = format!("{holdings}?min_position=1:900000&max_wait_ms=9000");
        let (money, prices) = (deposit(), json!({"asset": self.asset, "price": "3", "day": "2024-03-01"}));
        let told = tokio::join!(
            self.post(&deposits, &money),
            self.post(&unknown, &money),
            self.post("/v1/prices", &prices),
            self.get(&holdings),
            self.get(&waits),
            self.get("/v1/assets"),
        );
        for (what, told) in [
            ("a command", told.0),
            ("a command about something not remembered", told.1),
            ("prices", told.2),
            ("a read", told.3),
            ("a read that waits", told.4),
            ("a list", told.5),
        ] {
            assert_told(&format!("{why}: {what}"), &told);
        }
    }

    /// Commands and reads are answered again.
    pub async fn assert_serves(&self, within: Duration) {
        let (mut caller, began) = (self.caller(), Instant::now());
        let answer = caller.command(format!("{}/deposit", self.portfolio), deposit()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(caller.read(&format!("{}/holdings", self.portfolio)).await.status, 200);
        assert!(began.elapsed() < within, "it serves again within {within:?}: {:?}", began.elapsed());
    }

    /// Without a hand everything works again.
    pub async fn assert_recovers(&self, within: Duration) {
        let began = Instant::now();
        let mut caller = self.caller();
        let answer = caller.command(format!("{}/deposit", self.portfolio), deposit()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let path = format!("{}/holdings?min_position={}&max_wait_ms=10000", self.portfolio, answer.place());
        assert_eq!(caller.read(&path).await.status, 200);
        assert!(
            began.elapsed() < within,
            "everything recovers by itself within {within:?}: {:?}",
            began.elapsed()
        );
    }
}

/// A 503 within a second, with the advice to come back.
pub fn assert_told(what: &str, told: &Told) {
    assert_eq!(told.status, 503, "{what}: {told:?}");
    assert!(told.retry_after, "{what}: {told:?}");
    assert!(told.took < Duration::from_secs(1) + SLACK, "{what} is told within a second: {told:?}");
}

pub fn deposit() -> Value {
    json!({"amount": "5", "currency": "USD"})
}

async fn told(request: reqwest::RequestBuilder) -> Told {
    let began = Instant::now();
    let answer = request.timeout(Duration::from_secs(30)).send().await.unwrap();
    let status = answer.status().as_u16();
    let retry_after = answer.headers().contains_key("retry-after");
    let body = answer.json().await.unwrap_or_default();
    Told { status, took: began.elapsed(), retry_after, body }
}
