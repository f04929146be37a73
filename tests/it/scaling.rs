//! Read models and risk as one to three processes of one consumer group: under load, killed, frozen. What came of it is judged by
//! the reference ledger; meanwhile somebody looks how long any shard stands still.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use insight::event_store::read;
use insight::verify::verify;
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::task::AbortOnDropHandle;

use crate::environment::{self, TestDatabase};
use crate::kafka_log::until;
use crate::load::{Load, assert_promises_kept, tally};
use crate::processes::{Place, Process, answers, free_address};
use crate::read_models::{ALL, reached};

const CLIENTS: u64 = 3;
/// How long a shard may stand still when members come and go. The promise is two seconds, and run alone these tests print what it
/// is; beside a whole test run on few cores, nine processes may wait for the machine itself, so [`slack`] is added.
const MOVED_WITHIN: Duration = Duration::from_secs(5);
/// The same where a member is killed or frozen: the session time-out of six seconds more, and as much slack.
const MISSED_WITHIN: Duration = Duration::from_secs(12);

/// What the machine adds: twice what an event waited while no member came or went. On a quiet one that is little.
fn slack(steady: Duration) -> Duration {
    steady * 2
}

/// An installation on Kafka whose read models are to be scaled.
struct Installation {
    place: Place,
    database: TestDatabase,
    brokers: String,
    prefix: String,
    address: SocketAddr,
    /// Log and bus; held to be running.
    _base: Vec<Process>,
}

/// One member of every group.
struct Member(Vec<Process>);

impl Installation {
    async fn start() -> Self {
        let (place, database) = (Place::new(), environment::database().await);
        let mut new = Self {
            place,
            database,
            brokers: environment::kafka_brokers(),
            prefix: environment::topic_prefix(),
            address: free_address(),
            _base: Vec::new(),
        };
        assert!(new.run("topics", &["topics", "apply"]).finish());
        let listen = new.address.to_string();
        new._base = vec![new.run("api", &["api", "--listen-address", &listen]), new.run("relay", &["relay"])];
        answers(new.address).await;
        new
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Process {
        let url = self.database.url();
        let environment = [
            ("DATABASE_URL", url.as_str()),
            ("KAFKA_BROKERS", &self.brokers),
            ("KAFKA_TOPIC_PREFIX", &self.prefix),
            // Seven processes share a server with other tests.
            ("POOL_SIZE", "4"),
            ("RISK_WINDOW", "60"),
            ("RISK_PATHS", "1024"),
            ("RISK_THREADS", "1"),
        ];
        Process::start(self.place.path(), name, arguments, &environment)
    }

    fn member(&self, name: &str) -> Member {
        let all = ["project", "directory", "holdings", "prices", "activity", "valuations", "jobs"];
        Member(vec![self.run(&format!("{name}-models"), &all), self.run(&format!("{name}-risk"), &["risk"])])
    }

    /// Prints what an event costs these members, of all six read models together, while they keep up with the load.
    async fn cost(&self, what: &str, members: &[&Member]) {
        let look = async || {
            let sum = |i: usize| members.iter().map(|member| member.cpu()[i]).sum::<Duration>();
            (read::head(&self.database.pool).await.unwrap(), sum(0), sum(1))
        };
        let before = look().await;
        seconds(6).await;
        let after = look().await;
        let events = (after.0.0 - before.0.0).max(1) as f64;
        let each = |took: Duration| took.as_secs_f64() * 1e6 / events;
        let (models, risk) = (each(after.1 - before.1), each(after.2 - before.2));
        println!(
            "{what}: {events} events, CPU an event: {models:.0} µs for five read models, {risk:.0} µs for risk"
        );
    }

    /// Everything caught up, no lag left, and the ledger has nothing to say.
    async fn judge(&self, load: Load) {
        let sent = load.finish().await;
        println!("accepted, refused, given up: {:?}", tally(&sent));
        let pool = &self.database.pool;
        let head = read::head(pool).await.unwrap();
        reached(pool, head).await;
        let report = verify(pool).await.unwrap();
        assert!(report.is_clean(), "{report}");
        assert_promises_kept(pool, &sent).await;
    }
}

impl Member {
    fn stop(&mut self) {
        self.0.iter_mut().for_each(Process::stop);
    }

    fn kill(&mut self) {
        self.0.iter_mut().for_each(Process::kill);
    }

    fn cpu(&self) -> [Duration; 2] {
        [self.0[0].cpu(), self.0[1].cpu()]
    }

    /// What was said about shards.
    fn tell(&self, name: &str) {
        for (process, what) in self.0.iter().zip(["models", "risk"]) {
            let said = process.said();
            let lines = said.lines().filter(|line| line.contains("shards ") || line.contains("a shard was"));
            lines.for_each(|line| println!("{name}-{what}: {line}"));
        }
    }

    fn freeze(&self) {
        self.0.iter().for_each(Process::freeze);
    }

    fn thaw(&self) {
        self.0.iter().for_each(Process::thaw);
    }
}

/// Looks every 50 ms how long the oldest event that is not in the rows has been waiting, by read model.
struct Watch {
    longest: Arc<Mutex<BTreeMap<String, (f64, i16)>>>,
    /// Seconds in which the machine let nobody do anything, this watch neither.
    stalled: Arc<Mutex<f64>>,
    task: AbortOnDropHandle<()>,
}

impl Watch {
    fn start(pool: PgPool) -> Self {
        let (longest, stalled) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(Mutex::new(0.0)));
        let (noted, stalls) = (Arc::clone(&longest), Arc::clone(&stalled));
        let task = tokio::spawn(async move {
            loop {
                let began = Instant::now();
                for (name, shard, seconds) in waiting(&pool).await {
                    let mut noted = noted.lock().unwrap();
                    let longest: &mut (f64, i16) = noted.entry(name).or_default();
                    if seconds > longest.0 {
                        *longest = (seconds, shard);
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                let too_long = began.elapsed().as_secs_f64() - 0.25;
                *stalls.lock().unwrap() += too_long.max(0.0);
            }
        });
        Self { longest, stalled, task: AbortOnDropHandle::new(task) }
    }

    /// The longest wait since the last call, less the time in which nobody could have done better. All is printed.
    fn take(&self, what: &str) -> Duration {
        assert!(!self.task.is_finished(), "{what}: the watch has seen nothing, and says above why");
        let taken = std::mem::take(&mut *self.longest.lock().unwrap());
        let stalled = std::mem::take(&mut *self.stalled.lock().unwrap());
        let figures: Vec<_> = taken
            .iter()
            .map(|(name, (seconds, shard))| format!("{name} {seconds:.2} s (shard {shard})"))
            .collect();
        println!("{what}: longest wait: {}; machine stalled for {stalled:.2} s", figures.join(", "));
        let longest = taken.values().map(|(seconds, _)| *seconds).fold(0.0, f64::max);
        Duration::from_secs_f64((longest - 2.0 * stalled).max(0.0))
    }
}

async fn waiting(pool: &PgPool) -> Vec<(String, i16, f64)> {
    let each = ALL.map(|name| format!("select '{name}' as name, shard, scanned_to from {name}.checkpoints"));
    let sql = format!(
        "select name, shard, extract(epoch from clock_timestamp() - e.recorded_at)::float8 from ({}) c \
         cross join lateral (select recorded_at from events where shard = c.shard and position > c.scanned_to \
         order by position limit 1) e",
        each.join(" union all ")
    );
    sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await.expect("the watch can look")
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Until the members of a group that have said so own shards.
async fn joined(member: &Member) {
    until("the member to be given shards", Duration::from_secs(60), || async {
        member.0.iter().all(|process| process.said().contains("shards assigned"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_one_to_three_and_back_under_load_nothing_is_lost_doubled_or_stands_still() {
    let installation = Installation::start().await;
    let mut one = installation.member("one");
    let load = Load::start(installation.address, 7, CLIENTS).await;
    joined(&one).await;
    seconds(4).await;
    let watch = Watch::start(installation.database.pool.clone());
    installation.cost("one member", &[&one]).await;
    let steady = watch.take("one member");
    let (mut two, mut three) = (installation.member("two"), installation.member("three"));
    joined(&two).await;
    joined(&three).await;
    seconds(6).await;
    let growing = watch.take("one to three");
    installation.cost("three members", &[&one, &two, &three]).await;
    watch.take("three members");
    one.stop();
    seconds(5).await;
    two.stop();
    seconds(5).await;
    let shrinking = watch.take("three to one");
    let bound = MOVED_WITHIN + slack(steady);
    assert!(growing < bound && shrinking < bound, "{growing:?}, {shrinking:?}, {bound:?} at most");
    installation.judge(load).await;
    three.stop();
    for (member, name) in [(&one, "one"), (&two, "two"), (&three, "three")] {
        member.tell(name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shards_of_a_killed_member_go_on_when_its_session_has_ended() {
    let installation = Installation::start().await;
    let (one, mut two) = (installation.member("one"), installation.member("two"));
    let load = Load::start(installation.address, 8, CLIENTS).await;
    joined(&one).await;
    joined(&two).await;
    seconds(4).await;
    let watch = Watch::start(installation.database.pool.clone());
    seconds(3).await;
    let steady = watch.take("two members");
    two.kill();
    seconds(14).await;
    let waited = watch.take("one of two killed");
    assert!(waited < MISSED_WITHIN + slack(steady), "{waited:?}, while nothing moved {steady:?}");
    installation.judge(load).await;
    drop(one);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_frozen_writes_nothing_of_what_it_has_lost() {
    let installation = Installation::start().await;
    let (one, mut two) = (installation.member("one"), installation.member("two"));
    let load = Load::start(installation.address, 9, CLIENTS).await;
    joined(&one).await;
    joined(&two).await;
    seconds(3).await;
    let watch = Watch::start(installation.database.pool.clone());
    seconds(3).await;
    let steady = watch.take("two members");
    two.freeze();
    seconds(12).await;
    let waited = watch.take("one of two frozen");
    assert!(waited < MISSED_WITHIN + slack(steady), "{waited:?}, while nothing moved {steady:?}");
    two.thaw();
    seconds(6).await;
    watch.take("thawed");
    installation.judge(load).await;
    // It was told, dropped what it held, and is a member again.
    for process in &two.0 {
        let said = process.said();
        assert!(said.matches("shards assigned").count() >= 2, "{said}");
    }
    two.stop();
    drop(one);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_a_frozen_process_loses_its_read_model_to_the_one_that_waits() {
    let (place, database) = (Place::new(), environment::database().await);
    let url = database.url();
    let environment = [("DATABASE_URL", url.as_str())];
    let start = |name: &str| Process::start(place.path(), name, &["project", "activity"], &environment);
    let mut one = start("one");
    until("the first process", Duration::from_secs(30), || async { one.said().contains("lock taken") }).await;
    let mut two = start("two");
    seconds(2).await;
    assert!(!two.said().contains("lock taken"));
    one.freeze();
    until("the second process", Duration::from_secs(20), || async { two.said().contains("lock taken") })
        .await;
    one.thaw();
    until("the first one to notice", Duration::from_secs(20), || async { one.said().contains("lock lost") })
        .await;
    two.stop();
    until("the first one again", Duration::from_secs(20), || async {
        one.said().matches("lock taken").count() == 2
    })
    .await;
    one.stop();
}
