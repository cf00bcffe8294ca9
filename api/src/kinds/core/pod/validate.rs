//! Validation of a Pod spec as a whole. Source: `pkg/apis/core/validation`, `ValidatePodSpec`.

use std::collections::BTreeSet;

use super::container::{self, Around, Role};
use super::{affinity, volume};
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::rules::named;
use crate::kinds::common::selector;
use crate::names;

const RESTART_POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];
const DNS_POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];

pub fn spec(at: &At<'_>, errors: &mut FieldErrors) {
    let around = Around {
        volumes: volume::volumes(at, errors),
        host_network: at.bool("hostNetwork"),
        grace: at.opt_int("terminationGracePeriodSeconds"),
    };
    containers(at, &around, errors);
    match at.str("restartPolicy") {
        "" => errors.required(at.path("restartPolicy"), ""),
        policy if RESTART_POLICIES.contains(&policy) => {}
        policy => errors.not_supported(at.path("restartPolicy"), policy, &RESTART_POLICIES),
    }
    dns(at, errors);
    selector::labels(at.path("nodeSelector"), at.get("nodeSelector"), errors);
    security_context(&at.at("securityContext"), errors);
    volume::pull_secrets(at, errors);
    affinity::affinity(at, errors);
    affinity::tolerations(at, errors);
    affinity::spread(at, errors);
    for (field, rule) in [
        ("nodeName", names::dns_subdomain as fn(&str) -> Vec<String>),
        ("hostname", names::dns_label),
        ("subdomain", names::dns_label),
        ("priorityClassName", names::dns_subdomain),
    ] {
        if !at.str(field).is_empty() {
            named(at.path(field), at.str(field), rule, errors);
        }
    }
    if let Some(class) = at.opt_str("runtimeClassName") {
        named(at.path("runtimeClassName"), class, names::dns_subdomain, errors);
    }
    if let Some(seconds) = at.opt_int("activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        errors.invalid(
            at.path("activeDeadlineSeconds"),
            seconds,
            &names::inclusive_range_text(1, i64::from(i32::MAX)),
        );
    }
    for alias in at.items("hostAliases") {
        named(alias.path("ip"), alias.str("ip"), names::ip, errors);
        for hostname in alias.items("hostnames") {
            // Upstream reports the list's path.
            named(
                alias.path("hostnames"),
                hostname.text(),
                names::dns_subdomain,
                errors,
            );
        }
    }
    for gate in at.items("readinessGates") {
        named(
            gate.path("conditionType"),
            gate.str("conditionType"),
            names::qualified_name,
            errors,
        );
    }
    gates(at, errors);
    if let Some(policy) = at.opt_str("preemptionPolicy")
        && !matches!(policy, "Never" | "PreemptLowerPriority")
    {
        errors.not_supported(
            at.path("preemptionPolicy"),
            policy,
            &["Never", "PreemptLowerPriority"],
        );
    }
    if let Some(os) = at.opt("os") {
        match os.str("name") {
            "" => errors.required(os.path("name"), "cannot be empty"),
            "linux" | "windows" => {}
            other => errors.not_supported(os.here(), other, &["linux", "windows"]),
        }
    }
    if let Some(resources) = at.opt("resources") {
        container::requirements(&resources, errors);
    }
}

fn gates(at: &At<'_>, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for gate in at.items("schedulingGates") {
        named(&gate, gate.str("name"), names::qualified_name, errors);
        if !seen.insert(gate.str("name")) {
            errors.duplicate(&gate, gate.str("name"));
        }
    }
}

fn containers(at: &At<'_>, around: &Around<'_>, errors: &mut FieldErrors) {
    if at.count("containers") == 0 {
        errors.required(at.path("containers"), "");
    }
    let mut seen = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for (field, role) in [
        ("containers", Role::Main),
        ("initContainers", Role::Init),
        ("ephemeralContainers", Role::Ephemeral),
    ] {
        for item in at.items(field) {
            container::container(&item, role, around, errors);
            let name = item.str("name");
            if !name.is_empty() && !seen.insert(name) {
                errors.duplicate(item.path("name"), name);
            }
            if role == Role::Ephemeral {
                target(at, &item, errors);
            }
            let runs_along =
                role == Role::Main || (role == Role::Init && item.str("restartPolicy") == "Always");
            for port in item
                .items("ports")
                .filter(|p| runs_along && p.int("hostPort") != 0)
            {
                let claim = format!(
                    "{}/{}/{}",
                    port.str("protocol"),
                    port.str("hostIP"),
                    port.int("hostPort")
                );
                if !ports.insert(claim.clone()) {
                    errors.duplicate(port.path("hostPort"), claim);
                }
            }
        }
    }
}

fn target(spec: &At<'_>, ephemeral: &At<'_>, errors: &mut FieldErrors) {
    let target = ephemeral.str("targetContainerName");
    let known = || {
        spec.items("containers")
            .chain(spec.items("initContainers"))
            .any(|c| c.str("name") == target)
    };
    if !target.is_empty() && !known() {
        errors.not_found(ephemeral.path("targetContainerName"), target);
    }
}

fn dns(at: &At<'_>, errors: &mut FieldErrors) {
    let policy = at.str("dnsPolicy");
    match policy {
        "" => errors.required(at.path("dnsPolicy"), ""),
        policy if DNS_POLICIES.contains(&policy) => {}
        policy => errors.not_supported(at.path("dnsPolicy"), policy, &DNS_POLICIES),
    }
    let config = at.at("dnsConfig");
    if policy == "None" {
        if !at.has("dnsConfig") {
            errors.required(config.here(), "must provide `dnsConfig` when `dnsPolicy` is None");
        } else if config.count("nameservers") == 0 {
            errors.required(
                config.path("nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            );
        }
    }
    const MAX_SERVERS: usize = 3;
    const MAX_SEARCHES: usize = 32;
    if config.count("nameservers") > MAX_SERVERS {
        errors.invalid(
            config.path("nameservers"),
            config.get("nameservers").clone(),
            &format!("must not have more than {MAX_SERVERS} nameservers"),
        );
    }
    for server in config.items("nameservers") {
        named(&server, server.text(), names::ip, errors);
    }
    if config.count("searches") > MAX_SEARCHES {
        errors.invalid(
            config.path("searches"),
            config.get("searches").clone(),
            &format!("must not have more than {MAX_SEARCHES} search paths"),
        );
    }
    for option in config.items("options").filter(|o| o.str("name").is_empty()) {
        errors.required(option.here(), "must not be empty");
    }
}

fn security_context(at: &At<'_>, errors: &mut FieldErrors) {
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        container::id(at, field, errors);
    }
    container::seccomp(at, errors);
    let mut seen = BTreeSet::new();
    for sysctl in at.items("sysctls") {
        let name = sysctl.str("name");
        if name.is_empty() {
            errors.required(sysctl.path("name"), "");
        } else if !seen.insert(name) {
            errors.duplicate(sysctl.path("name"), name);
        }
    }
    if let Some(policy) = at.opt_str("fsGroupChangePolicy")
        && !matches!(policy, "Always" | "OnRootMismatch")
    {
        errors.not_supported(
            at.path("fsGroupChangePolicy"),
            policy,
            &["Always", "OnRootMismatch"],
        );
    }
}
