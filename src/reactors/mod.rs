//! Events to commands: a due time becomes a run, a run is carried out.
//!
//! ```text
//! schedule: clock ─→ ScheduleRun ─→ log ─→ jobs.v1 ─→ work: lease ─→ attempt ─→ FinishRun, FailRun ─→ log
//!                                                         ▲ heartbeat │
//!                                                         └───────────┘
//! ```
//!
//! The log decides everything that lasts. Processes only try, and may be killed or frozen between any two steps:
//!
//! | step | killed, frozen or cut off here | what holds |
//! | --- | --- | --- |
//! | a job is due | no run | the next scheduler sees the same due time, and catches up once |
//! | `ScheduleRun` is sent | the answer is lost | a due time is taken once: sending it again changes nothing |
//! | the run is in the log | nobody has it | whoever owns its shard loads the open runs and finds it; if that one is busy, a free worker does |
//! | a lease is taken | nobody works | it ends by the database's clock, then somebody else takes it; if that clock was put back, the same |
//! | the log is asked again under the lease | | a run that has ended meanwhile is not begun: who ended it wrote that before the lease was given back |
//! | the attempt works | half an effect | what it appends has ids made of the run, so that the next attempt repeats nothing; a backup has its name when it is whole |
//! | `FinishRun` or `FailRun` is sent | the answer is lost | it names run and attempt, and an attempt ends once |
//! | `FinishRun` or `FailRun` is in a batch on its way | frozen, and somebody else has the run by then | the first word about the attempt counts, the other one is refused |
//! | the lease is given back | a lease of a run that has ended | it is dropped when its shard's owner meets the end of the run |
//!
//! Who was frozen and wakes finds its lease gone, or past, before it does anything else: it stops and sends nothing.

pub mod jobs_file;
pub mod schedule;
pub mod work;

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use crate::commands::{Answer, Command, Commands, Refusal, Request};

/// Who is said to have sent commands of ours.
const ACTOR: &str = "insight";
/// How long one command may wait for its answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// Sends a command that is a function of its id: whatever else it holds, one has an effect. `cause` joins what belongs together.
async fn send(
    commands: &Commands,
    command: Command,
    command_id: Uuid,
    cause: Uuid,
) -> Result<Answer, Refusal> {
    send_until(Instant::now() + ANSWERED_WITHIN, commands, command, command_id, cause).await
}

/// The same, unless no batch has taken it by `until`.
async fn send_until(
    until: Instant,
    commands: &Commands,
    command: Command,
    command_id: Uuid,
    cause: Uuid,
) -> Result<Answer, Refusal> {
    let request = Request {
        command,
        command_id,
        request_hash: Arc::from(&Sha256::digest(command_id)[..]),
        actor: Arc::from(ACTOR),
        correlation_id: cause,
        if_match: None,
        occurred_at: None,
        deadline: until.min(Instant::now() + ANSWERED_WITHIN),
    };
    commands.execute(request).await
}
