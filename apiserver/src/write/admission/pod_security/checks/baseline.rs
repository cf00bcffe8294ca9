//! The checks of `baseline`. Pure.

use std::collections::BTreeSet;

use corten_api::field;
use serde_json::Value;

use super::super::policy::Version;
use super::Violation;
use super::parts::{containers, many, name, named, own_users, quoted, setters, spec, text, those, violation};

const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Allowed sysctls with the version that allowed them first.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];
const APP_ARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

pub fn app_armor(pod: &Value, _: Version) -> Option<Violation> {
    fn profile(owner: &Value) -> &Value {
        &owner["securityContext"]["appArmorProfile"]
    }
    let is_bad = |owner: &Value| {
        let known = matches!(text(&profile(owner)["type"]), "RuntimeDefault" | "Localhost");
        !profile(owner).is_null() && !known
    };
    let (of_pod, bad) = (is_bad(spec(pod)), those(pod, is_bad));
    let types: BTreeSet<&str> = containers(pod)
        .chain([spec(pod)])
        .filter(|owner| is_bad(owner))
        .map(|owner| text(&profile(owner)["type"]))
        .collect();
    let mut annotated: Vec<String> = pod["metadata"]["annotations"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key, text(value)))
        .filter(|(key, value)| {
            let allowed = ["", "runtime/default"].contains(value) || value.starts_with("localhost/");
            key.starts_with(APP_ARMOR_ANNOTATION) && !allowed
        })
        .map(|(key, value)| format!("{key}={}", field::quoted(value)))
        .collect();
    annotated.sort();
    let mut setters = setters(of_pod, &bad);
    if !annotated.is_empty() {
        setters.push(many("annotation", "annotations", annotated.len()).to_owned());
    }
    if setters.is_empty() {
        return None;
    }
    let count = types.len() + annotated.len();
    let values = types.into_iter().chain(annotated.iter().map(String::as_str));
    violation(
        many("forbidden AppArmor profile", "forbidden AppArmor profiles", count),
        format!(
            "{} must not set AppArmor profile type to {}",
            setters.join(" and "),
            quoted(values)
        ),
    )
}

pub fn capabilities(pod: &Value, _: Version) -> Option<Violation> {
    violation("non-default capabilities", adding(pod, &DEFAULT_CAPABILITIES)?)
}

pub fn host_namespaces(pod: &Value, _: Version) -> Option<Violation> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| spec(pod)[*field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    (!shared.is_empty()).then(|| Violation {
        reason: "host namespaces".to_owned(),
        detail: shared.join(", "),
    })
}

pub fn host_paths(pod: &Value, _: Version) -> Option<Violation> {
    let volumes = spec(pod)["volumes"].as_array().into_iter().flatten();
    let bad: Vec<&str> = volumes
        .filter(|volume| !volume["hostPath"].is_null())
        .map(name)
        .collect();
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} {}", many("volume", "volumes", bad.len()), quoted(bad));
    violation("hostPath volumes", detail)
}

pub fn host_ports(pod: &Value, _: Version) -> Option<Violation> {
    fn of(container: &Value) -> impl Iterator<Item = i64> {
        let ports = container["ports"].as_array().into_iter().flatten();
        ports.filter_map(|port| port["hostPort"].as_i64().filter(|port| *port != 0))
    }
    let bad = those(pod, |container| of(container).next().is_some());
    if bad.is_empty() {
        return None;
    }
    let ports: BTreeSet<String> = containers(pod)
        .flat_map(of)
        .map(|port| port.to_string())
        .collect();
    let listed: Vec<String> = ports.into_iter().collect();
    violation(
        "hostPort",
        format!(
            "{} {} {} {}",
            named(&bad),
            many("uses", "use", bad.len()),
            many("hostPort", "hostPorts", listed.len()),
            listed.join(", ")
        ),
    )
}

pub fn probe_hosts(pod: &Value, _: Version) -> Option<Violation> {
    fn of(container: &Value) -> impl Iterator<Item = &str> {
        let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| &container[probe]);
        let hooks = ["postStart", "preStop"].map(|hook| &container["lifecycle"][hook]);
        let handlers = probes.into_iter().chain(hooks);
        let hosts =
            handlers.flat_map(|handler| ["httpGet", "tcpSocket"].map(|kind| text(&handler[kind]["host"])));
        hosts.filter(|host| !host.is_empty())
    }
    let bad: BTreeSet<&str> = those(pod, |container| of(container).next().is_some())
        .into_iter()
        .collect();
    if bad.is_empty() {
        return None;
    }
    let bad: Vec<&str> = bad.into_iter().collect();
    let hosts: BTreeSet<&str> = containers(pod).flat_map(of).collect();
    violation(
        "probe or lifecycle host",
        format!(
            "{} {} {} {}",
            named(&bad),
            many("uses", "use", bad.len()),
            many("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()),
            quoted(hosts)
        ),
    )
}

pub fn privileged(pod: &Value, _: Version) -> Option<Violation> {
    let bad = those(pod, |container| {
        container["securityContext"]["privileged"] == true
    });
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} must not set securityContext.privileged=true", named(&bad));
    violation("privileged", detail)
}

/// `baseline` before 1.35 and `restricted` ever since.
pub fn proc_mount(pod: &Value, _: Version) -> Option<Violation> {
    fn mount(container: &Value) -> &Value {
        &container["securityContext"]["procMount"]
    }
    let is_bad = |container: &Value| !mount(container).is_null() && mount(container) != "Default";
    let bad = those(pod, is_bad);
    if bad.is_empty() {
        return None;
    }
    let bad_ones = containers(pod).filter(|container| is_bad(container));
    let values: BTreeSet<&str> = bad_ones.map(|container| text(mount(container))).collect();
    let detail = format!(
        "{} must not set securityContext.procMount to {}",
        named(&bad),
        quoted(values)
    );
    violation("procMount", detail)
}

/// [`proc_mount`], but a Pod with users of its own may.
pub fn proc_mount_of_host_users(pod: &Value, version: Version) -> Option<Violation> {
    if own_users(pod, version) {
        return None;
    }
    proc_mount(pod, version)
}

pub fn selinux(pod: &Value, version: Version) -> Option<Violation> {
    let allowed = |kind: &str| match kind {
        "" | "container_t" | "container_init_t" | "container_kvm_t" => true,
        "container_engine_t" => version >= Version::Minor(31),
        _ => false,
    };
    fn options(owner: &Value) -> &Value {
        &owner["securityContext"]["seLinuxOptions"]
    }
    let is_set = |owner: &Value, field: &str| !text(&options(owner)[field]).is_empty();
    let is_bad = |owner: &Value| {
        !allowed(text(&options(owner)["type"])) || is_set(owner, "user") || is_set(owner, "role")
    };
    let (of_pod, bad) = (is_bad(spec(pod)), those(pod, is_bad));
    if !of_pod && bad.is_empty() {
        return None;
    }
    let owners: Vec<&Value> = containers(pod).chain([spec(pod)]).collect();
    let types: BTreeSet<&str> = owners
        .iter()
        .map(|owner| text(&options(owner)["type"]))
        .filter(|kind| !allowed(kind))
        .collect();
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!(
            "{} {}",
            many("type", "types", types.len()),
            quoted(types)
        ));
    }
    for field in ["user", "role"] {
        if owners.iter().any(|owner| is_set(owner, field)) {
            data.push(format!("{field} may not be set"));
        }
    }
    let detail = format!(
        "{} set forbidden securityContext.seLinuxOptions: {}",
        setters(of_pod, &bad).join(" and "),
        data.join("; ")
    );
    violation("seLinuxOptions", detail)
}

pub fn sysctls(pod: &Value, version: Version) -> Option<Violation> {
    let allowed = |name: &str| {
        SYSCTLS
            .iter()
            .any(|(known, since)| *known == name && version >= Version::Minor(*since))
    };
    let set = spec(pod)["securityContext"]["sysctls"].as_array();
    let bad: Vec<&str> = set
        .into_iter()
        .flatten()
        .map(|sysctl| text(&sysctl["name"]))
        .filter(|name| !allowed(name))
        .collect();
    (!bad.is_empty()).then(|| Violation {
        reason: "forbidden sysctls".to_owned(),
        detail: bad.join(", "),
    })
}

pub fn host_process(pod: &Value, _: Version) -> Option<Violation> {
    let is_bad = |owner: &Value| owner["securityContext"]["windowsOptions"]["hostProcess"] == true;
    let (of_pod, bad) = (is_bad(spec(pod)), those(pod, is_bad));
    if !of_pod && bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.windowsOptions.hostProcess=true",
        setters(of_pod, &bad).join(" and ")
    );
    violation("hostProcess", detail)
}

/// Capabilities a container adds beyond `allowed`.
fn added<'a>(container: &'a Value, allowed: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let added = container["securityContext"]["capabilities"]["add"].as_array();
    let added = added.into_iter().flatten().map(text);
    added.filter(|capability| !allowed.contains(capability))
}

/// `containers "a" must not include "X" in securityContext.capabilities.add`.
pub fn adding(pod: &Value, allowed: &[&str]) -> Option<String> {
    let bad = those(pod, |container| added(container, allowed).next().is_some());
    if bad.is_empty() {
        return None;
    }
    let all: BTreeSet<&str> = containers(pod)
        .flat_map(|container| added(container, allowed))
        .collect();
    Some(format!(
        "{} must not include {} in securityContext.capabilities.add",
        named(&bad),
        quoted(all)
    ))
}
