//! Admission plug-ins through the front door, in tables: each row is a request and what comes of it, in upstream's words.
//! Priority, RuntimeClass, DefaultStorageClass and the defaults of classes are in `classes`.

mod common;

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::World;
use corten_apiserver::admission_config::AdmissionConfig;
use corten_apiserver::{Config, User};
use serde_json::{Value, json};

const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const VOLUMES: &str = "/api/v1/persistentvolumes";
const CLASSES: &str = "/apis/storage.k8s.io/v1/storageclasses";
const CSRS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const NODES: &str = "/api/v1/nodes";

/// What is asked, and what must come of it: a code; after it, for a refusal the whole message (after `~`: a part of it), for
/// an object a pointer and the JSON that is there.
type Row<'a> = (&'a str, Value, &'a str);

/// `METHOD path`; `PATCH` is a merge patch.
async fn ask(world: &World, what: &str, body: &Value) -> (u16, Value) {
    let (method, path) = what.split_once(' ').expect("method and path");
    let got = match method {
        "POST" => world.post(path, body).await,
        "PATCH" => world.patch(path, "merge", body).await,
        "DELETE" => world.delete(path, body).await,
        _ => world.get(path).await,
    };
    (got.code, got.json())
}

async fn check(world: &World, rows: &[Row<'_>]) {
    for (what, body, want) in rows {
        let (code, answer) = ask(world, what, body).await;
        let (wanted, rest) = want.split_once(' ').unwrap_or((want, ""));
        assert_eq!(code.to_string(), wanted, "{what}: {answer}");
        let message = answer["message"].as_str().unwrap_or_default();
        match (rest.strip_prefix('~'), rest.split_once(' ')) {
            _ if rest.is_empty() => {}
            (Some(part), _) => assert!(message.contains(part), "{what}: {message}"),
            (None, Some((pointer, value))) if pointer.starts_with('/') => {
                let value: Value = serde_json::from_str(value).expect("JSON");
                assert_eq!(answer.pointer(pointer), Some(&value), "{what}: {answer}");
            }
            _ => assert_eq!(message, rest, "{what}"),
        }
    }
}

fn named(name: &str, more: Value) -> Value {
    let mut object = json!({ "metadata": { "name": name } });
    corten_api::patch::merge_patch(&mut object, &more);
    object
}

fn size(storage: &str) -> Value {
    json!({ "spec": { "resources": { "requests": { "storage": storage } } } })
}

fn claim(name: &str, class: &str) -> Value {
    let mut claim = named(name, size("1Gi"));
    claim["spec"]["accessModes"] = json!(["ReadWriteOnce"]);
    claim["spec"]["storageClassName"] = class.into();
    claim
}

#[tokio::test]
async fn pod_resize() {
    const PODS: &str = "/api/v1/namespaces/default/pods";
    let world = World::new().await;
    let cpu = |amount: &str| json!({ "spec": { "containers": [{ "name": "a", "image": "i", "resources": { "requests": { "cpu": amount } } }] } });
    let pod = |node: &str| {
        let mut pod = named("p", cpu("100m"));
        pod["spec"]["nodeName"] = node.into();
        pod
    };
    let (make, resize) = (format!("POST {PODS}"), format!("PATCH {PODS}/p/resize"));
    let room = json!({ "status": { "allocatable": { "cpu": "1", "memory": "1Gi" } } });
    let other = json!({ "metadata": { "labels": { "kubernetes.io/os": "plan9" } } });
    check(
        &world,
        &[
            (&make, pod("n"), "201"),
            (
                &resize,
                cpu("200m"),
                "403 pods \"p\" is forbidden: node \"n\" not found",
            ),
            (&format!("POST {NODES}"), named("n", json!({})), "201"),
            (&format!("PATCH {NODES}/n/status"), room, "200"),
            (
                &resize,
                cpu("2"),
                "403 pods \"p\" is forbidden: node didn't have enough allocatable resources: cpu, requested: 2000, allocatable: 1000",
            ),
            (&resize, cpu("2"), "403 /details/causes [{\"reason\":\"NodeCapacity\"}]"),
            (&resize, cpu("1"), "200"),
            (&format!("PATCH {NODES}/n"), other, "200"),
            (
                &resize,
                cpu("500m"),
                "403 pods \"p\" is forbidden: pod resize is only supported on linux nodes, node \"n\" is \"plan9\"",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn persistent_volume_claim_resize() {
    let world = World::new().await;
    let class =
        |name: &str, grows: bool| named(name, json!({ "provisioner": "p", "allowVolumeExpansion": grows }));
    let bound = json!({ "status": { "phase": "Bound" } });
    let of = |name: &str| format!("PATCH {CLAIMS}/{name}");
    let status = |name: &str| format!("PATCH {CLAIMS}/{name}/status");
    let (make_class, make) = (format!("POST {CLASSES}"), format!("POST {CLAIMS}"));
    let fixed = "403 persistentvolumeclaims \"b\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    let classless = fixed.replace("\"b\"", "\"c\"");
    check(
        &world,
        &[
            (&make_class, class("fast", true), "201"),
            (&make_class, class("slow", false), "201"),
            (&make, claim("a", "fast"), "201"),
            (&make, claim("b", "slow"), "201"),
            (&make, claim("c", ""), "201"),
            (
                &of("a"),
                size("2Gi"),
                "422 ~spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
            ),
            (&status("a"), bound.clone(), "200"),
            (&status("b"), bound.clone(), "200"),
            (&status("c"), bound, "200"),
            (
                &of("a"),
                size("2Gi"),
                "200 /spec/resources/requests/storage \"2Gi\"",
            ),
            (&of("b"), size("2Gi"), fixed),
            (&of("b"), size("1024Mi"), "200"),
            (&of("c"), size("2Gi"), &classless),
        ],
    )
    .await;
}

#[tokio::test]
async fn storage_object_in_use_protection() {
    let world = World::new().await;
    let mut own = claim("b", "");
    own["metadata"]["finalizers"] = json!(["example.com/x", "kubernetes.io/pvc-protection"]);
    let volume = named(
        "v",
        json!({ "spec": { "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "hostPath": { "path": "/x" } } }),
    );
    let a = format!("{CLAIMS}/a");
    check(
        &world,
        &[
            (
                &format!("POST {CLAIMS}"),
                claim("a", ""),
                r#"201 /metadata/finalizers ["kubernetes.io/pvc-protection"]"#,
            ),
            (
                &format!("POST {CLAIMS}"),
                own,
                r#"201 /metadata/finalizers ["example.com/x","kubernetes.io/pvc-protection"]"#,
            ),
            (
                &format!("POST {VOLUMES}"),
                volume,
                r#"201 /metadata/finalizers ["kubernetes.io/pv-protection"]"#,
            ),
            (
                "POST /apis/storage.k8s.io/v1/volumeattributesclasses",
                named(
                    "gold",
                    json!({ "driverName": "example.com", "parameters": { "iops": "9" } }),
                ),
                r#"201 /metadata/finalizers ["kubernetes.io/vac-protection"]"#,
            ),
            // It stays until it is let go.
            (&format!("DELETE {a}"), json!({}), "200"),
            (
                &format!("GET {a}"),
                Value::Null,
                r#"200 /metadata/deletionGracePeriodSeconds 0"#,
            ),
            (
                &format!("PATCH {a}"),
                json!({ "metadata": { "finalizers": null } }),
                "200",
            ),
            (
                &format!("GET {a}"),
                Value::Null,
                "404 persistentvolumeclaims \"a\" not found",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn taint_nodes_by_condition() {
    let world = World::new().await;
    let tainted = |name: &str, taints: Value| named(name, json!({ "spec": { "taints": taints } }));
    let make = format!("POST {NODES}");
    let not_ready = json!({ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" });
    let other = json!({ "key": "x", "effect": "NoExecute" });
    let alone = format!("201 /spec/taints [{not_ready}]");
    let both = format!("201 /spec/taints [{other},{not_ready}]");
    let longer = json!({ "key": "node.kubernetes.io/not-ready", "effect": "NoExecute" });
    let two = format!("201 /spec/taints [{longer},{not_ready}]");
    check(
        &world,
        &[
            (&make, named("a", json!({})), &alone),
            (&make, tainted("b", json!([not_ready])), &alone),
            (&make, tainted("c", json!([other])), &both),
            (&make, tainted("d", json!([longer])), &two),
            // Only a new node: who takes the taint away has taken it away.
            (
                &format!("PATCH {NODES}/a"),
                json!({ "spec": { "taints": null } }),
                "200",
            ),
            (
                &format!("PATCH {NODES}/a"),
                json!({ "metadata": { "labels": { "a": "b" } } }),
                "200 /spec {}",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn default_ingress_class() {
    let world = World::new().await;
    let classes = "POST /apis/networking.k8s.io/v1/ingressclasses";
    let ingresses = "POST /apis/networking.k8s.io/v1/namespaces/default/ingresses";
    let class = |name: &str, default: &str| {
        let annotations = json!({ "ingressclass.kubernetes.io/is-default-class": default });
        named(
            name,
            json!({ "metadata": { "annotations": annotations }, "spec": { "controller": "a.io/c" } }),
        )
    };
    let ingress = |name: &str, more: Value| {
        let backend =
            json!({ "spec": { "defaultBackend": { "service": { "name": "s", "port": { "number": 80 } } } } });
        let mut ingress = named(name, backend);
        corten_api::patch::merge_patch(&mut ingress, &more);
        ingress
    };
    let own = json!({ "spec": { "ingressClassName": "other" } });
    check(
        &world,
        &[
            (classes, class("z-no", "false"), "201"),
            (
                ingresses,
                ingress("a", json!({})),
                "201 /spec/defaultBackend/service/name \"s\"",
            ),
            (classes, class("b-first", "true"), "201"),
            (
                ingresses,
                ingress("b", json!({})),
                "201 /spec/ingressClassName \"b-first\"",
            ),
            // The newest of several; of the same second the first by name.
            (classes, class("a-second", "true"), "201"),
            (
                ingresses,
                ingress("c", json!({})),
                "201 /spec/ingressClassName \"a-second\"",
            ),
            (
                ingresses,
                ingress("d", own),
                "201 /spec/ingressClassName \"other\"",
            ),
        ],
    )
    .await;
    let none = world
        .get("/apis/networking.k8s.io/v1/namespaces/default/ingresses/a")
        .await;
    assert!(none.json()["spec"]["ingressClassName"].is_null(), "{}", none.text);
}

/// A request for a certificate, as base64 of PEM.
fn request(organization: &str) -> String {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, organization);
    let key = rcgen::KeyPair::generate().expect("a key");
    let pem = params
        .serialize_request(&key)
        .and_then(|request| request.pem())
        .expect("a request");
    STANDARD.encode(pem)
}

#[tokio::test]
async fn certificate_approval_signing_and_subject_restriction() {
    let world = World::new().await;
    let jane = world.by(User::new("jane", &[]));
    let csr = |name: &str, signer: &str, organization: &str| {
        named(
            name,
            json!({ "spec": { "request": request(organization), "signerName": signer, "usages": ["client auth"] } }),
        )
    };
    let group = json!(["certificates.k8s.io"]);
    let parts = json!([
        "certificatesigningrequests",
        "certificatesigningrequests/approval",
        "certificatesigningrequests/status"
    ]);
    let rights = |name: &str, rule: Value| named(name, json!({ "rules": [rule] }));
    let binding = |role: &str| {
        let of = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role });
        let to = json!([{ "kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io" }]);
        named(role, json!({ "roleRef": of, "subjects": to }))
    };
    let approver = json!({ "apiGroups": group, "resources": parts, "verbs": ["get", "update", "patch"] });
    let signer = |verb: &str, name: &str| json!({ "apiGroups": group, "resources": ["signers"], "resourceNames": [name], "verbs": [verb] });
    let approved = json!({ "status": { "conditions": [{ "type": "Approved", "status": "True", "reason": "r", "message": "m" }] } });
    let certificate = rcgen::generate_simple_self_signed(["x".to_owned()]).expect("a certificate");
    let signed = json!({ "status": { "certificate": STANDARD.encode(certificate.cert.pem()) } });
    let (make, roles, bindings) = (
        format!("POST {CSRS}"),
        format!("POST {RBAC}/clusterroles"),
        format!("POST {RBAC}/clusterrolebindings"),
    );
    let (approve, sign) = (
        format!("PATCH {CSRS}/a/approval"),
        format!("PATCH {CSRS}/a/status"),
    );
    let refused = |verb: &str| {
        format!(
            "403 certificatesigningrequests.certificates.k8s.io \"a\" is forbidden: user not permitted to {verb} requests with signerName \"example.com/own\""
        )
    };
    check(
        &world,
        &[
            (&make, csr("a", "example.com/own", "system:masters"), "201"),
            (
                &make,
                csr("b", "kubernetes.io/kube-apiserver-client", "system:masters"),
                "403 certificatesigningrequests.certificates.k8s.io \"b\" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
            ),
            (&make, csr("b", "kubernetes.io/kube-apiserver-client", "dev"), "201"),
            (&roles, rights("approver", approver), "201"),
            (&bindings, binding("approver"), "201"),
        ],
    )
    .await;
    check(
        &jane,
        &[
            (&approve, approved.clone(), &refused("approve")),
            (&sign, signed.clone(), &refused("sign")),
            // What is neither is nobody's signature.
            (&sign, json!({ "metadata": { "labels": { "a": "b" } } }), "200"),
        ],
    )
    .await;
    check(
        &world,
        &[
            (&roles, rights("own", signer("approve", "example.com/own")), "201"),
            (&bindings, binding("own"), "201"),
        ],
    )
    .await;
    check(
        &jane,
        &[
            (&approve, approved, "200 /status/conditions/0/type \"Approved\""),
            (&sign, signed.clone(), &refused("sign")),
        ],
    )
    .await;
    check(
        &world,
        &[
            (&roles, rights("domain", signer("sign", "example.com/*")), "201"),
            (&bindings, binding("domain"), "201"),
        ],
    )
    .await;
    check(&jane, &[(&sign, signed, "200")]).await;
}

#[tokio::test]
async fn event_rate_limit() {
    let text = r#"{"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": [{"name": "EventRateLimit",
        "configuration": {"apiVersion": "eventratelimit.admission.k8s.io/v1alpha1", "kind": "Configuration",
            "limits": [{"type": "Namespace", "qps": 1, "burst": 2}]}}]}"#;
    let given = AdmissionConfig::parse(text, |_| Err(String::new())).expect("a configuration");
    let mut config = Config::new(IpAddr::from([192, 0, 2, 1]), "test CA");
    config.event_rate_limit = given.event_rate_limit.map(Arc::new);
    let world = World::with(config).await;
    let event =
        |name: &str, namespace: &str| named(name, json!({ "involvedObject": { "namespace": namespace } }));
    let path = |namespace: &str, query: &str| format!("POST /api/v1/namespaces/{namespace}/events{query}");
    let all = async |namespace: &str, query: &str| {
        let mut answers = Vec::new();
        // More than a second gives back on the slowest machine.
        for number in 0..40 {
            let event = event(&format!("e{number}"), namespace);
            answers.push(ask(&world, &path(namespace, query), &event).await);
        }
        answers
    };
    let dry = all("default", "?dryRun=All").await;
    assert!(dry.iter().all(|(code, _)| *code == 201), "{dry:?}");
    let answers = all("default", "").await;
    assert_eq!((answers[0].0, answers[1].0), (201, 201), "the burst");
    let (_, refused) = answers
        .iter()
        .find(|(code, _)| *code != 201)
        .expect("a limit is a limit");
    assert_eq!(
        (&refused["code"], &refused["reason"], &refused["message"]),
        (
            &json!(429),
            &json!("TooManyRequests"),
            &json!("Too many requests: limit reached on type Namespace for key default")
        )
    );
    let (code, _) = ask(&world, &path("kube-system", ""), &event("e", "kube-system")).await;
    assert_eq!(code, 201, "another namespace has its own");
}

/// The switches that `--profile=hardened` sets, in front of a server.
#[tokio::test]
async fn a_stricter_server() {
    let mut config = Config::new(IpAddr::from([192, 0, 2, 1]), "test CA");
    config.strict.bare_default_account = true;
    config.strict.webhook_limit = Some(std::time::Duration::from_secs(2));
    let world = World::with(config).await;
    let make = |namespace: &str, plural: &str| format!("POST /api/v1/namespaces/{namespace}/{plural}");
    let pod = |name: &str, more: Value| {
        let mut pod = named(
            name,
            json!({ "spec": { "containers": [{ "name": "a", "image": "i" }] } }),
        );
        corten_api::patch::merge_patch(&mut pod, &json!({ "spec": more }));
        pod
    };
    let hooks = "POST /apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    // Nobody listens there.
    let hook = named(
        "nobody",
        json!({ "webhooks": [{ "name": "n.example.com", "clientConfig": { "url": "https://127.0.0.1:1/" },
            "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"] }],
            "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 30 }] }),
    );
    let token =
        "/spec/containers/0/volumeMounts/0/mountPath \"/var/run/secrets/kubernetes.io/serviceaccount\"";
    let (with, without) = (format!("201 {token}"), "201 /spec/serviceAccountName \"default\"");
    check(
        &world,
        &[
            (
                &make("default", "serviceaccounts"),
                named("own", json!({})),
                "201",
            ),
            (&make("default", "pods"), pod("a", json!({})), without),
            (
                &make("default", "pods"),
                pod("b", json!({ "automountServiceAccountToken": true })),
                &with,
            ),
            (
                &make("default", "pods"),
                pod("c", json!({ "serviceAccountName": "own" })),
                &with,
            ),
            (hooks, hook, "201"),
            (
                &make("default", "configmaps"),
                named("a", json!({})),
                "500 ~failed to call webhook",
            ),
            (&make("kube-system", "configmaps"), named("a", json!({})), "201"),
        ],
    )
    .await;
    let got = world.get("/api/v1/namespaces/default/pods/a").await.json();
    assert_eq!(got["spec"].get("volumes"), None, "{got}");
}

/// Who may write endpoints, and who may write any.
#[tokio::test]
async fn restricted_endpoints() {
    let mut config = Config::new(IpAddr::from([192, 0, 2, 1]), "test CA");
    config.strict.pod_range = Some("10.244.0.0/16".parse().expect("a range"));
    let world = World::with(config).await;
    let jane = world.by(User::new("jane", &[]));
    let role = |name: &str, plurals: Value| {
        let rule = json!({ "apiGroups": ["", "discovery.k8s.io"], "resources": plurals, "verbs": ["get", "create", "update"] });
        named(name, json!({ "rules": [rule] }))
    };
    let binding = |name: &str| {
        let of = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name });
        let to = json!([{ "kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io" }]);
        named(name, json!({ "roleRef": of, "subjects": to }))
    };
    let endpoints = |name: &str, ips: &[&str]| {
        let addresses: Vec<Value> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
        named(
            name,
            json!({ "subsets": [{ "addresses": addresses, "ports": [{ "port": 80 }] }] }),
        )
    };
    let slice = |name: &str, kind: &str, address: &str| {
        named(
            name,
            json!({ "addressType": kind, "endpoints": [{ "addresses": [address] }] }),
        )
    };
    let make = "POST /api/v1/namespaces/default/endpoints";
    let slices = "POST /apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let roles = format!("POST {RBAC}/namespaces/default/roles");
    let bindings = format!("POST {RBAC}/namespaces/default/rolebindings");
    check(
        &world,
        &[
            (
                &roles,
                role("writer", json!(["endpoints", "endpointslices"])),
                "201",
            ),
            (&bindings, binding("writer"), "201"),
            (make, endpoints("hers", &["10.244.1.1", "192.0.2.9"]), "201"),
        ],
    )
    .await;
    check(
        &jane,
        &[
            (make, endpoints("a", &["10.244.1.1"]), "201"),
            (
                make,
                endpoints("b", &["10.244.1.1", "192.0.2.9"]),
                "403 ~address 192.0.2.9 is no Pod's: who writes it needs the right to create endpoints/restricted",
            ),
            (slices, slice("a", "IPv4", "10.244.1.1"), "201"),
            (slices, slice("b", "IPv4", "192.0.2.9"), "403 ~endpointslices/restricted"),
            (slices, slice("b", "FQDN", "example.com"), "403 ~address example.com"),
            // What is there already stays.
            (
                "PUT /api/v1/namespaces/default/endpoints/hers",
                endpoints("hers", &["192.0.2.9"]),
                "200",
            ),
        ],
    )
    .await;
    let more = json!(["endpoints/restricted", "endpointslices/restricted"]);
    check(
        &world,
        &[
            (&roles, role("any", more), "201"),
            (&bindings, binding("any"), "201"),
        ],
    )
    .await;
    check(
        &jane,
        &[
            (make, endpoints("b", &["192.0.2.9"]), "201"),
            (slices, slice("b", "IPv4", "192.0.2.9"), "201"),
        ],
    )
    .await;
}
