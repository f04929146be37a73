//! A small disk below a PostgreSQL server: a `tmpfs` in a mount namespace of its own, which needs root, or the right to
//! make user namespaces. Where there is neither, the test fails and says so.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::own_servers::Postgres;

/// Moves the server's data onto the disk, starts it there, says so, and stays: the disk is there as long as its first process.
const MOVE: &str = r#"
set -euo pipefail
folder=$1 size=$2 log_apart=$3 script=$4
mv "$folder/data" "$folder/kept"
mkdir "$folder/data"
mount -t tmpfs -o "size=$size" tmpfs "$folder/data"
cp -a "$folder/kept/." "$folder/data/"
chown --reference="$folder/kept" "$folder/data"
chmod 700 "$folder/data"
if [[ $log_apart == true ]]; then
    mv "$folder/data/pg_wal" "$folder/wal"
    ln -s "$folder/wal" "$folder/data/pg_wal"
fi
while read -r; do "$script" start "$folder" "${@:5}" >&2 && echo started; done
"#;

/// The disk. It goes with this value, and with it what is on it.
pub struct SmallDisk {
    holder: Child,
    ballast: PathBuf,
}

impl SmallDisk {
    /// Of so many MiB, below a server that is stopped for it and started again; its write-ahead log may stay on the large one.
    pub fn below(postgres: &Postgres, is_log_apart: bool, mebibytes: u32) -> Self {
        postgres.stop();
        let folder = postgres.folder().display().to_string();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/postgres").display().to_string();
        let size = format!("{mebibytes}m");
        let mut holder = Command::new("unshare")
            .args(namespace())
            .args(["bash", "-c", MOVE, "bash", &folder, &size, &is_log_apart.to_string(), &script])
            .args(postgres.settings())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        start(&mut holder);
        // The way into the namespace of a process.
        let ballast = PathBuf::from(format!("/proc/{}/root{folder}/data/ballast", holder.id()));
        Self { holder, ballast }
    }

    /// Leaves no room.
    pub fn fill(&self) {
        let mut ballast = File::create(&self.ballast).unwrap();
        for size in [1 << 20, 4 << 10] {
            let block = vec![1; size];
            while ballast.write_all(&block).is_ok() {}
        }
    }

    /// Makes room again.
    pub fn empty(&self) {
        fs::remove_file(&self.ballast).unwrap();
    }

    /// Starts the server again, on the disk.
    pub fn start_again(&mut self) {
        start(&mut self.holder);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Its input ends, and with it the namespace.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

fn start(holder: &mut Child) {
    holder.stdin.as_mut().expect("it was piped").write_all(b"start\n").unwrap();
    let mut said = [0; 8];
    let stdout = holder.stdout.as_mut().expect("it was piped");
    stdout.read_exact(&mut said).expect("PostgreSQL starts on the small disk");
    assert_eq!(&said, b"started\n");
}

/// How a mount namespace can be had here.
fn namespace() -> Vec<&'static str> {
    let ways = [vec!["--mount"], vec!["--user", "--map-current-user", "--keep-caps", "--mount"]];
    let works = |way: &Vec<&str>| {
        let mut trial = Command::new("unshare");
        trial.args(way).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).stderr(Stdio::null());
        trial.status().is_ok_and(|status| status.success())
    };
    ways.into_iter().find(works).expect(
        "a full disk needs a small one: mount(2) is not allowed here. Be root with CAP_SYS_ADMIN (in a container: \
         --cap-add SYS_ADMIN), or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)",
    )
}
