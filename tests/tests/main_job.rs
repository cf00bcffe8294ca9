//! A Deployment behind a Service on two nodes answers from every Pod, on its ClusterIP and on its NodePort.

use std::collections::BTreeSet;
use std::time::Duration;

use corten_tests::wait::expect;
use corten_tests::{Cases, Cluster, Finished, Kubectl, api, eventually, load, manifests};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn a_deployment_behind_a_service_answers() {
    let cluster = Cluster::with_images("job", 2);
    let kubectl = cluster.kubectl();
    let mut cases = Cases::new();
    cases.case("the kubeconfig is private", || {
        assert!(api::is_private(&cluster.kubeconfig()))
    });
    kubectl.apply(&manifests::list(&[
        manifests::web("web", 3),
        manifests::service("web"),
        manifests::shell("client", "sleep 100000"),
    ]));
    kubectl.apply(&robot(kubectl));
    kubectl.ok("rollout status deployment/web --timeout=60s");
    kubectl.ok("wait --for=condition=Ready pod/client --timeout=60s");
    let pods = kubectl.pods("app=web").expect("the Pods are listed");
    let names: BTreeSet<String> = pods.iter().map(|pod| text(&pod["metadata"]["name"])).collect();
    let service = kubectl.json("service web");

    cases.case("the Pods run on both nodes", || {
        let nodes: BTreeSet<String> = pods.iter().map(|pod| text(&pod["spec"]["nodeName"])).collect();
        assert_eq!(nodes.len(), 2, "{nodes:?}");
    });
    cases.case("every Pod answers on the ClusterIP from a Pod", || {
        all_answer(&names, || {
            ask_inside(kubectl, &text(&service["spec"]["clusterIP"]), 80)
        });
    });
    for address in cluster.node_ports("web") {
        cases.case(
            &format!("every Pod answers on the NodePort {address} from outside"),
            || {
                all_answer(&names, || load::get(&address));
            },
        );
    }
    cases.case("a Pod reaches a Pod on the other node by its address", || {
        let client = text(&kubectl.json("pod client")["spec"]["nodeName"]);
        let other = pods
            .iter()
            .find(|pod| pod["spec"]["nodeName"] != client)
            .expect("a Pod on the other node");
        let answer = ask_inside(kubectl, &text(&other["status"]["podIP"]), 8080).expect("an answer");
        assert!(answer.starts_with(&text(&other["metadata"]["name"])), "{answer}");
    });
    cases.case("a Pod reaches itself through its Service", || {
        // Behind a Service of one Pod every request is a hairpin.
        kubectl.apply(&manifests::list(&[
            manifests::web("alone", 1),
            manifests::service("alone"),
        ]));
        kubectl.ok("rollout status deployment/alone --timeout=60s");
        let pod = text(&kubectl.pods("app=alone").expect("listed")[0]["metadata"]["name"]);
        let ip = text(&kubectl.json("service alone")["spec"]["clusterIP"]);
        eventually("the hairpin answer", DEADLINE, || {
            let url = format!("http://{ip}/");
            let finished = kubectl.run(
                &["exec", &pod, "--", "timeout", "3", "wget", "-q", "-O", "-", &url],
                "",
            );
            expect(finished.succeeded() && finished.stdout.starts_with(&pod), || {
                finished.to_string()
            })
        });
    });
    cases.case("the API answers on the Service kubernetes from a Pod", || {
        let words = ["exec", "client", "--", "nc", "-w", "3", "10.96.0.1", "443"];
        let finished = kubectl.run(&words, "");
        assert!(finished.succeeded(), "{finished}");
    });
    cases.case("a Pod asks the API as its ServiceAccount, by its token", || {
        kubectl.ok("wait --for=condition=Ready pod/robot --timeout=60s");
        asks_as_itself(kubectl);
    });
    cases.case("a token dies with its Pod", || dies_with_its_pod(kubectl));
    cases.finish();
}

/// An account that may read Pods and no more, and a Pod of it that has kubectl.
fn robot(kubectl: &Kubectl) -> Value {
    let program = std::fs::canonicalize(kubectl.program()).expect("kubectl is there");
    let named = |api: &str, kind: &str, more: Value| {
        let mut object = json!({ "apiVersion": api, "kind": kind, "metadata": { "name": "robot" } });
        object
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        object
    };
    const RBAC: &str = "rbac.authorization.k8s.io/v1";
    let rule = json!({ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] });
    let mut pod = manifests::shell("robot", "sleep 100000");
    pod["spec"]["serviceAccountName"] = "robot".into();
    pod["spec"]["volumes"] = json!([{ "name": "kubectl", "hostPath": { "path": program, "type": "File" } }]);
    let mount = json!([{ "name": "kubectl", "mountPath": "/bin/kubectl", "readOnly": true }]);
    pod["spec"]["containers"][0]["volumeMounts"] = mount;
    // No group owns the files, and one user: the token is that user's alone.
    pod["spec"]["securityContext"] = json!({ "runAsUser": 1000 });
    manifests::list(&[
        named("v1", "ServiceAccount", json!({})),
        named(RBAC, "Role", json!({ "rules": [rule] })),
        named(
            RBAC,
            "RoleBinding",
            json!({
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "robot" },
                "subjects": [{ "kind": "ServiceAccount", "name": "robot", "namespace": "default" }],
            }),
        ),
        pod,
    ])
}

const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

fn inside(kubectl: &Kubectl, words: &[&str]) -> Finished {
    kubectl.run(
        &[&["exec", "robot", "--", "env", "HOME=/tmp"], words].concat(),
        "",
    )
}

fn asks_as_itself(kubectl: &Kubectl) {
    let own = inside(kubectl, &["stat", "-L", "-c", "%a %u", TOKEN]);
    assert_eq!(own.stdout.trim(), "600 1000", "{own}");
    // kubectl without a kubeconfig takes the account's token, the CA and the Service `kubernetes`.
    let me = inside(kubectl, &["kubectl", "auth", "whoami", "-o", "json"]);
    let me: Value = serde_json::from_str(&me.stdout).unwrap_or_else(|error| panic!("{error}: {me}"));
    let user = &me["status"]["userInfo"];
    assert_eq!(user["username"], "system:serviceaccount:default:robot");
    assert_eq!(
        user["extra"]["authentication.kubernetes.io/pod-name"],
        json!(["robot"])
    );
    let pod = inside(kubectl, &["kubectl", "get", "pod", "robot", "-o", "name"]);
    assert_eq!(pod.stdout.trim(), "pod/robot", "{pod}");
    let refused = inside(kubectl, &["kubectl", "get", "secrets"]);
    assert!(
        refused.stderr.contains(
            "secrets is forbidden: User \"system:serviceaccount:default:robot\" cannot list resource \"secrets\""
        ),
        "{refused}"
    );
}

fn dies_with_its_pod(kubectl: &Kubectl) {
    let token = inside(kubectl, &["cat", TOKEN]).ok();
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "metadata": { "creationTimestamp": null }, "spec": { "token": token.trim() } });
    let judged = || {
        let answer = kubectl.run(&["create", "-f", "-", "-o", "json"], &review.to_string());
        let answer: Value = serde_json::from_str(&answer.stdout).unwrap_or_else(|e| panic!("{e}: {answer}"));
        answer["status"].clone()
    };
    assert_eq!(judged()["authenticated"], true);
    kubectl.ok("delete pod robot --wait");
    let after = judged();
    assert_ne!(after["authenticated"], true, "{after}");
    assert_eq!(
        after["error"],
        "[invalid bearer token, service account token has been invalidated]"
    );
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn ask_inside(kubectl: &Kubectl, ip: &str, port: u16) -> Result<String, String> {
    let url = format!("http://{ip}:{port}/");
    let finished = kubectl.run(
        &[
            "exec", "client", "--", "timeout", "3", "wget", "-q", "-O", "-", &url,
        ],
        "",
    );
    if finished.succeeded() {
        Ok(finished.stdout)
    } else {
        Err(finished.to_string())
    }
}

/// Asks until each Pod has answered; a single request that fails is a failure.
#[track_caller]
fn all_answer(pods: &BTreeSet<String>, mut ask: impl FnMut() -> Result<String, String>) {
    let mut answered = BTreeSet::new();
    let mut first = true;
    eventually("an answer from every Pod", DEADLINE, || {
        match ask() {
            Ok(answer) => drop(answered.insert(answer.split(' ').next().unwrap_or_default().to_owned())),
            // The rules of the first node to be asked may be a moment behind the rollout.
            Err(reason) if first => return Err(reason),
            Err(reason) => panic!("{reason}"),
        }
        first = false;
        expect(pods.is_subset(&answered), || format!("{answered:?} of {pods:?}"))
    });
}
