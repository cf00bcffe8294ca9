//! Whether a container that ended starts again.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::containers::{Kind, spec};

/// Rules of the container first (`restartPolicyRules`), then its own policy, then the Pod's (default Always).
/// An init container that succeeded is done under every policy.
pub fn should_restart(pod: &Pod, container: &Container, kind: Kind, exit_code: i32) -> bool {
    match kind {
        Kind::Sidecar => return true,
        Kind::Ephemeral => return false,
        Kind::Init | Kind::Main => {}
    }
    let by_rule = container.restart_policy_rules.iter().flatten().find_map(|rule| {
        let codes = rule.exit_codes.as_ref()?;
        let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
        let matches = if codes.operator == "NotIn" {
            !listed
        } else {
            listed
        };
        matches.then(|| rule.action == "Restart")
    });
    if let Some(restart) = by_rule {
        return restart;
    }
    let policy = container
        .restart_policy
        .as_deref()
        .or(spec(pod).restart_policy.as_deref())
        .unwrap_or("Always");
    match policy {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => kind == Kind::Main || exit_code != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(pod_policy: &str, kind: Kind, extra: serde_json::Value, exit_code: i32, wanted: bool) {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {}, "spec": {"restartPolicy": pod_policy, "containers": []}}),
        )
        .expect("a Pod");
        let mut container = json!({"name": "c"});
        for (key, value) in extra.as_object().into_iter().flatten() {
            container[key] = value.clone();
        }
        let container: Container = serde_json::from_value(container).expect("a container");
        assert_eq!(
            should_restart(&pod, &container, kind, exit_code),
            wanted,
            "{pod_policy} {kind:?} {exit_code}"
        );
    }

    #[test]
    fn pod_policy_decides() {
        check("Always", Kind::Main, json!({}), 0, true);
        check("OnFailure", Kind::Main, json!({}), 0, false);
        check("OnFailure", Kind::Main, json!({}), 1, true);
        check("Never", Kind::Main, json!({}), 1, false);
    }

    #[test]
    fn init_containers_end_when_they_succeed_and_sidecars_never_end() {
        check("Always", Kind::Init, json!({}), 0, false);
        check("Always", Kind::Init, json!({}), 1, true);
        check(
            "Never",
            Kind::Sidecar,
            json!({"restartPolicy": "Always"}),
            0,
            true,
        );
    }

    #[test]
    fn rules_of_the_container_come_first() {
        let rules = json!({"restartPolicy": "Never", "restartPolicyRules":
            [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]});
        check("Never", Kind::Main, rules.clone(), 42, true);
        check("Always", Kind::Main, rules, 1, false);
    }
}
