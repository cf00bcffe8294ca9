//! A Deployment behind a Service on two nodes answers from every Pod, on its ClusterIP and on its NodePort.

use std::collections::BTreeSet;
use std::time::Duration;

use corten_tests::wait::expect;
use corten_tests::{Cases, Cluster, Kubectl, api, eventually, load, manifests};

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
    cases.finish();
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
