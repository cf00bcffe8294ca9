//! Whether this node takes a Pod that was bound to it. Pure.
//!
//! The scheduler has looked already; this is the last check, made with what really is on the node, so that a node is
//! never given more than it has. Reasons and messages are the kubelet's.

use corten_api::pod::{HostPort, host_ports, is_terminal, requests};
use corten_api::quantity::{Quantity, ResourceList, add_to};
use corten_api::scheduling::node_matches;
use k8s_openapi::api::core::v1::{Node, Pod};

use super::action::Verdict;
use super::containers::spec;

/// The reason of a Pod whose node has not the labels that it asks for.
pub const NODE_AFFINITY: &str = "NodeAffinity";

/// `others`: the Pods that the node has taken. Those that have ended do not count.
///
/// # Errors
/// The verdict the Pod ends with, phase Failed.
pub fn admit(pod: &Pod, others: &[&Pod], allocatable: &ResourceList, node: &Node) -> Result<(), Verdict> {
    let others: Vec<&&Pod> = others.iter().filter(|other| !is_terminal(other)).collect();
    if !node_matches(spec(pod), node) {
        return Err(predicate(
            NODE_AFFINITY,
            "node(s) didn't match Pod's node affinity/selector",
        ));
    }
    let taken: Vec<HostPort> = others.iter().flat_map(|other| host_ports(spec(other))).collect();
    if host_ports(spec(pod))
        .iter()
        .any(|port| taken.iter().any(|taken| port.conflicts(taken)))
    {
        return Err(predicate(
            "NodePorts",
            "node(s) didn't have free ports for the requested pod ports",
        ));
    }
    let mut used = ResourceList::new();
    for other in &others {
        add_to(&mut used, &wanted(other));
    }
    for (name, wanted) in wanted(pod) {
        let used = used.get(&name).copied().unwrap_or(Quantity::ZERO);
        let has = allocatable.get(&name).copied().unwrap_or(Quantity::ZERO);
        let mut total = used;
        total.add(&wanted);
        if !wanted.is_zero() && total > has {
            return Err(out_of(&name, &wanted, &used, &has));
        }
    }
    Ok(())
}

fn wanted(pod: &Pod) -> ResourceList {
    let mut wanted = requests(spec(pod));
    wanted.insert("pods".to_owned(), Quantity::units(1));
    wanted
}

fn out_of(name: &str, wanted: &Quantity, used: &Quantity, has: &Quantity) -> Verdict {
    // CPU is counted in thousandths in the message, everything else in whole units.
    let show = |amount: &Quantity| {
        if name == "cpu" {
            amount.milli_value()
        } else {
            amount.value()
        }
    };
    Verdict {
        reason: format!("OutOf{name}"),
        message: format!(
            "Node didn't have enough resource: {name}, requested: {}, used: {}, capacity: {}",
            show(wanted),
            show(used),
            show(has)
        ),
    }
}

fn predicate(name: &str, message: &str) -> Verdict {
    Verdict {
        reason: name.to_owned(),
        message: format!("Predicate {name} failed: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).expect("a Pod")
    }

    #[track_caller]
    fn check(new: Value, others: &[Value], wanted: Result<(), (&str, &str)>) {
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"disk": "ssd"}}}))
                .expect("a Node");
        let others: Vec<Pod> = others.iter().cloned().map(pod).collect();
        let allocatable = [("cpu", 2), ("memory", 1_000), ("pods", 3)]
            .map(|(name, value)| (name.to_owned(), Quantity::units(value)))
            .into();
        let verdict = admit(&pod(new), &others.iter().collect::<Vec<_>>(), &allocatable, &node);
        let wanted = wanted.map_err(|(reason, message)| Verdict {
            reason: reason.into(),
            message: message.into(),
        });
        assert_eq!(verdict, wanted);
    }

    fn cpu(value: &str) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": value}}}]})
    }

    #[test]
    fn resources_must_fit() {
        check(cpu("1"), &[cpu("1")], Ok(()));
        let message = "Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000";
        check(cpu("1"), &[cpu("1500m")], Err(("OutOfcpu", message)));
        let message = "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3";
        check(
            cpu("0"),
            &[cpu("0"), cpu("0"), cpu("0")],
            Err(("OutOfpods", message)),
        );
    }

    #[test]
    fn ports_and_labels_must_fit() {
        let port = |ip: &str| json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 8080, "hostIP": ip}]}]});
        let message =
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        check(port(""), &[port("10.0.0.1")], Err(("NodePorts", message)));
        check(port("10.0.0.2"), &[port("10.0.0.1")], Ok(()));
        let message = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        check(
            json!({"containers": [], "nodeSelector": {"disk": "hdd"}}),
            &[],
            Err(("NodeAffinity", message)),
        );
        check(
            json!({"containers": [], "nodeSelector": {"disk": "ssd"}}),
            &[],
            Ok(()),
        );
    }
}
