//! `securityContext` of Pod and container.

use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};

use super::ConfigError;
use crate::pod::action::ImageReady;
use crate::pod::containers::spec;
use crate::runtime::{ContainerSecurity, NamespaceMode, Namespaces, Seccomp};

pub fn namespaces(pod: &Pod) -> Namespaces {
    let node = |wanted: Option<bool>, otherwise| {
        if wanted == Some(true) {
            NamespaceMode::Node
        } else {
            otherwise
        }
    };
    let shared = spec(pod).share_process_namespace == Some(true);
    Namespaces {
        network: node(spec(pod).host_network, NamespaceMode::Pod),
        pid: node(
            spec(pod).host_pid,
            if shared {
                NamespaceMode::Pod
            } else {
                NamespaceMode::Container
            },
        ),
        ipc: node(spec(pod).host_ipc, NamespaceMode::Pod),
    }
}

/// What containers of this node get that say nothing about it, and its seccomp profiles.
#[derive(Debug, Clone, Default)]
pub struct SecurityDefaults {
    /// Folder of those that Pods name.
    pub root: String,
    /// Who names none gets the runtime's, as with the kubelet's `--seccomp-default`; else none, as Kubernetes by default.
    pub by_default: bool,
    /// Containers do not have `NET_RAW` unless they add it; else they have it, as the runtime gives it to all.
    pub drops_net_raw: bool,
    /// Who does not say `allowPrivilegeEscalation` gains no privileges; else he does, as Kubernetes by default.
    pub no_new_privileges: bool,
}

/// Why this node cannot run the Pod as it has to be run. Admission trusts a Pod without the host's users with more, so it is
/// never run as if it had them.
///
/// # Errors
/// The kubelet's text for a runtime without user namespaces: mappings are not handed to ours.
pub fn supported(pod: &Pod) -> Result<(), ConfigError> {
    match spec(pod).host_users {
        Some(false) => Err(ConfigError(
            "can't set `spec.hostUsers: false`, runtime does not support user namespaces".to_owned(),
        )),
        _ => Ok(()),
    }
}

pub fn seccomp(profile: Option<&SeccompProfile>, defaults: &SecurityDefaults) -> Seccomp {
    match profile.map(|profile| profile.type_.as_str()) {
        Some("RuntimeDefault") => Seccomp::RuntimeDefault,
        Some("Localhost") => {
            let name = profile
                .and_then(|profile| profile.localhost_profile.as_deref())
                .unwrap_or_default();
            Seccomp::Localhost(format!("{}/{name}", defaults.root))
        }
        None if defaults.by_default => Seccomp::RuntimeDefault,
        _ => Seccomp::Unconfined,
    }
}

/// The container's own settings win over the Pod's.
///
/// # Errors
/// `runAsNonRoot` that cannot be kept.
pub fn of_container(
    pod: &Pod,
    container: &Container,
    image: &ImageReady,
    defaults: &SecurityDefaults,
) -> Result<ContainerSecurity, ConfigError> {
    let of_pod = spec(pod).security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let run_as_user = own.run_as_user.or(of_pod.run_as_user);
    let run_as_group = own.run_as_group.or(of_pod.run_as_group);
    if own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true) {
        verify_non_root(pod, container, run_as_user, image)?;
    }
    let privileged = own.privileged == Some(true);
    let capabilities = own.capabilities.unwrap_or_default();
    let added = capabilities.add.unwrap_or_default();
    let mut dropped = capabilities.drop.unwrap_or_default();
    if defaults.drops_net_raw && !privileged && !adds(&added, "NET_RAW") {
        dropped.push("NET_RAW".to_owned());
    }
    // Who has these has all privileges already; Kubernetes refuses to take them away.
    let escalates = !defaults.no_new_privileges || privileged || adds(&added, "SYS_ADMIN");
    let mut supplemental_groups = of_pod.supplemental_groups.unwrap_or_default();
    supplemental_groups.extend(of_pod.fs_group);
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let profile = own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref());
    Ok(ContainerSecurity {
        privileged,
        run_as_user: run_as_user.or(image.uid.filter(|_| image.username.is_empty())),
        run_as_group,
        run_as_username: if run_as_user.is_some() {
            String::new()
        } else {
            image.username.clone()
        },
        supplemental_groups,
        add_capabilities: added,
        drop_capabilities: dropped,
        read_only_root: own.read_only_root_filesystem == Some(true),
        no_new_privileges: !own.allow_privilege_escalation.unwrap_or(escalates),
        seccomp: seccomp(profile, defaults),
        namespaces: namespaces(pod),
        pid_of: None,
        masked_paths: unmasked.then(Vec::new),
        readonly_paths: unmasked.then(Vec::new),
    })
}

/// Whether a capability is among those added; both spellings of its name are in use.
fn adds(added: &[String], capability: &str) -> bool {
    let of = |name: &str| {
        let name = name.to_ascii_uppercase();
        name == "ALL" || name.strip_prefix("CAP_").unwrap_or(&name) == capability
    };
    added.iter().any(|name| of(name))
}

fn verify_non_root(
    pod: &Pod,
    container: &Container,
    run_as_user: Option<i64>,
    image: &ImageReady,
) -> Result<(), ConfigError> {
    let meta = &pod.metadata;
    let place = format!(
        "(pod: \"{}_{}({})\", container: {})",
        meta.name.as_deref().unwrap_or_default(),
        meta.namespace.as_deref().unwrap_or_default(),
        meta.uid.as_deref().unwrap_or_default(),
        container.name
    );
    let text = match (run_as_user, image.uid) {
        (Some(0), _) => "container's runAsUser breaks non-root policy".to_owned(),
        (Some(_), _) => return Ok(()),
        (None, Some(0)) => "container has runAsNonRoot and image will run as root".to_owned(),
        (None, None) if !image.username.is_empty() => format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root",
            image.username
        ),
        (None, Some(_)) => return Ok(()),
        // An image that names no user runs as root.
        (None, None) => "container has runAsNonRoot and image will run as root".to_owned(),
    };
    Err(ConfigError(format!("{text} {place}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(of_pod: Value, own: Value, image: (Option<i64>, &str), wanted: Result<Option<i64>, &str>) {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"securityContext": of_pod, "containers": [{"name": "c", "securityContext": own}]}}))
            .expect("a Pod");
        let image = ImageReady {
            id: String::new(),
            uid: image.0,
            username: image.1.to_owned(),
        };
        let seen = of_container(
            &pod,
            &spec(&pod).containers[0],
            &image,
            &SecurityDefaults::default(),
        )
        .map(|made| made.run_as_user);
        let place = " (pod: \"p_n(u)\", container: c)";
        assert_eq!(
            seen.map_err(|error| error.0),
            wanted.map_err(|text| format!("{text}{place}"))
        );
    }

    #[test]
    fn who_names_no_seccomp_profile_gets_the_nodes_default() {
        let named = |kind: &str| SeccompProfile {
            type_: kind.to_owned(),
            localhost_profile: Some("a.json".into()),
        };
        for by_default in [false, true] {
            let defaults = SecurityDefaults {
                root: "/p".into(),
                by_default,
                ..SecurityDefaults::default()
            };
            let of = |profile: Option<&SeccompProfile>| seccomp(profile, &defaults);
            let none = if by_default {
                Seccomp::RuntimeDefault
            } else {
                Seccomp::Unconfined
            };
            assert_eq!(of(None), none);
            assert_eq!(of(Some(&named("Unconfined"))), Seccomp::Unconfined);
            assert_eq!(of(Some(&named("RuntimeDefault"))), Seccomp::RuntimeDefault);
            assert_eq!(
                of(Some(&named("Localhost"))),
                Seccomp::Localhost("/p/a.json".into())
            );
        }
    }

    #[test]
    fn who_asks_for_no_privileges_has_none_on_a_hardened_node() {
        let hardened = SecurityDefaults {
            drops_net_raw: true,
            no_new_privileges: true,
            ..SecurityDefaults::default()
        };
        let image = ImageReady {
            id: String::new(),
            uid: None,
            username: String::new(),
        };
        let of = |own: &Value, defaults: &SecurityDefaults| {
            let container = json!({"name": "c", "securityContext": own});
            let pod: Pod =
                serde_json::from_value(json!({"spec": {"containers": [container]}})).expect("a Pod");
            let made =
                of_container(&pod, &spec(&pod).containers[0], &image, defaults).expect("it can be kept");
            (made.drop_capabilities.join(","), made.no_new_privileges)
        };
        let add = |name: &str| json!({"capabilities": {"add": [name]}});
        for (own, dropped, no_new) in [
            (json!({}), "NET_RAW", true),
            (json!({"allowPrivilegeEscalation": true}), "NET_RAW", false),
            (json!({"allowPrivilegeEscalation": false}), "NET_RAW", true),
            (
                json!({"capabilities": {"drop": ["CHOWN"]}}),
                "CHOWN,NET_RAW",
                true,
            ),
            (json!({"privileged": true}), "", false),
            (add("NET_RAW"), "", true),
            (add("cap_net_raw"), "", true),
            (add("CAP_SYS_ADMIN"), "NET_RAW", false),
            (add("ALL"), "", false),
        ] {
            assert_eq!(of(&own, &hardened), (dropped.to_owned(), no_new), "{own}");
        }
        for (own, dropped, no_new) in [
            (json!({}), "", false),
            (json!({"allowPrivilegeEscalation": false}), "", true),
        ] {
            assert_eq!(
                of(&own, &SecurityDefaults::default()),
                (dropped.to_owned(), no_new),
                "{own}"
            );
        }
    }

    #[test]
    fn a_pod_without_the_hosts_users_is_not_run_with_them() {
        let pod = |host_users: Value| -> Pod {
            let spec = json!({"hostUsers": host_users, "containers": []});
            serde_json::from_value(json!({"spec": spec})).expect("a Pod")
        };
        assert!(supported(&pod(Value::Null)).is_ok() && supported(&pod(true.into())).is_ok());
        let refused = supported(&pod(false.into())).expect_err("not supported");
        assert!(
            refused.0.ends_with("runtime does not support user namespaces"),
            "{refused}"
        );
    }

    #[test]
    fn users_and_non_root() {
        check(
            json!({"runAsUser": 5}),
            json!({"runAsUser": 7}),
            (None, ""),
            Ok(Some(7)),
        );
        check(json!({"runAsUser": 5}), json!({}), (Some(0), ""), Ok(Some(5)));
        let strict = json!({"runAsNonRoot": true});
        check(strict.clone(), json!({}), (Some(9), ""), Ok(Some(9)));
        check(
            strict.clone(),
            json!({}),
            (None, ""),
            Err("container has runAsNonRoot and image will run as root"),
        );
        let text =
            "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root";
        check(strict.clone(), json!({}), (None, "web"), Err(text));
        check(
            strict,
            json!({"runAsUser": 0}),
            (None, ""),
            Err("container's runAsUser breaks non-root policy"),
        );
    }
}
