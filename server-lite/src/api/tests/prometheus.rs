//! Prometheus's API over a real socket: answers, refusals, parameters in all forms.

use super::*;

/// Seconds of record 6 of a fake agent.
const AT: i64 = START_MS / 1_000 + 60;

/// A hub with `m{n="0"}` and `m{n="1"}` of two hosts, one record every ten seconds.
async fn fed(directory: &Path) -> Running {
    let hub = Running::start(directory, None).await;
    let schema = schema("m", 2);
    for agent in [1, 2] {
        let ticks: Vec<Fake> = (1..=12).map(|seq| tick(seq, &schema)).collect();
        assert_eq!(
            hub.ingest(&FakeAgent::new(agent, 1, &[&schema]).body(&ticks)).await.status,
            200
        );
    }
    hub
}

impl Running {
    /// [`Running::get`], with what a path can't hold escaped.
    async fn ask(&self, path: &str) -> Answer {
        let escaped = [('"', "%22"), ('{', "%7B"), ('}', "%7D"), (' ', "%20")];
        let path =
            escaped.into_iter().fold(path.to_owned(), |path, (one, by)| path.replace(one, by));
        self.get(&path).await
    }
}

fn metric(host: u8, n: u8) -> Value {
    json!({"__name__": "m", "instance": format!("host-{host}"), "job": "node", "n": n.to_string()})
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_are_answered_as_prometheus_does() {
    let directory = tempfile::tempdir().unwrap();
    let hub = fed(directory.path()).await;
    let check = async |path: &str, data: Value| {
        let answer = hub.ask(&format!("/api/v1/{path}")).await;
        let expected = json!({"status": "success", "data": data});
        assert_eq!((answer.status, answer.json()), (200, expected), "{path}");
        assert!(answer.head.contains("content-type: application/json"), "{answer:?}");
    };
    let vector = |result: Value| json!({"resultType": "vector", "result": result});
    let matrix = |result: Value| json!({"resultType": "matrix", "result": result});
    check(
        &format!("query?query=m{{instance=\"host-2\"}}&time={AT}.5"),
        vector(json!([
            {"metric": metric(2, 0), "value": [AT as f64 + 0.5, "6"]},
            {"metric": metric(2, 1), "value": [AT as f64 + 0.5, "6.01"]},
        ])),
    )
    .await;
    check(
        &format!("query?query=m{{n=\"0\"}}[20s]&time={AT}"),
        matrix(json!([1, 2].map(|host| json!({"metric": metric(host, 0),
            "values": [[AT - 20, "4"], [AT - 10, "5"], [AT, "6"]]})))),
    )
    .await;
    check(
        "query?query=1e300*1e10&time=1.5",
        json!({"resultType": "scalar", "result": [1.5, "+Inf"]}),
    )
    .await;
    check("query?query=%22a%22&time=1", json!({"resultType": "string", "result": [1, "a"]})).await;
    check(&format!("query?query=m&time={AT}&lookback_delta=1&time=0"), {
        vector(json!([
            {"metric": metric(1, 0), "value": [AT, "6"]},
            {"metric": metric(1, 1), "value": [AT, "6.01"]},
            {"metric": metric(2, 0), "value": [AT, "6"]},
            {"metric": metric(2, 1), "value": [AT, "6.01"]},
        ]))
    })
    .await;
    check(&format!("query?query=m&time={}", AT + 361), vector(json!([]))).await;
    let (from, to) = (AT - 5, AT + 10);
    check(
        &format!("query_range?query=sum%20by(n)(rate(m[30s]))&start={from}&end={to}&step=15"),
        matrix(json!(
            ["0", "1"].map(|n| json!({"metric": {"n": n}, "values": [[from, "0.2"], [to, "0.2"]]}))
        )),
    )
    .await;
    check("format_query?query=sum(m)by(n)", json!("sum by (n) (m)")).await;
    check("query_exemplars?query=m&start=0&end=1", json!([])).await;
    check("series?match[]=m{n=\"1\"}", json!([metric(1, 1), metric(2, 1)])).await;
    check("series?match[]=m{n=\"1\"}&match[]=m{instance=\"host-1\"}", {
        json!([metric(1, 0), metric(1, 1), metric(2, 1)])
    })
    .await;
    check("series?match[]=nothing", json!([])).await;
    check("labels", json!(["__name__", "instance", "job", "n"])).await;
    check("labels?match[]=nothing", json!([])).await;
    check("label/__name__/values", json!(["m"])).await;
    check("label/instance/values?match[]=m{n=\"0\"}&start=0&end=1e10", json!(["host-1", "host-2"]))
        .await;
    check("label/n/values?match[]=nothing", json!([])).await;
    check("metadata", json!({"m": [{"type": "gauge", "help": "Test.", "unit": ""}]})).await;
    check("metadata?metric=other", json!({})).await;
    check("metadata?limit=0", json!({})).await;
    check("alerts", json!({"alerts": []})).await;
    check("rules", json!({"groups": []})).await;
    let version = hub.get("/api/v1/status/buildinfo").await.json();
    assert_eq!(version["data"]["version"], "2.42.0");
    for path in ["/-/healthy", "/-/ready"] {
        assert_eq!(hub.get(path).await.status, 200, "{path}");
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_and_limits() {
    let directory = tempfile::tempdir().unwrap();
    let hub = fed(directory.path()).await;
    let kind = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
    let post = async |path: &str, form: &str| {
        let answer = hub.send("POST", path, &kind, form.as_bytes()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let path = format!("/api/v1/query?query=m&time={AT}");
    assert_eq!(
        post("/api/v1/query", &format!("query=m&time={AT}")).await,
        hub.ask(&path).await.json()
    );
    let form = "query=scalar(vector(2))%2B1".to_owned() + &" ".repeat(60_000).replace(' ', "+");
    assert_eq!(
        post(&path, &form).await["data"]["result"],
        json!([AT, "3"]),
        "the form comes first"
    );
    assert_eq!(post("/api/v1/series", "match[]=m%7Bn%3D%221%22%7D").await["data"][0], metric(1, 1));
    assert_eq!(post("/api/v1/labels", "").await["data"].as_array().unwrap().len(), 4);

    let check = async |path: &str, at: &str, left: usize| {
        let answer = hub.ask(&format!("/api/v1/{path}")).await.json();
        assert_eq!(answer["warnings"], json!(["results truncated due to limit"]), "{path}");
        assert_eq!(answer.pointer(at).unwrap().as_array().unwrap().len(), left, "{path}");
    };
    check(&format!("query?query=m&time={AT}&limit=3"), "/data/result", 3).await;
    check(&format!("query?query=m[1m]&time={AT}&limit=1"), "/data/result", 1).await;
    let span = format!("start={AT}&end={AT}&step=1");
    check(&format!("query_range?query=m&{span}&limit=2"), "/data/result", 2).await;
    check("series?match[]=m&limit=1", "/data", 1).await;
    check("labels?limit=3", "/data", 3).await;
    check("label/n/values?limit=1", "/data", 1).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_prometheus_s() {
    let directory = tempfile::tempdir().unwrap();
    let hub = fed(directory.path()).await;
    let check = async |path: &str, status: u16, kind: &str, message: &str| {
        let answer = hub.ask(&format!("/api/v1/{path}")).await;
        let expected = json!({"status": "error", "errorType": kind, "error": message});
        assert_eq!((answer.status, answer.json()), (status, expected), "{path}");
    };
    let bad = async |path: &str, message: &str| check(path, 400, "bad_data", message).await;
    bad("query?query=up&time=x", "invalid parameter \"time\": Invalid time value for 'time': cannot parse \"x\" to a valid timestamp").await;
    bad(
        "query?query=up&timeout=x",
        "invalid parameter \"timeout\": cannot parse \"x\" to a valid duration",
    )
    .await;
    bad(
        "query?query=up&lookback_delta=x",
        "error parsing lookback delta duration: cannot parse \"x\" to a valid duration",
    )
    .await;
    bad(
        "query_range?query=up",
        "invalid parameter \"start\": cannot parse \"\" to a valid timestamp",
    )
    .await;
    bad(
        "query_range?query=up&start=0",
        "invalid parameter \"end\": cannot parse \"\" to a valid timestamp",
    )
    .await;
    bad(
        "query_range?query=up&start=1&end=0",
        "invalid parameter \"end\": end timestamp must not be before start time",
    )
    .await;
    bad(
        "query_range?query=up&start=1&end=2",
        "invalid parameter \"step\": cannot parse \"\" to a valid duration",
    )
    .await;
    bad("query_range?query=up&start=1&end=2&step=0", "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer").await;
    bad("query_range?query=up&start=0&end=11001&step=1", "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)").await;
    bad("query_range?query=up[1m]&start=0&end=1&step=1", "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector").await;
    bad("series", "no match[] parameter provided").await;
    bad(
        "series?match[]=%7Bx%3D%22%22%7D",
        "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher",
    )
    .await;
    for path in ["labels", "label/n/values"] {
        let refused = "match[] must contain at least one non-empty matcher";
        bad(&format!("{path}?match[]=%7Bx%3D%22%22%7D"), refused).await;
    }
    bad("series?match[]=m&start=x", "invalid parameter \"start\": Invalid time value for 'start': cannot parse \"x\" to a valid timestamp").await;
    bad("label/a-b/values", "invalid label name: \"a-b\"").await;
    bad("metadata?limit=x", "limit must be a number").await;
    let manys = "m%2Bon(job)m";
    let answer = hub.ask(&format!("/api/v1/query?query={manys}&time={AT}")).await;
    assert_eq!((answer.status, &answer.json()["errorType"]), (422, &json!("execution")));
    for query in ["query?query=m{", "format_query?query=m{", "query?query="] {
        let answer = hub.ask(&format!("/api/v1/{query}")).await;
        let message = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(message.starts_with("invalid parameter \"query\": parse error: "), "{message}");
        assert_eq!((answer.status, &answer.json()["errorType"]), (400, &json!("bad_data")));
    }
    check(
        &format!("query?query=m&time={AT}&timeout=0"),
        503,
        "timeout",
        "query timed out in expression evaluation",
    )
    .await;
    assert_eq!(hub.send("PUT", "/api/v1/query", &[], b"").await.json()["status"], "error");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_needs_too_much_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path(), None);
    (config.limits.query_samples, config.limits.query_selected_series) = (20, 3);
    let hub = Running::start_with(config, None).await;
    let schema = schema("m", 4);
    let ticks: Vec<Fake> = (1..=12).map(|seq| tick(seq, &schema)).collect();
    hub.ingest(&FakeAgent::new(1, 1, &[&schema]).body(&ticks)).await;
    let check = async |path: &str, message: &str| {
        let answer = hub.ask(&format!("/api/v1/{path}")).await;
        let expected = json!({"status": "error", "errorType": "execution", "error": message});
        assert_eq!((answer.status, answer.json()), (422, expected), "{path}");
    };
    check(
        &format!("query?query=m{{n=~\"0|1\"}}[2m]&time={}", AT + 60),
        "query processing would load too many samples into memory in query execution",
    )
    .await;
    let many = "query selects too many series: more than 3";
    let path = format!("query?query=m&time={AT}&lookback_delta=1");
    check(&path, &format!("{many} for one selector")).await;
    check("series?match[]=m", many).await;
    assert_eq!(hub.get("/api/v1/series?match[]=m&limit=3").await.status, 200);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_knows_the_secret_may_ask() {
    let directory = tempfile::tempdir().unwrap();
    let mut hub = Running::start(directory.path(), Some(SECRET)).await;
    let token = hub.token.take().unwrap();
    let encode = |text: String| {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        BASE64_STANDARD.encode(text)
    };
    let ask = async |authorization: Option<String>| {
        let headers: Vec<_> =
            authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        hub.send("GET", "/api/v1/query?query=1", &headers, b"").await
    };
    for good in [
        format!("Bearer {token}"),
        format!("Bearer {SECRET}"),
        format!("Basic {}", encode(format!("grafana:{SECRET}"))),
        format!("Basic {}", encode(format!(":{token}"))),
    ] {
        assert_eq!(ask(Some(good.clone())).await.status, 200, "{good}");
    }
    for bad in [None, Some("Bearer x".to_owned()), Some(format!("Basic {}", encode("a:x".into())))]
    {
        let answer = ask(bad).await;
        assert_eq!((answer.status, &answer.json()["errorType"]), (401, &json!("unauthorized")));
        assert!(answer.head.contains("www-authenticate: bearer"));
    }
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_shown_in_prometheus_s_words() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path(), None);
    let rule = json!([{"name": "high", "metric": "m", "op": ">", "threshold": 5.0, "for": "1h"}]);
    config.rules = serde_json::from_value(rule).unwrap();
    config.rule_interval = "1s".parse().unwrap();
    let hub = Running::start_with(config, None).await;
    let schema = schema("m", 1);
    let now_ms = (crate::clock::system())();
    let value = |at_ms, value| Fake::TickAt(1, at_ms, vec![(schema.id, vec![value])]);
    hub.ingest(&FakeAgent::new(1, 1, &[&schema]).body(&[value(now_ms, 7.0)])).await;
    let alerts = loop {
        let alerts = hub.get("/api/v1/alerts").await.json()["data"]["alerts"].clone();
        if !alerts.as_array().unwrap().is_empty() {
            break alerts;
        }
    };
    let labels = json!({"alertname": "high", "instance": "host-1", "job": "node", "n": "0",
        "severity": "warning"});
    assert_eq!((&alerts[0]["labels"], &alerts[0]["value"]), (&labels, &json!("7e+00")));
    assert_eq!(alerts[0]["state"], "pending");
    let rules = hub.get("/api/v1/rules?type=alert").await.json();
    let rule = &rules["data"]["groups"][0]["rules"][0];
    assert_eq!((&rule["state"], &rule["health"]), (&json!("pending"), &json!("ok")));
    assert_eq!(rule["query"], "last_over_time(m[60000ms]) > 5");
    assert_eq!(rule["alerts"], alerts);
    assert_eq!(hub.get("/api/v1/rules?type=record").await.json()["data"], json!({"groups": []}));
    hub.stop().await;
}
