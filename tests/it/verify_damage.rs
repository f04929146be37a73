//! Every kind of damage, one at a time, in a history through all read models: `insight verify` finds each of them and says where.

use std::process::Command;

use futures::StreamExt;
use insight::event_store::read;
use insight::feed::{Source, StoreTail, WindowLimits};
use insight::verify::{Options, Report, Sample, SampleSize, verify, verify_with};
use sqlx::{AssertSqlSafe, PgPool};

use crate::environment::{self, TestDatabase};
use crate::kafka_log::begin_epoch;
use crate::ledger::Ledger;
use crate::random_history::RandomHistory;
use crate::read_models::{Projectors, reached};

/// Statements, and words of the place and of what is found there.
type Damage = (&'static [&'static str], &'static str, &'static str);

/// A history in two epochs, in every read model, with the progress that a relay would have written.
async fn history() -> TestDatabase {
    let database = environment::database().await;
    let pool = &database.pool;
    let mut history = None;
    for epoch in 1..=2 {
        if epoch == 2 {
            begin_epoch(pool, epoch).await;
        }
        let source = Source::Store(StoreTail::start(pool.clone(), WindowLimits::default()));
        let projectors = Projectors::start(&source, pool).await;
        let writing = Ledger::start(&database);
        let history = match &mut history {
            Some(history) => history,
            none => none.insert(RandomHistory::start(&writing.commands, 7).await),
        };
        history.go_on(&writing.commands, 200).await;
        history.deposit(&writing.commands).await;
        reached(pool, read::head(pool).await.unwrap()).await;
        projectors.stop().await;
    }
    const PROGRESS: &str = "insert into relay_progress (topic, shard, epoch, position, kafka_offset) \
        select 'portfolio.events.v1', shard, (select max(epoch) from log_epochs where first_position <= max(position)), \
            max(position), count(*) - 1 from events where shard < 32 group by shard";
    sqlx::query(PROGRESS).execute(pool).await.unwrap();
    database
}

async fn damaged(pool: &PgPool, statements: &[&'static str]) -> Report {
    let mut connection = pool.acquire().await.unwrap();
    // What the owner of a database can do.
    sqlx::query("set session_replication_role = replica").execute(&mut *connection).await.unwrap();
    for statement in statements {
        let done = sqlx::raw_sql(AssertSqlSafe(*statement)).execute(&mut *connection).await.unwrap();
        let is_data = ["update", "delete", "insert", "with"].iter().any(|verb| statement.starts_with(verb));
        assert!(done.rows_affected() > 0 || !is_data, "{statement} changed nothing");
    }
    connection.detach();
    verify(pool).await.unwrap()
}

/// The read models.
const ROWS: &[Damage] = &[
    (
        &[
            "update holdings.holdings set quantity = quantity + 0.0000000001 where asset_id = (select min(asset_id::text)::uuid from holdings.holdings)",
        ],
        "holdings.holdings",
        "is ",
    ),
    (
        &["delete from holdings.holdings where quantity = (select max(quantity) from holdings.holdings)"],
        "holdings.holdings",
        "is missing",
    ),
    (
        &[
            "insert into holdings.lots select portfolio_id, asset_id, position + 1000000, opened_on, quantity, cost, fx_rate from holdings.lots limit 1",
        ],
        "holdings.lots",
        "should not be there",
    ),
    (
        &[
            "update holdings.lots set cost = cost - 0.0000000001 where position = (select max(position) from holdings.lots)",
        ],
        ", cost",
        "should be",
    ),
    (
        &[
            "update holdings.holdings set realized_gain = realized_gain + 0.0000000001 where realized_gain = (select max(realized_gain) from holdings.holdings)",
        ],
        ", realized_gain",
        "should be",
    ),
    (
        &[
            "update holdings.cash set balance = balance + 0.01 where balance = (select max(balance) from holdings.cash)",
        ],
        "holdings.cash",
        "should be",
    ),
    (
        &["delete from holdings.cash where balance = (select max(balance) from holdings.cash)"],
        "holdings.cash",
        "is missing",
    ),
    (
        &[
            "update holdings.entries set trade_date = trade_date + 1 where position = (select min(position) from holdings.entries)",
        ],
        ", trade_date",
        "should be",
    ),
    (
        &["delete from holdings.entries where position = (select max(position) from holdings.entries)"],
        "holdings.entries",
        "is missing",
    ),
    (
        &[
            "update holdings.ledgers set last_entry = null where last_entry = (select max(last_entry) from holdings.ledgers)",
        ],
        ", last_entry",
        "is null",
    ),
    (&["update prices.quotes set price = price * 1.01 where symbol = 'ALPHA'"], "prices.quotes", "should be"),
    (
        &["update prices.quotes set priced_at = priced_at - interval '1 day' where symbol = 'BRAVO'"],
        ", priced_at",
        "should be",
    ),
    (
        &[
            "update prices.quotes set ranked_sources = array_append(ranked_sources, 'rumour') where symbol = 'ECHO'",
        ],
        ", ranked_sources",
        "rumour",
    ),
    (
        &[
            "update prices.price_sources set first_used = first_used + 1 where source = 'exchange' and close_day = (select max(close_day) from prices.price_sources where source = 'exchange')",
        ],
        ", first_used",
        "should be",
    ),
    (
        &[
            "update prices.closes set price = price + 0.000001 where (asset_id, day) = (select asset_id, day from prices.closes where source = 'exchange' order by day, asset_id limit 1)",
        ],
        "prices.closes",
        "should be",
    ),
    (
        &[
            "delete from prices.closes where (asset_id, day, source) = (select asset_id, day, source from prices.closes order by day desc, asset_id limit 1)",
        ],
        "prices.closes",
        "is missing",
    ),
    (
        &[
            "insert into prices.closes select gen_random_uuid(), source, day, price, volume, position from prices.closes limit 1",
        ],
        "prices.closes",
        "should not be there",
    ),
    (
        &[
            "update valuations.valued_portfolios set portfolio_position = portfolio_position - 1 where portfolio_position = (select max(portfolio_position) from valuations.valued_portfolios)",
        ],
        ", portfolio_position",
        "should be",
    ),
    (
        &[
            "update valuations.valued_portfolios set price_position = price_position + 1 where price_position = (select max(price_position) from valuations.valued_portfolios)",
        ],
        ", price_position",
        "should be",
    ),
    (
        &[
            "update valuations.valued_holdings set weight = weight + 0.0000000001 where weight = (select max(weight) from valuations.valued_holdings)",
        ],
        ", weight",
        "should be",
    ),
    (
        &[
            "update valuations.valued_holdings set unpriced = 'no_price' where price = (select max(price) from valuations.valued_holdings)",
        ],
        ", unpriced",
        "should be null",
    ),
    (
        &[
            "delete from valuations.valued_cash where balance = (select max(balance) from valuations.valued_cash)",
        ],
        "valuations.valued_cash",
        "is missing",
    ),
    (
        &[
            "update risk.portfolio_risks set volatility = volatility * 1.00000000001 where volatility = (select max(volatility) from risk.portfolio_risks)",
        ],
        ", volatility",
        "should be",
    ),
    (
        &[
            "update risk.portfolio_risks set model_hash = repeat('0', 64) where model_hash is not null and portfolio_id = (select min(portfolio_id::text)::uuid from risk.portfolio_risks)",
        ],
        ", model_hash",
        "should be",
    ),
    (
        &[
            "update risk.portfolio_risks set figures = '{}' where portfolio_id = (select min(portfolio_id::text)::uuid from risk.portfolio_risks)",
        ],
        "risk.portfolio_risks",
        "does not say",
    ),
    (
        &[
            "delete from risk.portfolio_risks where portfolio_id = (select min(portfolio_id::text)::uuid from risk.portfolio_risks)",
        ],
        "risk.portfolio_risks",
        "is missing",
    ),
    (
        &["delete from activity.activities where position = (select max(position) from activity.activities)"],
        "activity.activities",
        "is missing",
    ),
    (
        &[
            "alter table activity.activities drop constraint activities_key",
            "insert into activity.activities select * from activity.activities where position = (select max(position) from activity.activities)",
        ],
        "activity.activities",
        "should not be there",
    ),
    (
        &[
            "update activity.activities set note = 'another' where position = (select max(position) from activity.activities)",
        ],
        ", note",
        "is another",
    ),
    (
        &[
            "insert into activity.activities select gen_random_uuid(), position, event_id, kind, happened_on, occurred_at, recorded_at, asset_id, quantity, price, currency, amount, fee, tax, fx_rate, cash_currency, cash_amount, note from activity.activities limit 1",
        ],
        "activity.activities",
        "the log knows no such portfolio_id",
    ),
    (
        &[
            "update directory.portfolios set name = 'Mine' where position = (select max(position) from directory.portfolios)",
        ],
        ", name",
        "is Mine",
    ),
    (&["update directory.assets set symbol = 'OMEGA' where symbol = 'ALPHA'"], ", symbol", "should be ALPHA"),
    (&["delete from directory.symbols where symbol = 'DELTA'"], "directory.symbols DELTA", "is missing"),
    (
        &["delete from directory.earnings where position = (select max(position) from directory.earnings)"],
        "directory.earnings",
        "is missing",
    ),
    (
        &[
            "update directory.earnings set earnings_per_share = earnings_per_share + 1 where position = (select min(position) from directory.earnings)",
        ],
        ", earnings_per_share",
        "should be",
    ),
    (
        &[
            "update valuations.valued_portfolios set asset_count = asset_count + 1 where asset_count = (select max(asset_count) from valuations.valued_portfolios)",
        ],
        ", asset_count",
        "should be",
    ),
    (
        &[
            "update directory.investors set risk_tolerance = 'high' where position = (select min(position) from directory.investors)",
        ],
        ", risk_tolerance",
        "is high",
    ),
    (
        &[
            "insert into directory.investors select gen_random_uuid(), risk_tolerance, experience_level, registered_at, version, position from directory.investors limit 1",
        ],
        "directory.investors",
        "should not be there",
    ),
];

/// The read model of jobs: a column of every kind, a row too many and too few.
const JOBS: &[Damage] = &[
    (
        &["update jobs.jobs set due_taken = due_taken + interval '1 second' where due_taken is not null"],
        ", due_taken",
        "should be",
    ),
    (
        &[
            "update jobs.jobs set symbols = array_append(symbols, 'OMEGA') where position = (select max(position) from jobs.jobs)",
        ],
        ", symbols",
        "OMEGA",
    ),
    (
        &[
            "update jobs.jobs set interval_seconds = coalesce(interval_seconds, 0) + 1 where position = (select min(position) from jobs.jobs)",
        ],
        ", interval_seconds",
        "is ",
    ),
    (
        &[
            "update jobs.jobs set defined_by = 'somebody' where position = (select min(position) from jobs.jobs)",
        ],
        ", defined_by",
        "is somebody",
    ),
    (
        &["update jobs.jobs set removed_at = settings_at where removed_at is null"],
        ", removed_at",
        "should be null",
    ),
    (
        &["delete from jobs.jobs where position = (select max(position) from jobs.jobs)"],
        "jobs.jobs",
        "is missing",
    ),
    (
        &[
            "insert into jobs.jobs select gen_random_uuid(), name, kind, crontab, time_zone, interval_seconds, soft_limit_seconds, time_limit_seconds, attempts_max, retry_pause_seconds, overlap, symbols, source, defined_by, defined_at, defined_position, settings_at, due_taken, removed_at, version, position from jobs.jobs limit 1",
        ],
        "jobs.jobs",
        "should not be there",
    ),
    (
        &[
            "update jobs.runs set state = 'finished' where scheduled_position = (select max(scheduled_position) from jobs.runs where state <> 'finished')",
        ],
        ", state",
        "is finished",
    ),
    (
        &[
            "update jobs.runs set attempt = attempt + 1 where scheduled_position = (select max(scheduled_position) from jobs.runs)",
        ],
        ", attempt",
        "should be",
    ),
    (&["update jobs.runs set run_id = gen_random_uuid() where run_id is not null"], ", run_id", "should be"),
    (&["update jobs.runs set open_run_id = null where state = 'skipped'"], ", open_run_id", "is null"),
    (&["update jobs.runs set result = result || '!' where state = 'finished'"], ", result", "prices"),
    (&["update jobs.runs set reason = null where reason is not null"], ", reason", "is null"),
    (
        &["update jobs.runs set ended_at = ended_at + interval '1 microsecond' where ended_at is not null"],
        ", ended_at",
        "should be",
    ),
    (
        &["delete from jobs.runs where scheduled_position = (select min(scheduled_position) from jobs.runs)"],
        "jobs.runs",
        "is missing",
    ),
    (
        &[
            "insert into jobs.runs select job_id, scheduled_position + 1000000, run_id, due_at, trigger, state, missed, retry_of, retried_by, open_run_id, attempt, reason, result, scheduled_at, started_at, ended_at, retry_at, position from jobs.runs limit 1",
        ],
        "jobs.runs",
        "should not be there",
    ),
    (
        &[
            "update jobs.checkpoints set position = position - 1, scanned_to = position - 1 where position = (select max(position) from jobs.checkpoints)",
        ],
        "jobs checkpoint",
        "is not of that shard",
    ),
];

/// Checkpoints and what is parked.
const PLACES: &[Damage] = &[
    (
        &["update holdings.checkpoints set scanned_to = scanned_to + 1000000 where shard = 3"],
        "holdings checkpoint of shard 3",
        "scanned to",
    ),
    // Too low, although it names a true event: the rows are ahead of it.
    (
        &[
            "with first as (select distinct on (shard) * from events where stream_id like 'portfolio-%' order by shard, position) update holdings.checkpoints c set epoch = 1, position = f.position, scanned_to = f.position, event_id = f.command_id || '.' || f.ordinal, recorded_at = f.recorded_at from first f where f.shard = c.shard",
        ],
        "holdings.ledgers",
        "should be",
    ),
    (
        &[
            "update activity.checkpoints set position = position - 1, scanned_to = position - 1 where position = (select max(position) from activity.checkpoints)",
        ],
        "activity checkpoint",
        "is not of that shard",
    ),
    (
        &[
            "update directory.checkpoints set event_id = '0192f0c1-2345-7abc-8def-0011223344aa.0' where position = (select max(position) from directory.checkpoints)",
        ],
        "directory checkpoint",
        "names another event",
    ),
    (&["update prices.checkpoints set epoch = 1"], "prices checkpoint of shard 32", "names another event"),
    (
        &[
            "update valuations.checkpoints set recorded_at = recorded_at + interval '1 second' where position = (select max(position) from valuations.checkpoints)",
        ],
        "valuations checkpoint",
        "names another event",
    ),
    (
        &[
            "delete from holdings.checkpoints where position = (select max(position) from holdings.checkpoints)",
        ],
        "holdings checkpoint",
        "is missing",
    ),
    (
        &["insert into prices.checkpoints select 5, epoch, 0, null, null, 0, 0, 0 from prices.checkpoints"],
        "prices checkpoint of shard 5",
        "should not be there",
    ),
    (
        &["update risk.checkpoints set revision = revision + 1000000 where shard = 1"],
        "risk.checkpoints 1, revision",
        "the counter stands at",
    ),
    (
        &[
            "update risk.checkpoints set revision = (select revision from risk.checkpoints where shard = 2) where shard = 1",
        ],
        "risk.checkpoints",
        "as that of shard 1",
    ),
    (
        &["update valuations.checkpoints set price_position = price_position + 1000000 where shard = 4"],
        "valuations checkpoint of shard 4",
        "scanned to",
    ),
    (
        &[
            "insert into activity.parked_streams select stream_id, shard, position, command_id || '.' || ordinal, 'poison', recorded_at from events where position = (select max(position) from events where stream_id like 'portfolio-%')",
        ],
        "activity.parked_streams",
        "parked at",
    ),
    (
        &["insert into activity.parked_streams select 'portfolio-x', 1, 1, 'x.0', 'poison', now()"],
        "activity.parked_streams portfolio-x",
        "is not that event of that stream",
    ),
];

/// The log.
const LOG: &[Damage] = &[
    (
        &[
            "update events set payload = jsonb_set(payload::jsonb, '{attempt}', '9')::json where position = (select max(position) from events where event_type = 'RunFinished')",
        ],
        "position",
        "ends attempt 9",
    ),
    (
        &[
            "update events set payload = replace(payload::text, '\"amount\":\"', '\"amount\":\"1')::json where position = (select max(position) from events where event_type = 'AssetBought')",
        ],
        "position",
        "which is not quantity × price",
    ),
    (&["update events set payload = '{}' where position = 12"], "position 12", "cannot be read"),
    (
        &[
            "update events set payload = jsonb_set(payload::jsonb, '{note}', '\"forged\"')::json where position = (select max(position) from events where event_type = 'AssetSold')",
        ],
        ", note",
        "should be forged",
    ),
    (&["delete from events where position = 300"], "position 300", "is missing"),
    (
        &["delete from events where position > (select max(position) - 5 from events)"],
        "checkpoint",
        "is not of that shard",
    ),
    (
        &[
            "with two as (select min(position) as one from events e where stream_id like 'portfolio-%' and (select n.stream_id from events n where n.position = e.position + 1) like 'portfolio-%' and (select n.stream_id from events n where n.position = e.position + 1) <> stream_id and version > 2) update events set position = position + 1000000 from two where position in (one, one + 1)",
            "update events set position = position - 1000000 + case when position = (select max(position) from events) then -1 else 1 end where position > 1000000",
        ],
        "activity.activities",
        "is missing",
    ),
    // Nobody who reads from position 1 on would see these.
    (
        &[
            "alter table events drop constraint events_position_positive",
            "insert into events select -5, gen_random_uuid(), 0, stream_id, version + 1000, shard, event_type, schema_version, request_hash, correlation_id, null, occurred_at, recorded_at, payload, metadata from events where position = 100",
        ],
        "log",
        "the first stands at -5",
    ),
    (
        &[
            "alter table events drop constraint events_position_positive",
            "update events set position = 0 where position = (select max(position) from events)",
        ],
        "log",
        "the first stands at 0",
    ),
    (
        &[
            "update events set version = version + 1 where position = (select max(position) from events where stream_id like 'portfolio-%')",
        ],
        "position",
        "follows version",
    ),
    (
        &["update events set recorded_at = recorded_at - interval '1 hour' where position = 200"],
        "position 200",
        "before the one before it",
    ),
    (
        &[
            "update events set shard = (shard + 1) % 32 where position = (select max(position) from events where stream_id like 'portfolio-%')",
        ],
        "position",
        "lives in",
    ),
    (
        &["update events set ordinal = ordinal + 1 where position = (select max(position) from events)"],
        "position",
        "stands where 0 should be",
    ),
    (
        &[
            "update events set request_hash = sha256('another') where position = (select min(position) from events where ordinal = 1)",
        ],
        "position",
        "another request's hash",
    ),
    (
        &["update events set request_hash = '\\x00' where position = 50"],
        "position 50",
        "request hash of 1 bytes",
    ),
    (&["update events set metadata = '[]' where position = 60"], "position 60", "metadata"),
    (
        &["update events set causation_position = position where position = 70"],
        "position 70",
        "is not before it",
    ),
    (
        &[
            "update events set event_type = 'AssetDivided' where position = (select max(position) from events where event_type = 'AssetSold')",
        ],
        "position",
        "unknown to this program",
    ),
    (
        &[
            "update events set schema_version = 9 where position = (select max(position) from events where event_type = 'AssetSold')",
        ],
        "position",
        "schema version 9",
    ),
    (
        &["update log_epochs set first_position = 1000000 where epoch = 2"],
        "log_epochs 2, first_position",
        "the log ends at",
    ),
    (
        &["update log_epochs set first_position = 2 where epoch = 1"],
        "log_epochs 1, first_position",
        "should be 1",
    ),
    (
        &[
            "update log_epochs set first_position = first_position - 40 where epoch = 2",
            "update log_epochs set epoch = 3 where epoch = 2",
        ],
        "checkpoint",
        "names another event",
    ),
    (
        &["update relay_progress set position = 1000000 where shard = 4"],
        "relay_progress portfolio.events.v1 4, position",
        "the log ends at",
    ),
    (
        &[
            "update relay_progress set position = position - 1 where position = (select max(position) from relay_progress)",
        ],
        "relay_progress",
        "that event is of shard",
    ),
    (
        &[
            "drop index investor_details_email",
            "update investor_details set email = upper((select min(email) from investor_details)) where email = (select max(email) from investor_details)",
        ],
        "investor_details",
        "same e-mail",
    ),
    (
        &["insert into investor_details (investor_id, name, email) values (gen_random_uuid(), 'A', 'a@b')"],
        "investor_details",
        "no such investor",
    ),
];

/// What keeps the promises.
const STRUCTURE: &[Damage] = &[
    (
        &["alter table events disable trigger events_immutable"],
        "trigger events_immutable of public.events",
        "disabled",
    ),
    (&["drop trigger events_immutable on events"], "trigger events_immutable of public.events", "is missing"),
    (&["drop trigger seals_immutable on seals"], "trigger seals_immutable of public.seals", "is missing"),
    (
        &["create trigger mine after insert on events execute function refuse_change()"],
        "trigger mine of public.events",
        "should not be there",
    ),
    (
        &["create rule mine as on insert to events do instead nothing"],
        "rule mine of public.events",
        "should not be there",
    ),
    (
        &["alter table events drop constraint events_command_ordinal"],
        "constraint events_command_ordinal of public.events",
        "is missing",
    ),
    (
        &["alter table events drop constraint events_size"],
        "constraint events_size of public.events",
        "is missing",
    ),
    (
        &["alter table events drop constraint events_position_positive"],
        "constraint events_position_positive of public.events",
        "is missing",
    ),
    (&["drop index events_shard_position"], "index events_shard_position of public.events", "is missing"),
    (
        &[
            "drop index investor_details_email",
            "create unique index investor_details_email on investor_details (email)",
        ],
        "index investor_details_email",
        "lower(email)",
    ),
    (
        &[
            "create or replace function refuse_change() returns trigger language plpgsql as $$ begin return null; end $$",
        ],
        "function public.refuse_change()",
        "another text",
    ),
    (
        &[
            "do $do$ begin execute replace(pg_get_functiondef('append_batch'::regproc), 'read committed', 'serializable'); end $do$",
        ],
        "function public.append_batch(",
        "another text",
    ),
    (&["alter table events alter column payload type jsonb"], "column payload of public.events", "jsonb"),
    (&["comment on schema holdings is 'shape of another'"], "schema holdings", "shape of another"),
    (
        &["alter table holdings.lots drop constraint lots_key"],
        "constraint lots_key of holdings.lots",
        "is missing",
    ),
    (
        &["alter table holdings.cash add column colour text default 'red'"],
        "column colour of holdings.cash",
        "should not be there",
    ),
    (
        &["alter table activity.activities alter column kind drop not null"],
        "column kind of activity.activities",
        "should be",
    ),
    (
        &["drop index directory.portfolios_by_name"],
        "index portfolios_by_name of directory.portfolios",
        "is missing",
    ),
    (&["drop table valuations.valued_cash"], "table valuations.valued_cash", "is missing"),
    (&["drop table prices.checkpoints"], "table prices.checkpoints", "is missing"),
    (&["drop schema risk cascade"], "schema risk", "is missing"),
    (
        &["alter sequence checkpoint_revisions increment by 2"],
        "sequence public.checkpoint_revisions",
        "should be",
    ),
    (&["update _sqlx_migrations set checksum = '\\x00' where version = 2"], "migration 2", "another text"),
    (&["delete from _sqlx_migrations where version = 3"], "migration 3", "was not run"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_damage_is_found_and_named() {
    let original = history().await;
    let report = verify(&original.pool).await.unwrap();
    assert!(report.is_clean(), "{report}");
    // Copies are made one after the other, and looked at several at a time.
    let copies = futures::stream::iter([ROWS, JOBS, PLACES, LOG, STRUCTURE].concat()).then(|damage| {
        let original = &original;
        async move { (environment::copy_of(original).await, damage) }
    });
    let missed = copies.map(|(database, (statements, place, found))| async move {
        let report = damaged(&database.pool, statements).await;
        database.dropped().await;
        let told = report.differences.iter().any(|it| it.place.contains(place) && it.found.contains(found));
        let said =
            format!("{statements:?}\nshould be found as {place:?}: {found:?}, and the report is\n{report}");
        (!told || report.is_clean()).then_some(said)
    });
    let missed: Vec<String> = missed.buffer_unordered(4).filter_map(std::future::ready).collect().await;
    assert!(missed.is_empty(), "{} were missed:\n{}", missed.len(), missed.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_finds_what_is_wrong_with_it_and_says_what_it_did_not_look_at() {
    let database = history().await;
    let pool = &database.pool;
    let sampled = async |size, seed| {
        let options = Options { sample: Some(Sample { size, seed }) };
        verify_with(pool, options, &mut |_| {}).await.unwrap()
    };
    let few = sampled(SampleSize::Portfolios(3), 1).await;
    assert!(few.is_clean(), "{few}");
    let sample = few.sample.unwrap();
    assert_eq!((sample.portfolios, sample.of, sample.seed), (3, 16, 1));
    assert!(few.to_string().contains("not checked: figures of risk"), "{few}");
    let holdings = |report: &Report| report.read_models[1].rows;
    let all = sampled(SampleSize::Percent(100.0), 1).await;
    assert!(all.is_clean(), "{all}");
    assert!(0 < holdings(&few) && holdings(&few) < holdings(&all), "{few}\n{all}");

    // In one portfolio: some samples of eight of sixteen have it and some have not, and the same seed says the same.
    sqlx::query("update holdings.ledgers set version = version + 1 where portfolio_id = (select min(portfolio_id::text)::uuid from holdings.ledgers)")
        .execute(pool)
        .await
        .unwrap();
    let mut found = 0;
    for seed in 0..10 {
        let report = sampled(SampleSize::Percent(50.0), seed).await;
        assert!(report.difference_count <= 1, "{report}");
        assert_eq!(sampled(SampleSize::Percent(50.0), seed).await.difference_count, report.difference_count);
        found += report.difference_count;
    }
    assert!((1..10).contains(&found), "{found}");
    // The log is read whole.
    let report = damaged(pool, &["update events set metadata = '[]' where position = 60"]).await;
    assert!(report.differences.iter().any(|it| it.place == "position 60"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_and_the_document_say_what_differs() {
    let database = history().await;
    let insight = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_insight"));
        command.env_remove("KAFKA_BROKERS").env("LOG", "error").env("DATABASE_URL", database.url());
        command.args(arguments).output().unwrap()
    };
    let output = insight(&["verify"]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("nothing differs"), "{output:?}");
    assert!(insight(&["verify", "--sample", "10%", "--seed", "3"]).status.success());
    for (arguments, named) in [
        (&["verify", "--sample", "none"][..], "--sample"),
        (&["verify", "--seed", "1"], "--sample"),
        (&["verify", "--topic"], "KAFKA_BROKERS"),
    ] {
        let output = insight(arguments);
        assert!(
            !output.status.success() && String::from_utf8_lossy(&output.stderr).contains(named),
            "{output:?}"
        );
    }

    let change = "update holdings.cash set balance = balance + 1 where balance = (select max(balance) from holdings.cash) \
        returning portfolio_id::text || ' ' || currency, trim_scale(balance - 1)::text";
    let (key, expected): (String, String) = sqlx::query_as(change).fetch_one(&database.pool).await.unwrap();
    let output = insight(&["verify", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["difference_count"], 1, "{report}");
    let difference = &report["differences"][0];
    for (member, value) in
        [("table", "holdings.cash"), ("key", &key), ("column", "balance"), ("expected", &expected)]
    {
        assert_eq!(difference[member], value, "{difference}");
    }
}
