//! The log itself: what `append_batch` answers, and that nothing in it ever changes.

use std::sync::Arc;

use chrono::DateTime;
use insight::domain::ids::{Epoch, Position, StreamId, Version};
use insight::event_store::{
    Append, Appender, Error, Guard, Outcome, Part, Place, PlaceCheck, check_place, read,
};
use insight::events::NewEvent;
use sqlx::Row;
use uuid::Uuid;

use crate::environment;

fn append(stream: &str, expected: Option<i64>, events: usize) -> Append {
    let event = NewEvent {
        event_type: "PortfolioOpened",
        schema_version: 1,
        payload: r#"{"a":  1}"#.into(),
        occurred_at: DateTime::UNIX_EPOCH,
    };
    Append {
        command_id: Uuid::now_v7(),
        request_hash: Arc::from([1_u8; 32].as_slice()),
        correlation_id: Uuid::now_v7(),
        causation_position: None,
        actor: "test".into(),
        parts: vec![Part {
            stream_id: stream.into(),
            expected: expected.map(Version),
            events: vec![event; events],
        }],
        guards: Vec::new(),
        details: None,
        refused: None,
    }
}

fn accepted(position: i64) -> Outcome {
    Outcome::Accepted { position: Position(position) }
}

#[tokio::test]
async fn every_command_of_a_batch_has_its_own_answer() {
    let database = environment::database().await;
    let mut appender = Appender::new(database.options());
    let first = append("portfolio-a", Some(0), 2);
    let answered = appender.append(std::slice::from_ref(&first)).await.unwrap();
    assert_eq!(answered.outcomes, [accepted(1)]);
    assert_eq!((answered.head, answered.epoch), (Position(2), Epoch(1)));

    let stale = append("portfolio-a", Some(1), 1);
    let conflict = Outcome::Conflict { stream_id: StreamId::from("portfolio-a"), current: Version(2) };
    let fresh = append("portfolio-b", Some(0), 1);
    let upon_fresh = append("portfolio-b", Some(1), 1);
    let answered = appender.append(&[stale, first, fresh, upon_fresh]).await.unwrap();
    let known = Outcome::Known { position: Position(1) };
    assert_eq!(answered.outcomes, [conflict, known, accepted(3), accepted(4)]);

    let events = read::after(&database.pool, Position(0), 10).await.unwrap().events;
    assert_eq!(events.iter().map(|e| e.version.0).collect::<Vec<_>>(), [1, 2, 1, 2]);
    assert_eq!(&*events[0].payload, r#"{"a":  1}"#, "the bytes are kept");
}

#[tokio::test]
async fn what_leans_on_a_fallen_command_falls_even_where_its_version_fits() {
    let database = environment::database().await;
    let mut appender = Appender::new(database.options());
    let known = append("portfolio-a", Some(0), 1);
    appender.append(std::slice::from_ref(&known)).await.unwrap();
    // Decided on version 1, in a batch whose first command it takes for new: the version would fit.
    let resent = Append { parts: append("portfolio-a", Some(1), 1).parts, ..known };
    let leaning = append("portfolio-a", Some(2), 1);
    let apart = append("portfolio-b", Some(0), 1);
    let answered = appender.append(&[resent, leaning, apart]).await.unwrap();
    let expected = [Outcome::Known { position: Position(1) }, Outcome::DecideAgain, accepted(2)];
    assert_eq!(answered.outcomes, expected);
}

#[tokio::test]
async fn a_guard_holds_what_it_guards_and_guards_do_not_exclude_each_other() {
    let database = environment::database().await;
    let mut appender = Appender::new(database.options());
    appender.append(&[append("asset-x", Some(0), 1)]).await.unwrap();
    let guarded = |stream: &str, version| Append {
        guards: vec![Guard { stream_id: "asset-x".into(), expected: Version(version) }],
        ..append(stream, Some(0), 1)
    };
    let answered = appender.append(&[guarded("portfolio-a", 1), guarded("portfolio-b", 1)]).await.unwrap();
    assert_eq!(answered.outcomes, [accepted(2), accepted(3)]);
    let answered = appender.append(&[guarded("portfolio-c", 0)]).await.unwrap();
    let conflict = Outcome::Conflict { stream_id: StreamId::from("asset-x"), current: Version(1) };
    assert_eq!(answered.outcomes, [conflict]);
}

#[tokio::test]
async fn blind_appends_are_numbered_by_the_log() {
    let database = environment::database().await;
    let mut appender = Appender::new(database.options());
    let batch = [append("price-x", None, 2), append("price-x", None, 1), append("price-y", None, 1)];
    appender.append(&batch).await.unwrap();
    appender.append(&[append("price-x", None, 1)]).await.unwrap();
    let events = read::after(&database.pool, Position(0), 10).await.unwrap().events;
    assert_eq!(events.iter().map(|e| e.version.0).collect::<Vec<_>>(), [1, 2, 3, 1, 4]);
}

#[tokio::test]
async fn one_that_cannot_be_stored_does_not_hold_up_the_others() {
    let database = environment::database().await;
    let mut appender = Appender::new(database.options());
    let mut broken = append("portfolio-c", Some(0), 1);
    broken.parts[0].events[0].payload = "not json".into();
    let batch = [append("portfolio-a", Some(0), 1), append("portfolio-b", Some(0), 1), broken];
    let outcomes = appender.append(&batch).await.unwrap().outcomes;
    assert_eq!(outcomes[..2], [accepted(1), accepted(2)]);
    assert!(matches!(outcomes[2], Outcome::Unstorable { .. }));
}

#[tokio::test]
async fn nothing_in_the_log_is_changed_or_removed() {
    let database = environment::database().await;
    Appender::new(database.options()).append(&[append("portfolio-a", Some(0), 1)]).await.unwrap();
    for statement in [
        "update events set version = 2",
        "delete from events",
        "truncate events",
        "delete from events where false",
    ] {
        let refused = sqlx::query(statement).execute(&database.pool).await.unwrap_err();
        assert!(refused.to_string().contains("append-only"), "{statement}: {refused}");
    }
}

#[tokio::test]
async fn append_batch_wants_read_committed() {
    let database = environment::database().await;
    let mut connection = database.pool.acquire().await.unwrap();
    sqlx::query("set default_transaction_isolation = 'repeatable read'")
        .execute(&mut *connection)
        .await
        .unwrap();
    let empty = "select append_batch('{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}','{}')";
    let refused = sqlx::query(empty).execute(&mut *connection).await.unwrap_err();
    assert!(refused.to_string().contains("read committed"), "{refused}");
}

/// A restore to an earlier moment: the same positions hold other events.
#[tokio::test]
async fn another_history_is_recognised_as_a_fork() {
    let database = environment::database().await;
    let mut appender = Appender::new(database.options());
    appender.append(&[append("portfolio-a", Some(0), 1)]).await.unwrap();
    let seen = read::find(&database.pool, Position(1)).await.unwrap().unwrap();
    let place = Place::from(&seen);
    assert_eq!(check_place(&database.pool, &place).await.unwrap(), PlaceCheck::Same);

    sqlx::query("alter table events disable trigger events_immutable").execute(&database.pool).await.unwrap();
    sqlx::query("truncate events").execute(&database.pool).await.unwrap();
    assert!(matches!(check_place(&database.pool, &place).await.unwrap(), PlaceCheck::Fork { .. }));
    Appender::new(database.options()).append(&[append("portfolio-b", Some(0), 1)]).await.unwrap();
    assert!(matches!(check_place(&database.pool, &place).await.unwrap(), PlaceCheck::Fork { .. }));

    // The appender compares when it reconnects.
    let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                where application_name = 'insight append' and datname = current_database()";
    let killed: i64 = sqlx::query(kill).fetch_one(&database.pool).await.unwrap().get(0);
    assert!(killed > 0);
    let error = appender.append(&[append("portfolio-c", Some(0), 1)]).await.unwrap_err();
    assert!(matches!(error, Error::Fork { .. }), "{error}");
}
