//! A private PostgreSQL server that lives in the data folder.
//!
//! Started from the programs that are installed, never downloaded. It listens on a Unix socket that only its own user can
//! reach, on no TCP port, and asks for no password. It does not die with this process: after a `kill -9` it runs on until the
//! next start, which stops it first, so that no statement of the dead process is still on its way when the new one begins.
//!
//! | step of a start | after a kill at that point, the next start |
//! | --- | --- |
//! | lock the folder | finds it free: the system drops the lock |
//! | `initdb` into `data.new` | throws `data.new` away and begins again |
//! | rename to `data` | finds a whole server folder |
//! | stop a server left over | does the same |
//! | `pg_ctl start` | stops that one, or waits until its shared memory is gone |
//! | create the database | creates it if it is missing |

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

use super::binaries::{self, Binaries};
use super::folder::{self, Folder};

/// The superuser of the server, and the owner of everything.
const USER: &str = "insight";

/// The database everything is in.
const DATABASE: &str = "insight";

/// How long the remains of a killed server (shared memory that its dying children hold) may stand in the way.
const REMAINS_GONE_WITHIN: Duration = Duration::from_secs(20);

/// How long the server may take to recover and start, in seconds. Recovery replays at most `max_wal_size`.
const START_SECONDS: &str = "300";

/// How long it may take to end all sessions and write what it holds in memory, 64 MB at most; and then, to end at once.
const STOP_SECONDS: &str = "20";
const STOP_AT_ONCE_SECONDS: &str = "5";

/// From this size on, the log of the last run is set aside at the next start.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// The file of our settings. `initdb` writes `postgresql.conf` with what it found to work on this machine (the kind of shared
/// memory, above all), so that stays, and includes ours at its end.
const SETTINGS_FILE: &str = "insight.conf";

/// Written at every start, so that a newer program brings its own settings.
const SETTINGS: &str = "\
# Written by Portfolio Insight at every start. Settings of your own belong into local.conf beside this file.
listen_addresses = ''
port = 5432
unix_socket_permissions = 0700
max_connections = 100

# Durable: what was acknowledged survives a power cut.
fsync = on
synchronous_commit = on
full_page_writes = on
wal_level = replica
max_wal_size = 1GB
min_wal_size = 160MB
checkpoint_timeout = 15min

# Modest: it shares the machine with the program, and often with its user.
shared_buffers = 64MB
work_mem = 8MB
maintenance_work_mem = 64MB
effective_cache_size = 512MB
max_parallel_workers_per_gather = 1
jit = off
random_page_cost = 1.1

timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
log_line_prefix = '%m [%p] %a '
log_min_duration_statement = 1s
log_checkpoints = off
";

/// Only the socket, which only the server's own user and root can reach.
const ACCESS: &str = "\
# Written by Portfolio Insight at every start.
local all all trust
";

/// Why the server is not running.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] folder::Error),
    /// The programs cannot be used.
    #[error(transparent)]
    Binaries(#[from] binaries::Error),
    /// `initdb` failed.
    #[error("cannot make a PostgreSQL folder in {folder}: {message}")]
    Init {
        /// The data folder.
        folder: PathBuf,
        /// The last line of what it said.
        message: String,
    },
    /// `pg_ctl start` failed.
    #[error("PostgreSQL did not start: {message} (more in {log})")]
    Start {
        /// The last complaint in the log.
        message: String,
        /// The log.
        log: PathBuf,
    },
    /// `pg_ctl stop` failed, twice.
    #[error("PostgreSQL did not stop: {0}")]
    Stop(String),
    /// A file could not be read or written.
    #[error("cannot write {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server runs, but the database could not be created.
    #[error("cannot create the database {DATABASE}")]
    Database(#[source] sqlx::Error),
    /// The server has ended by itself.
    #[error("the private PostgreSQL has ended by itself; its log in the data folder says why")]
    Ended,
    /// The runtime is going down.
    #[error("starting or stopping PostgreSQL was interrupted")]
    Interrupted,
}

/// How often a running server is looked after.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// A running server. Stopped by [`stop`](Self::stop) or, at the latest, when it is dropped; the folder is free after that.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    server: Server,
    options: PgConnectOptions,
}

impl EmbeddedPostgres {
    /// Starts the server of `data_folder`, which is made if it is missing, and creates the database in it.
    ///
    /// # Errors
    /// Each is one line that says what to do: a folder in use, of a newer format, not ours or not enterable; no programs; a
    /// server that does not start.
    pub async fn start(data_folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let data_folder = data_folder.into();
        let server = blocking(move || Server::start(&data_folder)).await?;
        let options = options_at(server.folder.socket());
        let embedded = Self { server, options };
        super::create_database(&embedded.options).await.map_err(Error::Database)?;
        Ok(embedded)
    }

    /// How to connect to the server that another process runs in `data_folder`: for a look beside it.
    pub fn options_of_running(data_folder: &Path) -> PgConnectOptions {
        let root = data_folder.canonicalize().unwrap_or_else(|_| data_folder.to_owned());
        options_at(folder::socket_of(&root))
    }

    /// How to connect, for [`connect`](super::connect).
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Ends with an error when the server does, though nobody has stopped it: killed, or out of memory. Starting the process
    /// again starts it again.
    pub fn watch(&self, stop: CancellationToken) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let pid_file = self.server.folder.data().join("postmaster.pid");
        let pid = fs::read_to_string(&pid_file)
            .ok()
            .and_then(|text| text.lines().next()?.trim().parse::<u32>().ok());
        async move {
            loop {
                if stop.run_until_cancelled(tokio::time::sleep(WATCH_EVERY)).await.is_none() {
                    return Ok(());
                }
                if !pid.is_some_and(is_alive) {
                    return Err(Error::Ended);
                }
            }
        }
    }

    /// Ends all sessions and stops the server; what was committed is on disk anyway.
    ///
    /// # Errors
    /// A server that cannot be stopped; the next start will try again.
    pub async fn stop(self) -> Result<(), Error> {
        blocking(move || self.server.stop()).await
    }
}

fn options_at(socket: PathBuf) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass().socket(socket).port(5432).username(USER).database(DATABASE)
}

/// Whether there is such a process that is more than an entry in a table.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// Starting and stopping wait for other programs, so they leave the runtime. Once begun they go on to their end, even if the
/// caller stops waiting; a server nobody waits for any more is dropped, and thereby stopped.
async fn blocking<T, F>(work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Error> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Interrupted)?
}

/// The server's programs and its folder, which stays locked as long as this exists.
#[derive(Debug)]
struct Server {
    binaries: Binaries,
    folder: Folder,
}

impl Server {
    fn start(data_folder: &Path) -> Result<Self, Error> {
        let folder = Folder::open(data_folder)?;
        let binaries = Binaries::find(folder.server_version())?;
        if !binaries.can_enter(folder.root())? {
            return Err(folder::Error::NotEnterable { folder: folder.root().to_owned() }.into());
        }
        let user = binaries.server_user();
        folder.make_server_folder(user)?;
        let server = Self { binaries, folder };
        if server.folder.server_version().is_none() {
            server.init()?;
        }
        server.stop()?;
        server.folder.make_socket_folder(user)?;
        server.configure()?;
        server.launch()?;
        Ok(server)
    }

    /// Makes the server's folder under another name first: what an interrupted `initdb` leaves must not look finished.
    fn init(&self) -> Result<(), Error> {
        let (new, data) = (self.folder.data_new(), self.folder.data());
        if new.exists() {
            fs::remove_dir_all(&new).map_err(at(&new))?;
        }
        tracing::info!(folder = %self.folder.root().display(), "making a private PostgreSQL server");
        let output = self.binaries.run(
            "initdb",
            ["--pgdata".as_ref(), new.as_os_str(), "--username".as_ref(), USER.as_ref()]
                .into_iter()
                .chain(["--encoding=UTF8", "--no-locale", "--auth=trust"].map(AsRef::as_ref)),
        )?;
        if !output.status.success() {
            return Err(Error::Init { folder: self.folder.root().to_owned(), message: last_line(&output) });
        }
        let own = new.join("postgresql.conf");
        let include = format!("\ninclude = '{SETTINGS_FILE}'\n");
        OpenOptions::new()
            .append(true)
            .open(&own)
            .and_then(|mut file| file.write_all(include.as_bytes()))
            .map_err(at(&own))?;
        fs::rename(&new, &data).map_err(at(&data))
    }

    fn configure(&self) -> Result<(), Error> {
        let data = self.folder.data();
        let socket = self.folder.socket().display().to_string().replace('\'', "''");
        let settings =
            format!("{SETTINGS}unix_socket_directories = '{socket}'\ninclude_if_exists = 'local.conf'\n");
        for (name, text) in [(SETTINGS_FILE, settings.as_str()), ("pg_hba.conf", ACCESS)] {
            let path = data.join(name);
            fs::write(&path, text).map_err(at(&path))?;
        }
        let log = self.folder.log();
        if log.metadata().is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
            fs::rename(&log, log.with_extension("log.1")).map_err(at(&log))?;
        }
        Ok(())
    }

    /// Starts the server and waits until it takes connections; again, while what stands in the way is going away by itself.
    fn launch(&self) -> Result<(), Error> {
        let give_up = Instant::now() + REMAINS_GONE_WITHIN;
        let log = self.folder.log();
        loop {
            let log_before = log.metadata().map_or(0, |log| log.len());
            let output = self.control("start", &["--timeout", START_SECONDS, "--log"], Some(&log))?;
            if output.status.success() {
                return Ok(());
            }
            let said = text_from(&log, log_before);
            let remains = ["shared memory block", "lock file"].iter().any(|reason| said.contains(reason));
            if !remains || Instant::now() > give_up {
                let complaint = said.lines().rev().find(|line| line.contains("FATAL:"));
                let message = complaint.map_or_else(|| last_line(&output), ToOwned::to_owned);
                return Err(Error::Start { message, log });
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Stops the server of this folder if one is running, ours or that of a process that was killed.
    fn stop(&self) -> Result<(), Error> {
        let data = self.folder.data();
        let lock = data.join("postmaster.pid");
        if !lock.exists() {
            return Ok(());
        }
        if belongs_to_another_process(&lock, &data) {
            return fs::remove_file(&lock).map_err(at(&lock));
        }
        if !self.control("status", &[], None)?.status.success() {
            return Ok(());
        }
        let fast = self.control("stop", &["--mode=fast", "--timeout", STOP_SECONDS], None)?;
        if fast.status.success() {
            return Ok(());
        }
        // A client that the server cannot get rid of, or a server that is not well: recovery at the next start mends it.
        let immediate =
            self.control("stop", &["--mode=immediate", "--timeout", STOP_AT_ONCE_SECONDS], None)?;
        if immediate.status.success() { Ok(()) } else { Err(Error::Stop(last_line(&immediate))) }
    }

    fn control(&self, action: &str, options: &[&str], last: Option<&Path>) -> Result<Output, Error> {
        let data = self.folder.data();
        let arguments = [action.as_ref(), "--wait".as_ref(), "--pgdata".as_ref(), data.as_os_str()];
        let options = options.iter().map(AsRef::as_ref).chain(last.map(Path::as_os_str));
        Ok(self.binaries.run("pg_ctl", arguments.into_iter().chain(options))?)
    }
}

impl Drop for Server {
    /// For an owner who forgot, a start that nobody waited for, and one that failed half-way. After a stop it does nothing.
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "the private PostgreSQL server is left running");
        }
        let socket = self.folder.socket();
        if !socket.starts_with(self.folder.root()) {
            // Empty unless the server still runs, and then it stays.
            let _ = fs::remove_dir(socket);
        }
    }
}

/// After a crash of the machine the number in the lock file may be another process by now, which PostgreSQL would take for a
/// running server and refuse for ever. A server's working folder is its data folder; where there is no /proc, believe it.
fn belongs_to_another_process(lock: &Path, data: &Path) -> bool {
    let text = fs::read_to_string(lock).unwrap_or_default();
    let Some(process) = text.lines().next().and_then(|line| line.trim().parse::<u32>().ok()) else {
        return false;
    };
    fs::read_link(format!("/proc/{process}/cwd")).is_ok_and(|folder| folder != data)
}

/// What was added to a log since it had `from` bytes.
fn text_from(log: &Path, from: u64) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
    String::from_utf8_lossy(&bytes[from..]).into_owned()
}

/// The last thing a program said, its complaints before its chatter.
fn last_line(output: &Output) -> String {
    let texts = [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let line = texts.iter().find_map(|text| text.lines().rev().find(|line| !line.trim().is_empty()));
    line.map_or_else(|| format!("it ended with {}", output.status), |line| line.trim().to_owned())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}
