//! Servers of a test's own, to be stopped, restored and put in each other's place. Gone with the test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs a script of the repository; what it prints.
fn script(name: &str, arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    text(Command::new(script).args(arguments).output().unwrap())
}

/// What a program printed; it must have succeeded.
fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A program of PostgreSQL, as the user who runs servers.
pub fn postgres_program(name: &str, arguments: &[&str]) {
    let found =
        Command::new("sh").args(["-c", "ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1"]).output();
    let program = PathBuf::from(text(found.unwrap())).join(name);
    let is_root = text(Command::new("id").arg("-u").output().unwrap()) == "0";
    let mut command = Command::new(if is_root { Path::new("setpriv") } else { &program });
    if is_root {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(&program);
    }
    text(command.args(arguments).current_dir("/").output().unwrap());
}

/// A PostgreSQL server in a folder.
pub struct OwnPostgres {
    folder: PathBuf,
    /// Its database `insight`.
    pub url: String,
}

impl OwnPostgres {
    pub fn start(folder: PathBuf) -> Self {
        let url = Self::run(&folder);
        Self { folder, url }
    }

    fn run(folder: &Path) -> String {
        script("postgres", &["start", &folder.display().to_string(), "fsync=off"])
    }

    /// Copies the running server's files, to be a standby.
    pub fn back_up(&self) {
        let backup = self.folder.join("backup").display().to_string();
        let host = self.folder.display().to_string();
        postgres_program("pg_basebackup", &["-h", &host, "-U", "insight", "-D", &backup, "-c", "fast"]);
    }

    /// The standby takes over at the same address, on a timeline of its own.
    pub fn fail_over(&self) {
        script("postgres", &["stop", &self.folder.display().to_string()]);
        std::fs::rename(self.folder.join("data"), self.folder.join("lost")).unwrap();
        std::fs::rename(self.folder.join("backup"), self.folder.join("data")).unwrap();
        std::fs::write(self.folder.join("data/standby.signal"), "").unwrap();
        let data = self.folder.join("data").display().to_string();
        let log = self.folder.join("standby.log").display().to_string();
        postgres_program("pg_ctl", &["start", "--wait", "--pgdata", &data, "--log", &log]);
        postgres_program("pg_ctl", &["promote", "--wait", "--pgdata", &data]);
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        script("postgres", &["stop", &self.folder.display().to_string()]);
    }
}

/// A broker in a folder; it keeps its port.
pub struct OwnKafka {
    folder: String,
    /// Where it listens.
    pub brokers: String,
}

impl OwnKafka {
    pub fn start(folder: &Path) -> Self {
        let folder = folder.display().to_string();
        let brokers = script("kafka", &["start", &folder]);
        Self { folder, brokers }
    }

    pub fn stop(&self) {
        script("kafka", &["stop", &self.folder]);
    }

    pub fn start_again(&self) {
        script("kafka", &["start", &self.folder]);
    }
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        self.stop();
    }
}
