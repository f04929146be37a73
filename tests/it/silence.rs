//! A database host that vanishes without a word: connections that stand and bring nothing any more. New ones go through.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use insight::domain::ids::Epoch;
use insight::event_store::Place;
use insight::feed::{Feed, FeedItem, Mode, Source, StoreTail, Subscription, Topics, WindowLimits};
use insight::postgres::{Session, connect};
use sqlx::postgres::{PgConnectOptions, PgPool};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{oneshot, watch};

use crate::environment::TestDatabase;
use crate::kafka_log::{append, bus, database};

/// The limit of a reader, the pool's patience with connections that do not answer, and some more for a loaded machine.
const BACK_WITHIN: Duration = Duration::from_secs(60);

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn server(options: &PgConnectOptions) -> Box<dyn Stream> {
    let port = options.get_port();
    match options.get_socket() {
        Some(folder) => {
            let socket = Path::new(folder).join(format!(".s.PGSQL.{port}"));
            Box::new(UnixStream::connect(socket).await.unwrap())
        }
        None => Box::new(TcpStream::connect((options.get_host(), port)).await.unwrap()),
    }
}

/// Stands between this test and the server.
struct Wire {
    address: SocketAddr,
    silenced: watch::Sender<u32>,
}

impl Wire {
    async fn start(options: PgConnectOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let silenced = watch::Sender::new(0);
        let told = silenced.subscribe();
        tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                let (mut told, options) = (told.clone(), options.clone());
                told.mark_unchanged();
                tokio::spawn(async move {
                    let mut there = server(&options).await;
                    tokio::select! {
                        _ = copy_bidirectional(&mut here, &mut there) => {}
                        _ = told.changed() => {
                            // Neither closed nor of any use.
                            std::future::pending::<()>().await;
                        }
                    }
                });
            }
        });
        Self { address, silenced }
    }

    /// Nothing passes any more over the connections that there are.
    fn silence(&self) {
        self.silenced.send_modify(|times| *times += 1);
    }

    async fn pool(&self, database: &TestDatabase) -> PgPool {
        let options = database.options();
        let through = match options.get_socket() {
            Some(_) => PgConnectOptions::new_without_pgpass()
                .username(options.get_username())
                .database(options.get_database().unwrap()),
            None => options,
        };
        let through = through.host(&self.address.ip().to_string()).port(self.address.port());
        let session = Session { acquire_timeout: Duration::from_secs(2), ..Session::of("over the wire") };
        connect(through, &session).await.unwrap()
    }
}

/// Reads until so many events have come.
async fn read(feed: &mut Feed, wanted: usize) {
    let mut read = 0;
    while read < wanted {
        match feed.next().await.unwrap() {
            FeedItem::Assigned(shards) => {
                let places = shards.into_iter().map(|shard| (shard, Place::origin(Epoch(1))));
                feed.resume(places.collect()).await.unwrap();
            }
            FeedItem::Revoked(_) => {}
            FeedItem::Batch(batch) => read += batch.events.len(),
        }
    }
}

async fn goes_on(source: impl FnOnce(PgPool) -> Source) {
    let database = database().await;
    let wire = Wire::start(database.options()).await;
    let pool = wire.pool(&database).await;
    let subscription = Subscription {
        name: "silence".into(),
        topics: Topics::PortfolioAndMarket,
        mode: Mode::Manual,
        batch_events_max: 500,
    };
    let mut feed = Feed::open(&source(pool), subscription).await.unwrap();
    append(&database.pool, &[0, 1, 32], 30).await;
    let (first, read_first) = oneshot::channel();
    let reading = tokio::spawn(async move {
        read(&mut feed, 30).await;
        first.send(()).unwrap();
        read(&mut feed, 30).await;
    });
    read_first.await.unwrap();
    // A statement is on its way when it happens: the table is locked, so every reader waits for its answer.
    let mut locked = database.pool.begin().await.unwrap();
    sqlx::query("lock table events in access exclusive mode").execute(&mut *locked).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    wire.silence();
    locked.rollback().await.unwrap();
    let began = Instant::now();
    append(&database.pool, &[0, 1, 32], 30).await;
    tokio::time::timeout(BACK_WITHIN, reading).await.expect("it notices").unwrap();
    println!("went on {:?} after the silence", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_the_store_goes_on_over_another_connection() {
    goes_on(|pool| Source::Store(StoreTail::start(pool, WindowLimits::default()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_kafka_goes_on_over_another_connection() {
    let settings = bus();
    insight::kafka::topics::apply(&settings).await.unwrap();
    goes_on(|pool| Source::Kafka(settings, pool)).await;
}
