//! A Pod that fits nowhere waits, says why in kube-scheduler's words, and is placed as soon as something changes.

use std::time::Duration;

use corten_tests::wait::expect;
use corten_tests::{Cases, Cluster, Kubectl, eventually, manifests};
use serde_json::{Value, json};

/// From an event in the cluster to a Pod on its node, back-off included.
const DEADLINE: Duration = Duration::from_secs(20);
const NOT_HELPFUL: &str = "2 Preemption is not helpful for scheduling";
const NO_VICTIMS: &str = "2 No preemption victims found for incoming pod";

/// A Pod with these fields in its spec.
fn pod(name: &str, fields: Value) -> Value {
    let mut pod = manifests::shell(name, "sleep 100000");
    for (field, value) in fields.as_object().expect("fields") {
        pod["spec"][field] = value.clone();
    }
    pod
}

fn container(fields: Value) -> Value {
    let mut container = manifests::shell("x", "sleep 100000")["spec"]["containers"][0].clone();
    for (field, value) in fields.as_object().expect("fields") {
        container[field] = value.clone();
    }
    json!({"containers": [container]})
}

/// The Pod waits: the condition and the Event hold the same message.
#[track_caller]
fn waits(kubectl: &Kubectl, name: &str, reasons: &str, preemption: &str) {
    let want = format!(
        "0/2 nodes are available: {reasons}. no new claims to deallocate, preemption: 0/2 nodes are available: \
         {preemption}."
    );
    eventually("the Pod says why it waits", DEADLINE, || {
        let pod = kubectl.try_json(&format!("pod {name}"))?;
        let conditions = pod["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let scheduled = conditions
            .iter()
            .find(|condition| condition["type"] == "PodScheduled");
        let said = scheduled.is_some_and(|condition| {
            (&condition["status"], &condition["reason"], &condition["message"])
                == (&json!("False"), &json!("Unschedulable"), &json!(want))
        });
        expect(said, || format!("{conditions:?}"))
    });
    eventually("the Event", DEADLINE, || {
        let events = kubectl.try_json(&format!("events --field-selector involvedObject.name={name}"))?;
        let items = events["items"].as_array().cloned().unwrap_or_default();
        let found = items.iter().any(|event| {
            event["reason"] == "FailedScheduling"
                && event["type"] == "Warning"
                && event["message"] == want
                && (event["reportingComponent"] == "default-scheduler"
                    || event["source"]["component"] == "default-scheduler")
        });
        expect(found, || format!("{items:?}"))
    });
}

#[track_caller]
fn placed(kubectl: &Kubectl, name: &str) -> String {
    eventually("the Pod is placed", DEADLINE, || {
        let pod = kubectl.try_json(&format!("pod {name}"))?;
        pod["spec"]["nodeName"]
            .as_str()
            .map(str::to_owned)
            .ok_or("no nodeName")
            .map_err(|reason| format!("{reason}: {}", pod["status"]))
    })
}

#[test]
fn a_pod_that_fits_nowhere_waits_and_says_why() {
    let cluster = Cluster::with_images("place", 2);
    let kubectl = cluster.kubectl();
    let mut cases = Cases::new();
    cases.case("too large for every node", || {
        kubectl.apply(&pod(
            "huge",
            container(json!({"resources": {"requests": {"cpu": "1000"}}})),
        ));
        waits(kubectl, "huge", "2 Insufficient cpu", NOT_HELPFUL);
    });
    cases.case("a label that no node has, until one gets it", || {
        kubectl.apply(&pod("picky", json!({"nodeSelector": {"disk": "fast"}})));
        waits(
            kubectl,
            "picky",
            "2 node(s) didn't match Pod's node affinity/selector",
            NOT_HELPFUL,
        );
        kubectl.ok("label node node-1 disk=fast");
        assert_eq!(placed(kubectl, "picky"), "node-1");
        // The node knows its new label, too.
        kubectl.ok("wait --for=condition=Ready pod/picky --timeout=60s");
        let events = kubectl.ok("get events --field-selector involvedObject.name=picky,reason=Scheduled");
        assert!(
            events.contains("Successfully assigned default/picky to node-1"),
            "{events}"
        );
    });
    cases.case("cordoned nodes, until one is free again", || {
        kubectl.ok("cordon node-0");
        kubectl.ok("cordon node-1");
        kubectl.apply(&pod("cordoned", json!({})));
        waits(kubectl, "cordoned", "2 node(s) were unschedulable", NOT_HELPFUL);
        kubectl.ok("uncordon node-1");
        assert_eq!(placed(kubectl, "cordoned"), "node-1");
        kubectl.ok("uncordon node-0");
    });
    cases.case("tainted nodes, unless tolerated", || {
        kubectl.ok("taint node node-0 node-1 team=red:NoSchedule");
        kubectl.apply(&pod("intolerant", json!({})));
        kubectl.apply(&pod(
            "tolerant",
            json!({"tolerations": [{"key": "team", "operator": "Exists"}]}),
        ));
        waits(
            kubectl,
            "intolerant",
            "2 node(s) had untolerated taint(s)",
            NOT_HELPFUL,
        );
        placed(kubectl, "tolerant");
        kubectl.ok("taint node node-0 node-1 team-");
        placed(kubectl, "intolerant");
    });
    cases.case("a host port is given once on each node", || {
        let fields = || container(json!({"ports": [{"containerPort": 80, "hostPort": 8099}]}));
        for name in ["port-1", "port-2", "port-3"] {
            kubectl.apply(&pod(name, fields()));
        }
        assert_ne!(placed(kubectl, "port-1"), placed(kubectl, "port-2"));
        waits(
            kubectl,
            "port-3",
            "2 node(s) didn't have free ports for the requested pod ports",
            NO_VICTIMS,
        );
        kubectl.ok("delete pod port-1");
        placed(kubectl, "port-3");
    });
    cases.case("Pods that keep away from each other", || {
        let term = json!({"labelSelector": {"matchLabels": {"app": "loner"}}, "topologyKey": "kubernetes.io/hostname"});
        let affinity = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
        let mut deployment = manifests::web("loner", 3);
        deployment["spec"]["template"]["spec"]["affinity"] = affinity;
        kubectl.apply(&deployment);
        let reasons = "2 node(s) didn't match pod anti-affinity rules";
        let waiting = eventually("two are placed, one waits", DEADLINE, || {
            let pods = kubectl.pods("app=loner")?;
            let (on, waiting): (Vec<_>, Vec<_>) = pods.iter().partition(|pod| pod["spec"]["nodeName"].is_string());
            let apart = on.len() == 2 && on[0]["spec"]["nodeName"] != on[1]["spec"]["nodeName"];
            expect(apart && waiting.len() == 1, || format!("{} placed", on.len()))?;
            Ok::<_, String>(waiting[0]["metadata"]["name"].as_str().unwrap_or_default().to_owned())
        });
        waits(kubectl, &waiting, reasons, NO_VICTIMS);
    });
    cases.case("gates hold a Pod back", || {
        kubectl.apply(&pod(
            "gated",
            json!({"schedulingGates": [{"name": "example.com/later"}]}),
        ));
        assert!(kubectl.ok("get pod gated").contains("SchedulingGated"));
        kubectl
            .run(
                &[
                    "patch",
                    "pod",
                    "gated",
                    "--type=json",
                    "-p",
                    r#"[{"op":"remove","path":"/spec/schedulingGates"}]"#,
                ],
                "",
            )
            .ok();
        placed(kubectl, "gated");
    });
    cases.finish();
}
