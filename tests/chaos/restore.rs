//! The last thing that goes wrong: PostgreSQL is lost, and a standby that was behind takes over. Every role that has seen more
//! halts with one line, an operator begins the next epoch, and all is well again on the other history.

use std::sync::Arc;
use std::time::{Duration, Instant};

use insight::event_store::{epochs, read};
use insight::verify::verify;

use crate::caller::Seen;
use crate::judge::{assert_log_is_whole, settle};
use crate::load::Load;
use crate::system::System;

/// How long a role may take to notice.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);
/// How long the new history is written.
const WRITTEN_FOR: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(25);

/// What happens to the system that has been judged already. Returns how long it took from the loss until the first answer.
pub async fn fail_over(system: &mut System, seed: u64) -> Duration {
    let pool = system.pool().await;
    let lost = read::head(&pool).await.unwrap();
    pool.close().await;
    let began = Instant::now();
    system.servers.as_ref().expect("a server of its own").postgres.fail_over();
    for role in &mut system.roles {
        let line = role.process.halted(NOTICED_WITHIN);
        assert!(
            line.starts_with("insight: ") && line.contains("the log has forked: "),
            "a restored database is recognised as a fork by {}: {line}",
            role.name
        );
    }
    for (name, verb) in [("epoch", &["epoch", "new"][..]), ("rebuild-all", &["rebuild", "--all"])] {
        let role = system.start_role(name, verb).await;
        assert!(role.process.finish(), "`insight {}` brings all to the new history", verb.join(" "));
    }
    for role in &mut system.roles {
        role.process.start_again();
        role.started = Instant::now();
    }
    system.come_up().await;
    let seen = Arc::<Seen>::default();
    let load = Load::start_at(&system.addresses(), seed ^ 9, 4, PAUSE, seen).await;
    let took = began.elapsed();
    tokio::time::sleep(WRITTEN_FOR).await;
    load.finish().await;

    let pool = system.pool().await;
    let history = epochs::list(&pool).await.unwrap();
    let now = history.last().expect("an epoch");
    assert!(
        now.epoch.0 == 2 && now.first_position <= lost,
        "the next epoch uses positions again: {history:?}, lost was {lost}"
    );
    settle(&pool).await;
    assert_log_is_whole(&pool).await;
    let report = verify(&pool).await.unwrap();
    assert!(
        report.is_clean(),
        "after the next epoch every read model is the fold of the new history: {report}"
    );
    pool.close().await;
    let topic = system.start_role("verify-topic", &["verify", "--topic"]).await;
    assert!(topic.process.finish(), "the topic holds the new history behind the dead one");
    took
}
