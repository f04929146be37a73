//! The data folder of the embedded form: what lies where, whose it is, and who is using it.
//!
//! ```text
//! insight.lock       locked by the process that uses the folder; its text says who that is
//! format             version of this layout; a newer one is refused, so that an old program spoils nothing
//! postgres/          owned by the server's user, mode 0700
//!   data/            the server's own folder; made as data.new and renamed, so that it is whole or absent
//!   run/             the Unix socket
//!   server.log       what the server says; the one before it is server.log.1
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::binaries::{ServerUser, major_version};

/// The layout that this program makes and understands. Raised when an older program could not use the folder any more.
const FORMAT: u32 = 1;

/// What stands before the number in the format file, for people who look.
const FORMAT_TEXT: &str = "portfolio insight data folder, format";

/// The name of the socket: the server's port is part of it, although there is no port.
const SOCKET: &str = ".s.PGSQL.5432";

/// The longest path of a Unix socket, in bytes.
const SOCKET_PATH_MAX: usize = 107;

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it.
    #[error("the data folder {folder} is in use by {holder}")]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// What the lock file says.
        holder: String,
    },
    /// A newer program made or changed it.
    #[error(
        "the data folder {folder} has format {found}, but this program knows only formats up to {FORMAT}: use a newer one"
    )]
    Newer {
        /// The folder.
        folder: PathBuf,
        /// Its format.
        found: u32,
    },
    /// There are files, but none that say it is ours.
    #[error("{folder} is neither empty nor a data folder of Portfolio Insight")]
    Foreign {
        /// The folder.
        folder: PathBuf,
    },
    /// The server's user may not go there.
    #[error(
        "the user who runs PostgreSQL may not enter the data folder {folder}: as root, choose one that everybody may enter, \
         such as /var/lib/portfolio-insight"
    )]
    NotEnterable {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder for the socket is there, and it is not ours alone.
    #[error(
        "{folder} is needed for a socket, but it belongs to somebody else or is open to others: remove it"
    )]
    SocketFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// The system said no.
    #[error("cannot use {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A data folder that belongs to this process until it is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    /// Holds the lock. Closed by the system however the process ends; the server does not inherit it.
    _lock: File,
}

impl Folder {
    /// Takes the folder for this process, making it if it is not there.
    pub(super) fn open(root: &Path) -> Result<Self, Error> {
        fs::create_dir_all(root).map_err(at(root))?;
        let root = root.canonicalize().map_err(at(root))?;
        let lock = lock(&root)?;
        check_format(&root)?;
        Ok(Self { root, _lock: lock })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn server(&self) -> PathBuf {
        self.root.join("postgres")
    }

    pub(super) fn data(&self) -> PathBuf {
        self.server().join("data")
    }

    /// Where a new server folder is made before it gets its name.
    pub(super) fn data_new(&self) -> PathBuf {
        self.server().join("data.new")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.server().join("server.log")
    }

    /// The major version that made the server's folder; `None` before there is one.
    pub(super) fn server_version(&self) -> Option<u32> {
        major_version(&fs::read_to_string(self.data().join("PG_VERSION")).ok()?)
    }

    /// Makes the server's part, owned by its user.
    pub(super) fn make_server_folder(&self, user: Option<ServerUser>) -> Result<(), Error> {
        private_folder(&self.server(), user)
    }

    /// The folder for the socket.
    pub(super) fn socket(&self) -> PathBuf {
        socket_of(&self.root)
    }

    /// Makes it, closed to everybody else, since the socket asks no password.
    pub(super) fn make_socket_folder(&self, user: Option<ServerUser>) -> Result<(), Error> {
        private_folder(&self.socket(), user)
    }
}

/// The folder for the socket of a data folder's server: inside it or, where its path would be too long for a socket, a
/// short one in the system's temporary folder.
pub(super) fn socket_of(root: &Path) -> PathBuf {
    let inside = root.join("postgres/run");
    if inside.join(SOCKET).as_os_str().len() <= SOCKET_PATH_MAX {
        return inside;
    }
    let digest = Sha256::digest(root.as_os_str().as_bytes());
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    std::env::temp_dir().join(format!("insight-{name}"))
}

/// How long a folder may be in use before that is an answer.
const LOCK_WITHIN: Duration = Duration::from_secs(1);

/// Locks the folder, and writes who did.
fn lock(root: &Path) -> Result<File, Error> {
    let path = root.join("insight.lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(at(&path))?;
    let give_up = Instant::now() + LOCK_WITHIN;
    let locked = loop {
        match file.try_lock() {
            // A process that was killed holds it for another moment.
            Err(TryLockError::WouldBlock) if Instant::now() < give_up => {
                std::thread::sleep(Duration::from_millis(20));
            }
            locked => break locked,
        }
    };
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let read = file.read_to_string(&mut holder);
            let known = read.is_ok() && !holder.trim().is_empty();
            let holder = if known { holder.trim().to_owned() } else { "another process".to_owned() };
            return Err(Error::InUse { folder: root.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(Error::Io { path, source }),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        writeln!(file, "process {}", std::process::id())
    };
    write(&mut file).map_err(at(&path))?;
    Ok(file)
}

/// Refuses what is newer or not ours; marks an empty folder as ours.
fn check_format(root: &Path) -> Result<(), Error> {
    let path = root.join("format");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return mark(root, &path),
        Err(source) => return Err(Error::Io { path, source }),
    };
    let number = text.trim().strip_prefix(FORMAT_TEXT).and_then(|rest| rest.trim().parse::<u32>().ok());
    match number {
        Some(found) if found > FORMAT => Err(Error::Newer { folder: root.to_owned(), found }),
        Some(_) => Ok(()),
        None => Err(Error::Foreign { folder: root.to_owned() }),
    }
}

/// Written aside and renamed: a format file is whole or absent.
fn mark(root: &Path, path: &Path) -> Result<(), Error> {
    let new = root.join("format.new");
    for entry in fs::read_dir(root).map_err(at(root))? {
        let name = entry.map_err(at(root))?.file_name();
        if name != "insight.lock" && name != "format.new" {
            return Err(Error::Foreign { folder: root.to_owned() });
        }
    }
    fs::write(&new, format!("{FORMAT_TEXT} {FORMAT}\n")).map_err(at(&new))?;
    fs::rename(&new, path).map_err(at(path))
}

/// A folder with mode 0700 that belongs to the server's user. One that is there already must be exactly that: in a temporary
/// folder anybody could have put it there.
fn private_folder(path: &Path, user: Option<ServerUser>) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            if let Some(user) = user {
                chown(path, Some(user.uid), Some(user.gid)).map_err(at(path))?;
            }
            return Ok(());
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(Error::Io { path: path.to_owned(), source }),
    }
    let found = path.symlink_metadata().map_err(at(path))?;
    let parent = path.parent().unwrap_or(path);
    let ours = user.map_or_else(|| own_uid(parent), |user| Ok(user.uid))?;
    // Between making and giving away, a killed root process leaves a folder that is still root's: give it away now.
    let private = found.is_dir() && found.permissions().mode() & 0o077 == 0;
    if let Some(user) = user.filter(|_| private && found.uid() == 0) {
        return chown(path, Some(user.uid), Some(user.gid)).map_err(at(path));
    }
    let private = private && found.uid() == ours;
    if private { Ok(()) } else { Err(Error::SocketFolder { folder: path.to_owned() }) }
}

/// The user of this process, as the owner of what it makes; std has no `geteuid`.
fn own_uid(fallback: &Path) -> Result<u32, Error> {
    let path = Path::new("/proc/self");
    let path = if path.exists() { path } else { fallback };
    Ok(path.metadata().map_err(at(path))?.uid())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_is_refused_and_its_holder_named() {
        let root = tempfile::tempdir().unwrap();
        let first = Folder::open(root.path()).unwrap();
        let text = Folder::open(root.path()).unwrap_err().to_string();
        assert!(text.ends_with(&format!("is in use by process {}", std::process::id())), "{text}");
        drop(first);
        Folder::open(root.path()).unwrap();
    }

    #[test]
    fn a_folder_of_a_newer_format_is_refused() {
        let root = tempfile::tempdir().unwrap();
        drop(Folder::open(root.path()).unwrap());
        fs::write(root.path().join("format"), format!("{FORMAT_TEXT} 2\n")).unwrap();
        let error = Folder::open(root.path()).unwrap_err();
        assert!(matches!(error, Error::Newer { found: 2, .. }), "{error}");
    }

    #[test]
    fn a_folder_with_other_things_in_it_is_not_taken() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("thesis.txt"), "mine").unwrap();
        let error = Folder::open(root.path()).unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
    }

    #[test]
    fn a_socket_folder_that_others_can_enter_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let open = root.path().join("run");
        DirBuilder::new().mode(0o755).create(&open).unwrap();
        assert!(matches!(private_folder(&open, None), Err(Error::SocketFolder { .. })));
    }
}
