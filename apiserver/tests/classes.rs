//! What a new object gets from its classes, who asked for a certificate, and events under both their names.

mod common;

use common::World;
use serde_json::{Value, json};

const JSON: (&str, &str) = ("content-type", "application/json");
const PRIORITIES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
const RUNTIMES: &str = "/apis/node.k8s.io/v1/runtimeclasses";
const PODS: &str = "/api/v1/namespaces/default/pods";
const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

async fn send(world: &World, method: &str, path: &str, body: Value) -> (u16, Value) {
    let got = world.ask(method, path, &[JSON], body.to_string()).await;
    (got.code, got.json())
}

/// Makes an object; what came back.
async fn make(world: &World, path: &str, body: Value) -> Value {
    let (code, object) = send(world, "POST", path, body).await;
    assert_eq!(code, 201, "{object}");
    object
}

/// Tries to make an object; the text of the 403.
async fn forbidden(world: &World, path: &str, body: Value) -> String {
    let (code, status) = send(world, "POST", path, body).await;
    assert_eq!(code, 403, "{status}");
    status["message"].as_str().expect("a message").to_owned()
}

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

fn priority(pod: &Value) -> (i64, &str, &str) {
    let spec = &pod["spec"];
    let text = |field: &str| spec[field].as_str().unwrap_or_default();
    (
        spec["priority"].as_i64().expect("a priority"),
        text("preemptionPolicy"),
        text("priorityClassName"),
    )
}

#[tokio::test]
async fn pods_get_the_priority_of_their_class() {
    let world = World::new().await;
    let plain = make(&world, PODS, pod("a", json!({}))).await;
    assert_eq!(priority(&plain), (0, "PreemptLowerPriority", ""));
    let class = json!({"priorityClassName": "system-node-critical"});
    let system = make(&world, PODS, pod("b", class)).await;
    assert_eq!(
        priority(&system),
        (2_000_001_000, "PreemptLowerPriority", "system-node-critical")
    );
    assert_eq!(
        forbidden(&world, PODS, pod("c", json!({"priorityClassName": "x"}))).await,
        "pods \"c\" is forbidden: no PriorityClass with name x was found"
    );
    let class = |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value, "preemptionPolicy": "Never", "globalDefault": true});
    make(&world, PRIORITIES, class("low", 7)).await;
    let low = make(&world, PODS, pod("c", json!({}))).await;
    assert_eq!(priority(&low), (7, "Never", "low"));
    assert_eq!(
        forbidden(&world, PODS, pod("d", json!({"priority": 8}))).await,
        "pods \"d\" is forbidden: the integer value of priority (8) must not be provided in pod spec; priority admission controller computed 7 from the given PriorityClass name"
    );
    assert_eq!(
        forbidden(
            &world,
            PODS,
            pod("d", json!({"preemptionPolicy": "PreemptLowerPriority"}))
        )
        .await,
        "pods \"d\" is forbidden: the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod spec; priority admission controller computed Never from the given PriorityClass name"
    );
    let second = "PriorityClass low is already marked as default. Only one default can exist";
    assert_eq!(
        forbidden(&world, PRIORITIES, class("high", 9)).await,
        format!("priorityclasses.scheduling.k8s.io \"high\" is forbidden: {second}")
    );
    let mut high = class("high", 9);
    high["globalDefault"] = json!(false);
    make(&world, PRIORITIES, high.clone()).await;
    high["globalDefault"] = json!(true);
    let (code, status) = send(&world, "PUT", &format!("{PRIORITIES}/high"), high).await;
    assert_eq!(code, 403, "{status}");
    let (code, again) = send(&world, "PUT", &format!("{PRIORITIES}/low"), class("low", 7)).await;
    assert_eq!(code, 200, "{again}");
}

#[tokio::test]
async fn pods_get_the_overhead_of_their_runtime_class() {
    let world = World::new().await;
    make(
        &world,
        RUNTIMES,
        json!({
            "metadata": {"name": "vm"}, "handler": "kata", "overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]},
        }),
    )
    .await;
    let class = |more: Value| {
        let mut spec = json!({"runtimeClassName": "vm"});
        for (field, value) in more.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        spec
    };
    let got = make(&world, PODS, pod("a", class(json!({"nodeSelector": {"a": "b"}})))).await;
    assert_eq!(got["spec"]["overhead"], json!({"cpu": "250m"}));
    assert_eq!(got["spec"]["nodeSelector"], json!({"a": "b", "vm": "yes"}));
    let tolerations = got["spec"]["tolerations"].as_array().expect("tolerations");
    assert!(tolerations.contains(&json!({"key": "vm", "operator": "Exists"})));
    for (spec, why) in [
        (
            json!({"runtimeClassName": "x"}),
            "pod rejected: RuntimeClass \"x\" not found",
        ),
        (
            json!({"overhead": {"cpu": "1"}}),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            class(json!({"overhead": {"cpu": "1"}})),
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            class(json!({"nodeSelector": {"vm": "no"}})),
            "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no",
        ),
    ] {
        assert_eq!(
            forbidden(&world, PODS, pod("b", spec)).await,
            format!("pods \"b\" is forbidden: {why}")
        );
    }
}

#[tokio::test]
async fn ingresses_and_claims_get_the_default_class() {
    let world = World::new().await;
    let ingresses = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let ingress = |name: &str| json!({"metadata": {"name": name}, "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}});
    let claim = |name: &str| json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let got = make(&world, ingresses, ingress("a")).await;
    assert_eq!(got["spec"]["ingressClassName"], Value::Null);
    let got = make(&world, claims, claim("a")).await;
    assert_eq!(got["spec"]["storageClassName"], Value::Null);
    make(
        &world,
        "/apis/networking.k8s.io/v1/ingressclasses",
        json!({
            "metadata": {"name": "nginx", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
            "spec": {"controller": "a.io/c"},
        }),
    )
    .await;
    make(
        &world,
        "/apis/storage.k8s.io/v1/storageclasses",
        json!({
            "metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "p",
        }),
    )
    .await;
    let got = make(&world, ingresses, ingress("b")).await;
    assert_eq!(got["spec"]["ingressClassName"], "nginx");
    let mut own = ingress("c");
    own["metadata"]["annotations"] = json!({"kubernetes.io/ingress.class": "x"});
    let got = make(&world, ingresses, own).await;
    assert_eq!(got["spec"]["ingressClassName"], Value::Null);
    let got = make(&world, claims, claim("b")).await;
    assert_eq!(got["spec"]["storageClassName"], "fast");
    let mut none = claim("c");
    none["spec"]["storageClassName"] = json!("");
    let got = make(&world, claims, none).await;
    assert_eq!(got["spec"]["storageClassName"], "");
}

/// A request for a certificate, as base64 of PEM.
fn request(organization: &str) -> String {
    use base64::Engine;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let name = &mut params.distinguished_name;
    name.push(rcgen::DnType::CommonName, "someone");
    name.push(rcgen::DnType::OrganizationName, organization);
    let key = rcgen::KeyPair::generate().expect("a key");
    let pem = params
        .serialize_request(&key)
        .and_then(|r| r.pem())
        .expect("a request");
    base64::engine::general_purpose::STANDARD.encode(pem)
}

#[tokio::test]
async fn a_certificate_request_from_creation_to_its_end() {
    let world = World::new().await;
    let csr = |name: &str, organization: &str| {
        json!({"metadata": {"name": name}, "spec": {
            "request": request(organization), "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"], "username": "root",
        }})
    };
    let made = make(&world, CSRS, csr("a", "team")).await;
    assert_eq!(made["spec"]["username"], "test");
    assert_eq!(
        made["spec"]["groups"],
        json!(["system:masters", "system:authenticated"])
    );
    assert_eq!(
        forbidden(&world, CSRS, csr("b", "system:masters")).await,
        "certificatesigningrequests.certificates.k8s.io \"b\" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
    );
    let approve = json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "r", "message": "m"}]}});
    let patch = async |path: &str, body: &Value| {
        let merge = ("content-type", "application/merge-patch+json");
        let got = world.ask("PATCH", path, &[merge], body.to_string()).await;
        (got.code, got.json())
    };
    let (code, same) = patch(&format!("{CSRS}/a"), &approve).await;
    assert_eq!((code, &same["status"]), (200, &json!({})));
    let (code, status) = patch(&format!("{CSRS}/a/status"), &approve).await;
    assert_eq!(code, 422, "{status}");
    let (code, approved) = patch(&format!("{CSRS}/a/approval"), &approve).await;
    assert_eq!(code, 200, "{approved}");
    let condition = &approved["status"]["conditions"][0];
    assert_eq!(condition["type"], "Approved");
    assert!(condition["lastUpdateTime"].is_string() && condition["lastTransitionTime"].is_string());
    let (code, read) = send(&world, "GET", &format!("{CSRS}/a/approval"), json!(null)).await;
    assert_eq!((code, &read["status"]), (200, &approved["status"]));
    let path = format!("{CSRS}?fieldSelector=spec.signerName%3Dkubernetes.io%2Fkube-apiserver-client");
    let (_, list) = send(&world, "GET", &path, json!(null)).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn one_event_has_two_names() {
    let world = World::new().await;
    let events = "/apis/events.k8s.io/v1/namespaces/default/events";
    let made = make(
        &world,
        events,
        json!({
            "metadata": {"name": "a"}, "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "R",
            "action": "A", "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "note": "n",
            "reportingController": "example.com/c", "reportingInstance": "i",
        }),
    )
    .await;
    assert_eq!((&made["kind"], &made["note"]), (&json!("Event"), &json!("n")));
    let (_, core) = send(&world, "GET", "/api/v1/namespaces/default/events/a", json!(null)).await;
    assert_eq!(core["message"], "n");
    assert_eq!(core["involvedObject"]["name"], "p");
    assert_eq!(core["reportingComponent"], "example.com/c");
    assert_eq!(core["metadata"]["uid"], made["metadata"]["uid"]);
    for path in [
        format!("{events}?fieldSelector=regarding.name%3Dp"),
        "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dp".to_owned(),
    ] {
        let (code, list) = send(&world, "GET", &path, json!(null)).await;
        assert_eq!(
            (code, list["items"].as_array().map(Vec::len)),
            (200, Some(1)),
            "{list}"
        );
    }
    // An old event is served under the new name as well, and may gain a series there.
    let (code, _) = send(
        &world,
        "PUT",
        "/api/v1/namespaces/default/events/Old",
        json!({"metadata": {"name": "Old"}, "involvedObject": {"namespace": "default"}, "count": 3}),
    )
    .await;
    assert_eq!(code, 201, "an update makes an event");
    let (_, old) = send(&world, "GET", &format!("{events}/Old"), json!(null)).await;
    assert_eq!(old["deprecatedCount"], 3);
    let merge = ("content-type", "application/merge-patch+json");
    let change = json!({"note": "changed"}).to_string();
    let got = world
        .ask("PATCH", &format!("{events}/a"), &[merge], change)
        .await
        .json();
    assert_eq!(
        got["message"],
        "Event.events.k8s.io \"a\" is invalid: message: Invalid value: \"changed\": field is immutable"
    );
    let series =
        json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z"}}).to_string();
    let got = world.ask("PATCH", &format!("{events}/a"), &[merge], series).await;
    assert_eq!((got.code, &got.json()["series"]["count"]), (200, &json!(2)));
}
