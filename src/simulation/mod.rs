//! Histories of crashes, drawn from a seed, on the cores without their servers.
//!
//! The write side, the relay and the projectors are, at their core, functions of what they were told. Here they run
//! with a log, topics and tables in memory, one step at a time, and between any two steps anything may happen: a process
//! is killed, frozen, or fenced off; an answer is lost; records are doubled, lost or out of order; a topic is deleted; the
//! database is restored to an earlier moment. Then everything comes back, and the [`judge`] holds what clients were told,
//! the log, the topics and the rows against each other and against the reference ledger.
//!
//! A list of operations is a history whatever it holds: what cannot be done is passed over. So a failing list can be made
//! shorter by leaving out what does not matter, and is kept as a test.

mod bus;
mod clients;
mod judge;
mod operations;
mod postgres;
mod projector;
mod rebuild;
mod relay;
mod store;
mod world;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::time::Instant;

use self::operations::{Operation, Wish, draw};
use self::postgres::PostgresLog;
use self::world::World;

/// Runs a history to its end; how many rebuilds were promoted in it.
fn run(operations: &[Operation], beside: Option<PostgresLog>) -> (usize, Option<PostgresLog>) {
    let mut world = World::new(beside);
    for operation in operations {
        world.run(*operation);
    }
    if let Err(reason) = world.settle() {
        panic!("{reason}");
    }
    judge::everything(&mut world);
    (world.promotions, world.store.take_postgres())
}

/// What [`run`] says; none if a promise is broken.
fn promotions(operations: &[Operation]) -> Option<usize> {
    catch_unwind(AssertUnwindSafe(|| run(operations, None).0)).ok()
}

/// Leaves out what does not matter.
fn shorten(mut operations: Vec<Operation>) -> Vec<Operation> {
    let mut piece = operations.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < operations.len() {
            let mut without = operations.clone();
            without.drain(at..(at + piece).min(operations.len()));
            if promotions(&without).is_none() {
                operations = without;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    operations
}

/// So many operations a history.
fn length(seed: u64) -> usize {
    20 + (seed % 5) as usize * 40
}

/// How many rebuilds were promoted.
fn explore(seeds: std::ops::Range<u64>) -> usize {
    let mut promoted = 0;
    for seed in seeds {
        let operations = draw(seed, length(seed));
        let Some(promotions) = promotions(&operations) else {
            let short = shorten(operations);
            eprintln!("seed {seed} fails; what matters of it:\n{short:?}");
            run(&short, None);
            unreachable!("it failed before");
        };
        promoted += promotions;
    }
    promoted
}

/// Found by drawing: offsets of a topic that was made anew rise from the beginning, which a relay must notice at the first
/// acknowledgement, not only at the second.
#[test]
fn a_topic_made_anew_right_after_the_walk_holds_the_log() {
    run(
        &[
            Operation::Lead(1),
            Operation::Copy { relay: 1, events: 4 },
            Operation::Deliver { relay: 1, records: 2 },
            Operation::LoseLock,
            Operation::Lead(0),
            Operation::Copy { relay: 0, events: 3 },
            Operation::DeleteTopic,
            Operation::Deliver { relay: 0, records: 3 },
            Operation::Save(0),
        ],
        None,
    );
}

/// Found by drawing: what was noted of a topic is worth nothing once another one has its name, even where retention has
/// passed the noted offset.
#[test]
fn a_topic_made_anew_and_soon_expired_holds_the_log() {
    run(
        &[
            Operation::Lead(0),
            Operation::Copy { relay: 0, events: 2 },
            Operation::Deliver { relay: 0, records: 2 },
            Operation::Save(0),
            Operation::Copy { relay: 0, events: 2 },
            Operation::DeleteTopic,
            Operation::Deliver { relay: 0, records: 3 },
            Operation::Expire { shard: 4, records: 3 },
        ],
        None,
    );
}

/// Found by drawing: a projector that sleeps through a restore may hold the very revision that was restored.
#[test]
fn a_projector_that_slept_through_a_restore_writes_nothing_of_the_other_history() {
    let wish = Wish { portfolio: 1, asset: 0, quantity: 7, if_match: false };
    run(
        &[
            Operation::Fold(2),
            Operation::Send { wish, writer: 1 },
            Operation::BackUp,
            Operation::Form(1),
            Operation::Append(1),
            Operation::Settle(1),
            Operation::Hear,
            Operation::Form(1),
            Operation::Append(1),
            Operation::Fetch { projector: 2, records: 3 },
            Operation::Fold(2),
            Operation::Restore,
            Operation::Fold(2),
            Operation::Flush(2),
        ],
        None,
    );
}

#[test]
fn ten_thousand_histories_of_crashes_keep_every_promise() {
    const HISTORIES: u64 = 10_000;
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let began = Instant::now();
    let promoted: usize = std::thread::scope(|scope| {
        let exploring: Vec<_> = (0..threads)
            .map(|n| scope.spawn(move || explore(HISTORIES * n / threads..HISTORIES * (n + 1) / threads)))
            .collect();
        exploring.into_iter().map(|thread| thread.join().expect("every promise is kept")).sum()
    });
    println!("{HISTORIES} histories with {promoted} promoted rebuilds in {:?}", began.elapsed());
    assert!(promoted > 500, "{promoted} promotions show nothing");
}

#[test]
fn two_hundred_of_them_are_the_same_on_postgresql() {
    let mut postgres = Some(PostgresLog::create());
    for seed in (0..10_000).step_by(50) {
        if let Some(postgres) = &mut postgres {
            postgres.empty();
        }
        (_, postgres) = run(&draw(seed, length(seed)), postgres);
    }
}
