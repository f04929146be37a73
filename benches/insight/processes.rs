//! The program under test as child processes, and the private PostgreSQL below it. All of it goes when its row ends.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use insight::postgres::EmbeddedPostgres;
use sqlx::postgres::{PgConnectOptions, PgPool};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::http::Connection;
use crate::machine::Cpu;

const READY_WITHIN: Duration = Duration::from_secs(60);
const ENDS_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);
/// All that a process gets of our environment.
const KEPT_VARIABLES: [&str; 3] = ["PATH", "HOME", "TMPDIR"];
/// What a service manager sends.
const TERMINATE: &str = "-TERM";

/// A folder that a server running as another user can enter.
fn temporary_folder() -> anyhow::Result<TempDir> {
    let permissions = Permissions::from_mode(0o755);
    let folder = tempfile::Builder::new().prefix("insight-bench-").permissions(permissions).tempdir();
    folder.context("no temporary folder")
}

/// A private server without the program: for rows that use the library, or roles apart.
pub struct Database {
    server: EmbeddedPostgres,
    folder: TempDir,
}

impl Database {
    /// An empty database on a new server with `fsync` on.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = temporary_folder()?;
        let server = EmbeddedPostgres::start(folder.path()).await.context("PostgreSQL did not start")?;
        Ok(Self { server, folder })
    }

    /// How to connect.
    pub fn options(&self) -> PgConnectOptions {
        self.server.options()
    }

    /// A few connections for the row itself.
    pub async fn pool(&self) -> anyhow::Result<PgPool> {
        PgPool::connect_with(self.options()).await.context("cannot connect")
    }

    /// The address as a role takes it.
    pub fn url(&self) -> String {
        let options = self.options();
        let socket = options.get_socket().map(|socket| socket.display().to_string()).unwrap_or_default();
        let (user, database) = (options.get_username(), options.get_database().unwrap_or_default());
        format!("postgres://{user}@localhost:{}/{database}?host={socket}", options.get_port())
    }

    /// The server's process.
    pub fn postmaster(&self) -> Option<u32> {
        postmaster_of(self.folder.path())
    }

    /// Stops it.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.server.stop().await.context("PostgreSQL did not stop")
    }
}

/// The process of the private server in a data folder.
fn postmaster_of(data_folder: &Path) -> Option<u32> {
    let lock = fs::read_to_string(data_folder.join("postgres/data/postmaster.pid")).ok()?;
    lock.lines().next()?.trim().parse().ok()
}

/// Where a program's data is.
pub enum Data<'a> {
    /// On a private server of its own in this folder.
    Embedded(&'a Path),
    /// On this one.
    At(&'a Database),
}

/// A folder for [`Data::Embedded`].
pub fn data_folder() -> anyhow::Result<TempDir> {
    temporary_folder()
}

/// A running `insight`.
pub struct Program {
    child: Child,
    /// Where it listens, if it does.
    pub port: u16,
    /// What it said.
    log: PathBuf,
    data_folder: Option<PathBuf>,
    /// How long it took until it said that it was ready.
    pub ready_after: Duration,
}

impl Program {
    /// Starts `insight ROLE…`, listening, and waits until it says that it is ready.
    pub async fn serve(role: &[&str], data: Data<'_>) -> anyhow::Result<Self> {
        let port = free_port()?;
        let address = format!("127.0.0.1:{port}");
        let since = Instant::now();
        let mut program = Self::spawn(role, &["--listen-address", &address], data, port)?;
        loop {
            if let Some(status) = program.child.try_wait()? {
                bail!("insight {} ended with {status}: {}", role.join(" "), program.last_words());
            }
            if is_ready(port).await {
                program.ready_after = since.elapsed();
                return Ok(program);
            }
            if since.elapsed() > READY_WITHIN {
                bail!("insight {} is not ready: {}", role.join(" "), program.last_words());
            }
            sleep(POLL).await;
        }
    }

    /// Starts `insight ROLE…` without waiting for anything.
    pub fn run(role: &[&str], data: Data<'_>) -> anyhow::Result<Self> {
        Self::spawn(role, &[], data, 0)
    }

    fn spawn(role: &[&str], flags: &[&str], data: Data<'_>, port: u16) -> anyhow::Result<Self> {
        let logs = std::env::temp_dir();
        let log = logs.join(format!("insight-bench-{}-{}.log", std::process::id(), role.join("-")));
        let mut command = Command::new(env!("CARGO_BIN_EXE_insight"));
        // Settings of the machine must not decide what is measured.
        command
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| KEPT_VARIABLES.contains(&name.as_str())));
        command.args(role).args(flags).stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let data_folder = match data {
            Data::Embedded(folder) => {
                command.arg("--data-dir").arg(folder);
                Some(folder.to_owned())
            }
            Data::At(database) => {
                command.env("DATABASE_URL", database.url());
                None
            }
        };
        let child = command.kill_on_drop(true).spawn().context("cannot start insight")?;
        Ok(Self { child, port, log, data_folder, ready_after: Duration::ZERO })
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// CPU used so far by us, by it, and by the server below it.
    pub fn cpu(&self, database: Option<&Database>) -> Cpu {
        let embedded = self.data_folder.as_deref().and_then(postmaster_of);
        Cpu::so_far(&[self.id()], embedded.or_else(|| database.and_then(Database::postmaster)))
    }

    /// Waits until it ends by itself.
    pub async fn wait(mut self) -> anyhow::Result<()> {
        let status = self.child.wait().await?;
        if !status.success() {
            bail!("it ended with {status}: {}", self.last_words());
        }
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let id = self.id().to_string();
        Command::new("kill").args([TERMINATE, &id]).status().await.context("cannot signal")?;
        match tokio::time::timeout(ENDS_WITHIN, self.child.wait()).await {
            Ok(status) => drop(status?),
            Err(_) => bail!("it did not end within {ENDS_WITHIN:?}: {}", self.last_words()),
        }
        // Kept only where somebody will want to read it.
        let _ = fs::remove_file(&self.log);
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(3).collect();
        last.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}

async fn is_ready(port: u16) -> bool {
    let Ok(mut connection) = Connection::open(port).await else { return false };
    connection.get("/readyz").await.is_ok_and(|answer| answer.status == 200)
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
