//! The conditions of a Pod: PodReadyToStartContainers, Initialized, Ready, ContainersReady, PodScheduled.
//!
//! Pure. Conditions that others own (readiness gates) are read here and never written.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::containers::{self, Kind, spec};
use super::status::whole_second;

/// Condition types this agent owns.
pub const OWNED: [&str; 5] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

/// What cannot be read off the container statuses.
pub struct Readiness {
    /// The sandbox runs and has its network.
    pub sandbox_ready: bool,
}

struct Answer {
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Answer {
    fn yes() -> Answer {
        Answer {
            status: true,
            reason: None,
            message: None,
        }
    }

    fn no(reason: &'static str, message: Option<String>) -> Answer {
        Answer {
            status: false,
            reason: Some(reason),
            message,
        }
    }
}

/// `status` has phase and container statuses filled in. Transition times are kept while the status stays the same.
pub fn conditions(pod: &Pod, status: &PodStatus, readiness: &Readiness, now: Timestamp) -> Vec<PodCondition> {
    let containers_ready = containers_ready(pod, status);
    let ready = ready(pod, &containers_ready);
    let ready_to_start = Answer {
        status: readiness.sandbox_ready,
        reason: None,
        message: None,
    };
    let answers = [
        ("PodReadyToStartContainers", ready_to_start),
        ("Initialized", initialized(pod, status)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Answer::yes()),
    ];
    answers
        .into_iter()
        .map(|(kind, answer)| condition(pod, kind, answer, now))
        .collect()
}

fn condition(pod: &Pod, kind: &str, answer: Answer, now: Timestamp) -> PodCondition {
    let previous = find(pod, kind);
    let value = if answer.status { "True" } else { "False" };
    let kept = previous.filter(|previous| previous.status == value);
    PodCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: answer.reason.map(str::to_owned),
        message: answer.message,
        last_transition_time: kept
            .and_then(|previous| previous.last_transition_time.clone())
            .or(Some(Time(whole_second(now)))),
        observed_generation: pod.metadata.generation,
        last_probe_time: None,
    }
}

fn find<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    corten_api::pod::condition(pod, kind)
}

fn listed(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn entry<'a>(list: &'a Option<Vec<ContainerStatus>>, name: &str) -> Option<&'a ContainerStatus> {
    list.iter().flatten().find(|entry| entry.name == name)
}

fn initialized(pod: &Pod, status: &PodStatus) -> Answer {
    if status.phase.as_deref() == Some("Succeeded") {
        return Answer {
            status: true,
            reason: Some("PodCompleted"),
            message: None,
        };
    }
    let begun = status.container_statuses.iter().flatten().any(|entry| {
        let state = entry.state.as_ref();
        entry.container_id.is_some() || state.is_some_and(|state| state.running.is_some())
    });
    if begun {
        return Answer::yes();
    }
    let incomplete: Vec<&str> = containers::init(pod)
        .filter(|(container, kind)| {
            !entry(&status.init_container_statuses, &container.name).is_some_and(|entry| match kind {
                Kind::Sidecar => entry.started == Some(true),
                _ => entry.ready,
            })
        })
        .map(|(container, _)| container.name.as_str())
        .collect();
    if incomplete.is_empty() {
        return Answer::yes();
    }
    let message = format!("containers with incomplete status: {}", listed(&incomplete));
    Answer::no("ContainersNotInitialized", Some(message))
}

fn containers_ready(pod: &Pod, status: &PodStatus) -> Answer {
    match status.phase.as_deref() {
        Some("Succeeded") => return Answer::no("PodCompleted", None),
        Some("Failed") => return Answer::no("PodFailed", None),
        _ => {}
    }
    let sidecars = containers::init(pod)
        .filter(|(_, kind)| *kind == Kind::Sidecar)
        .map(|(container, _)| (container, &status.init_container_statuses));
    let mains = containers::mains(pod).map(|container| (container, &status.container_statuses));
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    for (container, list) in sidecars.chain(mains) {
        match entry(list, &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(entry) if !entry.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    let mut texts = Vec::new();
    if !unknown.is_empty() {
        texts.push(format!("containers with unknown status: {}", listed(&unknown)));
    }
    if !unready.is_empty() {
        texts.push(format!("containers with unready status: {}", listed(&unready)));
    }
    if texts.is_empty() {
        Answer::yes()
    } else {
        Answer::no("ContainersNotReady", Some(texts.join(", ")))
    }
}

fn ready(pod: &Pod, containers: &Answer) -> Answer {
    if !containers.status {
        return Answer {
            status: false,
            reason: containers.reason,
            message: containers.message.clone(),
        };
    }
    let missing: Vec<String> = spec(pod)
        .readiness_gates
        .iter()
        .flatten()
        .filter_map(|gate| match find(pod, &gate.condition_type) {
            None => Some(format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )),
            Some(found) if found.status != "True" => Some(format!(
                "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                gate.condition_type, found.status
            )),
            Some(_) => None,
        })
        .collect();
    if missing.is_empty() {
        Answer::yes()
    } else {
        Answer::no("ReadinessGatesNotReady", Some(missing.join(", ")))
    }
}
