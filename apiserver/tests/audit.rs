//! The audit log: what is recorded of whom, and that no secret is.

mod common;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{CONFIG_MAPS, World, config_map, pod};
use corten_apiserver::audit::file::Rotation;
use corten_apiserver::audit::log::{Log, Settings};
use corten_apiserver::audit::policy::Policy;
use corten_apiserver::audit::{Audit, Mode};
use corten_apiserver::{Config, User};
use serde_json::{Value, json};

struct Logged {
    world: World,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

async fn logged(rules: &str, mode: Mode) -> Logged {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("audit.log");
    let world = logged_to(path.clone(), rules, mode).await;
    Logged {
        world,
        path,
        _dir: dir,
    }
}

/// A server whose log is `path`. `rules`: of the policy; none: the built-in one.
async fn logged_to(path: PathBuf, rules: &str, mode: Mode) -> World {
    let rotation = Rotation {
        max_bytes: 1 << 30,
        max_backups: 0,
        max_age_days: 0,
    };
    let settings = Settings {
        path,
        rotation,
        chained: false,
    };
    let log = Log::open(&settings).expect("the log");
    let policy = match rules {
        "" => Policy::built_in(),
        rules => Policy::parse(&format!(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}"
        ))
        .expect("a policy"),
    };
    let mut config = Config::new(IpAddr::from([192, 0, 2, 1]), "test CA");
    config.audit = Some(Arc::new(Audit::new(policy, log, mode)));
    World::with(config).await
}

impl Logged {
    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.path).expect("the log");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("an event"))
            .collect()
    }

    /// The newest event so far; for a write it is there with its answer.
    #[track_caller]
    fn last(&self) -> Value {
        self.events().pop().expect("an event")
    }

    /// Waits for an event that is only on its way.
    async fn until(&self, is: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            if let Some(found) = self.events().into_iter().find(|event| is(event)) {
                return found;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "{:?}", self.events());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

const ALL: &str = "- {level: RequestResponse, omitStages: [RequestReceived]}";

#[tokio::test]
async fn a_write_is_in_the_log_before_its_answer() {
    let logged = logged(ALL, Mode::Blocking).await;
    let created = logged.world.post(CONFIG_MAPS, &config_map("a")).await;
    assert_eq!(created.code, 201);
    let event = logged.last();
    for (pointer, want) in [
        ("/kind", json!("Event")),
        ("/apiVersion", json!("audit.k8s.io/v1")),
        ("/level", json!("RequestResponse")),
        ("/stage", json!("ResponseComplete")),
        ("/requestURI", json!(CONFIG_MAPS)),
        ("/verb", json!("create")),
        ("/user/username", json!("test")),
        ("/objectRef/name", json!("a")),
        ("/objectRef/namespace", json!("default")),
        ("/objectRef/resource", json!("configmaps")),
        ("/responseStatus", json!({ "metadata": {}, "code": 201 })),
        ("/requestObject", config_map("a")),
        (
            "/responseObject/metadata/uid",
            created.json()["metadata"]["uid"].clone(),
        ),
        ("/annotations/authorization.k8s.io~1decision", json!("allow")),
        ("/annotations/authorization.k8s.io~1reason", json!("")),
    ] {
        assert_eq!(event.pointer(pointer), Some(&want), "{pointer} {event}");
    }
    assert_eq!(
        created.headers["audit-id"],
        event["auditID"].as_str().expect("an id")
    );
    let patched = logged
        .world
        .patch(
            &format!("{CONFIG_MAPS}/a"),
            "merge",
            &json!({ "data": { "b": "2" } }),
        )
        .await;
    assert_eq!(patched.code, 200);
    let event = logged.last();
    assert_eq!(
        (&event["verb"], &event["requestObject"]),
        (&json!("patch"), &json!({ "data": { "b": "2" } }))
    );
    let listed = logged.world.get(CONFIG_MAPS).await;
    assert_eq!(listed.code, 200);
    let event = logged.until(|event| event["verb"] == "list").await;
    assert_eq!(
        event["responseObject"]["items"].as_array().map(Vec::len),
        Some(2),
        "{event}"
    );
}

#[tokio::test]
async fn refusals_tell_who_and_why() {
    let logged = logged("- {level: Metadata}", Mode::Blocking).await;
    let jane = logged.world.by(User::new("jane", &["dev"]));
    let id = [("audit-id", "chosen-1"), ("user-agent", "tests/1")];
    let refused = jane.ask("DELETE", &format!("{CONFIG_MAPS}/x"), &id, "").await;
    assert_eq!(
        (refused.code, &refused.headers["audit-id"]),
        (403, &"chosen-1".parse().expect("a value"))
    );
    let event = logged.last();
    assert_eq!(event["auditID"], "chosen-1");
    assert_eq!(event["userAgent"], "tests/1");
    assert_eq!(event["responseStatus"]["reason"], "Forbidden");
    assert_eq!(event["responseStatus"]["code"], 403);
    assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "forbid");
    let stages: Vec<Value> = logged
        .events()
        .into_iter()
        .filter(|e| e["auditID"] == "chosen-1")
        .collect();
    assert_eq!(stages.len(), 2);
    assert_eq!(stages[0]["stage"], "RequestReceived");
    assert_eq!(stages[0]["requestReceivedTimestamp"], stages[0]["stageTimestamp"]);

    let acting = [
        ("impersonate-user", "joe"),
        ("impersonate-group", "ops"),
        ("audit-id", "chosen-2"),
    ];
    logged
        .world
        .ask("DELETE", &format!("{CONFIG_MAPS}/x"), &acting, "")
        .await;
    let event = logged.last();
    assert_eq!(
        (&event["user"]["username"], &event["impersonatedUser"]["username"]),
        (&json!("test"), &json!("joe"))
    );
    assert_eq!(
        event["impersonatedUser"]["groups"],
        json!(["ops", "system:authenticated"])
    );

    let stranger = logged.world.by_credentials();
    let bad = [("authorization", "Bearer nonsense"), ("audit-id", "chosen-3")];
    assert_eq!(stranger.ask("GET", "/api/v1/pods", &bad, "").await.code, 401);
    let event = logged.until(|event| event["auditID"] == "chosen-3").await;
    assert_eq!(event["stage"], "ResponseStarted");
    assert_eq!(event["user"], json!({}));
    assert_eq!(
        event["responseStatus"]["message"],
        "Authentication failed, attempted: bearer"
    );
    assert_eq!(event["responseStatus"]["code"], 401);
}

#[tokio::test]
async fn a_watch_is_recorded_when_it_starts_and_when_it_ends() {
    let logged = logged(
        "- {level: Metadata, omitStages: [RequestReceived]}",
        Mode::Blocking,
    )
    .await;
    let watch = logged.world.watch(&format!("{CONFIG_MAPS}?watch=1")).await;
    let of_watch = |event: &Value, stage: &str| event["verb"] == "watch" && event["stage"] == stage;
    logged.until(|event| of_watch(event, "ResponseStarted")).await;
    assert!(
        !logged
            .events()
            .iter()
            .any(|event| of_watch(event, "ResponseComplete"))
    );
    drop(watch);
    logged.until(|event| of_watch(event, "ResponseComplete")).await;
}

#[tokio::test]
async fn the_built_in_policy_records_no_secret() {
    const CANARY: &str = "cAnArY-41";
    let logged = logged("", Mode::Blocking).await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({ "metadata": { "name": "s" }, "stringData": { "a": CANARY } });
    assert_eq!(logged.world.post(secrets, &secret).await.code, 201);
    let map = json!({ "metadata": { "name": "m" }, "data": { "a": CANARY } });
    assert_eq!(logged.world.post(CONFIG_MAPS, &map).await.code, 201);
    let patch = json!({ "data": { "b": CANARY } });
    assert_eq!(
        logged
            .world
            .patch(&format!("{CONFIG_MAPS}/m"), "merge", &patch)
            .await
            .code,
        200
    );
    let review = json!({ "spec": { "token": CANARY } });
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    assert_eq!(logged.world.post(reviews, &review).await.code, 201);
    let tokens = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let account = json!({ "metadata": { "name": "default" } });
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    logged.world.post(accounts, &account).await;
    let token = logged.world.post(tokens, &json!({ "spec": {} })).await;
    assert_eq!(token.code, 201, "{}", token.text);
    assert_eq!(
        logged
            .world
            .delete(&format!("{secrets}/s"), &json!({}))
            .await
            .code,
        200
    );
    assert_eq!(logged.world.post(common::PODS, &pod("p")).await.code, 201);
    let text = std::fs::read_to_string(&logged.path).expect("the log");
    assert!(!text.contains(CANARY));
    let issued = token.json()["status"]["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    assert!(!text.contains(&issued));
    let of = |resource: &str| {
        let events = logged.events().into_iter();
        events
            .filter(|event| event["objectRef"]["resource"] == *resource)
            .count()
    };
    assert_eq!((of("secrets"), of("configmaps"), of("tokenreviews")), (2, 2, 1));
    let pods: Vec<Value> = logged
        .events()
        .into_iter()
        .filter(|event| event["objectRef"]["resource"] == "pods")
        .collect();
    assert_eq!(pods[0]["requestObject"]["metadata"]["name"], "p", "{pods:?}");
}

#[tokio::test]
async fn admission_adds_annotations() {
    let logged = logged(
        "- {level: Metadata, verbs: [create], resources: [{resources: [pods]}]}",
        Mode::Blocking,
    )
    .await;
    let labels = json!({ "metadata": { "labels": { "pod-security.kubernetes.io/audit": "restricted" } } });
    logged
        .world
        .patch("/api/v1/namespaces/default", "merge", &labels)
        .await;
    logged
        .world
        .post(
            "/api/v1/namespaces/default/serviceaccounts",
            &json!({ "metadata": { "name": "default" } }),
        )
        .await;
    assert_eq!(logged.world.post(common::PODS, &pod("p")).await.code, 201);
    let annotations = &logged.last()["annotations"];
    assert_eq!(
        annotations["pod-security.kubernetes.io/enforce-policy"],
        "privileged:latest"
    );
    let found = annotations["pod-security.kubernetes.io/audit-violations"]
        .as_str()
        .unwrap_or_default();
    assert!(
        found.starts_with("would violate PodSecurity \"restricted:latest\""),
        "{annotations}"
    );
    let labels = json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "restricted" } } });
    logged
        .world
        .patch("/api/v1/namespaces/default", "merge", &labels)
        .await;
    assert_eq!(logged.world.post(common::PODS, &pod("q")).await.code, 403);
    let refused = &logged.last()["annotations"];
    assert_eq!(
        refused["pod-security.kubernetes.io/enforce-policy"],
        "restricted:latest"
    );
    assert_eq!(refused["pod-security.kubernetes.io/audit-violations"], found);
}

#[tokio::test]
async fn a_log_that_cannot_be_written_refuses_only_where_it_is_strict() {
    let rules = "- {level: Metadata, resources: [{resources: [configmaps]}], namespaces: [default]}";
    for (mode, want) in [
        (Mode::Blocking, 201),
        (Mode::BlockingStrict, 500),
        (Mode::Batch, 201),
    ] {
        let full = logged_to("/dev/full".into(), rules, mode).await;
        let answer = full.post(CONFIG_MAPS, &config_map("a")).await;
        assert_eq!(answer.code, want, "{mode:?} {}", answer.text);
        if want == 500 {
            assert_eq!(
                answer.json()["message"],
                "Internal error occurred: failed to store audit event"
            );
        }
        assert_eq!(
            full.get(&format!("{CONFIG_MAPS}/a")).await.code,
            if want == 500 { 500 } else { 200 }
        );
        let start = Instant::now();
        loop {
            let metrics = full.get("/metrics").await.text;
            let lost = metrics
                .lines()
                .find(|line| line.starts_with("apiserver_audit_error_total"));
            if lost.is_some_and(|line| !line.ends_with(" 0")) {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "{mode:?} {lost:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn metrics_count_levels_and_events() {
    let logged = logged(
        "- {level: None, verbs: [list]}\n- {level: Metadata, omitStages: [RequestReceived]}",
        Mode::Blocking,
    )
    .await;
    let value = |text: &str, name: &str| -> u64 {
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name}\n{text}"));
        line.rsplit(' ')
            .next()
            .and_then(|number| number.parse().ok())
            .expect("a number")
    };
    let before = logged.world.get("/metrics").await.text;
    logged.world.get(CONFIG_MAPS).await;
    logged.world.post(CONFIG_MAPS, &config_map("a")).await;
    let after = logged.world.get("/metrics").await.text;
    for (name, more) in [
        ("apiserver_audit_level_total{level=\"None\"}", 1),
        // The second asking for metrics too, but its end is not there yet.
        ("apiserver_audit_level_total{level=\"Metadata\"}", 2),
        ("apiserver_audit_event_total", 2),
        ("apiserver_audit_error_total{plugin=\"log\"}", 0),
    ] {
        assert_eq!(value(&after, name) - value(&before, name), more, "{name}");
    }
}
