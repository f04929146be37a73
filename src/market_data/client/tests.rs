//! How a source is asked, over real connections.

use super::*;

#[test]
fn a_pause_of_nothing_is_none_to_hammer_in() {
    let (short, long) = (Duration::from_millis(300), Duration::from_secs(2));
    assert_eq!(pause(Some(Duration::ZERO), short), short);
    assert_eq!(pause(Some(long), short), long);
    assert_eq!(pause(None, short), short);
}

#[tokio::test]
async fn who_has_a_body_has_a_place_among_those_who_ask() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let asked = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4_096]).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nprices";
            if asked > 0 {
                tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
            }
        }
    });
    let settings = crate::market_data::Settings::read("[sources.yahoo]\nconcurrency = 1", |_| None).unwrap();
    let client = Client::open(&settings.sources["yahoo"].asking, |_| false, Clock::System).unwrap();
    let retried = AtomicU64::new(0);
    let ask = |ms| client.get(&url, None, Instant::now() + Duration::from_millis(ms), &retried);
    let body = match ask(10_000).await {
        Ok(Answer::Body(body)) => body,
        Ok(Answer::NotModified) => panic!("a body"),
        Err(reason) => panic!("{reason}"),
    };
    assert_eq!((&body.bytes[..], body.is_unframed), (&b"prices"[..], true));
    assert!(ask(300).await.is_err_and(|reason| reason.contains("was not asked in time")));
    drop(body);
    assert!(ask(10_000).await.is_ok());
}

#[test]
fn the_latest_answer_is_remembered_also_when_there_is_no_room() {
    let key = |n: usize| -> Key { std::array::from_fn(|at| n.to_le_bytes().get(at).copied().unwrap_or(0)) };
    let tag = |text: &'static str| Validators { etag: Some(HeaderValue::from_static(text)), modified: None };
    let mut remembered = Remembered::default();
    (0..REMEMBERED_MAX).for_each(|n| remembered.keep(key(n), tag("old")));
    remembered.keep(key(5), tag("new"));
    assert_eq!((remembered.0.len(), remembered.0[&key(5)] == tag("new")), (REMEMBERED_MAX, true));
    remembered.keep(key(REMEMBERED_MAX), tag("one more"));
    assert_eq!(remembered.0.get(&key(REMEMBERED_MAX)), Some(&tag("one more")));
    remembered.keep(key(REMEMBERED_MAX), Validators::default());
    assert!(remembered.0.is_empty(), "an answer that cannot be recognised replaces one that could");
}

/// A client of one source with these settings.
fn client(settings: &str) -> Client {
    let settings = format!("[sources.yahoo]\n{settings}");
    let settings = crate::market_data::Settings::read(&settings, |_| None).unwrap();
    Client::open(&settings.sources["yahoo"].asking, |_| false, Clock::System).unwrap()
}

#[tokio::test]
async fn the_last_attempt_ends_with_the_time_of_the_request() {
    // Connections are taken, and nothing is ever said.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let client =
        client("attempt_ms = 2000\nwithin_ms = 3000\npause_first_ms = 1\npause_max_ms = 1\nattempts = 9");
    let (began, retried) = (Instant::now(), AtomicU64::new(0));
    let asked = client.get(&url, None, began + Duration::from_secs(60), &retried).await;
    let took = began.elapsed();
    assert!(asked.is_err_and(|reason| reason == "did not answer in time (asked 2 times)"));
    assert!(took >= Duration::from_millis(2_900) && took < Duration::from_millis(3_800), "{took:?}");
}

#[tokio::test]
async fn who_waits_for_the_pace_hears_of_a_pause_that_begins_meanwhile() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let asked_at: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let asked = Arc::clone(&asked_at);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4_096]).await.unwrap();
            let nth = {
                let mut asked = lock(&asked);
                asked.push(Instant::now());
                asked.len()
            };
            // The third is asked while the fourth waits for its moment.
            let (status, after) = if nth == 3 { (429, "retry-after: 4\r\n") } else { (200, "") };
            let answer =
                format!("HTTP/1.1 {status} Told\r\n{after}content-length: 0\r\nconnection: close\r\n\r\n");
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
        }
    });
    // Two at once, then one a second.
    let client =
        client("requests_per_minute = 60\nconcurrency = 2\npause_max_ms = 10000\npause_first_ms = 1");
    let (deadline, retried) = (Instant::now() + Duration::from_secs(60), AtomicU64::new(0));
    // Who keeps an answer keeps a place among those who ask.
    let ask = async || client.get(&url, None, deadline, &retried).await.map(drop);
    assert_eq!(futures::future::join_all((0..4).map(|_| ask())).await, [const { Ok(()) }; 4]);
    let at = lock(&asked_at).clone();
    let after_limit = at[3] - at[2];
    assert!(at.len() == 5 && after_limit >= Duration::from_millis(3_900), "{after_limit:?} of {at:?}");
}
