//! What a PodDisruptionBudget's status says, given its Pods and how many there should be. Pure.
//!
//! Source of the rules: the disruption controller, Kubernetes 1.36.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_api::intstr;
use corten_api::pod::is_ready;
use corten_client::ObjectExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::context::time;

/// How long a Pod whose eviction was granted may take to be marked as deleted before it counts again. Source:
/// `DeletionTimeout`.
pub const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_secs(2 * 60);

const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";
const SUFFICIENT_PODS: &str = "SufficientPods";
const INSUFFICIENT_PODS: &str = "InsufficientPods";
const SYNC_FAILED: &str = "SyncFailed";

/// How many Pods there should be, and how many of them healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    pub pods: i32,
    pub healthy: i32,
}

/// What the budget reports, and when to look again because a granted eviction will have taken too long.
#[derive(Debug, PartialEq)]
pub struct Plan {
    pub status: PodDisruptionBudgetStatus,
    pub recheck_at: Option<Timestamp>,
    /// Names of Pods whose eviction was granted and did not happen in time.
    pub not_deleted: Vec<String>,
}

/// Whether the number of Pods comes from their owners' scale; else it is the number of Pods there are.
pub fn counts_scale(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.as_ref();
    match spec.and_then(|spec| spec.max_unavailable.as_ref()) {
        Some(_) => true,
        None => matches!(
            spec.and_then(|spec| spec.min_available.as_ref()),
            Some(IntOrString::String(_))
        ),
    }
}

/// `pods`: how many there should be, as [`counts_scale`] asks for.
///
/// # Errors
/// A percentage that is none.
pub fn expected(budget: &PodDisruptionBudget, pods: i32) -> Result<Expected, String> {
    let spec = budget.spec.as_ref();
    let scaled = |value: &IntOrString| {
        intstr::scaled(value, pods, true).ok_or_else(|| match value {
            IntOrString::String(text) => {
                format!("invalid value for IntOrString: invalid type: string is not a percentage: {text}")
            }
            IntOrString::Int(number) => format!("invalid value for IntOrString: {number}"),
        })
    };
    let healthy = match spec.map(|spec| (&spec.max_unavailable, &spec.min_available)) {
        Some((Some(unavailable), _)) => pods.saturating_sub(scaled(unavailable)?).max(0),
        Some((None, Some(available))) => scaled(available)?,
        _ => 0,
    };
    Ok(Expected {
        pods: if spec.is_some_and(|spec| spec.max_unavailable.is_some() || spec.min_available.is_some()) {
            pods
        } else {
            0
        },
        healthy,
    })
}

/// `pods`: those the budget selects.
pub fn plan(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], expected: Expected, now: Timestamp) -> Plan {
    let before = budget.status.as_ref();
    let granted = before.and_then(|status| status.disrupted_pods.as_ref());
    let mut disrupted = BTreeMap::new();
    let mut recheck_at: Option<Timestamp> = None;
    let mut not_deleted = Vec::new();
    let mut healthy = 0;
    for pod in pods.iter().filter(|pod| !pod.is_terminating()) {
        let since = granted.and_then(|granted| granted.get(pod.name()));
        if let Some(Time(since)) = since {
            let deadline = since.saturating_add(DELETION_TIMEOUT).unwrap_or(Timestamp::MAX);
            if deadline >= now {
                disrupted.insert(pod.name().to_owned(), Time(*since));
                recheck_at = Some(recheck_at.map_or(deadline, |at| at.min(deadline)));
                continue;
            }
            not_deleted.push(pod.name().to_owned());
        }
        healthy += i32::from(is_ready(pod));
    }
    let allowed = match healthy - expected.healthy {
        allowed if expected.pods > 0 && allowed > 0 => allowed,
        _ => 0,
    };
    let generation = budget.metadata.generation;
    let mut status = PodDisruptionBudgetStatus {
        conditions: before.and_then(|status| status.conditions.clone()),
        current_healthy: Some(healthy),
        desired_healthy: Some(expected.healthy),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected.pods),
        observed_generation: generation,
    };
    let (value, reason) = if allowed > 0 {
        ("True", SUFFICIENT_PODS)
    } else {
        ("False", INSUFFICIENT_PODS)
    };
    set_condition(&mut status, value, reason, "", now);
    Plan {
        status,
        recheck_at,
        not_deleted,
    }
}

/// The status when the number of Pods cannot be told: nothing may be evicted until it can.
pub fn failed(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    let mut status = budget.status.clone().unwrap_or_default();
    status.disruptions_allowed = Some(0);
    set_condition(&mut status, "False", SYNC_FAILED, why, now);
    status
}

/// The condition's time moves only with its status.
fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let mut condition = Condition {
        last_transition_time: time(now),
        message: message.to_owned(),
        observed_generation: status.observed_generation,
        reason: reason.to_owned(),
        status: value.to_owned(),
        type_: DISRUPTION_ALLOWED.to_owned(),
    };
    let conditions = status.conditions.get_or_insert_default();
    match conditions.iter_mut().find(|c| c.type_ == DISRUPTION_ALLOWED) {
        Some(before) => {
            if before.status == condition.status {
                condition.last_transition_time = before.last_transition_time.clone();
            }
            *before = condition;
        }
        None => conditions.push(condition),
    }
}

/// Whether the stored status says the same. The condition's generation alone is no change worth a write.
pub fn same(before: Option<&PodDisruptionBudgetStatus>, wanted: &PodDisruptionBudgetStatus) -> bool {
    let Some(before) = before else { return false };
    let told = |status: &PodDisruptionBudgetStatus| {
        let conditions = status.conditions.iter().flatten();
        conditions
            .map(|c| {
                (
                    c.type_.clone(),
                    c.status.clone(),
                    c.reason.clone(),
                    c.message.clone(),
                )
            })
            .collect::<Vec<_>>()
    };
    let disrupted = |status: &PodDisruptionBudgetStatus| status.disrupted_pods.clone().unwrap_or_default();
    before.current_healthy == wanted.current_healthy
        && before.desired_healthy == wanted.desired_healthy
        && before.expected_pods == wanted.expected_pods
        && before.disruptions_allowed == wanted.disruptions_allowed
        && before.observed_generation == wanted.observed_generation
        && disrupted(before) == disrupted(wanted)
        && told(before) == told(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        serde_json::from_value(
            json!({"metadata": {"name": "b", "generation": 3}, "spec": spec, "status": status}),
        )
        .expect("budget")
    }

    fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().expect("time")
    }

    /// `names`: one Pod each; `!` is not ready, `-` is being deleted.
    fn pods(names: &str) -> Vec<Arc<Pod>> {
        let pod = |text: &str| {
            let name = text.trim_end_matches(['!', '-']);
            let ready = if text.ends_with('!') { "False" } else { "True" };
            let mut pod = json!({"metadata": {"name": name},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}});
            if text.ends_with('-') {
                pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:59:00Z".into();
            }
            Arc::new(serde_json::from_value(pod).expect("Pod"))
        };
        names.split_whitespace().map(pod).collect()
    }

    const EMPTY: fn() -> Value =
        || json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});

    fn shown(number: Option<i32>) -> i32 {
        number.expect("the plan sets every number")
    }

    /// `want`: `allowed healthy/desired of expected`.
    #[track_caller]
    fn check(spec: Value, scale: i32, names: &str, want: &str) {
        let budget = budget(spec, EMPTY());
        let got = match expected(&budget, scale) {
            Ok(expected) => {
                let status = plan(&budget, &pods(names), expected, now()).status;
                let reason = &status.conditions.as_ref().expect("conditions")[0].reason;
                assert_eq!(reason == SUFFICIENT_PODS, status.disruptions_allowed > Some(0));
                assert_eq!(status.observed_generation, Some(3));
                format!(
                    "{} {}/{} of {}",
                    shown(status.disruptions_allowed),
                    shown(status.current_healthy),
                    shown(status.desired_healthy),
                    shown(status.expected_pods)
                )
            }
            Err(why) => why,
        };
        assert_eq!(got, want);
    }

    #[test]
    fn what_may_be_disrupted() {
        check(json!({"minAvailable": 2}), 3, "a b c", "1 3/2 of 3");
        check(json!({"minAvailable": 2}), 3, "a b c!", "0 2/2 of 3");
        check(json!({"minAvailable": 2}), 3, "a b c-", "0 2/2 of 3");
        check(json!({"minAvailable": 0}), 0, "", "0 0/0 of 0");
        check(json!({"minAvailable": "50%"}), 5, "a b c d e", "2 5/3 of 5");
        check(json!({"maxUnavailable": 1}), 3, "a b c", "1 3/2 of 3");
        check(
            json!({"maxUnavailable": "30%"}),
            10,
            "a b c d e f g h i j",
            "3 10/7 of 10",
        );
        check(json!({"maxUnavailable": 9}), 3, "a b c", "3 3/0 of 3");
        check(json!({}), 3, "a b c", "0 3/0 of 0");
        check(
            json!({"maxUnavailable": "many"}),
            3,
            "a",
            "invalid value for IntOrString: invalid type: string is not a percentage: many",
        );
    }

    #[test]
    fn only_percentages_and_max_unavailable_ask_for_the_scale() {
        for (spec, want) in [
            (json!({"minAvailable": 1}), false),
            (json!({"minAvailable": "1%"}), true),
            (json!({"maxUnavailable": 1}), true),
            (json!({}), false),
        ] {
            assert_eq!(counts_scale(&budget(spec.clone(), EMPTY())), want, "{spec}");
        }
    }

    #[test]
    fn granted_evictions_count_until_they_take_too_long() {
        let mut status = EMPTY();
        status["disruptedPods"] = json!({"a": "2026-01-01T00:59:00Z", "b": "2026-01-01T00:57:00Z",
            "c": "2026-01-01T00:59:59Z", "gone": "2026-01-01T00:59:59Z"});
        let budget = budget(json!({"minAvailable": 1}), status);
        let expected = expected(&budget, 4).expect("a number");
        let plan = plan(&budget, &pods("a b c- d"), expected, now());
        let disrupted: Vec<&String> = plan
            .status
            .disrupted_pods
            .iter()
            .flatten()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(disrupted, ["a"], "b took too long, c is going, the last is gone");
        assert_eq!(plan.not_deleted, ["b"]);
        assert_eq!(plan.status.current_healthy, Some(2), "b and d");
        assert_eq!(
            plan.recheck_at,
            Some("2026-01-01T01:01:00Z".parse().expect("time"))
        );
    }

    #[test]
    fn a_second_look_changes_nothing() {
        let mut budget = budget(json!({"minAvailable": 1}), EMPTY());
        let pods = pods("a b");
        let expected = expected(&budget, 2).expect("a number");
        let first = plan(&budget, &pods, expected, now()).status;
        assert!(!same(budget.status.as_ref(), &first));
        budget.status = Some(first);
        let later = now()
            .saturating_add(SignedDuration::from_secs(60))
            .expect("a time");
        assert!(same(
            budget.status.as_ref(),
            &plan(&budget, &pods, expected, later).status
        ));
        let failure = failed(&budget, "no scale", later);
        assert_eq!(failure.disruptions_allowed, Some(0));
        let condition = &failure.conditions.as_ref().expect("conditions")[0];
        assert_eq!(
            (&*condition.reason, &*condition.message),
            (SYNC_FAILED, "no scale")
        );
    }
}
