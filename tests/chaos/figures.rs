//! What a run measured: the table at its end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::caller::Seen;
use crate::plan::{CALM, Kind};

/// An interruption may last for longer than its fault: whatever begins within this time after it counts as its work.
const AFTERMATH: Duration = Duration::from_secs(3);

/// What is counted while faults are made.
#[derive(Debug, Default)]
pub struct Figures {
    faults: Vec<Made>,
    /// How long roles took to end when asked to.
    endings: Vec<Duration>,
    /// Processes that could not start because a server was away, and were started again.
    pub failed_starts: usize,
    /// What is known at the end: names and values.
    pub counts: Vec<(&'static str, String)>,
}

/// A fault that was made.
#[derive(Debug, Clone, Copy)]
struct Made {
    kind: Kind,
    is_alone: bool,
    began: Instant,
    ends: Instant,
}

/// The longest interruptions, of commands and of reads.
#[derive(Debug, Default, Clone, Copy)]
struct Longest {
    times: usize,
    commands: Duration,
    reads: Duration,
}

impl Figures {
    pub fn fault(&mut self, kind: Kind, is_alone: bool, began: Instant, ends: Instant) {
        self.faults.push(Made { kind, is_alone, began, ends });
    }

    /// Whether a fault of this kind was made.
    pub fn has(&self, kind: Kind) -> bool {
        self.faults.iter().any(|made| made.kind == kind)
    }

    pub fn ended(&mut self, took: Duration) {
        self.endings.push(took);
    }

    pub fn count(&mut self, name: &'static str, value: impl fmt::Display) {
        self.counts.push((name, value.to_string()));
    }

    /// Prints all of it.
    pub fn print(&self, seen: &Seen) {
        let busy = seen.busy.lock().expect("nobody panicked").clone();
        println!();
        for (name, value) in &self.counts {
            println!("{name:<58} {value:>12}");
        }
        let slowest = busy.iter().map(|(_, took)| *took).max().unwrap_or_default();
        let late = busy.iter().filter(|(_, took)| *took > Duration::from_secs(1)).count();
        let longest_end = self.endings.iter().max().copied().unwrap_or_default();
        for (name, value) in [
            ("attempts refused", seen.refused.load(Ordering::Relaxed).to_string()),
            (
                "attempts whose outcome stayed unknown (sent again)",
                seen.unknown.load(Ordering::Relaxed).to_string(),
            ),
            ("attempts answered 503 (sent again)", busy.len().to_string()),
            ("of those after more than a second", late.to_string()),
            ("the slowest of them", seconds(slowest)),
            ("processes that ended as asked", self.endings.len().to_string()),
            ("the slowest of them", seconds(longest_end)),
            ("starts that failed while a server was away", self.failed_starts.to_string()),
        ] {
            println!("{name:<58} {value:>12}");
        }
        println!("\n{:<32} {:^32}   {:^32}", "longest time without an answer", "alone", "among others");
        let head = format!("{:>6} {:>12} {:>12}", "times", "commands", "reads");
        println!("{:<32} {head}   {head}", "fault");
        let commands = sorted(&seen.acknowledged.lock().expect("nobody panicked"));
        let reads = sorted(&seen.read.lock().expect("nobody panicked"));
        let mut kinds: BTreeMap<Kind, [Longest; 2]> = BTreeMap::new();
        for made in &self.faults {
            let longest = &mut kinds.entry(made.kind).or_default()[usize::from(!made.is_alone)];
            longest.times += 1;
            longest.commands = longest.commands.max(made.longest_gap(&commands));
            longest.reads = longest.reads.max(made.longest_gap(&reads));
        }
        for (kind, [alone, among]) in kinds {
            println!("{kind:<32} {alone}   {among}");
        }
        println!();
    }
}

impl Made {
    /// The longest time between two neighbours that touches the time of the fault.
    fn longest_gap(&self, instants: &[Instant]) -> Duration {
        let aftermath = if self.is_alone { CALM } else { AFTERMATH };
        let from = instants.partition_point(|at| *at < self.began).saturating_sub(1);
        let pairs = instants[from.min(instants.len())..].windows(2);
        let touching = pairs.take_while(|pair| pair[0] <= self.ends + aftermath);
        touching.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

impl fmt::Display for Longest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.times == 0 {
            return write!(f, "{:>6} {:>12} {:>12}", "-", "-", "-");
        }
        write!(f, "{:>6} {:>12} {:>12}", self.times, seconds(self.commands), seconds(self.reads))
    }
}

fn sorted(instants: &[Instant]) -> Vec<Instant> {
    let mut instants = instants.to_vec();
    instants.sort_unstable();
    instants
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
