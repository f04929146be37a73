//! A process: settings, the database it stands on, the way it reads the log, and its end.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, bail};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::info;

use super::{Role, api, epoch, project, relay, schedule, scrape, work};
use crate::clock::Clock;
use crate::commands::{self, Commands};
use crate::config::{self, Settings};
use crate::feed::{Source, StoreTail, WindowLimits};
use crate::kafka::{KafkaSettings, topics};
use crate::postgres::{self, EmbeddedPostgres, Session};
use crate::shutdown::{CLOSING, Shutdown};
use crate::telemetry::{self, MetricsHandle};
use crate::{event_store, metrics, projectors};

/// How long a request waits for a connection before it is told to come back: less than a second.
pub(super) const ACQUIRE_WITHIN: Duration = Duration::from_millis(800);

pub(super) struct Process {
    pub settings: Settings,
    pub shutdown: Shutdown,
    pub clock: Clock,
    pub metrics: MetricsHandle,
    pub options: PgConnectOptions,
    pub pool: PgPool,
    source: OnceLock<Source>,
    embedded: Option<EmbeddedPostgres>,
}

impl Process {
    /// Opens the database, or starts the private one, and brings its schemas up to date.
    pub(super) async fn start(
        settings: Settings,
        shutdown: Shutdown,
        roles: &[Role],
    ) -> anyhow::Result<Self> {
        let metrics = telemetry::metrics_recorder(metrics::describe)?;
        scrape::spawn(&settings, &shutdown, &metrics).await?;
        // The api does not need the bus, and must not be kept from starting by it.
        if let Some(kafka) = kafka(&settings).filter(|_| roles.iter().any(|role| *role != Role::Api)) {
            check_topics(&kafka).await?;
        }
        let (options, embedded) = database(&settings).await?;
        let pool = prepare(&options, &settings).await?;
        if let Some(embedded) = &embedded {
            epoch::follow_restore(&pool).await?;
            shutdown.spawn("private PostgreSQL", embedded.watch(shutdown.token()));
        }
        let (clock, source) = (Clock::System, OnceLock::new());
        Ok(Self { settings, shutdown, clock, metrics, options, pool, source, embedded })
    }

    /// Starts roles as tasks of this process.
    pub(super) async fn spawn(&self, roles: &[Role]) -> anyhow::Result<()> {
        for role in roles {
            match role {
                Role::Api => api::spawn(self).await?,
                Role::Relay => relay::spawn(self)?,
                Role::Project(name) => project::spawn(self, name).await?,
                Role::Schedule => schedule::spawn(self)?,
                Role::Work => work::spawn(self).await?,
            }
        }
        Ok(())
    }

    /// How this process reads the log: through Kafka where there is one, else from the store. Opened by the first
    /// role that asks, so that one that reads nothing holds none of the log in memory.
    pub(super) fn source(&self) -> Source {
        let open = || match kafka(&self.settings) {
            Some(kafka) => Source::Kafka(kafka, self.pool.clone()),
            None => Source::Store(StoreTail::start(self.pool.clone(), WindowLimits::default())),
        };
        self.source.get_or_init(open).clone()
    }

    /// A write side for a role of this process. It ends when the guard is dropped, after what the role still had to say.
    pub(super) fn commands(&self, task: &str) -> (Commands, DropGuard) {
        let said = CancellationToken::new();
        let (commands, appending) = Commands::start(
            self.options.clone(),
            self.pool.clone(),
            self.clock.clone(),
            commands::Settings::default(),
            said.clone(),
        );
        self.shutdown.spawn(task, appending);
        (commands, said.drop_guard())
    }

    /// Whether this process has a private server, and nobody else its database.
    pub(super) fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Closes what is left when every task has ended.
    pub(super) async fn close(self) {
        close(&self.pool).await;
        if let Some(embedded) = self.embedded
            && let Err(error) = embedded.stop().await
        {
            tracing::warn!(%error, "the private PostgreSQL did not stop; the next start sees to it");
        }
    }
}

/// Closes the connections of a pool. A server that is frozen keeps them: the process ends without.
pub(super) async fn close(pool: &PgPool) {
    let _ = tokio::time::timeout(CLOSING, pool.close()).await;
}

/// How to reach the database: as told, or by starting the private one.
pub(super) async fn database(
    settings: &Settings,
) -> anyhow::Result<(PgConnectOptions, Option<EmbeddedPostgres>)> {
    if let Some(url) = &settings.storage.database_url {
        return Ok((postgres::options(url)?, None));
    }
    let folder = settings.storage.data_folder();
    info!(folder = %folder.display(), "starting the private PostgreSQL");
    let embedded = EmbeddedPostgres::start(folder).await?;
    Ok((embedded.options(), Some(embedded)))
}

/// A pool on a database whose schemas are those of this program.
pub(super) async fn prepare(options: &PgConnectOptions, settings: &Settings) -> anyhow::Result<PgPool> {
    let pool = connect(options, settings).await?;
    projectors::schema::apply_all(&pool).await?;
    Ok(pool)
}

/// A pool on a database whose log is that of this program.
pub(super) async fn connect(options: &PgConnectOptions, settings: &Settings) -> anyhow::Result<PgPool> {
    let session = Session {
        connections_max: settings.storage.pool_size,
        acquire_timeout: ACQUIRE_WITHIN,
        ..Session::of(name())
    };
    let pool = postgres::connect(options.clone(), &session).await?;
    event_store::schema::apply(&pool).await?;
    Ok(pool)
}

/// What this process is called where others see it: in PostgreSQL's list of sessions, among the members of a group.
pub(super) fn name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // PostgreSQL cuts names off; the number is what tells two processes apart, so it stands first.
    let host: String = host.trim().chars().take(40).collect();
    format!("insight/{}@{host}", std::process::id())
}

/// The bus, if there is one.
pub(super) fn kafka(settings: &Settings) -> Option<KafkaSettings> {
    let brokers = settings.bus.kafka_brokers.as_deref().filter(|brokers| !brokers.is_empty())?;
    let prefix = settings.bus.kafka_topic_prefix.as_str().into();
    Some(KafkaSettings { prefix, client_id: name().into(), ..KafkaSettings::new(brokers) })
}

/// A broker that is away later is waited for; one that was never there, or without our topics, is a mistake.
pub(super) async fn check_topics(kafka: &KafkaSettings) -> anyhow::Result<()> {
    for topic in topics::describe(kafka).await? {
        let declared = topic.wanted();
        match topic.partitions {
            Some(found) if found == declared => {}
            Some(found) => bail!("topic {} has {found} partitions, {declared} are declared", topic.name),
            None => bail!("topic {} is missing: run insight topics apply", topic.name),
        }
    }
    Ok(())
}

/// The bus, which this verb cannot do without.
pub(super) fn need_kafka(settings: &Settings) -> anyhow::Result<KafkaSettings> {
    kafka(settings).context("KAFKA_BROKERS is not set, and this is about Kafka")
}

pub(super) fn log_format(settings: &Settings) -> telemetry::LogFormat {
    match settings.logs.log_format {
        config::LogFormat::Text => telemetry::LogFormat::Text,
        config::LogFormat::Json => telemetry::LogFormat::Json,
    }
}
