//! The judgement when the system has settled: of the log, the topic, the read models, and all that clients were told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use insight::domain::ids::Shard;
use insight::event_store::read;
use insight::kafka::{KafkaSettings, scan};
use insight::verify::verify;
use sqlx::PgPool;
use tokio::time::sleep;

use crate::caller::Caller;
use crate::load::{EVENTS_OF_LISTING, LISTING, Memory, assert_promises_kept, commands_in_log};
use crate::read_models::{ALL, reached_within};

/// How long the read models and the topic may take to catch up.
const SETTLES_WITHIN: Duration = Duration::from_secs(300);
/// Commands that nobody waited for and that are sent again, at most.
const RETRIED_MAX: usize = 3_000;

/// Sends what nobody knows the outcome of once more: whatever is in the log already is answered as it stands there.
pub async fn retry_given_up(pool: &PgPool, caller: &mut Caller, memory: &mut Memory) -> usize {
    let (log, _) = commands_in_log(pool).await;
    let given_up = std::mem::take(&mut memory.given_up);
    let retried = given_up.len().min(RETRIED_MAX);
    for request in given_up.into_iter().take(RETRIED_MAX) {
        let answer = caller.send(&request).await;
        let told = answer.body["events"].as_array().cloned().unwrap_or_default();
        let told: Vec<i64> = told.iter().filter_map(|event| event["position"].as_i64()).collect();
        if request.path == LISTING && answer.is_accepted() {
            assert_eq!(told.len(), EVENTS_OF_LISTING, "a command is whole: {request:?}: {answer:?}");
        }
        if let Some(positions) = log.get(&request.command_id()) {
            assert_eq!(
                &told, positions,
                "a retry is answered by what is in the log: {request:?}: {answer:?}"
            );
        }
        memory.take(&request, &answer);
    }
    retried
}

/// Waits until every read model has caught up; how long that took.
pub async fn settle(pool: &PgPool) -> Duration {
    let began = Instant::now();
    let head = read::head(pool).await.unwrap();
    reached_within(pool, head, SETTLES_WITHIN).await;
    began.elapsed()
}

/// Says what the reference ledger says, and panics where a statement does not hold.
pub async fn judge(
    pool: &PgPool,
    bus: Option<&KafkaSettings>,
    deleted: &BTreeMap<Shard, i64>,
    memory: &Memory,
) {
    assert_log_is_whole(pool).await;
    assert_promises_kept(pool, memory).await;
    if let Some(bus) = bus {
        assert_topic_is_log(pool, bus, deleted).await;
    }
    let report = verify(pool).await.unwrap();
    println!("{report}");
    assert!(report.is_clean(), "read models at a position equal the fold of the events up to it: {report}");
    let compared: Vec<_> = report.read_models.iter().filter(|it| it.rows > 0).map(|it| it.name).collect();
    assert!(ALL.iter().all(|name| compared.contains(name)), "every read model has rows: {report}");
}

/// Positions and versions, asked of the table itself.
pub async fn assert_log_is_whole(pool: &PgPool) {
    const POSITIONS: &str =
        "select count(*), coalesce(min(position), 0), coalesce(max(position), 0) from events";
    let (count, first, last): (i64, i64, i64) = sqlx::query_as(POSITIONS).fetch_one(pool).await.unwrap();
    assert_eq!((count, first), (last, 1), "positions are exactly 1..head");
    const VERSIONS: &str = "select count(*) from (select version, row_number() over \
        (partition by stream_id order by position) as place from events) as e where version <> place";
    let wrong: i64 = sqlx::query_scalar(VERSIONS).fetch_one(pool).await.unwrap();
    assert_eq!(wrong, 0, "versions follow positions");
    const TIMES: &str = "select count(*) from (select recorded_at, lag(recorded_at) over (order by position) as before \
        from events) as e where recorded_at < before";
    let back: i64 = sqlx::query_scalar(TIMES).fetch_one(pool).await.unwrap();
    assert_eq!(back, 0, "time never goes back in the log");
}

/// Per shard the topic holds what the log holds: first occurrences in order, nothing else, the same bytes. Of a shard that records
/// were deleted of, everything after the last deleted one is there, and of what was before it as much as there happens to be.
async fn assert_topic_is_log(pool: &PgPool, bus: &KafkaSettings, deleted: &BTreeMap<Shard, i64>) {
    let shards: Vec<i16> =
        sqlx::query_scalar("select distinct shard from events order by 1").fetch_all(pool).await.unwrap();
    let mut stored = BTreeMap::new();
    for shard in shards {
        const OF_SHARD: &str = "select position, command_id || '.' || ordinal || ' ' || payload::text from events \
            where shard = $1 order by position";
        let events: Vec<(i64, String)> = sqlx::query_as(OF_SHARD).bind(shard).fetch_all(pool).await.unwrap();
        stored.insert(Shard(shard), events.into_iter().collect::<BTreeMap<_, _>>());
    }
    let began = Instant::now();
    // The relay may still have something to do.
    while let Some(difference) = difference(&stored, bus, deleted).await {
        assert!(
            began.elapsed() < SETTLES_WITHIN,
            "per shard the topic holds what the log holds: {difference}"
        );
        sleep(Duration::from_secs(1)).await;
    }
}

async fn difference(
    stored: &BTreeMap<Shard, BTreeMap<i64, String>>,
    bus: &KafkaSettings,
    deleted: &BTreeMap<Shard, i64>,
) -> Option<String> {
    let extents = match scan::extents(bus, stored.keys().copied().collect()).await {
        Ok(extents) => extents,
        Err(error) => return Some(error.to_string()),
    };
    // What is to come, in order; what was deleted may come.
    let mut to_come = stored.clone();
    let mut records = scan::scan(bus, extents);
    while let Some(slice) = records.recv().await {
        let slice = match slice {
            Ok(slice) => slice,
            Err(error) => return Some(error.to_string()),
        };
        for record in slice {
            let event = &record.event;
            let (shard, position) = (event.shard, event.position.0);
            let text = format!("{} {}", event.event_id, event.payload);
            assert!(
                stored.get(&shard).and_then(|events| events.get(&position)).is_some_and(|it| *it == text),
                "a topic holds nothing but the log, to the byte: {position} of shard {shard} is {text}"
            );
            let to_come = to_come.entry(shard).or_default();
            if to_come.contains_key(&position) {
                let may_be_gone = deleted.get(&shard).copied().unwrap_or(0);
                let passed: Vec<i64> = to_come.range(..position).map(|(position, _)| *position).collect();
                assert!(
                    passed.iter().all(|passed| *passed <= may_be_gone),
                    "first occurrences are in order: {position} of shard {shard} comes before {passed:?}"
                );
                *to_come = to_come.split_off(&(position + 1));
            }
        }
    }
    to_come.iter().find_map(|(shard, events)| {
        let may_be_gone = deleted.get(shard).copied().unwrap_or(0);
        let missing = events.keys().find(|position| **position > may_be_gone)?;
        Some(format!("{missing} of shard {shard} and perhaps more is not in the topic"))
    })
}
