//! The command line: what is wrong is one clear line on standard error, an exit code that is not 0, and nothing lost.

use std::process::{Command, Output};

use insight::projectors::schema;
use sqlx::Connection;

use crate::environment;

/// Runs the program with these arguments and variables, and none of the run's own.
fn insight(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_insight"));
    for name in ["DATABASE_URL", "KAFKA_BROKERS", "KAFKA_TOPIC_PREFIX", "DATA_DIR", "LISTEN_ADDRESS"] {
        command.env_remove(name);
    }
    command.env("LOG", "error").args(arguments).envs(variables.iter().copied()).output().unwrap()
}

/// What a failed run said last; it must have failed.
fn complaint(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
}

#[test]
fn flags_that_cannot_be_are_named() {
    for (arguments, named) in [
        (vec!["all", "--risk-paths", "1000"], "--risk-paths"),
        (vec!["all", "--risk-degrees-of-freedom", "2"], "--risk-degrees-of-freedom"),
        (vec!["all", "--risk-threads", "99999"], "--risk-threads"),
        (vec!["all", "--listen-address", "nowhere"], "--listen-address"),
        (vec!["project", "nosuch"], "nosuch"),
        (vec!["dance"], "dance"),
        (vec!["all", "--colour"], "--colour"),
    ] {
        let output = insight(&arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(named), "{arguments:?}: {said}");
    }
}

#[test]
fn a_database_that_cannot_be_reached_is_one_line() {
    let said =
        complaint(&insight(&["api"], &[("DATABASE_URL", "postgres://nobody:secret@127.0.0.1:1/nothing")]));
    assert!(said.starts_with("insight: cannot reach PostgreSQL at 127.0.0.1:1/nothing"), "{said}");
    assert!(!said.contains("secret"), "{said}");
    assert_eq!(said.matches("Connection refused").count(), 1, "{said}");
    let said = complaint(&insight(&["api"], &[("DATABASE_URL", "nonsense")]));
    assert!(said.contains("DATABASE_URL is not a PostgreSQL address"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_cannot_be_reached_or_has_not_our_topics_is_one_line() {
    let database = environment::database().await;
    let url = database.url();
    let said = complaint(&insight(&["relay"], &[("DATABASE_URL", &url), ("KAFKA_BROKERS", "127.0.0.1:1")]));
    assert!(said.contains("127.0.0.1:1"), "{said}");
    let said = complaint(&insight(&["relay"], &[("DATABASE_URL", &url)]));
    assert!(said.contains("KAFKA_BROKERS is not set"), "{said}");
    let (brokers, prefix) = (environment::kafka_brokers(), environment::topic_prefix());
    let elsewhere =
        [("DATABASE_URL", url.as_str()), ("KAFKA_BROKERS", &brokers), ("KAFKA_TOPIC_PREFIX", &prefix)];
    let said = complaint(&insight(&["project", "holdings"], &elsewhere));
    assert!(said.contains("is missing: run insight topics apply"), "{said}");
    assert!(!insight(&["topics", "show"], &elsewhere).status.success());
    assert!(insight(&["topics", "apply"], &elsewhere).status.success());
    assert!(insight(&["topics", "show"], &elsewhere).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_model_of_another_shape_is_refused_until_it_is_rebuilt() {
    let database = environment::database().await;
    let url = database.url();
    let change = "comment on schema holdings is 'shape of another program'";
    sqlx::query(change).execute(&database.pool).await.unwrap();
    let said = complaint(&insight(&["rebuild", "prices"], &[("DATABASE_URL", &url)]));
    assert!(said.contains("run `insight rebuild holdings`"), "{said}");
    assert!(insight(&["rebuild", "holdings"], &[("DATABASE_URL", &url)]).status.success());
    assert!(insight(&["rebuild", "prices"], &[("DATABASE_URL", &url)]).status.success());
    schema::apply_all(&database.pool).await.unwrap();
    assert!(insight(&["verify"], &[("DATABASE_URL", &url)]).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_program_is_refused() {
    let database = environment::database().await;
    let mut connection = sqlx::PgConnection::connect_with(&database.options()).await.unwrap();
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
                 values (9999, 'of a newer program', true, '\\x00', 1)";
    sqlx::query(newer).execute(&mut connection).await.unwrap();
    let said = complaint(&insight(&["api"], &[("DATABASE_URL", &database.url())]));
    assert!(said.contains("9999"), "{said}");
}
