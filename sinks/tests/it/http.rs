//! The hub's side of the protocol, over real sockets.

use std::{rc::Rc, time::Duration};

use agent_core::{Sink, SinkError};
use sinks::{HttpConfig, HttpSink};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use wire::{
    api::{HEARD_HEADER, Heartbeat, IngestReply, LogStatus, WORD_HEADER},
    token,
};

use crate::{
    fixture,
    hub::{self, AGENT, Hub, INSTANCE, NOW_MS},
};

fn says(acked_seq: u64, need_schemas: &[wire::SchemaId]) -> String {
    let need_schemas = need_schemas.to_vec();
    serde_json::to_string(&IngestReply { acked_seq, need_schemas, time_ms: NOW_MS }).unwrap()
}

#[tokio::test]
async fn a_schema_that_nobody_has_costs_the_record_that_names_it() {
    let (hub, url) = Hub::start().await;
    let mut sink = hub::sink(&url);
    let nobody_has = wire::SchemaId([7; 8]);
    let mut batch = fixture::ticks(1..=3);
    let orphan = wire::Tick::encode(1_000, &[(nobody_has, &[1.0])]);
    batch.records[1].bytes = wire::envelope::encode(wire::Kind::Metrics, 2, &orphan).unwrap();
    hub.will_say(200, &[], says(0, &[nobody_has]));
    let error = sink.send(&batch).await.unwrap_err();
    assert!(matches!(error, SinkError::Rejected { seq: 2, .. }), "{error}");
}

#[tokio::test]
async fn schemas_go_along_only_when_the_hub_asks() {
    let (hub, url) = Hub::start().await;
    let mut sink = hub::sink(&url);
    assert_eq!(sink.send(&fixture::ticks(1..=3)).await.unwrap(), 3);
    assert_eq!(sink.send(&fixture::ticks(4..=5)).await.unwrap(), 5);
    let seen: Vec<_> = hub.seen().iter().map(hub::Seen::summary).collect();
    assert_eq!(seen, [(vec![1, 2, 3], 0), (vec![1, 2, 3], 2), (vec![4, 5], 0)]);
    let request = hub.seen()[1].request();
    assert_eq!(request.header.agent_id, AGENT);
    assert_eq!(request.header.instance_id, INSTANCE);
    assert_eq!(request.header.stream_id, fixture::STREAM);
    assert_eq!(request.header.hostname, "web-1");
    assert_eq!(request.header.agent_version, "0.1.0");
    assert_eq!(request.header.sent_ms, NOW_MS);
    let sent: Vec<_> = request.records.into_iter().map(|record| record.bytes).collect();
    let logged: Vec<_> = fixture::ticks(1..=3).records.into_iter().map(|r| r.bytes).collect();
    assert_eq!(sent, logged, "the bytes in the log are the bytes on the wire");
}

#[tokio::test]
async fn a_hub_that_stops_in_the_middle_gets_the_rest_with_what_it_asks_for() {
    let (hub, url) = Hub::start().await;
    let (load, cpu) = (fixture::load_schema().id, fixture::cpu_schema().id);
    // asks for one schema at a time, takes two records in between
    hub.will_say(200, &[], says(0, &[load]));
    hub.will_say(200, &[], says(0, &[cpu]));
    hub.will_say(200, &[], says(2, &[load]));
    hub.will_say(200, &[], says(5, &[]));
    assert_eq!(hub::sink(&url).send(&fixture::ticks(1..=5)).await.unwrap(), 5);
    let seen: Vec<_> = hub.seen().iter().map(hub::Seen::summary).collect();
    let all = vec![1, 2, 3, 4, 5];
    assert_eq!(seen, [(all.clone(), 0), (all.clone(), 1), (all, 2), (vec![3, 4, 5], 1)]);
}

#[tokio::test]
async fn acknowledged_is_what_the_hub_says() {
    let (hub, url) = Hub::start().await;
    let mut sink = hub::sink(&url);
    for (said, acked) in [(0, 0), (3, 3), (4, 4), (5, 5), (900, 900)] {
        hub.will_say(200, &[], says(said, &[]));
        assert_eq!(sink.send(&fixture::ticks(3..=5)).await.unwrap(), acked);
    }
}

#[tokio::test]
async fn a_hub_that_never_has_enough_schemas_is_left_for_later() {
    let (hub, url) = Hub::start().await;
    let load = fixture::load_schema().id;
    for _ in 0..2 {
        hub.will_say(200, &[], says(0, &[load]));
    }
    let error = hub::sink(&url).send(&fixture::ticks(1..=5)).await.unwrap_err();
    let SinkError::Transient { reason, .. } = error else { panic!("{error}") };
    assert!(reason.contains("asks again for schema"), "{reason}");
    // one that moves on but asks each time: what it took is acknowledged
    for acked in 1..=40 {
        hub.will_say(200, &[], says(acked, &[load]));
    }
    let acked = hub::sink(&url).send(&fixture::ticks(1..=50)).await.unwrap();
    assert!((1..40).contains(&acked), "{acked}");
}

#[tokio::test]
async fn refusals_say_who_should_react() {
    let (hub, url) = Hub::start().await;
    let mut sink = hub::sink(&url);
    hub.will_say(503, &[("retry-after", "7")], "");
    let error = sink.send(&fixture::ticks([1])).await.unwrap_err();
    let SinkError::Transient { reason, retry_after } = error else { panic!("{error}") };
    assert_eq!(reason, format!("POST {url}/api/v1/ingest: 503 Service Unavailable"));
    assert_eq!(retry_after, Some(Duration::from_secs(7)));

    hub.will_say(413, &[], r#"{"error":"too_large","message":"body exceeds 8 MiB"}"#);
    let error = sink.send(&fixture::ticks([1])).await.unwrap_err();
    assert!(
        matches!(&error, SinkError::TooLarge { reason } if reason == "413: body exceeds 8 MiB")
    );

    hub.will_say(400, &[], r#"{"error":"malformed","message":"m","record":{"index":0,"seq":1}}"#);
    let error = sink.send(&fixture::ticks([1])).await.unwrap_err();
    assert!(matches!(error, SinkError::Rejected { seq: 1, .. }));

    for (status, advice) in [
        (400, "update the older one"),
        (401, "set the hub's token"),
        (403, "may not write"),
        (404, "check `url`"),
    ] {
        hub.will_say(status, &[], "");
        let error = sink.send(&fixture::ticks([1])).await.unwrap_err();
        let SinkError::Refused { reason } = error else { panic!("{status}: {error}") };
        assert!(reason.contains(advice), "{status}: {reason}");
    }
    hub.will_say(409, &[], "");
    let error = sink.send(&fixture::ticks([1])).await.unwrap_err();
    let SinkError::Conflict { reason } = error else { panic!("{error}") };
    assert!(reason.contains("delete the file `agent-id`"), "{reason}");
    assert_eq!(sink.send(&fixture::ticks([1])).await.unwrap(), 1, "and then it works");
}

#[tokio::test]
async fn a_redirect_is_said_and_not_followed() {
    let (hub, url) = Hub::start().await;
    let elsewhere = format!("{url}/elsewhere");
    hub.will_say(307, &[("location", &elsewhere)], "");
    let error = hub::sink(&url).send(&fixture::ticks([1])).await.unwrap_err().to_string();
    assert!(error.contains(&format!("redirects to {elsewhere}")), "{error}");
    assert_eq!(hub.seen().len(), 1);
}

#[tokio::test]
async fn an_endless_reply_is_not_read_to_its_end() {
    let (hub, url) = Hub::start().await;
    hub.will_say(200, &[], " ".repeat(16 << 20));
    let error = hub::sink(&url).send(&fixture::ticks([1])).await.unwrap_err();
    let SinkError::Refused { reason } = error else { panic!("{error}") };
    assert!(reason.contains("not a hub's"), "{reason}");
}

#[tokio::test]
async fn a_path_before_the_api_is_kept() {
    let (hub, url) = Hub::start().await;
    hub.will_say(200, &[], says(1, &[]));
    hub::sink(&format!("{url}/behind/proxy/")).send(&fixture::ticks([1])).await.unwrap();
    assert_eq!(hub.seen()[0].path, "/behind/proxy/api/v1/ingest");
}

#[tokio::test]
async fn the_token_goes_along_and_is_made_anew_in_time() {
    let (hub, url) = Hub::start().await;
    let clock = hub::clock();
    let config = HttpConfig { token: Some("secret".into()), ..HttpConfig::new(&url) };
    let mut sink =
        HttpSink::new(config, hub::identity(), Rc::<hub::TestClock>::clone(&clock)).unwrap();
    let day_ms = 24 * 60 * 60 * 1000;
    for (seq, later_ms) in [(1, 0), (2, 1_000), (3, day_ms - 2_000), (4, day_ms * 30)] {
        clock.0.set(NOW_MS + later_ms);
        sink.send(&fixture::ticks([seq])).await.unwrap();
        let now_s = u64::try_from((NOW_MS + later_ms) / 1000).unwrap();
        let claims = claims(hub.seen().last().unwrap(), now_s);
        assert_eq!(claims.sub, AGENT.to_string());
        assert!(claims.exp > now_s + token::LIFETIME_S / 3, "{claims:?} at {now_s}");
    }
    let count = hub.seen().len();
    hub.will_say(401, &[], "");
    clock.0.set(clock.0.get() + 1_000);
    sink.send(&fixture::ticks([5])).await.unwrap_err();
    sink.send(&fixture::ticks([5])).await.unwrap();
    let now_s = u64::try_from(clock.0.get() / 1000).unwrap();
    assert!(claims(&hub.seen()[count], now_s).iat < now_s);
    assert_eq!(claims(&hub.seen()[count + 1], now_s).iat, now_s, "a refused token is not kept");
}

fn claims(seen: &hub::Seen, now_s: u64) -> token::Claims {
    let header = seen.headers["authorization"].to_str().unwrap();
    token::verify("secret", header.strip_prefix("Bearer ").unwrap(), now_s).unwrap()
}

fn status() -> Heartbeat {
    Heartbeat {
        agent_id: AGENT,
        instance_id: INSTANCE,
        sent_ms: NOW_MS,
        stream_id: fixture::STREAM,
        hostname: "web-1".into(),
        agent_version: "0.1.0".into(),
        addresses: sinks::addresses(),
        interval_ms: 10_000,
        log: LogStatus::default(),
    }
}

#[tokio::test]
async fn presence_is_said_over_the_same_client() {
    let (hub, url) = Hub::start().await;
    let config = HttpConfig { token: Some("secret".into()), ..HttpConfig::new(&url) };
    let beats = HttpSink::new(config, hub::identity(), hub::clock()).unwrap().heartbeats();
    let status = status();
    assert_eq!(beats.beat(&status).await.unwrap().time_ms, NOW_MS);
    let seen = hub.seen().remove(0);
    assert_eq!(seen.path, "/api/v1/heartbeat");
    assert_eq!(seen.headers["content-type"], "application/json");
    assert_eq!(claims(&seen, 1_800_000_000).sub, AGENT.to_string());
    assert_eq!(serde_json::from_slice::<Heartbeat>(&seen.body).unwrap(), status);
    hub.will_say(503, &[("retry-after", "3")], "");
    let error = beats.beat(&status).await.unwrap_err();
    assert!(
        matches!(error, SinkError::Transient { retry_after: Some(wait), .. } if wait.as_secs() == 3)
    );
}

#[tokio::test]
async fn the_hubs_latest_word_goes_back_to_it() {
    let (hub, url) = Hub::start().await;
    let mut sink = hub::sink(&url);
    let beats = sink.heartbeats();
    for (status, word) in [
        (503, "0000000a.7"),
        // Overtaken on the way, unreadable, missing, of another hub.
        (409, "0000000a.6"),
        (429, "?"),
        (200, ""),
        (503, "0000000b.1"),
    ] {
        let headers = [(WORD_HEADER, word)];
        hub.will_say(status, &headers[..usize::from(!word.is_empty())], "");
        assert!(sink.send(&fixture::ticks([1])).await.is_err());
    }
    hub.will_say(503, &[], "");
    assert!(beats.beat(&status()).await.is_err());
    let seen = hub.seen();
    let heard = |seen: &hub::Seen| {
        seen.headers.get(HEARD_HEADER).map_or("-", |value| value.to_str().unwrap()).to_owned()
    };
    let heard: Vec<String> = seen.iter().map(heard).collect();
    let latest = ["0000000a.7"; 4];
    assert_eq!(heard, [&["-"][..], &latest, &["0000000b.1"]].concat());
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_transient_with_the_whole_cause() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    check_transport(&url, "Connection refused (os error 111)").await;
}

#[tokio::test]
async fn replies_that_break_off_are_transient() {
    for (reply, expected) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"acked_seq\":1,", "read the reply: "),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"ac", "read the reply: "),
        ("HTTP/1.1 200 O", "connection closed before message completed"),
        ("", "connection closed before message completed"),
        ("SSH-2.0-OpenSSH_9.9\r\n", "invalid HTTP version parsed"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            // the request, as far as it comes at once
            let _ = socket.read(&mut [0; 4096]).await.unwrap();
            socket.write_all(reply.as_bytes()).await.unwrap();
            socket.shutdown().await.unwrap();
            let _ = socket.read_to_end(&mut Vec::new()).await;
        });
        check_transport(&url, expected).await;
    }
}

#[tokio::test]
async fn a_hub_that_never_answers_is_transient() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // the kernel takes the connection, nobody ever takes it from the kernel
    let config = HttpConfig { request_timeout: Duration::from_millis(50), ..HttpConfig::new(&url) };
    let mut sink = HttpSink::new(config, hub::identity(), hub::clock()).unwrap();
    let error = sink.send(&fixture::ticks([1])).await.unwrap_err();
    let SinkError::Transient { reason, .. } = error else { panic!("{error}") };
    assert!(reason.contains("timed out"), "{reason}");
    drop(listener);
}

async fn check_transport(url: &str, expected: &str) {
    let error = hub::sink(url).send(&fixture::ticks([1])).await.unwrap_err();
    let SinkError::Transient { reason, retry_after: None } = error else { panic!("{error}") };
    assert!(reason.starts_with(&format!("POST {url}/api/v1/ingest: ")), "{reason}");
    assert!(reason.contains(expected), "expected {expected:?} in {reason:?}");
}
