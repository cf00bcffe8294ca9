//! The guards of the front door: the break-glass socket, anonymous requests, time limits.

mod common;

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{CONFIG_MAPS, World};
use corten_apiserver::Config;
use corten_apiserver::audit::file::Rotation;
use corten_apiserver::audit::log::{Log, Settings};
use corten_apiserver::audit::policy::Policy;
use corten_apiserver::audit::{Audit, Mode};
use futures::StreamExt;
use http::Request;
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tower::Service;

fn config() -> Config {
    Config::new(IpAddr::from([192, 0, 2, 1]), "test CA")
}

#[tokio::test]
async fn root_gets_in_by_the_socket_and_is_recorded() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, socket) = (dir.path().join("audit.log"), dir.path().join("admin.sock"));
    let settings = Settings {
        path: log.clone(),
        rotation: Rotation {
            max_bytes: 1 << 30,
            max_backups: 0,
            max_age_days: 0,
        },
        chained: true,
    };
    let nothing = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None}]";
    let policy = Policy::parse(nothing).expect("a policy");
    let mut config = config();
    config.audit = Some(Arc::new(Audit::new(
        policy,
        Log::open(&settings).expect("the log"),
        Mode::Blocking,
    )));
    config.anonymous = false;
    let world = World::with(config).await;
    std::fs::write(&socket, "left from before").expect("a file");
    let (server, path, stop) = (world.server.clone(), socket.clone(), CancellationToken::new());
    let stopping = stop.clone();
    let served = tokio::spawn(async move { server.serve_local(&path, stopping).await });
    let start = Instant::now();
    let mut stream = loop {
        match UnixStream::connect(&socket).await {
            Ok(stream) => break stream,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(10), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let mode = std::fs::metadata(&socket)
        .expect("the socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let delete = format!("DELETE {CONFIG_MAPS}/none HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(delete.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(
        answer.starts_with("HTTP/1.1 404"),
        "it may, but there is none: {answer}"
    );
    let text = std::fs::read_to_string(&log).expect("the log");
    let event: Value = serde_json::from_str(text.lines().last().expect("an event")).expect("JSON");
    assert_eq!(event["user"]["username"], "corten:break-glass");
    assert_eq!(
        event["user"]["extra"]["corten.dev/pid"][0],
        std::process::id().to_string()
    );
    assert_eq!(
        (&event["verb"], &event["level"]),
        (&"delete".into(), &"Metadata".into())
    );
    stop.cancel();
    served.await.expect("a task").expect("it ends well");
    assert!(!socket.exists());
}

#[tokio::test]
async fn who_shows_nothing_is_anonymous_unless_that_is_off() {
    for (anonymous, want) in [(true, 200), (false, 401)] {
        let mut config = config();
        config.anonymous = anonymous;
        let world = World::with(config).await;
        assert_eq!(world.by_credentials().get("/livez").await.code, want);
        assert_eq!(world.get("/livez").await.code, 200, "who is known is served");
    }
}

#[tokio::test]
async fn a_body_that_never_ends_costs_a_request_its_time() {
    let world = World::new().await;
    let chunks = futures::stream::once(async { Ok::<_, std::io::Error>(Frame::data(Bytes::from("{"))) });
    let body = StreamBody::new(chunks.chain(futures::stream::pending()));
    let request = Request::post(format!("{CONFIG_MAPS}?timeout=50ms"))
        .header("content-type", "application/json")
        .body(body)
        .expect("a request");
    let mut service = world.server.in_process(corten_apiserver::User::component("test"));
    let Ok(answer) = service.call(request).await;
    assert_eq!(answer.status(), 504);
    let body = answer.into_body();
    let status: Value = serde_json::from_slice(body.as_bytes().expect("a whole body")).expect("JSON");
    assert_eq!(status["reason"], "Timeout");
    assert_eq!(
        status["message"],
        "Timeout: request did not complete within requested timeout - context deadline exceeded"
    );
    let bad = world.get(&format!("{CONFIG_MAPS}?timeout=soon")).await;
    assert_eq!(
        (bad.code, &bad.json()["message"]),
        (400, &"invalid timeout specified in the request URL".into())
    );
}

/// A custom resource that keeps whatever it is given.
fn anything() -> Value {
    let schema = serde_json::json!({ "type": "object", "properties": { "spec": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } });
    serde_json::json!({ "metadata": { "name": "things.g.io" }, "spec": { "group": "g.io", "scope": "Namespaced",
        "names": { "plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList" },
        "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } }] } })
}

#[tokio::test]
async fn what_nests_too_deep_is_refused_and_what_is_taken_comes_back() {
    let world = World::new().await;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(world.post(definitions, &anything()).await.code, 201);
    let things = "/apis/g.io/v1/namespaces/default/things";
    let start = Instant::now();
    while world.get(things).await.code != 200 {
        assert!(start.elapsed() < Duration::from_secs(10), "not served");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let nested = |name: &str, depth: usize| {
        let head =
            format!(r#"{{"apiVersion":"g.io/v1","kind":"Thing","metadata":{{"name":"{name}"}},"spec":"#);
        format!("{head}{}1{}}}", r#"{"a":"#.repeat(depth), "}".repeat(depth))
    };
    let json = [("content-type", "application/json")];
    for depth in [100, 400] {
        let at = format!("{things}/d{depth}");
        let made = world
            .ask("POST", things, &json, nested(&format!("d{depth}"), depth))
            .await;
        assert_eq!(made.code, 201, "{depth}: {}", made.text);
        let got = world.get(&at).await;
        assert!(got.text.contains(&r#"{"a":"#.repeat(depth)), "{depth}");
        let label = serde_json::json!({ "metadata": { "labels": { "x": "y" } } });
        let patched = world.patch(&at, "merge", &label).await;
        assert_eq!(patched.code, 200, "{depth}: {}", patched.text);
        assert_eq!(world.ask("PUT", &at, &json, patched.text).await.code, 200);
        assert_eq!(world.delete(&at, &serde_json::json!({})).await.code, 200);
    }
    for depth in [600, 20_000] {
        let refused = world.ask("POST", things, &json, nested("deep", depth)).await;
        assert_eq!(refused.code, 400, "{}", refused.text);
        assert!(refused.text.contains("exceeded max depth"), "{}", refused.text);
        let patch = format!(r#"{{"spec":{}1{}}}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth));
        let merge = [("content-type", "application/merge-patch+json")];
        let refused = world.ask("PATCH", &format!("{things}/none"), &merge, patch).await;
        assert!([400, 404].contains(&refused.code), "{depth}: {}", refused.text);
    }
}
