//! scratch
use insight::{api, clock::Clock, commands, commands::Commands, demo, event_store, postgres::*};
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::Builder::new()
        .permissions(<std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755))
        .tempdir()?;
    let server = EmbeddedPostgres::start(folder.path()).await?;
    let pool = connect(server.options(), &Session::of("scratch")).await?;
    event_store::schema::apply(&pool).await?;
    let token = tokio_util::sync::CancellationToken::new();
    let (commands, running) = Commands::start(
        server.options(),
        pool.clone(),
        Clock::System,
        commands::Settings::default(),
        token.clone(),
    );
    tokio::spawn(running);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let base = format!("http://{}", listener.local_addr()?);
    let parts = api::Parts { commands, checks: vec![], render_metrics: Box::new(String::new) };
    tokio::spawn(api::server::serve(listener, api::router(parts), token.clone()));
    for _ in 0..2 {
        match demo::play(&base, &demo::Options::default(), &demo::Progress::stderr()).await {
            Ok(report) => println!("{}", demo::render(&report)),
            Err(error) => println!("{error}"),
        }
        let (head,): (i64,) = sqlx::query_as("select max(position) from events").fetch_one(&pool).await?;
        println!("head {head}");
    }
    let rows: Vec<(String, i64)> =
        sqlx::query_as("select event_type, count(*) from events group by 1 order by 1")
            .fetch_all(&pool)
            .await?;
    println!("{rows:?}");
    token.cancel();
    server.stop().await?;
    Ok(())
}
