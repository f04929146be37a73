//! The PostgreSQL programs that are installed on this machine, and the user who may run them.
//!
//! Debian keeps every major version in a folder of its own and puts none of them on the `PATH`. The server refuses to run as
//! root; then the programs run as the user `postgres`, through `setpriv`, which needs neither su nor PAM.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where Debian and its relatives install: `VERSION/bin` below this.
const INSTALLED: &str = "/usr/lib/postgresql";

/// The oldest major version that will do.
const VERSION_MIN: u32 = 14;

/// Who runs the server when root starts it.
const SERVER_USER: &str = "postgres";

/// Why there are no programs to run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// None installed, or only older ones.
    #[error(
        "PostgreSQL {VERSION_MIN} or newer is not installed (looked in {INSTALLED}/*/bin and PATH): install the package \
         `postgresql`, or set DATABASE_URL to a server that is running"
    )]
    NotInstalled,
    /// A program of clients is missing.
    #[error(
        "{0} is not installed (looked in {INSTALLED}/*/bin and PATH): install the package `postgresql-client`"
    )]
    NoClient(String),
    /// The data folder was made by a version that is gone.
    #[error(
        "the data folder belongs to PostgreSQL {0}, which is not installed any more: install `postgresql-{0}`"
    )]
    VersionGone(u32),
    /// Root needs somebody else to run the server.
    #[error("PostgreSQL does not run as root, and there is no user `{SERVER_USER}` to run it instead")]
    NoServerUser,
    /// A program could not be started at all.
    #[error("cannot run {program}")]
    Run {
        /// Its name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
}

/// One installed version.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    folder: PathBuf,
    /// Set when this process is root: who owns the server's files and runs it.
    server_user: Option<ServerUser>,
}

/// Somebody who is not root.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerUser {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Binaries {
    /// The newest version installed or, for a folder that exists, the `wanted` one.
    pub(super) fn find(wanted: Option<u32>) -> Result<Self, Error> {
        let installed = installed();
        let (_, folder) = match wanted {
            Some(wanted) => installed
                .into_iter()
                .find(|(version, _)| *version == wanted)
                .ok_or(Error::VersionGone(wanted))?,
            // Of two equal ones the last is taken, hence the turn.
            None => {
                installed.into_iter().rev().max_by_key(|(version, _)| *version).ok_or(Error::NotInstalled)?
            }
        };
        Ok(Self { folder, server_user: server_user()? })
    }

    /// Who owns the server's files, if that is not the user of this process.
    pub(super) fn server_user(&self) -> Option<ServerUser> {
        self.server_user
    }

    /// Runs one of the programs to its end, as the right user.
    pub(super) fn run<I>(&self, program: &str, arguments: I) -> Result<Output, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        let path = self.folder.join(program);
        output(self.command(&path).args(arguments), program)
    }

    /// Whether the server's user can enter `folder`, which decides whether it can live there.
    pub(super) fn can_enter(&self, folder: &Path) -> Result<bool, Error> {
        let output = output(self.command(Path::new("test")).arg("-x").arg(folder), "test")?;
        Ok(output.status.success())
    }

    /// Messages in English, because some are matched on; a working folder that everybody may enter; none of the variables
    /// that would lead the programs to another server.
    fn command(&self, program: &Path) -> Command {
        let mut command = match self.server_user {
            None => Command::new(program),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={}", user.uid))
                    .arg(format!("--regid={}", user.gid))
                    .args(["--clear-groups", "--reset-env", "--"])
                    .arg(program);
                command
            }
        };
        for (variable, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(variable);
        }
        command.env("LC_ALL", "C").current_dir("/");
        command
    }
}

/// A program for clients, of the newest version installed, which understands every older server.
pub(super) fn client(program: &str) -> Result<PathBuf, Error> {
    let packaged = packaged().map(|(version, folder)| (version, folder.join(program)));
    let newest = packaged.filter(|(_, path)| path.is_file()).max_by_key(|(version, _)| *version);
    let on_path = || on_path().map(|folder| folder.join(program)).find(|path| path.is_file());
    newest.map(|(_, path)| path).or_else(on_path).ok_or_else(|| Error::NoClient(program.to_owned()))
}

/// Versions as Debian installs them.
fn packaged() -> impl Iterator<Item = (u32, PathBuf)> {
    fs::read_dir(INSTALLED).into_iter().flatten().flatten().filter_map(|entry| {
        let version = entry.file_name().to_str()?.parse().ok()?;
        Some((version, entry.path().join("bin")))
    })
}

fn on_path() -> impl Iterator<Item = PathBuf> {
    env::var_os("PATH").into_iter().flat_map(|path| env::split_paths(&path).collect::<Vec<_>>())
}

/// Every version that will do, with its folder; those of Debian before the one on the `PATH`.
fn installed() -> Vec<(u32, PathBuf)> {
    let on_path = on_path().filter(|folder| folder.join("postgres").is_file()).filter_map(|folder| {
        let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
        Some((major_version(&String::from_utf8_lossy(&output.stdout))?, folder))
    });
    packaged()
        .chain(on_path)
        .filter(|(version, folder)| {
            *version >= VERSION_MIN
                && ["initdb", "pg_ctl", "postgres"].iter().all(|name| folder.join(name).is_file())
        })
        .collect()
}

/// The 15 of `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`, or of the file `PG_VERSION`.
pub(super) fn major_version(text: &str) -> Option<u32> {
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn server_user() -> Result<Option<ServerUser>, Error> {
    if id(&["-u"])? != Some(0) {
        return Ok(None);
    }
    match (id(&["-u", SERVER_USER])?, id(&["-g", SERVER_USER])?) {
        (Some(uid), Some(gid)) => Ok(Some(ServerUser { uid, gid })),
        _ => Err(Error::NoServerUser),
    }
}

/// What `id` answers; `None` for a user who does not exist.
fn id(arguments: &[&str]) -> Result<Option<u32>, Error> {
    let output = output(Command::new("id").args(arguments), "id")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
}

fn output(command: &mut Command, program: &str) -> Result<Output, Error> {
    command.output().map_err(|source| Error::Run { program: program.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_the_server_says() {
        assert_eq!(major_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_version("15\n"), Some(15));
        assert_eq!(major_version("something else"), None);
    }
}
