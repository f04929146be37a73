//! The servers of the run are there, and a test gets its own corner of each.

use std::net::{TcpStream, ToSocketAddrs};

use crate::environment;

#[tokio::test]
async fn every_test_gets_a_database_of_its_own() {
    let (one, other) = (environment::database().await, environment::database().await);
    sqlx::query("create table only_here (id int)").execute(&one.pool).await.unwrap();
    let there: Option<String> =
        sqlx::query_scalar("select to_regclass('only_here')::text").fetch_one(&other.pool).await.unwrap();
    assert_eq!(there, None);

    let (name, isolation, limit): (String, String, String) = sqlx::query_as(
        "select current_database()::text, current_setting('transaction_isolation'), current_setting('statement_timeout')",
    )
    .fetch_one(&one.pool)
    .await
    .unwrap();
    assert!(one.url().ends_with(&format!("/{name}")) || one.url().contains(&format!("/{name}?")));
    assert_eq!(one.options().get_database(), Some(name.as_str()));
    assert_eq!((isolation.as_str(), limit.as_str()), ("read committed", "30s"));
}

#[test]
fn the_broker_answers() {
    let brokers = environment::kafka_brokers();
    let first = brokers.split(',').next().unwrap();
    let address = first.to_socket_addrs().unwrap().next().unwrap();
    TcpStream::connect(address)
        .unwrap_or_else(|error| panic!("no broker at {first} ({error}): run scripts/test"));
    assert_ne!(environment::topic_prefix(), environment::topic_prefix());
}
