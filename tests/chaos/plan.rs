//! What is done to the system and when: a function of the seed.
//!
//! Faults are dealt from a deck that holds every kind, the likelier ones more often, and shuffled anew when it is empty: so
//! a minute sees every kind, and an hour sees them in every order and overlap. Every other deck is dealt slowly, each fault
//! alone, so that its price can be told.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A role is killed, and started again a moment later, perhaps killed again before it has come up.
    KillRole,
    /// A role is asked to end, and started again when it has.
    EndRole,
    /// A role stands still for a moment.
    PauseRole,
    /// A role stands still for longer than its group and its sessions wait.
    FreezeRole,
    /// A role cannot reach PostgreSQL; then its connections go on.
    CutRole,
    /// A role cannot reach PostgreSQL; then its connections are reset.
    ResetRole,
    /// Clients cannot reach an api.
    CutClients,
    /// One more process joins the group of the projectors, and leaves later.
    GrowGroup,
    /// PostgreSQL is killed, all of it.
    KillPostgres,
    /// PostgreSQL is stopped in good order.
    StopPostgres,
    /// PostgreSQL stands still.
    FreezePostgres,
    /// The broker is killed.
    KillKafka,
    /// The broker stands still.
    FreezeKafka,
    /// Nobody can reach the broker.
    CutKafka,
    /// A read model is made anew beside the live one, and promoted; every other time it is killed on the way, and gone on with later.
    Rebuild,
    /// A partition loses its older records, as by retention.
    DeleteRecords,
}

use Kind::*;

/// The kinds with how often each is in the deck, and for how long it lasts, in milliseconds.
const DISTRIBUTED: &[(Kind, usize, [u64; 2])] = &[
    (KillRole, 9, [0, 800]),
    (EndRole, 3, [0, 300]),
    (PauseRole, 3, [200, 2_500]),
    (FreezeRole, 2, [7_000, 12_000]),
    (CutRole, 2, [500, 9_000]),
    (ResetRole, 2, [500, 9_000]),
    (CutClients, 1, [300, 5_000]),
    (GrowGroup, 2, [3_000, 15_000]),
    (KillPostgres, 1, [0, 3_000]),
    (StopPostgres, 1, [0, 3_000]),
    (FreezePostgres, 1, [300, 5_000]),
    (KillKafka, 1, [0, 4_000]),
    (FreezeKafka, 1, [500, 10_000]),
    (CutKafka, 1, [500, 10_000]),
    (Rebuild, 2, [100, 1_500]),
    (DeleteRecords, 2, [0, 0]),
];
/// One process with a private server has less that can break.
const EMBEDDED: &[(Kind, usize, [u64; 2])] = &[
    (KillRole, 6, [0, 800]),
    (EndRole, 1, [0, 300]),
    (PauseRole, 2, [200, 2_500]),
    (CutClients, 1, [300, 3_000]),
];
/// Between the beginnings of two faults, in milliseconds.
const GAP: [u64; 2] = [200, 2_200];
/// Before and after a fault that is to be alone.
pub const CALM: Duration = Duration::from_secs(8);

/// A fault that will be.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub at: Duration,
    pub kind: Kind,
    pub lasts: Duration,
    /// Nothing else is done before it is over and everything has recovered.
    pub is_alone: bool,
    /// Which role: a number to be taken modulo how many there are.
    pub role: usize,
}

/// The faults of a run that takes so long.
pub fn plan(seed: u64, is_embedded: bool, length: Duration) -> Vec<Fault> {
    let mut random = StdRng::seed_from_u64(seed);
    let kinds = if is_embedded { EMBEDDED } else { DISTRIBUTED };
    let (mut deck, mut faults, mut at) = (Vec::new(), Vec::new(), Duration::from_millis(500));
    let mut is_alone = true;
    while at < length {
        if deck.is_empty() {
            is_alone = !is_alone;
            if is_alone {
                at += CALM;
            }
            deck = kinds.iter().flat_map(|&(kind, count, lasts)| vec![(kind, lasts); count]).collect();
            deck.shuffle(&mut random);
        }
        let Some((kind, [least, most])) = deck.pop() else { break };
        let lasts = Duration::from_millis(random.random_range(least..=most));
        faults.push(Fault { at, kind, lasts, is_alone, role: random.random_range(0..10_000) });
        let gap = Duration::from_millis(random.random_range(GAP[0]..=GAP[1]));
        at += if is_alone { lasts + CALM } else { gap };
    }
    faults
}

/// When the standby is copied that takes over at the end: somewhere in the middle of a run that takes so long.
pub fn back_up_at(seed: u64, length: Duration) -> Duration {
    length.mul_f64(StdRng::seed_from_u64(seed ^ 7).random_range(0.3..0.7))
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            KillRole => "role killed",
            EndRole => "role ended by SIGTERM",
            PauseRole => "role paused",
            FreezeRole => "role frozen beyond its session",
            CutRole => "role cut off PostgreSQL",
            ResetRole => "role cut off PostgreSQL, reset",
            CutClients => "api cut off its clients",
            GrowGroup => "group grown and shrunk",
            KillPostgres => "PostgreSQL killed",
            StopPostgres => "PostgreSQL stopped",
            FreezePostgres => "PostgreSQL frozen",
            KillKafka => "broker killed",
            FreezeKafka => "broker frozen",
            CutKafka => "broker cut off",
            Rebuild => "read model rebuilt",
            DeleteRecords => "records deleted",
        })
    }
}
