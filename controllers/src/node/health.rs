//! Is a Node still there? By its Lease and the heartbeat in its status, as heard here.
//!
//! Pure: the time comes in. Times written by nodes are only compared with each other, so their clocks do not matter.

#![deny(clippy::disallowed_methods)]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use corten_client::ObjectExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition};

use crate::context::time;

pub const READY: &str = "Ready";
/// Conditions only the node itself can know; all are unknown once it is silent.
/// Source: the node lifecycle controller's `monitorNodeHealth`.
const REPORTED: [&str; 4] = [READY, "MemoryPressure", "DiskPressure", "PIDPressure"];
/// A look at a node that comes this much later than planned means that we were stopped ourselves, not the node.
const OWN_PAUSE: Duration = Duration::from_secs(5);
/// How long a node that never reported may take. Source: kube-controller-manager `--node-startup-grace-period`.
pub const STARTUP_GRACE_PERIOD: Duration = Duration::from_secs(60);

/// What a node last said, and when that was heard here.
#[derive(Clone, Debug, PartialEq)]
struct Heard {
    lease: Option<Timestamp>,
    status: Option<Timestamp>,
    at: Instant,
    /// When the next look at this node is planned.
    look_at: Option<Instant>,
}

/// One entry per Node; [`forget`](Heartbeats::forget) keeps it so.
#[derive(Default)]
pub struct Heartbeats {
    nodes: HashMap<String, Heard>,
}

impl Heartbeats {
    pub fn lease(&mut self, node: &str, renewed: Option<Timestamp>, now: Instant) {
        let heard = self.entry(node, now);
        if heard.lease != renewed {
            heard.lease = renewed;
            heard.at = now;
        }
    }

    /// `true` the first time a node is heard of.
    pub fn status(&mut self, node: &Node, now: Instant) -> bool {
        let is_new = !self.nodes.contains_key(node.name());
        let heartbeat = ready(node)
            .and_then(|condition| condition.last_heartbeat_time.as_ref())
            .map(|time| time.0);
        let heard = self.entry(node.name(), now);
        if heard.status != heartbeat {
            heard.status = heartbeat;
            heard.at = now;
        }
        is_new
    }

    pub fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
    }

    /// How long the node has said nothing. A pause of our own starts the count anew for it.
    pub fn silence(&mut self, node: &str, now: Instant) -> Duration {
        let heard = self.entry(node, now);
        if heard
            .look_at
            .take()
            .is_some_and(|planned| now > planned + OWN_PAUSE)
        {
            heard.at = now;
        }
        now.saturating_duration_since(heard.at)
    }

    /// The API could not be reached, so nothing can have been heard: all counts start anew.
    pub fn deaf(&mut self, now: Instant) {
        for heard in self.nodes.values_mut() {
            heard.at = now;
        }
    }

    pub fn will_look(&mut self, node: &str, at: Instant) {
        if let Some(heard) = self.nodes.get_mut(node) {
            heard.look_at = Some(heard.look_at.map_or(at, |planned| planned.min(at)));
        }
    }

    fn entry(&mut self, node: &str, now: Instant) -> &mut Heard {
        let fresh = || Heard {
            lease: None,
            status: None,
            at: now,
            look_at: None,
        };
        self.nodes.entry(node.to_owned()).or_insert_with(fresh)
    }
}

pub fn ready(node: &Node) -> Option<&NodeCondition> {
    condition(node, READY)
}

pub fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == kind)
}

/// `True`, `False`, or `Unknown` also when nothing was ever reported.
pub fn ready_status(node: &Node) -> &str {
    ready(node).map_or("Unknown", |condition| condition.status.as_str())
}

/// How long this node may be silent.
pub fn grace(node: &Node, grace_period: Duration) -> Duration {
    if ready(node).is_some() {
        grace_period
    } else {
        STARTUP_GRACE_PERIOD.max(grace_period)
    }
}

/// The conditions a silent node gets; empty if it has them already.
pub fn unknown(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    let build = |kind: &&str| match condition(node, kind) {
        Some(current) if current.status == "Unknown" => None,
        Some(current) => Some(NodeCondition {
            status: "Unknown".to_owned(),
            reason: Some("NodeStatusUnknown".to_owned()),
            message: Some("Kubelet stopped posting node status.".to_owned()),
            last_transition_time: Some(time(now)),
            ..current.clone()
        }),
        None => Some(NodeCondition {
            type_: (*kind).to_owned(),
            status: "Unknown".to_owned(),
            reason: Some("NodeStatusNeverUpdated".to_owned()),
            message: Some("Kubelet never posted node status.".to_owned()),
            last_heartbeat_time: node.metadata.creation_timestamp.clone(),
            last_transition_time: Some(time(now)),
        }),
    };
    REPORTED.iter().filter_map(build).collect()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // only a starting point; the steps add to it
mod tests {
    use super::*;

    /// Steps: `t=N` the second, `lN` a Lease renewed at N by the node's clock, `look=N` plans a look, `deaf`
    /// means that the API was out of reach, `?` asks.
    #[track_caller]
    fn check(steps: &str, silences: &str) {
        let start = Instant::now();
        let mut now = start;
        let mut heartbeats = Heartbeats::default();
        let mut answers = Vec::new();
        let second = |text: &str| text.parse::<u64>().expect("seconds");
        for step in steps.split_whitespace() {
            if let Some(at) = step.strip_prefix("t=") {
                now = start + Duration::from_secs(second(at));
            } else if let Some(at) = step.strip_prefix("look=") {
                heartbeats.will_look("n", start + Duration::from_secs(second(at)));
            } else if step == "deaf" {
                heartbeats.deaf(now);
            } else if let Some(renewed) = step.strip_prefix('l') {
                let renewed = Timestamp::from_second(second(renewed) as i64).expect("a time");
                heartbeats.lease("n", Some(renewed), now);
            } else {
                answers.push(heartbeats.silence("n", now).as_secs().to_string());
            }
        }
        assert_eq!(answers.join(" "), silences);
    }

    #[test]
    fn silence_counts_from_the_last_news_by_our_own_clock() {
        check("l100 t=10 ? l500 t=15 ?", "10 5");
        check("l100 t=10 l100 t=40 ?", "40");
    }

    #[test]
    fn a_pause_of_our_own_is_not_held_against_the_node() {
        check("l1 look=40 t=40 ?", "40");
        check("l1 look=40 t=500 ? t=510 ?", "0 10");
        check("l1 t=40 ? deaf ? t=45 ?", "40 0 5");
    }
}
