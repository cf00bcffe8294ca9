//! What `kubectl get pods` shows. Source: `pkg/printers/internalversion`, `printPod`.

use jiff::Timestamp;
use serde_json::Value;

use crate::table::Column;
use crate::{humanize, meta, time};

pub const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::string("Ready"),
    Column::string("Status"),
    Column::string("Restarts"),
    Column::AGE,
    Column::wide("IP"),
    Column::wide("Node"),
    Column::wide("Nominated Node"),
    Column::wide("Readiness Gates"),
];

/// What the statuses of the containers add up to.
#[derive(Default)]
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

pub fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = summarize(pod);
    let restarts: Value = match summary.last_restart {
        Some(at) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, humanize::age(Some(at), now)).into()
        }
        _ => summary.restarts.to_string().into(),
    };
    let or_none = |text: &str| {
        if text.is_empty() {
            "<none>".to_string()
        } else {
            text.to_string()
        }
    };
    let status = &pod["status"];
    let ip = status["podIPs"][0]["ip"]
        .as_str()
        .or(status["podIP"].as_str())
        .unwrap_or_default();
    vec![
        meta::name(pod).into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts,
        humanize::age(meta::creation_timestamp(pod), now).into(),
        or_none(ip).into(),
        or_none(pod["spec"]["nodeName"].as_str().unwrap_or_default()).into(),
        or_none(status["nominatedNodeName"].as_str().unwrap_or_default()).into(),
        readiness_gates(pod).into(),
    ]
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn is_sidecar(pod: &Value, name: &str) -> bool {
    list(&pod["spec"], "initContainers")
        .iter()
        .any(|c| c["name"] == name && c["restartPolicy"] == "Always")
}

/// When the container's last run ended.
fn last_end(container: &Value) -> Option<Timestamp> {
    time::parse(text(&container["lastState"]["terminated"], "finishedAt"))
}

fn condition_true(pod: &Value, kind: &str) -> bool {
    list(&pod["status"], "conditions")
        .iter()
        .any(|c| c["type"] == kind && c["status"] == "True")
}

fn summarize(pod: &Value) -> Summary {
    let status = &pod["status"];
    let mut out = Summary {
        total: list(&pod["spec"], "containers").len(),
        ..Summary::default()
    };
    out.reason = match text(status, "reason") {
        "" => text(status, "phase").into(),
        reason => reason.into(),
    };
    let gated = list(status, "conditions")
        .iter()
        .any(|c| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated");
    if gated {
        out.reason = "SchedulingGated".into();
    }
    let (mut restarts, mut last) = (0, None);
    let (mut sidecar_restarts, mut last_sidecar) = (0, None);
    let init_total = list(&pod["spec"], "initContainers").len();
    let sidecars = list(&pod["spec"], "initContainers")
        .iter()
        .filter(|c| c["restartPolicy"] == "Always")
        .count();
    out.total += sidecars;
    let mut initializing = false;
    for (idx, container) in list(status, "initContainerStatuses").iter().enumerate() {
        let count = container["restartCount"].as_i64().unwrap_or_default();
        restarts += count;
        last = last.max(last_end(container));
        let sidecar = is_sidecar(pod, text(container, "name"));
        if sidecar {
            sidecar_restarts += count;
            last_sidecar = last_sidecar.max(last_end(container));
        }
        let state = &container["state"];
        let terminated = &state["terminated"];
        if terminated.is_object() && terminated["exitCode"].as_i64().unwrap_or_default() == 0 {
            continue;
        }
        if sidecar && container["started"] == true {
            if container["ready"] == true {
                out.ready += 1;
            }
            continue;
        }
        out.reason = if terminated.is_object() {
            format!("Init:{}", ended(terminated))
        } else if !matches!(text(&state["waiting"], "reason"), "" | "PodInitializing") {
            format!("Init:{}", text(&state["waiting"], "reason"))
        } else {
            format!("Init:{idx}/{init_total}")
        };
        initializing = true;
        break;
    }
    if !initializing || condition_true(pod, "Initialized") {
        (restarts, last) = (sidecar_restarts, last_sidecar);
        let mut running = false;
        // Backwards, so that the first container with something to say is the one shown.
        for container in list(status, "containerStatuses").iter().rev() {
            restarts += container["restartCount"].as_i64().unwrap_or_default();
            last = last.max(last_end(container));
            let state = &container["state"];
            let waiting = text(&state["waiting"], "reason");
            let terminated = &state["terminated"];
            if !waiting.is_empty() {
                out.reason = waiting.into();
            } else if terminated.is_object() {
                out.reason = ended(terminated);
            } else if container["ready"] == true && state["running"].is_object() {
                running = true;
                out.ready += 1;
            }
        }
        if out.reason == "Completed" && running {
            out.reason = if condition_true(pod, "Ready") {
                "Running"
            } else {
                "NotReady"
            }
            .into();
        }
    }
    if meta::is_deleting(pod) {
        if text(status, "reason") == "NodeLost" {
            out.reason = "Unknown".into();
        } else if !matches!(text(status, "phase"), "Succeeded" | "Failed") {
            out.reason = "Terminating".into();
        }
    }
    out.restarts = restarts;
    out.last_restart = last;
    out
}

/// Why a container ended: its reason, else its signal or exit code.
fn ended(terminated: &Value) -> String {
    match text(terminated, "reason") {
        "" => match terminated["signal"].as_i64().unwrap_or_default() {
            0 => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or_default()),
            signal => format!("Signal:{signal}"),
        },
        reason => reason.into(),
    }
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(&pod["spec"], "readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let open = gates
        .iter()
        .filter(|g| condition_true(pod, text(g, "conditionType")))
        .count();
    format!("{open}/{}", gates.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(status: Value, want: (&str, &str, &str)) {
        let pod = json!({
            "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}, {"name": "j"}]},
            "status": status,
        });
        let now = time::parse("2026-01-01T00:10:00Z").unwrap();
        let cells = cells(&pod, now);
        let text = |idx: usize| cells[idx].as_str().unwrap().to_string();
        assert_eq!((text(1).as_str(), text(2).as_str(), text(3).as_str()), want);
    }

    fn container(name: &str, state: Value, ready: bool) -> Value {
        json!({"name": name, "state": state, "ready": ready, "restartCount": 0})
    }

    #[test]
    fn status_column() {
        let running = || json!({"running": {}});
        let done = || json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
        check(json!({"phase": "Pending"}), ("0/2", "Pending", "0"));
        check(
            json!({"phase": "Pending", "initContainerStatuses": [container("i", running(), false), container("j", json!({"waiting": {"reason": "PodInitializing"}}), false)]}),
            ("0/2", "Init:0/2", "0"),
        );
        check(
            json!({"phase": "Pending", "initContainerStatuses": [container("i", done(), true), container("j", json!({"terminated": {"exitCode": 2}}), false)]}),
            ("0/2", "Init:ExitCode:2", "0"),
        );
        check(
            json!({"phase": "Pending", "initContainerStatuses": [container("i", json!({"waiting": {"reason": "CrashLoopBackOff"}}), false)]}),
            ("0/2", "Init:CrashLoopBackOff", "0"),
        );
        let both = |a: Value, b: Value| json!({"phase": "Running", "containerStatuses": [a, b], "conditions": [{"type": "Ready", "status": "True"}]});
        check(
            both(container("a", running(), true), container("b", running(), true)),
            ("2/2", "Running", "0"),
        );
        check(
            both(
                container("a", json!({"waiting": {"reason": "ContainerCreating"}}), false),
                container("b", running(), true),
            ),
            ("1/2", "ContainerCreating", "0"),
        );
        check(
            both(container("a", done(), false), container("b", done(), false)),
            ("0/2", "Completed", "0"),
        );
        check(
            both(container("a", done(), false), container("b", running(), true)),
            ("1/2", "Running", "0"),
        );
        check(
            both(
                container("a", json!({"terminated": {"exitCode": 137, "signal": 9}}), false),
                container("b", running(), true),
            ),
            ("1/2", "Signal:9", "0"),
        );
        check(
            json!({"phase": "Failed", "reason": "Evicted"}),
            ("0/2", "Evicted", "0"),
        );
    }

    #[test]
    fn restarts_say_how_long_ago() {
        check(
            json!({"phase": "Running", "containerStatuses": [
                {"name": "a", "ready": false, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                 "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:09:55Z"}}}]}),
            ("0/2", "CrashLoopBackOff", "3 (5s ago)"),
        );
    }

    #[test]
    fn a_deleted_pod_is_terminating() {
        let pod = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {}, "status": {"phase": "Running"}});
        assert_eq!(summarize(&pod).reason, "Terminating");
    }
}
