//! The sealed log: the same seals whoever computes them, one at a time, and nothing that was altered goes unseen.

use std::process::{Command, Output};
use std::time::Duration;

use insight::domain::ids::Position;
use insight::event_store::Error;
use insight::event_store::seal::SealAt;
use insight::event_store::seals::{self, Sealed};
use insight::verify::{SealsReport, verify_seals};
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::sync::CancellationToken;

use crate::environment::{self, TestDatabase};
use crate::kafka_log::{append, begin_epoch, forget_from, until};

const SHARDS: [i16; 4] = [0, 5, 32, 40];

/// A log of so many events, sealed as far as whole blocks go.
async fn sealed(events: i64) -> TestDatabase {
    let database = environment::database().await;
    append(&database.pool, &SHARDS, events).await;
    seal(&database.pool).await;
    database
}

async fn seal(pool: &PgPool) {
    while matches!(seals::seal_next(pool).await.unwrap(), Sealed::Block(_)) {}
}

async fn check(pool: &PgPool, kept: &[SealAt]) -> SealsReport {
    verify_seals(pool, kept.to_vec(), &mut |_| {}).await.unwrap()
}

/// What an owner of the database can do: whatever the triggers say.
async fn force(pool: &PgPool, statements: &[&str]) {
    let mut connection = pool.acquire().await.unwrap();
    let off = "set session_replication_role = replica";
    for statement in [&[off][..], statements, &["set session_replication_role = origin"]].concat() {
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut *connection).await.unwrap();
    }
}

/// The same form in SQL, written by another hand.
const IN_SQL: &str = r"
with fields as (
    select position, last, array[
        int8send(position), uuid_send(command_id), int4send(ordinal), convert_to(stream_id, 'UTF8'), int8send(version),
        int2send(shard), convert_to(event_type, 'UTF8'), int2send(schema_version), request_hash,
        uuid_send(correlation_id), int8send(causation_position),
        int8send((extract(epoch from occurred_at) * 1000000)::bigint),
        int8send((extract(epoch from recorded_at) * 1000000)::bigint),
        convert_to(payload::text, 'UTF8'), convert_to(metadata::text, 'UTF8')] as fields
    from events, lateral (select (position + 4095) / 4096 * 4096 as last) as block
), hashes as (
    select position, last, (
        select sha256(string_agg(coalesce(int4send(octet_length(field)) || field, '\xffffffff'), '' order by place))
        from unnest(fields) with ordinality as f (field, place)) as hash
    from fields
), blocks as (
    select last, max(position) as position, string_agg(hash, '' order by position) as hashes,
        string_agg(substr(hash, 1, 8), '' order by position) as marks
    from hashes group by last
), chain as (
    with recursive chain as (
        select b.position, b.marks, sha256(decode(repeat('00', 32), 'hex') || b.hashes) as seal from blocks b where last = 4096
        union all
        select b.position, b.marks, sha256(c.seal || b.hashes) from chain c join blocks b on b.last = c.position + 4096
    )
    select * from chain
)
select position, encode(seal, 'hex'), marks from chain order by position";

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_computes_the_same_seals() {
    let database = environment::database().await;
    let pool = &database.pool;
    append(pool, &SHARDS, 9_000).await;
    force(
        pool,
        &[
            "update events set causation_position = position - 1 where position % 3 = 2",
            r#"update events set payload = '{"grün":  "✓ \u00e9", "n":1.50}', metadata = '{"actor":"käthe"}' where position % 7 = 0"#,
            "update events set payload = '{}', stream_id = '', request_hash = '' where position = 8000",
            "update events set occurred_at = '1969-12-31 23:59:59.999999+00' where position = 8001",
        ],
    )
    .await;
    begin_epoch(pool, 2).await;
    seal(pool).await;
    let expected: Vec<(i64, String, Vec<u8>)> = sqlx::query_as(IN_SQL).fetch_all(pool).await.unwrap();
    assert_eq!(expected.iter().map(|it| it.0).collect::<Vec<_>>(), [4_096, 8_192, 9_000]);
    let stored = seals::list(pool).await.unwrap();
    let head = seals::seal_of_head(pool).await.unwrap();
    for (at, (position, seal, _)) in stored.iter().chain([&head]).zip(&expected) {
        assert_eq!(at.to_string(), format!("{position}:{seal}"));
    }
    assert_eq!(stored.len(), 2);
    assert_eq!(seals::newest(pool).await.unwrap().unwrap().marks, expected[1].2);
    let report = check(pool, &[head, stored[0], stored[1]]).await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.sealed_events, report.kept_agreeing), (8_192, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_that_are_killed_at_random_leave_whole_seals_and_none_twice() {
    let database = environment::database().await;
    let pool = &database.pool;
    let appending = {
        let pool = pool.clone();
        tokio::spawn(async move {
            for _ in 0..30 {
                append(&pool, &SHARDS, 1_000).await;
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        })
    };
    for round in 0..12_u64 {
        let running: Vec<_> =
            (0..3).map(|_| tokio::spawn(seals::run(pool.clone(), CancellationToken::new()))).collect();
        tokio::time::sleep(Duration::from_millis(40 + round * 23)).await;
        running.iter().for_each(tokio::task::JoinHandle::abort);
    }
    appending.await.unwrap();
    let stop = CancellationToken::new();
    let last = tokio::spawn(seals::run(pool.clone(), stop.clone()));
    until("every block is sealed", Duration::from_secs(60), || async {
        seals::list(pool).await.unwrap().len() == 30_000 / 4_096
    })
    .await;
    stop.cancel();
    last.await.unwrap().unwrap();
    let report = check(pool, &[]).await;
    assert!(report.is_clean() && report.sealed_events == 28_672, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_altered_inserted_or_removed_is_named() {
    const DAMAGES: &[(&[&str], &str, &str)] = &[
        (
            &["update events set payload = '{\"i\":1}' where position = 5000"],
            "position 5000",
            "not the event",
        ),
        (
            &["update events set metadata = '{\"actor\":\"test\" }' where position = 4096"],
            "position 4096",
            "not the event",
        ),
        (
            &["update events set occurred_at = occurred_at + interval '1 microsecond' where position = 4097"],
            "position 4097",
            "not the event",
        ),
        (
            &["update events set causation_position = 1 where position = 7777"],
            "position 7777",
            "not the event",
        ),
        (&["update events set request_hash = sha256('x') where position = 1"], "position 1", "not the event"),
        (&["delete from events where position = 3000"], "position 3000", "is missing"),
        // Removed, and the hole closed.
        (
            &[
                "delete from events where position = 5000",
                "update events set position = position + 1000000 where position > 5000",
                "update events set position = position - 1000001 where position > 1000000",
            ],
            "position 5000",
            "nor are 3192 after it up to 8192",
        ),
        // Inserted, and room made for it.
        (
            &[
                "update events set position = position + 1000000 where position >= 6000",
                "insert into events select 6000, gen_random_uuid(), ordinal, stream_id, version + 1000000, shard, event_type, \
                 schema_version, request_hash, correlation_id, causation_position, occurred_at, recorded_at, payload, metadata \
                 from events where position = 5999",
                "update events set position = position - 999999 where position > 1000000",
            ],
            "position 6000",
            "not the event",
        ),
        (
            &[
                "update events set position = 1006000 where position = 6000",
                "update events set position = 6000 where position = 6001",
                "update events set position = 6001 where position = 1006000",
            ],
            "position 6000",
            "nor are 1 after it",
        ),
        // Inserted where nobody reads.
        (
            &[
                "alter table events drop constraint events_position_positive",
                "insert into events select -5, gen_random_uuid(), ordinal, stream_id, version + 1000000, shard, event_type, \
                 schema_version, request_hash, correlation_id, causation_position, occurred_at, recorded_at, payload, metadata \
                 from events where position = 5999",
            ],
            "log",
            "the first stands at -5",
        ),
        (&["delete from events where position > 8000"], "seal at position 8192", "the log ends at 8000"),
        (
            &["update seals set seal = sha256('x') where last_position = 4096"],
            "seal at position 4096",
            "a seal was altered",
        ),
        (
            &["update seals set seal = sha256('x') where last_position = 8192"],
            "seal at position 8192",
            "a seal was altered",
        ),
        (
            &["update seals set marks = overlay(marks placing '\\x00' from 81) where last_position = 4096"],
            "position 11",
            "not the event",
        ),
        (&["delete from seals where last_position = 4096"], "seal at position 4096", "is missing"),
    ];
    for (damage, place, found) in DAMAGES {
        let database = sealed(9_000).await;
        assert!(check(&database.pool, &[]).await.is_clean());
        force(&database.pool, damage).await;
        let report = check(&database.pool, &[]).await;
        let told = report.differences.iter().any(|it| it.place == *place && it.found.contains(found));
        assert!(told && !report.is_clean(), "{damage:?}: {report:?}");
        // Nothing behind it is made a difference as well, but for the seal that was made upon an altered one.
        assert!(report.difference_count <= 2, "{damage:?}: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_rewrites_the_seals_as_well_is_caught_by_a_kept_one() {
    let database = sealed(9_000).await;
    let pool = &database.pool;
    let mut kept = seals::list(pool).await.unwrap();
    kept.push(seals::seal_of_head(pool).await.unwrap());
    append(pool, &SHARDS, 100).await;
    assert_eq!(check(pool, &kept).await.kept_agreeing, 3);

    force(pool, &["update events set payload = '{\"i\":0}' where position = 5000", "truncate seals"]).await;
    seal(pool).await;
    assert!(check(pool, &[]).await.is_clean(), "the log and its seals agree with each other");
    let report = check(pool, &kept).await;
    let places: Vec<&str> = report.differences.iter().map(|it| it.place.as_str()).collect();
    assert_eq!(places, ["kept seal at position 8192", "kept seal at position 9000"], "{report:?}");
    assert!(report.differences[0].found.contains("something from 4097 to 8192"), "{report:?}");
    assert_eq!((report.kept, report.kept_agreeing), (3, 1));

    // The end cut off, and the seals with it.
    force(pool, &["delete from events where position > 8500"]).await;
    let report = check(pool, &kept).await;
    assert!(report.differences.iter().any(|it| it.found == "the log ends at 8500"), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_history_is_not_sealed_upon_the_seals_of_this_one() {
    let database = sealed(5_000).await;
    let pool = &database.pool;
    // A restore brings seals and log back together: it goes on, in whatever epoch.
    begin_epoch(pool, 2).await;
    append(pool, &SHARDS, 4_000).await;
    assert_eq!(seals::seal_next(pool).await.unwrap().position(), Some(8_192));
    assert!(check(pool, &[]).await.is_clean());
    // Here only the log went back.
    forget_from(pool, 8_000).await;
    append(pool, &SHARDS, 9_000).await;
    let error = seals::seal_next(pool).await.unwrap_err();
    assert!(matches!(error, Error::Unsealable { position: Position(8_192), .. }), "{error}");
    // The task says so and stays.
    let stop = CancellationToken::new();
    let running = tokio::spawn(seals::run(pool.clone(), stop.clone()));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(!running.is_finished());
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(seals::list(pool).await.unwrap().len(), 2);
    let report = check(pool, &[]).await;
    assert_eq!(report.differences[0].place, "position 8000", "{report:?}");
}

trait At {
    fn position(self) -> Option<i64>;
}

impl At for Sealed {
    fn position(self) -> Option<i64> {
        match self {
            Sealed::Block(at) => Some(at.position.0),
            _ => None,
        }
    }
}

fn insight(database: &TestDatabase, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_insight"));
    command.env("LOG", "error").env("DATABASE_URL", database.url()).args(arguments).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verbs_print_seals_that_can_be_kept_in_a_file() {
    let database = environment::database().await;
    append(&database.pool, &SHARDS, 9_000).await;
    let output = insight(&database, &["seal", "--all"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let seals: Vec<SealAt> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(seals.iter().map(|it| it.position.0).collect::<Vec<_>>(), [4_096, 8_192, 9_000]);
    assert_eq!(seals::list(&database.pool).await.unwrap(), seals[..2]);
    let newest = String::from_utf8(insight(&database, &["seal"]).stdout).unwrap();
    assert_eq!(newest.lines().collect::<Vec<_>>(), text.lines().skip(1).collect::<Vec<_>>());

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kept").display().to_string();
    std::fs::write(&file, &text).unwrap();
    let kept = seals[2].to_string();
    for arguments in
        [&["verify", "--seals"][..], &["verify", "--seals", &file], &["verify", "--seals", &kept, &file]]
    {
        let output = insight(&database, arguments);
        assert!(output.status.success(), "{output:?}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("every seal is that of this log"),
            "{output:?}"
        );
    }
    let another = format!("9000:{}", "0".repeat(64));
    let output = insight(&database, &["verify", "--json", "--seals", &another]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["differences"][0]["place"], "kept seal at position 9000");
    assert_eq!(report["difference_count"], 1);
    let output = insight(&database, &["verify", "--seals", "nonsense"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--seals nonsense"), "{output:?}");
}
