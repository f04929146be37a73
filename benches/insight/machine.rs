//! The machine as far as figures depend on it: cores, the price of an fsync, and who has used how much CPU.

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

/// Kernel ticks a second, as user space sees them on Linux.
const TICKS_PER_SECOND: u64 = 100;
const FSYNCS: usize = 200;

/// What stands above the table.
pub fn conditions() -> anyhow::Result<Value> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, m)| m);
    Ok(json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "processor": model,
        "fsync_median_us": fsync_median()?.as_micros() as u64,
        "client": "in the same machine, on the same cores",
    }))
}

/// The median time of writing 8 KiB and waiting until they are on the disk that the servers write to.
fn fsync_median() -> anyhow::Result<Duration> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let mut file = File::create(folder.path().join("fsync"))?;
    let mut times = Vec::with_capacity(FSYNCS);
    for _ in 0..FSYNCS {
        let since = Instant::now();
        file.write_all(&[7; 8 << 10])?;
        file.sync_data()?;
        times.push(since.elapsed());
    }
    times.sort_unstable();
    Ok(times[FSYNCS / 2])
}

/// CPU that was used by the client, by the program under test and by PostgreSQL, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// This process.
    pub client_us: u64,
    /// The processes of the program.
    pub insight_us: u64,
    /// The server and its sessions.
    pub postgres_us: u64,
}

impl Cpu {
    /// Used so far by this process, by `insight`, and by the server of `postmaster`.
    pub fn so_far(insight: &[u32], postmaster: Option<u32>) -> Self {
        Self {
            client_us: Process::read(std::process::id()).map_or(0, |process| process.own_us),
            insight_us: insight
                .iter()
                .filter_map(|id| Process::read(*id))
                .map(|process| process.own_us)
                .sum(),
            postgres_us: postmaster.map_or(0, postgres_us),
        }
    }

    /// What was used since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            client_us: self.client_us.saturating_sub(before.client_us),
            insight_us: self.insight_us.saturating_sub(before.insight_us),
            postgres_us: self.postgres_us.saturating_sub(before.postgres_us),
        }
    }
}

/// Processes that run or want to, on average over the last minute.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(f64::NAN)
}

/// Resident memory of a process, in bytes.
pub fn resident_bytes(process: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("no such process")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS is no number")?;
    Ok(kibibytes << 10)
}

/// The server, the sessions that have ended, and those that go on.
fn postgres_us(postmaster: u32) -> u64 {
    let Some(server) = Process::read(postmaster) else { return 0 };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let sessions = ids.filter_map(Process::read).filter(|process| process.parent == postmaster);
    server.own_us + server.ended_children_us + sessions.map(|session| session.own_us).sum::<u64>()
}

/// A line of `/proc/…/stat`.
struct Process {
    parent: u32,
    own_us: u64,
    ended_children_us: u64,
}

impl Process {
    fn read(id: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name in parentheses may hold anything, so fields are counted from behind it: the first is the state.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let microseconds = |place: usize| -> Option<u64> {
            Some(fields.get(place)?.parse::<u64>().ok()? * 1_000_000 / TICKS_PER_SECOND)
        };
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own_us: microseconds(11)? + microseconds(12)?,
            ended_children_us: microseconds(13)? + microseconds(14)?,
        })
    }
}
