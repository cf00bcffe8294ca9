//! What the Pod Security Standards ask of a Pod. Pure.
//!
//! Source: Kubernetes `pod-security-admission/policy`: the same checks in the same order with the same words.

use std::collections::BTreeSet;

use serde_json::Value;

use super::policy::{Level, Standard, Version};

/// What a check found: the reason, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub reason: String,
    pub detail: String,
}

type Check = fn(&Value, Version) -> Option<Violation>;

/// For `baseline` and `restricted`.
const BASELINE: [Check; 9] = [
    app_armor,
    host_namespaces,
    host_ports,
    probe_hosts,
    privileged,
    proc_mount,
    selinux,
    sysctls,
    host_process,
];
/// For `baseline` only: `restricted` has stricter ones in their place.
const BASELINE_ONLY: [Check; 3] = [capabilities, host_paths, seccomp];
const RESTRICTED: [Check; 6] = [
    privilege_escalation,
    dropped_capabilities,
    volume_types,
    non_root,
    root_user,
    required_seccomp,
];

/// From this version on `restricted` asks nothing of Windows Pods that has a meaning on Linux only.
const WINDOWS: Version = Version::Minor(25);
/// From this version on a Pod in a user namespace of its own may do as root what it likes.
const USER_NAMESPACES: Version = Version::Minor(35);

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

/// Everything a Pod, or the template of one, does that `standard` forbids.
#[must_use]
pub fn violations(standard: Standard, pod: &Value) -> Vec<Violation> {
    let run = |checks: &[Check]| -> Vec<Violation> {
        checks
            .iter()
            .filter_map(|check| check(pod, standard.version))
            .collect()
    };
    match standard.level {
        Level::Privileged => Vec::new(),
        Level::Baseline => [run(&BASELINE), run(&BASELINE_ONLY)].concat(),
        Level::Restricted => [run(&BASELINE), run(&RESTRICTED)].concat(),
    }
}

fn spec(pod: &Value) -> &Value {
    &pod["spec"]
}

/// Init containers, containers, ephemeral containers.
fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|field| spec(pod)[field].as_array().into_iter().flatten())
}

fn name(container: &Value) -> &str {
    container["name"].as_str().unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn many<'a>(one: &'a str, more: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { more }
}

fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(corten_api::field::quoted).collect();
    quoted.join(", ")
}

/// `container "a"` or `containers "a", "b"`.
fn named(bad: &[&str]) -> String {
    let quoted = quoted(bad.iter().copied());
    format!("{} {quoted}", many("container", "containers", bad.len()))
}

/// `pod`, `containers "a", "b"`, or both.
fn setters(pod: bool, bad: &[&str]) -> String {
    match (pod, bad) {
        (true, []) => "pod".to_owned(),
        (true, bad) => format!("pod and {}", named(bad)),
        (false, bad) => named(bad),
    }
}

fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation {
        reason: reason.to_owned(),
        detail,
    })
}

fn those<'a>(pod: &'a Value, is_bad: impl Fn(&'a Value) -> bool) -> Vec<&'a str> {
    containers(pod)
        .filter(|container| is_bad(container))
        .map(name)
        .collect()
}

fn own_users(pod: &Value, version: Version) -> bool {
    version >= USER_NAMESPACES && spec(pod)["hostUsers"] == false
}

fn is_windows(pod: &Value, version: Version) -> bool {
    version >= WINDOWS && spec(pod)["os"]["name"] == "windows"
}

fn app_armor(pod: &Value, _: Version) -> Option<Violation> {
    let is_bad = |owner: &Value| {
        let profile = text(&owner["securityContext"]["appArmorProfile"]["type"]);
        !matches!(profile, "" | "RuntimeDefault" | "Localhost")
    };
    let (of_pod, bad) = (is_bad(spec(pod)), those(pod, is_bad));
    let mut details = Vec::new();
    let mut count = bad.len() + usize::from(of_pod);
    if count > 0 {
        let owners = containers(pod).chain([spec(pod)]);
        let values: BTreeSet<&str> = owners
            .filter(|owner| is_bad(owner))
            .map(|owner| text(&owner["securityContext"]["appArmorProfile"]["type"]))
            .collect();
        details.push(format!(
            "{} must not set AppArmor profile type to {}",
            setters(of_pod, &bad),
            quoted(values)
        ));
    }
    let mut annotated: Vec<String> = pod["metadata"]["annotations"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(APP_ARMOR_ANNOTATION))
        .map(|(key, value)| (key, text(value)))
        .filter(|(_, value)| {
            !value.is_empty() && *value != "runtime/default" && !value.starts_with("localhost/")
        })
        .map(|(key, value)| format!("{key}={}", corten_api::field::quoted(value)))
        .collect();
    annotated.sort();
    count += annotated.len();
    if !annotated.is_empty() {
        details.push(annotated.join(", "));
    }
    if details.is_empty() {
        return None;
    }
    let reason = many("forbidden AppArmor profile", "forbidden AppArmor profiles", count);
    violation(reason, details.join("; "))
}

fn host_namespaces(pod: &Value, _: Version) -> Option<Violation> {
    let shared: Vec<String> = ["hostIPC", "hostNetwork", "hostPID"]
        .into_iter()
        .filter(|field| spec(pod)[*field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    (!shared.is_empty()).then(|| Violation {
        reason: "host namespaces".to_owned(),
        detail: shared.join(", "),
    })
}

fn host_ports(pod: &Value, _: Version) -> Option<Violation> {
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

fn probe_hosts(pod: &Value, version: Version) -> Option<Violation> {
    if version < Version::Minor(34) {
        return None;
    }
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

fn privileged(pod: &Value, _: Version) -> Option<Violation> {
    let bad = those(pod, |container| {
        container["securityContext"]["privileged"] == true
    });
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} must not set securityContext.privileged=true", named(&bad));
    violation("privileged", detail)
}

fn proc_mount(pod: &Value, version: Version) -> Option<Violation> {
    fn mount(container: &Value) -> &str {
        text(&container["securityContext"]["procMount"])
    }
    let is_bad = |container: &Value| !matches!(mount(container), "" | "Default");
    let bad = those(pod, is_bad);
    if bad.is_empty() || own_users(pod, version) {
        return None;
    }
    let values: BTreeSet<&str> = containers(pod).filter(|c| is_bad(c)).map(mount).collect();
    let detail = format!(
        "{} must not set securityContext.procMount to {}",
        named(&bad),
        quoted(values)
    );
    violation("procMount", detail)
}

fn selinux(pod: &Value, version: Version) -> Option<Violation> {
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
        setters(of_pod, &bad),
        data.join("; ")
    );
    violation("seLinuxOptions", detail)
}

fn sysctls(pod: &Value, version: Version) -> Option<Violation> {
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

fn host_process(pod: &Value, _: Version) -> Option<Violation> {
    let is_bad = |owner: &Value| owner["securityContext"]["windowsOptions"]["hostProcess"] == true;
    let (of_pod, bad) = (is_bad(spec(pod)), those(pod, is_bad));
    if !of_pod && bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.windowsOptions.hostProcess=true",
        setters(of_pod, &bad)
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
fn adding(pod: &Value, allowed: &[&str]) -> Option<String> {
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

fn capabilities(pod: &Value, _: Version) -> Option<Violation> {
    violation("non-default capabilities", adding(pod, &DEFAULT_CAPABILITIES)?)
}

fn host_paths(pod: &Value, _: Version) -> Option<Violation> {
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

fn profile(owner: &Value) -> &Value {
    &owner["securityContext"]["seccompProfile"]
}

fn is_confined(profile: &Value) -> bool {
    matches!(text(&profile["type"]), "RuntimeDefault" | "Localhost")
}

/// Profiles that are set and not allowed.
fn seccomp(pod: &Value, version: Version) -> Option<Violation> {
    if version < Version::Minor(19) {
        return None;
    }
    let is_bad = |owner: &Value| !profile(owner).is_null() && !is_confined(profile(owner));
    let (of_pod, bad) = (is_bad(spec(pod)), those(pod, is_bad));
    if !of_pod && bad.is_empty() {
        return None;
    }
    let owners = containers(pod).chain([spec(pod)]);
    let values: BTreeSet<&str> = owners
        .filter(|owner| is_bad(owner))
        .map(|owner| text(&profile(owner)["type"]))
        .collect();
    let detail = format!(
        "{} must not set securityContext.seccompProfile.type to {}",
        setters(of_pod, &bad),
        quoted(values)
    );
    violation("seccompProfile", detail)
}

fn required_seccomp(pod: &Value, version: Version) -> Option<Violation> {
    if version < Version::Minor(19) || is_windows(pod, version) {
        return None;
    }
    if let Some(bad) = seccomp(pod, version) {
        return Some(bad);
    }
    if is_confined(profile(spec(pod))) {
        return None;
    }
    let bad = those(pod, |container| profile(container).is_null());
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        named(&bad)
    );
    violation("seccompProfile", detail)
}

fn privilege_escalation(pod: &Value, version: Version) -> Option<Violation> {
    if version < Version::Minor(8) || is_windows(pod, version) {
        return None;
    }
    let bad = those(pod, |container| {
        container["securityContext"]["allowPrivilegeEscalation"] != false
    });
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must set securityContext.allowPrivilegeEscalation=false",
        named(&bad)
    );
    violation("allowPrivilegeEscalation != false", detail)
}

fn dropped_capabilities(pod: &Value, version: Version) -> Option<Violation> {
    if version < Version::Minor(22) || is_windows(pod, version) {
        return None;
    }
    let keeping = those(pod, |container| {
        let dropped = container["securityContext"]["capabilities"]["drop"].as_array();
        !dropped.into_iter().flatten().any(|dropped| dropped == "ALL")
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            named(&keeping)
        ));
    }
    details.extend(adding(pod, &["NET_BIND_SERVICE"]));
    if details.is_empty() {
        return None;
    }
    violation("unrestricted capabilities", details.join("; "))
}

/// Volume sources `restricted` allows.
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn volume_types(pod: &Value, _: Version) -> Option<Violation> {
    let volumes = || spec(pod)["volumes"].as_array().into_iter().flatten();
    let is_bad = |volume: &&Value| VOLUMES.iter().all(|source| volume[*source].is_null());
    let names: BTreeSet<&str> = volumes().filter(is_bad).map(name).collect();
    if names.is_empty() {
        return None;
    }
    // One more than upstream's list of sources: a source this version does not know is named `unknown`.
    let sources: BTreeSet<&str> = volumes()
        .filter(is_bad)
        .map(|volume| {
            let mut fields = volume.as_object().into_iter().flatten();
            fields
                .find(|(field, _)| *field != "name")
                .map_or("unknown", |(field, _)| field.as_str())
        })
        .collect();
    let detail = format!(
        "{} {} {} {} {}",
        many("volume", "volumes", names.len()),
        quoted(names.iter().copied()),
        many("uses", "use", names.len()),
        many("restricted volume type", "restricted volume types", sources.len()),
        quoted(sources)
    );
    violation("restricted volume types", detail)
}

fn non_root(pod: &Value, version: Version) -> Option<Violation> {
    if own_users(pod, version) {
        return None;
    }
    let of_pod = &spec(pod)["securityContext"]["runAsNonRoot"];
    let own = |container: &Value| container["securityContext"]["runAsNonRoot"].as_bool();
    let bad = those(pod, |container| own(container) == Some(false));
    if *of_pod == false || !bad.is_empty() {
        let detail = format!(
            "{} must not set securityContext.runAsNonRoot=false",
            setters(*of_pod == false, &bad)
        );
        return violation("runAsNonRoot != true", detail);
    }
    let silent = those(pod, |container| own(container).is_none());
    if *of_pod == true || silent.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.runAsNonRoot=true",
        named(&silent)
    );
    violation("runAsNonRoot != true", detail)
}

fn root_user(pod: &Value, version: Version) -> Option<Violation> {
    if version < Version::Minor(23) || own_users(pod, version) {
        return None;
    }
    let is_bad = |owner: &Value| owner["securityContext"]["runAsUser"] == 0;
    let (of_pod, bad) = (is_bad(spec(pod)), those(pod, is_bad));
    if !of_pod && bad.is_empty() {
        return None;
    }
    violation(
        "runAsUser=0",
        format!("{} must not set runAsUser=0", setters(of_pod, &bad)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A Pod that `restricted` allows.
    fn good() -> Value {
        json!({ "spec": {
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{ "name": "a", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } } }],
        } })
    }

    #[track_caller]
    fn check(standard: &str, change: Value, wanted: &[&str]) {
        let mut pod = good();
        corten_api::patch::merge_patch(&mut pod, &change);
        let standard: Standard = standard.parse().expect("a standard");
        let found: Vec<String> = violations(standard, &pod)
            .into_iter()
            .map(|found| format!("{} ({})", found.reason, found.detail))
            .collect();
        assert_eq!(found, wanted, "{standard}: {change}");
    }

    #[test]
    fn each_check_has_upstreams_words() {
        check("restricted:latest", json!({}), &[]);
        let namespaces = json!({"spec": {"hostNetwork": true, "hostPID": true}});
        check("privileged:latest", namespaces.clone(), &[]);
        check(
            "baseline:latest",
            namespaces,
            &["host namespaces (hostNetwork=true, hostPID=true)"],
        );
        check(
            "baseline:latest",
            json!({"spec": {"containers": [
                {"name": "a", "securityContext": {"privileged": true}, "ports": [{"hostPort": 80}]},
                {"name": "b", "securityContext": {"privileged": true, "capabilities": {"add": ["NET_RAW", "CHOWN"]}}}]}}),
            &[
                "hostPort (container \"a\" uses hostPort 80)",
                "privileged (containers \"a\", \"b\" must not set securityContext.privileged=true)",
                "non-default capabilities (container \"b\" must not include \"NET_RAW\" in securityContext.capabilities.add)",
            ],
        );
        check(
            "baseline:latest",
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {}}, {"name": "w", "hostPath": {}}],
                "securityContext": {"seccompProfile": {"type": "Unconfined"}, "sysctls": [{"name": "kernel.msgmax"}],
                    "seLinuxOptions": {"type": "spc_t", "user": "u"}}}}),
            &[
                "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
                "forbidden sysctls (kernel.msgmax)",
                "hostPath volumes (volumes \"v\", \"w\")",
                "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
            ],
        );
        check(
            "restricted:latest",
            json!({"spec": {"securityContext": null, "containers": [{"name": "a"}],
                "volumes": [{"name": "v", "nfs": {}}]}}),
            &[
                "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false)",
                "unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"])",
                "restricted volume types (volume \"v\" uses restricted volume type \"nfs\")",
                "runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true)",
                "seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
            ],
        );
        check(
            "restricted:latest",
            json!({"spec": {"securityContext": {"runAsUser": 0, "runAsNonRoot": false}}}),
            &[
                "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
                "runAsUser=0 (pod must not set runAsUser=0)",
            ],
        );
    }

    #[test]
    fn versions_decide() {
        let sysctl = json!({"spec": {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}}});
        check(
            "baseline:v1.31",
            sysctl.clone(),
            &["forbidden sysctls (net.ipv4.tcp_rmem)"],
        );
        check("baseline:v1.32", sysctl, &[]);
        let bare = json!({"spec": {"containers": [{"name": "a"}]}});
        check("restricted:v1.7", bare, &[]);
        let windows = json!({"spec": {"os": {"name": "windows"}, "containers": [{"name": "a"}]}});
        check("restricted:v1.25", windows, &[]);
        let probe =
            json!({"spec": {"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "h"}}}]}});
        check("baseline:v1.33", probe.clone(), &[]);
        check(
            "baseline:v1.34",
            probe,
            &["probe or lifecycle host (container \"a\" uses probe or lifecycle host \"h\")"],
        );
        let own =
            json!({"spec": {"hostUsers": false, "securityContext": {"runAsUser": 0, "runAsNonRoot": null}}});
        check("restricted:latest", own, &[]);
    }
}
