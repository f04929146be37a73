//! A dump of a whole database into a file, by the `pg_dump` that is installed.
//!
//! The file is in PostgreSQL's own form (`pg_restore` reads it) and of one moment, however long it takes. What was written
//! is durable when this returns; a dump that was begun and not finished has a name that says so, and goes.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tokio::process::Command;

use super::binaries::{self, client};

/// How long it may wait for a table that somebody is changing.
const LOCK_WAIT: &str = "--lock-wait-timeout=60000";
/// What an unfinished dump ends with.
const UNFINISHED: &str = "part";

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No `pg_dump`.
    #[error(transparent)]
    Binaries(#[from] binaries::Error),
    /// The folder cannot be written.
    #[error("cannot write {path}: {source}")]
    Io {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `pg_dump` gave up.
    #[error("pg_dump: {0}")]
    Failed(String),
}

/// Dumps the database that `options` name into `file`, which is there when it is whole, and not before. Returns its bytes.
/// `unique` tells this try from others at the same file. Dropping the future ends `pg_dump` and removes what it has written.
///
/// # Errors
/// [`Error`]; nothing of it is left then.
pub async fn dump(options: &PgConnectOptions, file: &Path, unique: &str) -> Result<u64, Error> {
    let mut unfinished = file.as_os_str().to_owned();
    unfinished.push(format!(".{unique}.{UNFINISHED}"));
    let unfinished = Unfinished(PathBuf::from(unfinished));
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { path, source }
    };
    let output = create(&unfinished.0).map_err(at(&unfinished.0))?;
    let copy = output.try_clone().map_err(at(&unfinished.0))?;
    let mut command = Command::new(client("pg_dump")?);
    command.args(["--format=custom", "--no-password", LOCK_WAIT]);
    connect_as(&mut command, options);
    let child = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| binaries::Error::Run { program: "pg_dump".into(), source })?;
    let ended = child.wait_with_output().await.map_err(at(&unfinished.0))?;
    if !ended.status.success() {
        return Err(Error::Failed(complaint(&ended.stderr)));
    }
    let (part, whole) = (unfinished.0.clone(), file.to_owned());
    let bytes = tokio::task::spawn_blocking(move || {
        copy.sync_all()?;
        fs::rename(&part, &whole)?;
        // The name is durable with its folder.
        if let Some(folder) = whole.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(copy.metadata()?.len())
    });
    let bytes = bytes.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    bytes.map_err(at(file))
}

/// A new file that nobody else can read, whatever the process lets others do with its files.
fn create(file: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)
}

/// Whether a file is what an attempt that was killed has left.
pub fn is_unfinished(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == UNFINISHED)
}

/// Goes unless it was given its name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is not there any more when all went well.
        let _ = fs::remove_file(&self.0);
    }
}

/// Where to and as whom, in the environment: arguments are shown to everybody, and a password may be among it.
fn connect_as(command: &mut Command, options: &PgConnectOptions) {
    for (variable, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
        command.env_remove(variable);
    }
    let host = match options.get_socket() {
        Some(folder) => folder.display().to_string(),
        None => options.get_host().to_owned(),
    };
    command
        .env("PGHOST", host)
        .env("PGPORT", options.get_port().to_string())
        .env("PGUSER", options.get_username())
        .env("PGDATABASE", options.get_database().unwrap_or(options.get_username()))
        .env("PGAPPNAME", "insight backup")
        .env("PGCONNECT_TIMEOUT", "10")
        .env("LC_ALL", "C");
    // The options tell neither a password nor certificates in another way.
    let url = options.to_url_lossy();
    if let Some(password) = url.password() {
        command.env("PGPASSWORD", decoded(password));
    }
    for (name, value) in url.query_pairs() {
        let variable = match &*name {
            "sslmode" => "PGSSLMODE",
            "sslrootcert" => "PGSSLROOTCERT",
            "sslcert" => "PGSSLCERT",
            "sslkey" => "PGSSLKEY",
            _ => continue,
        };
        command.env(variable, &*value);
    }
}

/// `%41` as `A`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The line that says why: the last one that is an error, without the name of the program.
fn complaint(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let line = said.lines().find(|line| line.contains("error:")).or_else(|| said.lines().last());
    let line = line.unwrap_or("it ended without a word");
    line.trim_start_matches("pg_dump: ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::postgres::options;

    #[test]
    fn a_dump_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = create(&folder.path().join("x.part")).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_password_goes_into_the_environment_as_it_is() {
        let mut command = Command::new("true");
        connect_as(
            &mut command,
            &options("postgres://me:p%40s%25s%2F%C3%A9@h:5433/d?sslmode=require").unwrap(),
        );
        let set = |name: &str| {
            let mut all = command.as_std().get_envs();
            all.find(|(key, _)| *key == name).and_then(|(_, value)| Some(value?.to_str()?.to_owned()))
        };
        assert_eq!(set("PGPASSWORD").as_deref(), Some("p@s%s/é"));
        assert_eq!(set("PGHOST").as_deref(), Some("h"));
        assert_eq!(set("PGPORT").as_deref(), Some("5433"));
        assert_eq!(set("PGSSLMODE").as_deref(), Some("require"));
        assert_eq!(set("PGDATABASE").as_deref(), Some("d"));
    }

    #[test]
    fn of_what_pg_dump_says_the_reason_is_told() {
        let said = b"pg_dump: warning: hm\npg_dump: error: aborting because of server version mismatch\npg_dump: detail: x";
        assert_eq!(complaint(said), "aborting because of server version mismatch");
        assert_eq!(complaint(b""), "it ended without a word");
    }
}
