//! The system under test: servers of its own, and the roles as processes, each on a line of its own to PostgreSQL.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use insight::kafka::KafkaSettings;
use insight::postgres::{Session, connect};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;

use crate::line::{End, Line};
use crate::operator::Deleted;
use crate::own_servers::{Ground, Kafka, Postgres};
use crate::processes::{Process, free_address};
use crate::read_models::ALL;

/// Little history and few paths, so that the engine leaves the others some of the machine.
const RISK: [(&str, &str); 3] = [("RISK_WINDOW", "60"), ("RISK_PATHS", "1024"), ("RISK_THREADS", "1")];
/// The roles of the distributed form. Groups overlap; relay and scheduler are there twice.
const ROLES: [(&str, &[&str]); 13] = [
    ("api-1", &["api"]),
    ("api-2", &["api"]),
    ("relay-1", &["relay"]),
    ("relay-2", &["relay"]),
    ("projector-1", &["project", "holdings", "directory", "activity", "jobs"]),
    ("projector-2", &["project", "holdings", "valuations", "directory"]),
    ("projector-3", &["project", "prices", "activity", "valuations", "jobs"]),
    ("risk-1", &["risk"]),
    ("risk-2", &["risk"]),
    ("scheduler-1", &["schedule"]),
    ("scheduler-2", &["schedule"]),
    ("worker-1", &["work"]),
    ("worker-2", &["work"]),
];
/// Of these one acts, and the others say nothing until it is their turn.
const STAND_BY: [&str; 2] = ["relay", "scheduler"];
/// What joins when a group grows.
const GUEST: &[&str] = &["project", "holdings", "directory", "prices", "valuations", "activity", "jobs"];
const COMES_UP_WITHIN: Duration = Duration::from_secs(90);

/// Everything that can be broken.
pub struct System {
    pub roles: Vec<Role>,
    pub servers: Option<Servers>,
    /// Where clients go, through lines that can be cut.
    pub clients: Vec<Line>,
    /// What records were deleted of.
    pub deleted: Arc<Deleted>,
    straight: PgConnectOptions,
    /// Last, so that it is swept when nobody needs it any more.
    pub ground: Ground,
}

/// The servers of the distributed form.
pub struct Servers {
    pub postgres: Postgres,
    pub kafka: Kafka,
    pub kafka_line: Line,
}

/// A process and its line to PostgreSQL.
pub struct Role {
    pub name: String,
    pub process: Process,
    /// None in the embedded form.
    pub database: Option<Line>,
    listens_at: Option<SocketAddr>,
    /// What it says when it has started, and how often.
    sign: (&'static str, usize),
    pub started: Instant,
}

impl Role {
    /// Whether it is past what may fail at a start: then nothing that happens around it may end it.
    pub fn came_up(&self) -> bool {
        let (sign, times) = self.sign;
        self.process.said_lately().matches(sign).count() >= times
    }

    /// Whether it may be there for long without a sign.
    pub fn stands_by(&self) -> bool {
        STAND_BY.iter().any(|name| self.name.starts_with(name))
    }
}

impl System {
    /// The roles around a PostgreSQL and a broker.
    pub async fn distributed() -> Self {
        let ground = Ground::new();
        let kafka_line = Line::new().await;
        let (kafka, postgres) = std::thread::scope(|scope| {
            let (ground, advertised) = (&ground, Some(kafka_line.address));
            let kafka = scope.spawn(move || Kafka::start(ground.folder("kafka"), advertised));
            let postgres = Postgres::start(ground.folder("postgres"), &[]);
            (kafka.join().expect("the broker starts"), postgres)
        });
        kafka_line.lead_to(End::Port(kafka.listener()));
        let straight = postgres.options();
        let servers = Some(Servers { postgres, kafka, kafka_line });
        let mut system = Self {
            roles: Vec::new(),
            servers,
            clients: Vec::new(),
            deleted: Arc::default(),
            straight,
            ground,
        };
        let topics = system.start_role("topics", &["topics", "apply"]).await;
        assert!(topics.process.finish(), "the topics are made");
        for (name, arguments) in ROLES {
            let role = system.start_role(name, arguments).await;
            system.add(role).await;
        }
        system.come_up().await;
        system
    }

    /// One process with a private server.
    pub async fn embedded() -> Self {
        let ground = Ground::new();
        let data = ground.folder("private").join("data");
        let straight = PgConnectOptions::new_without_pgpass()
            .socket(data.join("postgres/run"))
            .port(5432)
            .username("insight")
            .database("insight");
        let mut system = Self {
            roles: Vec::new(),
            servers: None,
            clients: Vec::new(),
            deleted: Arc::default(),
            straight,
            ground,
        };
        let data = data.display().to_string();
        let role = system.start_role("all", &["all", "--data-dir", &data]).await;
        system.add(role).await;
        system.come_up().await;
        system
    }

    async fn add(&mut self, role: Role) {
        if let Some(address) = role.listens_at {
            self.clients.push(Line::to(End::Port(address)).await);
        }
        self.roles.push(role);
    }

    /// One more process in the group of the projectors.
    pub async fn guest(&self, number: usize) -> Role {
        self.start_role(&format!("guest-{number}"), GUEST).await
    }

    /// A process with a line of its own to PostgreSQL.
    pub async fn start_role(&self, name: &str, arguments: &[&str]) -> Role {
        let mut environment = RISK.map(|(name, value)| (name, value.to_owned())).to_vec();
        let mut database = None;
        if let Some(servers) = &self.servers {
            let line = Line::to(End::Socket(servers.postgres.socket())).await;
            environment.push(("DATABASE_URL", format!("postgres://insight@{}/insight", line.address)));
            environment.push(("KAFKA_BROKERS", servers.kafka_line.address.to_string()));
            database = Some(line);
        }
        let listens = ["api", "all"].contains(&arguments[0]);
        let sign = match arguments[0] {
            "api" => ("listening", 1),
            "relay" => ("relay copies", 1),
            "schedule" => ("the scheduler acts", 1),
            "work" => ("working", 1),
            "all" => ("projecting", ALL.len()),
            // One for each read model that it was told; of the consumer of risk, its own.
            role => ("projecting", if role == "project" { arguments.len() - 1 } else { 1 }),
        };
        let listens_at = listens.then(free_address);
        if let Some(address) = listens_at {
            environment.push(("LISTEN_ADDRESS", address.to_string()));
        }
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let process = Process::start(&self.logs(), name, arguments, &environment);
        Role { name: name.to_owned(), process, database, listens_at, sign, started: Instant::now() }
    }

    /// Waits until every role does what it is for.
    pub async fn come_up(&self) {
        let began = Instant::now();
        for role in &self.roles {
            while !role.came_up() && !role.stands_by() {
                assert!(
                    began.elapsed() < COMES_UP_WITHIN,
                    "{} comes up: {}",
                    role.name,
                    role.process.last_words()
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Where the roles' logs are, and their working folder.
    pub fn logs(&self) -> PathBuf {
        self.ground.folder("roles")
    }

    /// Every log, for those who ask why.
    pub fn all_logs(&self) -> Vec<(String, PathBuf)> {
        let role = |role: &Role| (role.name.clone(), self.logs().join(format!("{}.log", role.name)));
        let mut logs: Vec<_> = self.roles.iter().map(role).collect();
        if let Some(servers) = &self.servers {
            logs.push(("postgres".to_owned(), servers.postgres.log()));
            logs.push(("kafka".to_owned(), servers.kafka.log()));
        }
        logs
    }

    /// Where clients go.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.clients.iter().map(|line| line.address).collect()
    }

    /// How to look at the database straight, past every line.
    pub fn straight(&self) -> PgConnectOptions {
        self.straight.clone()
    }

    /// A pool that looks at it straight.
    pub async fn pool(&self) -> PgPool {
        connect(self.straight(), &Session::of("judge")).await.expect("the server is there")
    }

    /// The bus, straight.
    pub fn bus(&self) -> Option<KafkaSettings> {
        let servers = self.servers.as_ref()?;
        Some(KafkaSettings::new(servers.kafka_line.address.to_string()))
    }
}

/// Copies logs to where they outlive the run.
pub fn keep(logs: &[(String, PathBuf)], folder: &Path) {
    let _ = std::fs::create_dir_all(folder);
    for (name, log) in logs {
        let _ = std::fs::copy(log, folder.join(format!("{name}.log")));
    }
}
