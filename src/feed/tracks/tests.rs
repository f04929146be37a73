//! What shards go through, step by step.

use super::*;
use crate::feed::fixtures::{event_in, id};

const A: Shard = Shard(0);
const B: Shard = Shard(1);

fn nowhere() -> Place {
    Place::origin(Epoch(1))
}

fn following(shards: &[Shard], now: Instant) -> Tracks {
    let mut tracks = Tracks::default();
    tracks.assign(shards);
    tracks.resume(shards.iter().map(|shard| (*shard, nowhere())).collect(), now);
    tracks
}

fn slice(head: i64, events: &[(i16, i64)]) -> Slice {
    let events = events.iter().map(|(shard, p)| (*event_in(*shard, 1, *p, *p as u128)).clone());
    Slice { events: events.collect(), head: Position(head) }
}

fn repaired(tracks: &mut Tracks, slice: Slice, limit: usize, now: Instant) -> Vec<i64> {
    let asked = tracks.doubtful();
    let brought = tracks.repaired(&asked, slice, limit, Epoch(1), now).unwrap();
    brought.iter().map(|event| event.position.0).collect()
}

fn link(position: i64, previous: Option<i64>) -> Link {
    Link {
        epoch: Epoch(1),
        position: Position(position),
        event_id: id(position as u128),
        previous: previous.map(|p| (Position(p), id(p as u128))),
    }
}

#[test]
fn a_shard_is_let_go_until_it_is_resumed_and_then_repaired() {
    let now = Instant::now();
    let mut tracks = Tracks::default();
    assert_eq!(tracks.assign(&[A, B]).assigned, [A, B]);
    let event = event_in(0, 1, 3, 3);
    assert_eq!(tracks.see(&link(3, None), &event, now), Seen::NotFollowed);
    assert!(tracks.doubtful().is_empty());
    assert!(tracks.resume(vec![(A, nowhere())], now).is_empty());
    assert_eq!(tracks.doubtful(), [(A, Position(0))]);
    assert_eq!(repaired(&mut tracks, slice(4, &[(0, 3)]), 10, now), [3]);
    assert!(tracks.doubtful().is_empty());
    assert_eq!(tracks.tell(&[], now), [(A, Position(4))]);
}

#[test]
fn a_place_of_a_shard_that_is_not_mine_is_ignored() {
    let now = Instant::now();
    let mut tracks = following(&[A], now);
    tracks.revoke(&[A]);
    tracks.resume(vec![(A, nowhere())], now);
    assert!(tracks.doubtful().is_empty());
}

#[test]
fn a_repair_that_reached_its_limit_goes_on() {
    let now = Instant::now();
    let mut tracks = following(&[A, B], now);
    assert_eq!(repaired(&mut tracks, slice(9, &[(0, 2), (1, 1), (0, 3)]), 2, now), [1, 2, 3]);
    assert_eq!(tracks.doubtful(), [(A, Position(2))], "B is complete");
}

#[test]
fn a_gap_makes_doubt_and_the_repair_takes_it_away() {
    let now = Instant::now();
    let mut tracks = following(&[A], now);
    repaired(&mut tracks, slice(0, &[]), 10, now);
    assert_eq!(tracks.see(&link(3, Some(1)), &event_in(0, 1, 3, 3), now), Seen::Gap);
    assert_eq!(repaired(&mut tracks, slice(3, &[(0, 1), (0, 3)]), 10, now), [1, 3]);
    let late = tracks.see(&link(3, Some(1)), &event_in(0, 1, 3, 3), now);
    assert_eq!(late, Seen::Dropped(Dropped::Duplicate));
    assert_eq!(tracks.see(&link(4, Some(3)), &event_in(0, 1, 4, 4), now), Seen::Next);
}

#[test]
fn the_store_is_asked_about_silent_shards_every_second_and_about_busy_ones_every_ten() {
    let start = Instant::now();
    let mut tracks = following(&[A, B], start);
    repaired(&mut tracks, slice(0, &[]), 10, start);
    for second in 1..10 {
        let now = start + Duration::from_secs(second);
        let before = (second > 1).then_some(second as i64 - 1);
        let event = event_in(0, 1, second as i64, second as u128);
        assert_eq!(tracks.see(&link(second as i64, before), &event, now), Seen::Next);
        tracks.notice_silence(Taken::Some, now);
        assert!(!tracks.in_doubt(), "something of it may be waiting");
        tracks.notice_silence(Taken::Everything, now);
        assert_eq!(tracks.doubtful(), [(B, Position(0))]);
        assert_eq!(repaired(&mut tracks, slice(second as i64, &[]), 10, now), [0i64; 0]);
    }
    assert_eq!(tracks.unconfirmed(start + UNCONFIRMED), [(A, Position(8))]);
}

#[test]
fn a_silent_shard_is_read_to_its_end_and_a_busy_one_is_left_to_the_bus() {
    let start = Instant::now();
    let mut tracks = following(&[A], start);
    repaired(&mut tracks, slice(0, &[]), 10, start);
    let later = start + UNCONFIRMED;
    let asked = tracks.unconfirmed(later);
    tracks.repaired(&asked, slice(9, &[(0, 1), (0, 2)]), 2, Epoch(1), later).unwrap();
    assert!(!tracks.in_doubt());
    let silent = later + SILENT_IN_BACKLOG;
    tracks.notice_silence(Taken::Some, silent);
    assert_eq!(repaired(&mut tracks, slice(9, &[(0, 2), (0, 3)]), 2, silent), [3]);
    assert!(tracks.in_doubt());
}

#[test]
fn a_lost_shard_is_followed_on_until_the_next_assignment() {
    let now = Instant::now();
    let mut tracks = following(&[A, B], now);
    tracks.assign(&[Shard(2)]);
    assert_eq!(tracks.lose(&[A, B, Shard(2)]), [Shard(2)], "a waiting shard has no state worth keeping");
    repaired(&mut tracks, slice(5, &[(0, 5)]), 10, now);
    assert_eq!(tracks.least_scanned_to(), Some(Position(5)));
    let change = tracks.assign(&[A, Shard(3)]);
    assert_eq!(change, Change { revoked: vec![B], assigned: vec![Shard(3)] });
    assert_eq!(tracks.doubtful(), [(A, Position(4))], "and is confirmed when it comes back");
}

#[test]
fn a_lost_shard_is_given_up_when_somebody_else_has_written() {
    let now = Instant::now();
    let mut tracks = following(&[A], now);
    tracks.lose(&[A]);
    assert_eq!(tracks.resume(vec![(A, nowhere())], now), [A]);
    assert_eq!(tracks.least_scanned_to(), None);
}

#[test]
fn progress_is_told_with_events_and_from_time_to_time() {
    let start = Instant::now();
    let mut tracks = following(&[A, B], start);
    repaired(&mut tracks, slice(4, &[]), 10, start);
    assert_eq!(tracks.tell(&[], start), [(A, Position(4)), (B, Position(4))]);
    let event = event_in(0, 1, 5, 5);
    assert!(tracks.read(&event));
    tracks.passed(Position(6));
    assert_eq!(tracks.tell(&[event], start), [(A, Position(6))]);
    assert!(tracks.untold());
    assert_eq!(tracks.tell(&[], start + TELL_EVERY), [(B, Position(6))]);
    assert!(!tracks.untold());
}

#[test]
fn the_tail_is_taken_up_without_overlap() {
    let now = Instant::now();
    let mut tracks = following(&[A], now);
    repaired(&mut tracks, slice(4, &[(0, 3)]), 10, now);
    assert!(!tracks.read(&event_in(0, 1, 3, 3)), "came with the repair");
    assert!(!tracks.read(&event_in(1, 1, 5, 5)), "not mine");
    assert!(tracks.read(&event_in(0, 1, 6, 6)));
}

#[test]
fn what_the_store_does_not_vouch_for_goes_back_and_is_asked_about() {
    let now = Instant::now();
    let mut tracks = following(&[A, B], now);
    repaired(&mut tracks, slice(2, &[(0, 1), (1, 2)]), 100, now);
    assert!(tracks.unsure().is_empty());
    let seen = |tracks: &mut Tracks, shard: i16, position, previous| {
        let event = event_in(shard, 1, position, position as u128);
        tracks.see(&link(position, Some(previous)), &event, now)
    };
    assert_eq!(seen(&mut tracks, 0, 3, 1), Seen::Next);
    tracks.confirm(now);
    assert_eq!(seen(&mut tracks, 0, 5, 3), Seen::Next);
    assert_eq!(seen(&mut tracks, 1, 6, 2), Seen::Next);
    let unsure: Vec<_> = tracks.unsure().iter().map(|place| place.position.0).collect();
    assert_eq!(unsure, [5, 6]);

    let dead = tracks.unsure()[1].clone();
    assert_eq!(tracks.go_back(Some(&[dead])), [B]);
    assert_eq!((tracks.position(A), tracks.position(B)), (Some(Position(5)), Some(Position(2))));
    assert_eq!(tracks.doubtful().iter().map(|(shard, _)| *shard).collect::<Vec<_>>(), [B]);
    assert_eq!(tracks.go_back(None), [A], "the store is away");
    assert_eq!(tracks.position(A), Some(Position(3)));
}
