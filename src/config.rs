//! Every setting, once: its flag, environment variable, default and meaning. `insight --help` is made from this.

use std::net::SocketAddr;
use std::path::PathBuf;

use chrono::NaiveDate;
use clap::{Args, ValueEnum};

/// Settings that every subcommand takes, before or behind its name.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Where PostgreSQL and the files of the embedded form are.
    #[command(flatten)]
    pub storage: Storage,
    /// The bus of the distributed form.
    #[command(flatten)]
    pub bus: Bus,
    /// The face.
    #[command(flatten)]
    pub http: Http,
    /// Bounds of the write side.
    #[command(flatten)]
    pub writing: Writing,
    /// Bounds of the read side.
    #[command(flatten)]
    pub reading: Reading,
    /// The risk engine.
    #[command(flatten)]
    pub risk: Risk,
    /// Scheduled work.
    #[command(flatten)]
    pub jobs: Jobs,
    /// Prices from outside.
    #[command(flatten)]
    pub market_data: MarketData,
    /// Logs.
    #[command(flatten)]
    pub logs: Logs,
}

/// Where the data is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Storage")]
pub struct Storage {
    /// PostgreSQL 14 or newer, as postgres://user:password@host:5432/database. Without it, a private server is
    /// started in the data folder
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true, value_name = "URL")]
    pub database_url: Option<String>,

    /// Folder of the private PostgreSQL server [default: $XDG_DATA_HOME/portfolio-insight, or
    /// ~/.local/share/portfolio-insight]
    #[arg(long, env = "DATA_DIR", global = true, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,

    /// Connections that a process opens at most, for each of its pools
    #[arg(long, env = "POOL_SIZE", default_value_t = 10, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=500))]
    pub pool_size: u32,
}

impl Storage {
    /// The data folder: as told, or the user's.
    pub fn data_folder(&self) -> PathBuf {
        if let Some(folder) = &self.data_dir {
            return folder.clone();
        }
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        set("XDG_DATA_HOME")
            .or_else(|| set("HOME").map(|home| home.join(".local/share")))
            .unwrap_or_else(|| PathBuf::from("/var/lib"))
            .join("portfolio-insight")
    }
}

/// The bus.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Kafka")]
pub struct Bus {
    /// Bootstrap servers, as host:9092,host:9092. Without them, processes read the log from PostgreSQL
    #[arg(long, env = "KAFKA_BROKERS", global = true, value_name = "LIST")]
    pub kafka_brokers: Option<String>,

    /// Put before the name of every topic and group, so that installations can share a broker
    #[arg(long, env = "KAFKA_TOPIC_PREFIX", default_value = "", global = true, value_name = "TEXT")]
    pub kafka_topic_prefix: String,
}

/// The face.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "HTTP")]
pub struct Http {
    /// Where the API listens. There are no access keys yet: whoever reaches it may do everything
    #[arg(
        long,
        env = "LISTEN_ADDRESS",
        default_value = "127.0.0.1:8080",
        global = true,
        value_name = "HOST:PORT"
    )]
    pub listen_address: SocketAddr,

    /// Connections that may be open at once; what is asked on one more is answered 503 with Retry-After
    #[arg(long, env = "CONNECTIONS_MAX", default_value_t = 4096, global = true, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub connections_max: usize,

    /// Clients that may follow the log at once (GET /v1/events as server-sent events); one more is answered 503 with
    /// Retry-After
    #[arg(long, env = "EVENT_STREAMS_MAX", default_value_t = 256, global = true, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub event_streams_max: usize,

    /// Where this process, whatever its roles, shows /metrics and /healthz and nothing else; the api shows them at
    /// LISTEN_ADDRESS too
    #[arg(long, env = "METRICS_ADDRESS", global = true, value_name = "HOST:PORT")]
    pub metrics_address: Option<SocketAddr>,
}

/// Bounds of the write side.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Commands")]
pub struct Writing {
    /// Commands that may wait for the log; one more is answered 503 with Retry-After
    #[arg(long, env = "QUEUE_MAX", default_value_t = 4096, global = true, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub queue_max: usize,

    /// Streams whose state is remembered between commands, twice over
    #[arg(long, env = "STREAMS_REMEMBERED", default_value_t = 50_000, global = true, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(16..=100_000_000))]
    pub streams_remembered: usize,
}

/// Bounds of the read side.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Projections")]
pub struct Reading {
    /// Events that a projector takes into one transaction at most
    #[arg(long, env = "BATCH_EVENTS_MAX", default_value_t = 4_000, global = true, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub batch_events_max: usize,

    /// Streams that may be parked in a read model before its projector stops
    #[arg(long, env = "PARKED_STREAMS_MAX", default_value_t = 100, global = true, value_name = "N")]
    pub parked_streams_max: usize,
}

/// The risk engine.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Risk")]
pub struct Risk {
    /// Days of returns that a figure rests on
    #[arg(long, env = "RISK_WINDOW", default_value_t = 1_000, global = true, value_name = "DAYS", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(60..=10_000))]
    pub risk_window: usize,

    /// Paths of the Monte Carlo method: 16 times a power of two
    #[arg(long, env = "RISK_PATHS", default_value_t = 16_384, global = true, value_name = "N", value_parser = paths)]
    pub risk_paths: usize,

    /// Degrees of freedom of its Student t distribution, above 2
    #[arg(long, env = "RISK_DEGREES_OF_FREEDOM", default_value_t = 5.0, global = true, value_name = "X", value_parser = degrees_of_freedom)]
    pub risk_degrees_of_freedom: f64,

    /// Seed of its random numbers: the same seed gives the same figures
    #[arg(long, env = "RISK_SEED", default_value_t = 0, global = true, value_name = "N")]
    pub risk_seed: u64,

    /// Threads of the engine; 0 for one a core
    #[arg(long, env = "RISK_THREADS", default_value_t = 0, global = true, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(0..=256))]
    pub risk_threads: usize,
}

/// Scheduled work.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Jobs")]
pub struct Jobs {
    /// Runs that a worker carries out at once
    #[arg(long, env = "WORKER_SLOTS", default_value_t = 2, global = true, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=256))]
    pub worker_slots: usize,

    /// Jobs to be there, a TOML file; the role `insight schedule` defines what is missing and changes what differs
    #[arg(long, env = "JOBS_FILE", global = true, value_name = "FILE")]
    pub jobs_file: Option<PathBuf>,

    /// Folder of the backups that jobs make [default: backups, below the data folder, where there is one]
    #[arg(long, env = "BACKUP_DIR", global = true, value_name = "FOLDER")]
    pub backup_dir: Option<PathBuf>,

    /// Backups that are kept; older ones are removed after a new one
    #[arg(long, env = "BACKUP_KEEP", default_value_t = 7, global = true, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub backup_keep: usize,
}

/// Prices from outside.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Market data")]
pub struct MarketData {
    /// Settings of the sources of prices, a TOML file; none is needed. Keys are never in it: ALPHAVANTAGE_API_KEY, and
    /// what the file names
    #[arg(long, env = "SOURCES_FILE", global = true, value_name = "FILE")]
    pub sources_file: Option<PathBuf>,

    /// Pause between two rounds of the role `insight fetch`
    #[arg(long, env = "FETCH_EVERY", default_value_t = 300, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub fetch_every: u32,
}

/// Logs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs")]
pub struct Logs {
    /// How log lines look; what is logged is said by LOG, for example LOG=debug or LOG=insight=debug,warn
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Size and form of the demo.
#[derive(Debug, Clone, Args)]
#[group(id = "history")]
pub struct Demo {
    /// Investors, with two portfolios each
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub investors: usize,
    /// Assets; those beyond the 20 real stocks are synthetic and say so
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=2_000))]
    pub assets: usize,
    /// What the history is a function of
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// End after the tables instead of serving on
    #[arg(long)]
    pub once: bool,
    /// Print one JSON document instead of the tables
    #[arg(long)]
    pub json: bool,
    /// Roles as separate processes on Kafka; needs DATABASE_URL and KAFKA_BROKERS
    #[arg(long)]
    pub kafka: bool,
}

/// A race of many clients for one holding.
#[derive(Debug, Clone, Args)]
pub struct Race {
    /// Clients at once
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000))]
    pub clients: usize,
    /// Trades of each client
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub trades: usize,
    /// Orders in the queue that workers share; none for 0
    #[arg(long, default_value_t = 400, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(0..=1_000_000))]
    pub orders: usize,
    /// Workers that take orders
    #[arg(long, default_value_t = 8, value_name = "M", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000))]
    pub workers: usize,
    /// What the trades are a function of
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Where
    #[command(flatten)]
    pub at: At,
}

/// Portfolios to try things on.
#[derive(Debug, Clone, Args)]
pub struct Seed {
    /// Investors, with a portfolio each
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    pub investors: usize,
    /// Assets; those beyond the 20 real stocks are synthetic and say so
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=2_000))]
    pub assets: usize,
    /// A portfolio holds 1 to so many assets
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=2_000))]
    pub max_assets_per_portfolio: usize,
    /// What is bought is a function of it
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Where
    #[command(flatten)]
    pub at: At,
}

/// The server that is spoken with, and how it is told.
#[derive(Debug, Clone, Args)]
pub struct At {
    /// A server that runs [default: the one at LISTEN_ADDRESS]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Print one JSON document instead of the table
    #[arg(long)]
    pub json: bool,
}

/// What is fetched.
#[derive(Debug, Clone, Args)]
pub struct Fetch {
    /// Assets, by symbol or id [default: those that somebody holds; of rates every pair]
    #[arg(value_name = "SYMBOL")]
    pub symbols: Vec<String>,
    /// Ask this source [default: the best-ranked one of each asset that is in the settings, else yahoo, for rates ecb]
    #[arg(long, value_name = "S")]
    pub source: Option<String>,
    /// Closes from this day on [default: from a week before the latest known one, else of three months]
    #[arg(long, value_name = "D", value_parser = day)]
    pub since: Option<NaiveDate>,
    /// Ask and judge, but append nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What is verified, and how it is told.
#[derive(Debug, Clone, Args)]
pub struct Verify {
    /// Fold only so many portfolios, or such a share of them, and say what was not checked: for logs of many millions
    #[arg(long, value_name = "N|P%", conflicts_with_all = ["seals", "topic"])]
    pub sample: Option<String>,
    /// Which portfolios a sample is made of; one is drawn and printed unless it is given
    #[arg(long, value_name = "N", requires = "sample")]
    pub seed: Option<u64>,
    /// Only the seals: nothing was altered, inserted or removed. KEPT is a seal that was kept elsewhere, as
    /// POSITION:HEX, or a file with one a line
    #[arg(long, value_name = "KEPT", num_args = 0.., conflicts_with = "topic")]
    pub seals: Option<Vec<String>>,
    /// Only the topics: compare what Kafka holds with the log, record by record
    #[arg(long)]
    pub topic: bool,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

/// Which plans to print, and what is too much.
#[derive(Debug, Clone, Args)]
pub struct Explain {
    /// Statements, such as directory/find_asset, or read models, such as directory [default: all]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Run what only reads, and say what it took
    #[arg(long)]
    pub analyze: bool,
    /// A table with more rows than this is large: nothing may read it in sequence
    #[arg(long, value_name = "ROWS", default_value_t = 10_000)]
    pub large_from: u64,
}

/// Which events to print, and how.
#[derive(Debug, Clone, Args)]
pub struct Replay {
    /// The first event, as a position or epoch:position [default: the first of the log]
    #[arg(long, value_name = "P", value_parser = place)]
    pub from: Option<(Option<i32>, i64)>,
    /// The last event [default: the last of the log]
    #[arg(long, value_name = "P", value_parser = place)]
    pub to: Option<(Option<i32>, i64)>,
    /// Events of this stream only, such as portfolio-019c2d3a-5b7e-7cc1-a0d4-5f3b6c1e2a90
    #[arg(long, value_name = "ID")]
    pub stream: Option<String>,
    /// Events of this type only, such as AssetBought
    #[arg(long, value_name = "TYPE")]
    pub r#type: Option<String>,
    /// CloudEvents 1.0 instead of the log's own form
    #[arg(long)]
    pub cloudevents: bool,
}

/// A day from 1900 on.
fn day(text: &str) -> Result<NaiveDate, String> {
    let day: NaiveDate = text.parse().map_err(|_| "must be a day such as 2026-03-02".to_owned())?;
    let first = NaiveDate::from_ymd_opt(1900, 1, 1).unwrap_or_default();
    if day >= first { Ok(day) } else { Err("is before 1900-01-01".to_owned()) }
}

/// A position from 1 on, perhaps with an epoch before it.
fn place(text: &str) -> Result<(Option<i32>, i64), String> {
    let (epoch, position) = match text.split_once(':') {
        Some((epoch, position)) => (Some(epoch.parse::<i32>()), position),
        None => (None, text),
    };
    let wrong = || "must be a position from 1 on, such as 901 or 1:901".to_owned();
    let epoch = epoch.transpose().map_err(|_| wrong())?;
    match position.parse() {
        Ok(position) if position >= 1 => Ok((epoch, position)),
        _ => Err(wrong()),
    }
}

/// 16 times a power of two, 1,024 to 1,048,576.
fn paths(text: &str) -> Result<usize, String> {
    let paths: usize = text.parse().map_err(|_| "is not a number".to_owned())?;
    let fits = (1_024..=1_048_576).contains(&paths) && paths.is_power_of_two();
    if fits { Ok(paths) } else { Err("must be a power of two from 1024 to 1048576".to_owned()) }
}

/// Above 2, at most 1,000.
fn degrees_of_freedom(text: &str) -> Result<f64, String> {
    let degrees: f64 = text.parse().map_err(|_| "is not a number".to_owned())?;
    let fits = degrees > 2.0 && degrees <= 1_000.0;
    if fits { Ok(degrees) } else { Err("must be above 2 and at most 1000".to_owned()) }
}
