//! What may happen, and lists of it drawn from a seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::world::{PROJECTORS, RELAYS, WRITERS};

/// A trade that a client wishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) portfolio: usize,
    pub(super) asset: usize,
    /// Positive to buy, negative to sell; zero changes the portfolio's accounting.
    pub(super) quantity: i32,
    /// Whether it insists on the version that the log has when it is sent.
    pub(super) if_match: bool,
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Process {
    Writer(usize),
    /// So many of the records on their way are written all the same.
    Relay {
        relay: usize,
        written: usize,
    },
    Projector(usize),
    Rebuilder,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Send {
        wish: Wish,
        writer: usize,
    },
    Resend {
        call: usize,
        writer: usize,
    },
    Hear,
    Form(usize),
    Append(usize),
    AppendUnheard(usize),
    Settle(usize),
    Lead(usize),
    Copy {
        relay: usize,
        events: usize,
    },
    Deliver {
        relay: usize,
        records: usize,
    },
    Save(usize),
    LoseLock,
    Fetch {
        projector: usize,
        records: usize,
    },
    /// The same while the database does not answer.
    FetchAlone {
        projector: usize,
        records: usize,
    },
    Fold(usize),
    Flush(usize),
    Freeze(usize),
    Thaw(usize),
    Rebalance(usize),
    Redeliver {
        projector: usize,
        back: usize,
    },
    Skip {
        projector: usize,
        records: usize,
    },
    /// The next step of a rebuild beside the live rows; where it follows the log, in this shard.
    Rebuild {
        shard: usize,
    },
    /// The next step that puts them in the place of the live ones.
    Promote,
    DeleteTopic,
    Expire {
        shard: usize,
        records: usize,
    },
    Cut {
        shard: usize,
        records: usize,
    },
    Double {
        shard: usize,
        record: usize,
    },
    /// A record and the one after it change places.
    Swap {
        shard: usize,
        record: usize,
    },
    Silence,
    Kill(Process),
    BackUp,
    /// The database is as it was at the backup, and every connection is lost.
    Restore,
    /// The operator says so, and starts every process again.
    NewEpoch,
}

/// A list of so many operations: mostly work, some of it faults.
pub(super) fn draw(seed: u64, count: usize) -> Vec<Operation> {
    let mut random = StdRng::seed_from_u64(seed);
    // Some histories are mostly about the write side, some mostly about the bus.
    let writing = random.random_range(2..8);
    (0..count).map(|_| one(&mut random, writing)).collect()
}

fn one(random: &mut StdRng, writing: u32) -> Operation {
    let writer = random.random_range(0..WRITERS);
    let relay = random.random_range(0..RELAYS);
    let projector = random.random_range(0..PROJECTORS);
    let shard = random.random_range(0..8);
    if random.random_range(0..100) < 15 {
        return fault(random, writer, relay, projector);
    }
    if random.random_range(0..10) < writing {
        return match random.random_range(0..14) {
            0..=3 => Operation::Send { wish: wish(random), writer },
            4 => Operation::Resend { call: random.random_range(0..1_000), writer },
            5 | 6 => Operation::Hear,
            7..=8 => Operation::Form(writer),
            9..=11 => Operation::Append(writer),
            _ => Operation::Settle(writer),
        };
    }
    match random.random_range(0..18) {
        0 => Operation::Lead(relay),
        1 | 2 => Operation::Copy { relay, events: random.random_range(1..5) },
        3 | 4 => Operation::Deliver { relay, records: random.random_range(1..5) },
        5 => Operation::Save(relay),
        6..=8 => Operation::Fetch { projector, records: random.random_range(1..5) },
        9 | 10 => Operation::Fold(projector),
        11..=13 => Operation::Rebuild { shard },
        14 | 15 => Operation::Promote,
        _ => Operation::Flush(projector),
    }
}

fn wish(random: &mut StdRng) -> Wish {
    let quantity = match random.random_range(0..10) {
        0 => 0,
        1..=5 => random.random_range(1..9),
        _ => -random.random_range(1..9),
    };
    Wish {
        portfolio: random.random_range(0..3),
        asset: random.random_range(0..2),
        quantity,
        if_match: random.random_range(0..4) == 0,
    }
}

fn fault(random: &mut StdRng, writer: usize, relay: usize, projector: usize) -> Operation {
    let (shard, records) = (random.random_range(0..8), random.random_range(1..6));
    match random.random_range(0..29) {
        0..=2 => Operation::AppendUnheard(writer),
        3 | 4 => Operation::Kill(Process::Writer(writer)),
        5 => Operation::Kill(Process::Relay { relay, written: records - 1 }),
        6 => Operation::Kill(Process::Projector(projector)),
        7 | 8 => Operation::LoseLock,
        9 | 10 => Operation::Freeze(projector),
        11 | 12 => Operation::Thaw(projector),
        13 | 14 => Operation::Rebalance(projector),
        15 => Operation::Redeliver { projector, back: records },
        16 => Operation::Skip { projector, records },
        17 => Operation::DeleteTopic,
        18 => Operation::Expire { shard, records },
        19 => Operation::Cut { shard, records },
        20 => Operation::Double { shard, record: random.random_range(0..1_000) },
        21 => Operation::Silence,
        22 | 23 => Operation::FetchAlone { projector, records },
        24 => Operation::BackUp,
        25 => Operation::Restore,
        26 => Operation::Kill(Process::Rebuilder),
        27 => Operation::Swap { shard, record: random.random_range(0..1_000) },
        _ => Operation::NewEpoch,
    }
}
