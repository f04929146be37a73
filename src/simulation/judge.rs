//! What must hold: after every flush, and of the whole when all has settled.

use std::collections::{BTreeMap, HashSet};

use rust_decimal::Decimal;

use super::bus::Partition;
use super::clients::{Told, held_of, holdings};
use super::world::World;
use crate::domain::ids::{Position, Shard};
use crate::events::EventId;
use crate::verify::reference::Reference;

/// After a flush. What a projector has read of an idle shard that slept through a restore is told once more, wrongly, before it
/// finds out; the next one sets it right.
pub(super) fn flushed(world: &World, shard: Shard) {
    rows_are_the_log_so_far(world, shard);
    if world.restores == 0 {
        nothing_is_missing_below_scanned_to(world, shard);
    }
}

/// Rows are the fold of exactly the events up to their checkpoint.
fn rows_are_the_log_so_far(world: &World, shard: Shard) {
    let rows = &world.rows[&shard];
    let logged = world.store.shard(shard).map(|event| (event.position, event.event_id));
    let upto = rows.checkpoint.place.position;
    let expected: Vec<_> = logged.filter(|(position, _)| *position <= upto).collect();
    assert_eq!(rows.applied, expected, "rows of shard {shard} at position {upto}");
}

fn nothing_is_missing_below_scanned_to(world: &World, shard: Shard) {
    let rows = &world.rows[&shard];
    let missing = world.store.shard_after(shard, rows.checkpoint.place.position).next();
    assert!(
        missing.is_none_or(|event| event.position > rows.scanned_to()),
        "shard {shard} is said to be complete up to {}",
        rows.scanned_to()
    );
}

/// The whole, when nothing moves any more.
pub(super) fn everything(world: &mut World) {
    the_log_keeps_its_promises(world);
    clients_were_told_the_truth(world);
    nobody_sold_what_was_not_there(world);
    for shard in world.shards.clone() {
        rows_are_the_log_so_far(world, shard);
        nothing_is_missing_below_scanned_to(world, shard);
        let last = world.store.shard(shard).last().map_or(Position(0), |event| event.position);
        assert_eq!(world.rows[&shard].checkpoint.place.position, last, "shard {shard} is not at its end");
        // What was deceived or has records in wrong places is judged by what its readers end with.
        let is_true = |partition: &&Partition| !partition.deceiving && !partition.swapped;
        if let Some(partition) = world.bus.partition(shard).filter(is_true) {
            the_topic_holds_the_log(world, shard, partition);
        }
    }
    world.store.compare_with_postgres();
}

fn the_log_keeps_its_promises(world: &World) {
    let mut versions: BTreeMap<&str, i64> = BTreeMap::new();
    let mut commands = HashSet::new();
    let mut last = None;
    for (position, event) in (1..).zip(world.store.all()) {
        assert_eq!(event.position.0, position);
        let version = versions.entry(event.stream_id.as_str()).or_default();
        *version += 1;
        assert_eq!(event.version.0, *version, "of {}", event.stream_id);
        let command = event.event_id.command_id;
        if last != Some(command) {
            assert!(commands.insert(command), "command {command} is there twice");
        }
        last = Some(command);
    }
}

/// Every answer stands in the log as it was given; what was refused, or changed nothing, does not.
fn clients_were_told_the_truth(world: &World) {
    for (command, told) in world.clients.told() {
        let events = world.store.command(command);
        match told {
            Told::Accepted(answer) => {
                let named: Vec<_> =
                    answer.events.iter().map(|event| (event.event_id, event.position)).collect();
                let stored: Vec<_> = events.iter().map(|event| (event.event_id, event.position)).collect();
                assert_eq!(stored, named, "what was acknowledged of {command}");
            }
            Told::Refused(_) | Told::Unchanged => {
                assert!(events.is_empty(), "{command} was refused and is there")
            }
        }
    }
}

/// Counted event by event, and held against the reference ledger.
fn nobody_sold_what_was_not_there(world: &World) {
    let mut reference = Reference::default();
    for event in world.store.all() {
        reference.take(event).expect("the reference reads every event");
    }
    for (portfolio, asset) in holdings() {
        let events: Vec<_> = world.store.all().iter().filter(|event| event.stream_id == portfolio).collect();
        for upto in 0..=events.len() {
            let held = held_of(events[..upto].iter().map(|event| &***event), &asset);
            assert!(held >= Decimal::ZERO, "{portfolio} holds {held} of {asset}");
        }
        let counted = held_of(events.iter().map(|event| &***event), &asset);
        let told = told_by(&reference, portfolio.kind_and_rest().1, asset.kind_and_rest().1);
        assert_eq!(counted, told, "what {portfolio} holds of {asset}");
    }
}

fn told_by(reference: &Reference, portfolio: &str, asset: &str) -> Decimal {
    let entries = reference.portfolios[portfolio].happenings.iter().filter_map(|it| it.entry.as_ref());
    let signed = |entry: &crate::verify::reference::Entry| {
        let quantity: Decimal = entry.quantity.to_string().parse().expect("units are a number");
        if entry.kind == "sell" { -quantity } else { quantity }
    };
    entries.filter(|entry| entry.asset_id.as_deref() == Some(asset)).map(signed).sum()
}

/// First occurrences of the log's events come in its order, and none is missing.
fn the_topic_holds_the_log(world: &World, shard: Shard, partition: &Partition) {
    let logged: Vec<_> = world.store.shard(shard).map(|event| (event.position, event.event_id)).collect();
    let mut seen = HashSet::new();
    let mut firsts = Vec::new();
    for record in partition.records() {
        let place = (record.event.position, record.event.event_id);
        if logged.contains(&place)
            && record.event.epoch == world.store.find(place.0).expect("it is there").epoch
        {
            if seen.insert(place) {
                firsts.push(place);
            }
        } else {
            assert!(world.restores > 0, "shard {shard} holds {place:?}, which the log does not");
        }
    }
    // Of a topic that lost its end, or was made anew, what had been on its way stands before what was sent again: then the
    // log is what a reader finds who passes over everything that does not come next.
    let in_order = if partition.disordered { what_comes_next(partition, &logged) } else { firsts };
    assert_eq!(in_order, logged, "topic of shard {shard}");
}

/// The records that each come next, from the first of the log that is there.
fn what_comes_next(partition: &Partition, logged: &[(Position, EventId)]) -> Vec<(Position, EventId)> {
    let places = partition.records().iter().map(|record| (record.event.position, record.event.event_id));
    let mut expected = logged.iter().peekable();
    places.filter(|place| expected.next_if_eq(&place).is_some()).collect()
}
