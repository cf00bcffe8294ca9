//! `pods/eviction`: a deletion that asks the Pod's PodDisruptionBudget first. Pure.
//!
//! The Pod's deletion and what the budget has to remember about it are one transaction, so a budget can never be
//! overdrawn by evictions that run side by side. Source: Kubernetes `registry/core/pod/storage/eviction.go`.

use corten_api::options::DeleteOptions;
use corten_api::selector::LabelSelector;
use corten_api::status::{Qualified, StatusCause};
use corten_api::{FieldValidation, ResourceType, Status, meta, registry, time};
use corten_store::{Op, Snapshot};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::admission::{self, Attributes, Effects, Operation};
use super::{Answered, Current, Decision, Env, Payload, Subject, delete};

/// Evictions a budget remembers until its controller has seen them. Source: `MaxDisruptedPodSize`.
const MAX_DISRUPTED_PODS: usize = 2000;
/// Seconds after which a client may ask again while the controller has not caught up.
const RETRY_SECONDS: i32 = 10;
/// The cause that tells clients a budget, and no rate limit, is behind a 429.
const DISRUPTION_BUDGET: &str = "DisruptionBudget";
const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";
const SYNC_FAILED: &str = "SyncFailed";
const BUDGET: Qualified<'static> = Qualified {
    group: "policy",
    name: "poddisruptionbudget",
};

/// What a body of the kind Eviction asks for.
#[derive(Debug)]
pub struct Eviction {
    /// As it was sent, in canonical form.
    pub object: Value,
    pub options: DeleteOptions,
    pub warnings: Vec<String>,
}

/// Reads an Eviction for the Pod `name` in `namespace`.
///
/// # Errors
/// `BadRequest` for another kind, name or namespace; `Invalid` for options that contradict each other.
pub fn decode(
    pods: &ResourceType,
    body: &[u8],
    validation: FieldValidation,
    namespace: &str,
    name: &str,
) -> Result<Eviction, Status> {
    let body = as_v1(body);
    let decoded = pods.decode_subresource("eviction", &body, validation)?;
    let eviction = decoded.value;
    let own = meta::namespace(&eviction);
    if !own.is_empty() && own != namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if meta::name(&eviction) != name {
        return Err(Status::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let options = match &eviction["deleteOptions"] {
        Value::Null => DeleteOptions::default(),
        options => DeleteOptions::decode(options.to_string().as_bytes())?,
    };
    Ok(Eviction {
        object: eviction,
        options,
        warnings: decoded.warnings,
    })
}

/// Old clients send `policy/v1beta1`, which has the same fields.
fn as_v1(body: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    match serde_json::from_slice::<Value>(body) {
        Ok(mut value) if meta::api_version(&value) == "policy/v1beta1" => {
            value["apiVersion"] = "policy/v1".into();
            value.to_string().into_bytes().into()
        }
        _ => body.into(),
    }
}

/// # Errors
/// `NotFound`; `Conflict` (preconditions); `TooManyRequests` when the budget allows no disruption; 500 when several
/// budgets select the Pod.
pub fn decide(
    subject: Subject<'_>,
    snapshot: &Snapshot,
    name: &str,
    eviction: &Eviction,
    env: &mut Env,
) -> Result<Decision, Status> {
    let (asker, mut effects) = (env.asker.clone(), Effects::default());
    let attributes = Attributes {
        subresource: "eviction",
        ..asker.attributes(subject, Operation::Create, name)
    };
    let mut object = eviction.object.clone();
    if let Some(question) = admission::mutate(&attributes, snapshot, &mut object, env)? {
        return Ok(Decision::Ask(question));
    }
    if let Some(question) = admission::validate(&attributes, snapshot, &object, &mut effects, env)? {
        return Ok(Decision::Ask(question));
    }
    Ok(admitted(subject, snapshot, name, &eviction.options, env)?.with(effects, env))
}

/// An eviction that admission has let pass.
fn admitted(
    subject: Subject<'_>,
    snapshot: &Snapshot,
    name: &str,
    options: &DeleteOptions,
    env: &mut Env,
) -> Result<Decision, Status> {
    let now = env.now;
    let mut current = subject.read(snapshot, name)?;
    if needs_no_budget(&current.value) {
        delete::check_preconditions(subject, &current.value, options)?;
        let deletion = delete::of_current(subject, snapshot, current, options, env)?;
        return Ok(answered(deletion));
    }
    let budget = budget_of(snapshot, subject.namespace, &current.value)?;
    let mut charged = None;
    if let Some(budget) = budget
        && charges(&budget.current.value, &current.value)
    {
        let mut value = budget.current.value.clone();
        charge(&mut value, name, now)?;
        charged = Some((budget, value));
    }
    delete::check_preconditions(subject, &current.value, options)?;
    set_disrupted(&mut current.value, now);
    let deletion = delete::of_current(subject, snapshot, current, options, env)?;
    Ok(match (answered(deletion), charged) {
        (Decision::Commit(mut txn, answer), Some((budget, value))) => {
            txn.preconditions.push(budget.current.unchanged());
            txn.ops.push(Op::Put {
                key: budget.current.key.clone(),
                value: budget.subject.encode(&value),
            });
            Decision::Commit(txn, answer)
        }
        (decision, _) => decision,
    })
}

/// The same decision with the answer of an eviction.
fn answered(decision: Decision) -> Decision {
    let answer = Answered {
        code: StatusCode::CREATED,
        payload: Payload::Status(Status::created()),
        warnings: Vec::new(),
    };
    match decision {
        Decision::Commit(txn, _) => Decision::Commit(txn, answer),
        Decision::Nothing(_) => Decision::Nothing(answer),
        Decision::Ask(question) => Decision::Ask(question),
    }
}

/// A Pod that does not run, or that is going already, disrupts nothing by leaving.
fn needs_no_budget(pod: &Value) -> bool {
    matches!(
        pod["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed" | "Pending")
    ) || meta::is_deleting(pod)
}

struct Budget<'a> {
    subject: Subject<'a>,
    current: Current,
}

/// The one budget that selects the Pod.
fn budget_of<'a>(snapshot: &Snapshot, namespace: &'a str, pod: &Value) -> Result<Option<Budget<'a>>, Status> {
    let Some(ty) = registry().lookup("policy", "v1", "poddisruptionbudgets") else {
        return Ok(None);
    };
    let subject = Subject { ty, namespace };
    let mut found = None;
    for entry in snapshot.range(subject.keys().range(Some(namespace))) {
        let value = subject.parse(&entry)?;
        // A selector that cannot be read selects nothing.
        let selected = LabelSelector::from_value(&value["spec"]["selector"])
            .is_ok_and(|selector| selector.matches(meta::labels(pod)));
        if !selected {
            continue;
        }
        if found.is_some() {
            let text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::failure(500, "", text));
        }
        let key = entry.key.clone();
        found = Some(Current { key, entry, value });
    }
    Ok(found.map(|current| Budget { subject, current }))
}

/// Whether the Pod's going counts against the budget. One that is not ready counts for nothing, if the policy says so
/// or the others suffice without it.
fn charges(budget: &Value, pod: &Value) -> bool {
    if is_ready(pod) {
        return true;
    }
    if budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" {
        return false;
    }
    let (healthy, desired) = (number(budget, "currentHealthy"), number(budget, "desiredHealthy"));
    !(healthy >= desired && desired > 0)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .filter(|c| c["type"] == "Ready")
        .any(|c| c["status"] == "True")
}

fn number(budget: &Value, field: &str) -> i64 {
    budget["status"][field].as_i64().unwrap_or_default()
}

/// Takes one disruption from the budget for the Pod `name`, and remembers it until the controller has seen it go.
fn charge(budget: &mut Value, name: &str, now: Timestamp) -> Result<(), Status> {
    let budget_name = meta::name(budget).to_owned();
    if number(budget, "observedGeneration") < meta::generation(budget) {
        let why = format!("The disruption budget {budget_name} is still being processed by the server.");
        return Err(too_many(why, RETRY_SECONDS));
    }
    let allowed = number(budget, "disruptionsAllowed");
    if allowed < 0 {
        return Err(Status::forbidden(
            BUDGET,
            &budget_name,
            "pdb disruptions allowed is negative",
        ));
    }
    let disrupted = budget["status"]["disruptedPods"]
        .as_object()
        .map_or(0, serde_json::Map::len);
    if disrupted > MAX_DISRUPTED_PODS {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(BUDGET, &budget_name, why));
    }
    if allowed == 0 {
        return Err(too_many(why_not(budget, &budget_name), 0));
    }
    budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
    budget["status"]["disruptedPods"][name] = time::format_time(now).into();
    if allowed == 1 {
        set_exhausted(budget, now);
    }
    Ok(())
}

fn why_not(budget: &Value, name: &str) -> String {
    let condition = budget["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|c| c["type"] == DISRUPTION_ALLOWED && c["status"] == "False");
    let text = |field: &str| {
        condition
            .and_then(|c| c[field].as_str())
            .filter(|text| !text.is_empty())
    };
    let (healthy, desired) = (number(budget, "currentHealthy"), number(budget, "desiredHealthy"));
    let start = format!("The disruption budget {name} does not allow evicting pods currently");
    match (text("reason"), text("message")) {
        (Some(SYNC_FAILED), Some(message)) => format!("{start} because it failed sync: {message}"),
        _ if healthy <= desired => {
            format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
        }
        (reason, Some(message)) => format!("{start} ({}): {message}", reason.unwrap_or_default()),
        _ => start,
    }
}

fn too_many(why: String, retry_after_seconds: i32) -> Status {
    let text = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut status = Status::too_many_requests(text, retry_after_seconds);
    if let Some(details) = &mut status.details {
        details.causes.push(StatusCause {
            reason: DISRUPTION_BUDGET.into(),
            message: why,
            field: String::new(),
        });
    }
    status
}

/// The budget's condition once its last disruption is given away.
fn set_exhausted(budget: &mut Value, now: Timestamp) {
    let condition = json!({
        "type": DISRUPTION_ALLOWED,
        "status": "False",
        "reason": "InsufficientPods",
        "message": "",
        "observedGeneration": number(budget, "observedGeneration"),
        "lastTransitionTime": time::format_time(now),
    });
    set_condition(&mut budget["status"], condition);
}

/// The Pod says why it goes.
fn set_disrupted(pod: &mut Value, now: Timestamp) {
    let condition = json!({
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "observedGeneration": meta::generation(pod),
        "lastProbeTime": null,
        "lastTransitionTime": time::format_time(now),
    });
    set_condition(&mut pod["status"], condition);
}

/// Puts a condition in the place of that of its type; its time moves only with its status.
fn set_condition(status: &mut Value, mut condition: Value) {
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let list = status["conditions"].as_array_mut().expect("made an array above");
    match list.iter_mut().find(|c| c["type"] == condition["type"]) {
        Some(before) => {
            if before["status"] == condition["status"] && before["lastTransitionTime"].is_string() {
                condition["lastTransitionTime"] = before["lastTransitionTime"].clone();
            }
            *before = condition;
        }
        None => list.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(status: Value) -> Value {
        json!({"metadata": {"name": "b", "generation": 1}, "spec": {}, "status": status})
    }

    /// `want`: `left N` with the condition's reason if there is one, or the cause of the refusal.
    #[track_caller]
    fn check(status: Value, want: &str) {
        let mut budget = budget(status);
        let got = match charge(&mut budget, "p", Timestamp::UNIX_EPOCH) {
            Ok(()) => {
                assert_eq!(budget["status"]["disruptedPods"]["p"], "1970-01-01T00:00:00Z");
                let reason = budget["status"]["conditions"][0]["reason"]
                    .as_str()
                    .unwrap_or_default();
                format!("left {} {reason}", number(&budget, "disruptionsAllowed"))
            }
            Err(status) => {
                let cause = status.details.as_ref().and_then(|d| d.causes.first());
                cause.map_or(status.message.clone(), |c| c.message.clone())
            }
        };
        assert_eq!(got.trim_end(), want);
    }

    #[test]
    fn a_budget_gives_what_it_has() {
        check(
            json!({"observedGeneration": 1, "disruptionsAllowed": 2}),
            "left 1",
        );
        check(
            json!({"observedGeneration": 1, "disruptionsAllowed": 1}),
            "left 0 InsufficientPods",
        );
        check(
            json!({"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 2, "desiredHealthy": 2}),
            "The disruption budget b needs 2 healthy pods and has 2 currently",
        );
        check(
            json!({"disruptionsAllowed": 1}),
            "The disruption budget b is still being processed by the server.",
        );
        check(
            json!({"observedGeneration": 1, "disruptionsAllowed": -1}),
            "poddisruptionbudget.policy \"b\" is forbidden: pdb disruptions allowed is negative",
        );
        let failed = |reason: &str| {
            json!({"observedGeneration": 1, "currentHealthy": 4, "desiredHealthy": 3,
            "conditions": [{"type": "DisruptionAllowed", "status": "False", "reason": reason, "message": "hm"}]})
        };
        check(
            failed("SyncFailed"),
            "The disruption budget b does not allow evicting pods currently because it failed sync: hm",
        );
        check(
            failed("Other"),
            "The disruption budget b does not allow evicting pods currently (Other): hm",
        );
        check(
            json!({"observedGeneration": 1, "currentHealthy": 4, "desiredHealthy": 3}),
            "The disruption budget b does not allow evicting pods currently",
        );
        let many: serde_json::Map<String, Value> = (0..=MAX_DISRUPTED_PODS)
            .map(|i| (format!("p{i}"), "".into()))
            .collect();
        check(
            json!({"observedGeneration": 1, "disruptionsAllowed": 1, "disruptedPods": many}),
            "poddisruptionbudget.policy \"b\" is forbidden: DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        );
    }

    #[test]
    fn a_pod_that_is_not_ready_may_be_free() {
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let sick = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
        let healthy = budget(json!({"currentHealthy": 2, "desiredHealthy": 2}));
        let short = budget(json!({"currentHealthy": 1, "desiredHealthy": 2}));
        let none = budget(json!({"currentHealthy": 0, "desiredHealthy": 0}));
        let mut always = short.clone();
        always["spec"]["unhealthyPodEvictionPolicy"] = "AlwaysAllow".into();
        for (budget, pod, want) in [
            (&healthy, &ready, true),
            (&healthy, &sick, false),
            (&short, &sick, true),
            (&none, &sick, true),
            (&always, &sick, false),
            (&always, &ready, true),
        ] {
            assert_eq!(charges(budget, pod), want, "{budget} {pod}");
        }
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stands() {
        let mut pod = json!({"metadata": {"generation": 3}, "status": {"conditions": [
            {"type": "DisruptionTarget", "status": "True", "reason": "Other", "lastTransitionTime": "2020-01-01T00:00:00Z"}]}});
        set_disrupted(&mut pod, Timestamp::UNIX_EPOCH);
        let condition = &pod["status"]["conditions"][0];
        assert_eq!(condition["reason"], "EvictionByEvictionAPI");
        assert_eq!(condition["lastTransitionTime"], "2020-01-01T00:00:00Z");
        assert_eq!(condition["observedGeneration"], 3);
    }
}
