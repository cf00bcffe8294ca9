//! Server-side apply and the tracking of managers, asked over HTTP.

mod common;

use common::{Got, World};
use serde_json::{Value, json};

const APPLY: &str = "application/apply-patch+yaml";

struct Case {
    world: World,
}

impl Case {
    async fn new() -> Case {
        Case {
            world: World::new().await,
        }
    }

    async fn apply(&self, path: &str, query: &str, config: &Value) -> Got {
        let path = format!("{path}?{query}");
        self.world
            .ask("PATCH", &path, &[("content-type", APPLY)], config.to_string())
            .await
    }

    async fn send(&self, method: &str, path: &str, agent: &str, kind: &str, body: &Value) -> Got {
        let headers = [("content-type", kind), ("user-agent", agent)];
        self.world.ask(method, path, &headers, body.to_string()).await
    }

    /// `manager operation subresource: paths` of every entry.
    async fn managers(&self, path: &str) -> Vec<String> {
        let object = self.world.get(path).await.json();
        let entries = object["metadata"]["managedFields"].as_array().cloned();
        entries
            .unwrap_or_default()
            .iter()
            .map(|entry| {
                let text = |name: &str| entry[name].as_str().unwrap_or_default().to_string();
                let fields =
                    corten_api::apply::set::Set::from_fields(&entry["fieldsV1"]).expect("good fields");
                assert!(entry["time"].is_string(), "{entry}");
                assert_eq!(entry["fieldsType"], "FieldsV1");
                let sub = match entry["subresource"].as_str() {
                    Some(sub) => format!("/{sub}"),
                    None => String::new(),
                };
                format!(
                    "{} {}{sub}: {}",
                    text("manager"),
                    text("operation"),
                    fields.paths().join(" ")
                )
            })
            .collect()
    }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data})
}

#[tokio::test]
async fn apply_creates_changes_and_gives_up() {
    let case = Case::new().await;
    let path = format!("{MAPS}/m");
    let got = case
        .apply(&path, "fieldManager=a", &map(&json!({"x": "1", "y": "1"})))
        .await;
    assert_eq!(got.code, 201, "{}", got.text);
    let first = got.json();
    assert_eq!(case.managers(&path).await, ["a Apply: .data.x .data.y"]);
    // The same again is no write.
    let got = case
        .apply(&path, "fieldManager=a", &map(&json!({"x": "1", "y": "1"})))
        .await;
    assert_eq!((got.code, got.json()), (200, first));
    // Another manager: the same value is shared, another one is a conflict.
    let got = case
        .apply(&path, "fieldManager=b", &map(&json!({"x": "2", "z": "1"})))
        .await;
    assert_eq!(got.code, 409);
    assert_eq!(
        got.json(),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 409, "reason": "Conflict",
            "message": "Apply failed with 1 conflict: conflict with \"a\": .data.x",
            "details": {"causes": [{"reason": "FieldManagerConflict", "message": "conflict with \"a\"", "field": ".data.x"}]}})
    );
    let got = case
        .apply(&path, "fieldManager=b", &map(&json!({"x": "1", "z": "1"})))
        .await;
    assert_eq!(got.code, 200, "{}", got.text);
    assert_eq!(
        case.managers(&path).await,
        ["a Apply: .data.x .data.y", "b Apply: .data.x .data.z"]
    );
    // What a gives up goes where nobody else has it.
    let got = case.apply(&path, "fieldManager=a", &map(&json!({}))).await;
    assert_eq!(got.json()["data"], json!({"x": "1", "z": "1"}));
    let got = case
        .apply(&path, "fieldManager=c&force=true", &map(&json!({"x": "3"})))
        .await;
    assert_eq!(got.json()["data"], json!({"x": "3", "z": "1"}));
    assert_eq!(
        case.managers(&path).await,
        ["a Apply: .data", "b Apply: .data.z", "c Apply: .data.x"]
    );
}

#[tokio::test]
async fn updates_are_tracked() {
    let case = Case::new().await;
    let path = format!("{MAPS}/m");
    let json_type = "application/json";
    let got = case
        .send(
            "POST",
            MAPS,
            "maker/1.0 (x)",
            json_type,
            &map(&json!({"x": "1", "y": "1"})),
        )
        .await;
    assert_eq!(got.code, 201, "{}", got.text);
    assert_eq!(
        case.managers(&path).await,
        ["maker Update: .data .data.x .data.y"]
    );
    let mut object = got.json();
    object["data"]["x"] = "2".into();
    let got = case
        .send(
            "PUT",
            &format!("{path}?fieldManager=fm"),
            "other",
            json_type,
            &object,
        )
        .await;
    assert_eq!(got.code, 200, "{}", got.text);
    assert_eq!(
        case.managers(&path).await,
        ["fm Update: .data.x", "maker Update: .data .data.y"]
    );
    // A write that changes nothing changes no times.
    let before = case.world.get(&path).await.json();
    let got = case.send("PUT", &path, "third", json_type, &before).await;
    assert_eq!(got.json(), before);
    // A conflict names the update and its version.
    let got = case
        .apply(&path, "fieldManager=a", &map(&json!({"x": "3", "y": "3"})))
        .await;
    assert_eq!(
        got.json()["message"],
        "Apply failed with 2 conflicts: conflicts with \"fm\" using v1:\n- .data.x\nconflicts with \"maker\" using v1:\n- .data.y"
    );
    // A removed field is nobody's any more.
    let got = case
        .send(
            "PATCH",
            &path,
            "p",
            "application/merge-patch+json",
            &json!({"data": {"y": null, "n": "1"}}),
        )
        .await;
    assert_eq!(got.code, 200);
    assert_eq!(
        case.managers(&path).await,
        ["fm Update: .data.x", "maker Update: .data", "p Update: .data.n"]
    );
    // Managers can be cleared in each way there is; then updates are not tracked.
    for (kind, body) in [
        (
            "application/merge-patch+json",
            json!({"metadata": {"managedFields": [{}]}}),
        ),
        (
            "application/merge-patch+json",
            json!({"metadata": {"managedFields": []}}),
        ),
        (
            "application/strategic-merge-patch+json",
            json!({"metadata": {"managedFields": [{}]}}),
        ),
        (
            "application/json-patch+json",
            json!([{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]),
        ),
    ] {
        let got = case.send("PATCH", &path, "p", kind, &body).await;
        assert_eq!(got.code, 200, "{}", got.text);
        assert_eq!(case.managers(&path).await, [""; 0], "{body}");
        let got = case
            .send(
                "PATCH",
                &path,
                "p",
                "application/merge-patch+json",
                &json!({"data": {"q": "1"}}),
            )
            .await;
        assert_eq!(got.code, 200);
        assert_eq!(case.managers(&path).await, [""; 0]);
        // The first apply gives what is there to a manager of its own.
        let got = case
            .apply(&path, "fieldManager=a&force=true", &map(&json!({"q": "2"})))
            .await;
        assert_eq!(got.code, 200, "{}", got.text);
        assert_eq!(
            case.managers(&path).await,
            [
                "a Apply: .data.q",
                "before-first-apply Update: .data .data.n .data.x"
            ]
        );
    }
    let mut object = case.world.get(&path).await.json();
    object["metadata"]["managedFields"] = json!([]);
    case.send("PUT", &path, "p", json_type, &object).await;
    assert_eq!(case.managers(&path).await, [""; 0]);
}

#[tokio::test]
async fn what_an_apply_may_not_say() {
    let case = Case::new().await;
    let path = format!("{MAPS}/m");
    for (query, config, code, want) in [
        (
            "",
            map(&json!({})),
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ),
        (
            "fieldManager=a",
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "m"}}),
            400,
            "invalid object type: /v1, Kind=Secret",
        ),
        (
            "fieldManager=a",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "managedFields": []}}),
            400,
            "metadata.managedFields must be nil",
        ),
        (
            "fieldManager=a",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "default"}, "daat": {}}),
            500,
            "failed to create typed patch object (default/m; /v1, Kind=ConfigMap): .daat: field not declared in schema",
        ),
        (
            "fieldManager=a",
            map(&json!({"x": [1]})),
            500,
            "failed to create typed patch object (/m; /v1, Kind=ConfigMap): .data.x: expected string, got &value.valueUnstructured{Value:[]interface {}{1}}",
        ),
        (
            "fieldManager=a",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "uid": "u"}}),
            409,
            "Operation cannot be fulfilled on configmaps \"m\": uid mismatch: the provided object specified uid u, and no existing object was found",
        ),
        (
            "fieldManager=a",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}}),
            400,
            "the name of the object (n) does not match the name on the URL (m)",
        ),
    ] {
        let got = case.apply(&path, query, &config).await;
        assert_eq!(got.code, code, "{}", got.text);
        assert_eq!(got.json()["message"], want);
    }
    let got = case
        .world
        .ask(
            "PATCH",
            &path,
            &[("content-type", "application/apply-patch+cbor")],
            "x",
        )
        .await;
    assert_eq!(got.code, 415, "{}", got.text);
    let got = case
        .apply(&path, "fieldManager=a&dryRun=All", &map(&json!({})))
        .await;
    assert_eq!(got.code, 201);
    assert_eq!(case.world.get(&path).await.code, 404);
}

fn deployment(name: &str, image: &str, replicas: Option<i64>) -> Value {
    let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": image}]}}}});
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = replicas.into();
    }
    object
}

#[tokio::test]
async fn status_and_scale_have_managers_of_their_own() {
    let case = Case::new().await;
    let path = "/apis/apps/v1/namespaces/default/deployments/d";
    let got = case
        .apply(path, "fieldManager=a", &deployment("d", "i", Some(2)))
        .await;
    assert_eq!(got.code, 201, "{}", got.text);
    let own = "a Apply: .metadata.labels.app .spec.replicas .spec.selector .spec.template.metadata.labels.app \
        .spec.template.spec.containers[name=\"c\"] .spec.template.spec.containers[name=\"c\"].image .spec.template.spec.containers[name=\"c\"].name";
    assert_eq!(case.managers(path).await, [own]);
    let got = case
        .send(
            "PATCH",
            &format!("{path}/status"),
            "controller",
            "application/merge-patch+json",
            &json!({"spec": {"replicas": 9}, "status": {"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]}}),
        )
        .await;
    assert_eq!(got.code, 200, "{}", got.text);
    let status = "controller Update/status: .status.conditions .status.replicas .status.conditions[type=\"Available\"] \
        .status.conditions[type=\"Available\"].lastTransitionTime .status.conditions[type=\"Available\"].lastUpdateTime \
        .status.conditions[type=\"Available\"].status .status.conditions[type=\"Available\"].type";
    assert_eq!(case.managers(path).await, [own, status]);
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 5}});
    let got = case
        .apply(&format!("{path}/scale"), "fieldManager=scaler", &scale)
        .await;
    assert_eq!(got.code, 409, "{}", got.text);
    assert_eq!(
        got.json()["message"],
        "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas"
    );
    let got = case
        .apply(&format!("{path}/scale"), "fieldManager=scaler&force=true", &scale)
        .await;
    assert_eq!(got.code, 200, "{}", got.text);
    assert_eq!(got.json()["spec"]["replicas"], 5);
    let managers = case.managers(path).await;
    assert!(
        managers.contains(&"scaler Apply/scale: .spec.replicas".to_string()),
        "{managers:?}"
    );
    let got = case
        .apply(path, "fieldManager=a", &deployment("d", "i", Some(3)))
        .await;
    assert_eq!(
        got.json()["message"],
        "Apply failed with 1 conflict: conflict with \"scaler\" with subresource \"scale\": .spec.replicas"
    );
    let got = case
        .send(
            "PUT",
            &format!("{path}/scale"),
            "hpa",
            "application/json",
            &json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d", "namespace": "default"}, "spec": {"replicas": 7}}),
        )
        .await;
    assert_eq!(got.code, 200, "{}", got.text);
    let managers = case.managers(path).await;
    assert!(
        managers.contains(&"hpa Update/scale: .spec.replicas".to_string()),
        "{managers:?}"
    );
    let got = case
        .apply(path, "fieldManager=a", &deployment("d", "i", Some(3)))
        .await;
    assert_eq!(
        got.json()["message"],
        "Apply failed with 1 conflict: conflict with \"hpa\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
    // Status is applied through its own path; through the object it changes nothing.
    let config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "status": {"readyReplicas": 1}});
    let got = case.apply(path, "fieldManager=s", &config).await;
    assert_eq!(got.json()["status"]["readyReplicas"], Value::Null);
    let got = case
        .apply(&format!("{path}/status"), "fieldManager=s", &config)
        .await;
    assert_eq!(got.json()["status"]["readyReplicas"], 1, "{}", got.text);
    let managers = case.managers(path).await;
    assert!(
        managers.contains(&"s Apply/status: .status.readyReplicas".to_string()),
        "{managers:?}"
    );
}

#[tokio::test]
async fn lists_of_a_pod_template() {
    let case = Case::new().await;
    let path = "/apis/apps/v1/namespaces/default/deployments/d";
    let with = |containers: Value| {
        let mut object = deployment("d", "i", None);
        object["spec"]["template"]["spec"]["containers"] = containers;
        object
    };
    let base = json!([{"name": "c", "image": "i", "ports": [{"containerPort": 80}, {"containerPort": 81, "protocol": "UDP"}]}]);
    case.apply(path, "fieldManager=a", &with(base.clone())).await;
    let side = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"template": {"spec": {"containers": [{"name": "side", "image": "s"}]}}}});
    let got = case.apply(path, "fieldManager=b", &side).await;
    assert_eq!(got.code, 200, "{}", got.text);
    let names = |got: &Got| -> Vec<String> {
        let object = got.json();
        let list = object["spec"]["template"]["spec"]["containers"]
            .as_array()
            .cloned();
        list.unwrap_or_default()
            .iter()
            .filter_map(|c| c["name"].as_str().map(String::from))
            .collect()
    };
    assert_eq!(names(&got), ["c", "side"]);
    // A port is known by number and protocol, which is TCP where none is given.
    let fewer = json!([{"name": "c", "image": "i", "ports": [{"containerPort": 81, "protocol": "UDP"}]}]);
    let got = case.apply(path, "fieldManager=a", &with(fewer)).await;
    assert_eq!(
        got.json()["spec"]["template"]["spec"]["containers"][0]["ports"],
        json!([{"containerPort": 81, "protocol": "UDP"}])
    );
    // Giving up the container takes it away; the other manager's stays.
    let mut none = side.clone();
    none["spec"]["template"]["spec"] = json!({});
    let got = case.apply(path, "fieldManager=b", &none).await;
    assert_eq!(names(&got), ["c"], "{}", got.text);
    let twice = json!([{"name": "c", "image": "i"}, {"name": "c", "image": "j"}]);
    let got = case.apply(path, "fieldManager=a", &with(twice)).await;
    assert_eq!(
        (got.code, got.json()["message"].clone()),
        (
            500,
            json!(
                "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.template.spec.containers: duplicate entries for key [name=\"c\"]"
            )
        )
    );
}

#[tokio::test]
async fn kubectl_goes_over_from_client_side_apply() {
    let case = Case::new().await;
    let path = "/apis/apps/v1/namespaces/default/deployments/d";
    let mut object = deployment("d", "i", Some(2));
    let applied = object.to_string();
    object["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": applied});
    let got = case
        .send(
            "POST",
            "/apis/apps/v1/namespaces/default/deployments?fieldManager=kubectl-client-side-apply",
            "kubectl",
            "application/json",
            &object,
        )
        .await;
    assert_eq!(got.code, 201, "{}", got.text);
    let changed = deployment("d", "j", Some(2));
    let got = case.apply(path, "fieldManager=other", &changed).await;
    assert_eq!(
        got.json()["message"],
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.template.spec.containers[name=\"c\"].image"
    );
    let got = case.apply(path, "fieldManager=kubectl", &changed).await;
    assert_eq!(got.code, 200, "{}", got.text);
    let object = got.json();
    let kept = object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str();
    let kept: Value = serde_json::from_str(kept.unwrap_or_default()).expect("a configuration");
    assert_eq!(kept, changed);
}
