//! What the Pod Security Standards ask of a Pod. Pure.
//!
//! Source: Kubernetes `pod-security-admission/policy`: the same checks in the same order with the same words.

mod baseline;
mod parts;
mod restricted;
mod seccomp;

use serde_json::Value;

use super::policy::{Level, Standard, Version};

/// What a check found: the reason, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub reason: String,
    pub detail: String,
}

struct Check {
    level: Level,
    /// The first minor version that has it.
    since: u32,
    /// Of `baseline`: the first minor version whose `restricted` has something else in its place.
    replaced: Option<u32>,
    run: Run,
}

type Run = fn(&Value, Version) -> Option<Violation>;

/// In the order of their names there.
const CHECKS: [Check; 19] = [
    // baseline
    of_baseline(0, None, baseline::app_armor),
    of_baseline(0, Some(22), baseline::capabilities),
    of_baseline(0, None, baseline::host_namespaces),
    of_baseline(0, Some(0), baseline::host_paths),
    of_baseline(0, None, baseline::host_ports),
    of_baseline(34, None, baseline::probe_hosts),
    of_baseline(0, None, baseline::privileged),
    of_baseline(0, Some(35), baseline::proc_mount_of_host_users),
    of_baseline(0, None, baseline::selinux),
    of_baseline(0, Some(seccomp::FIELD_SINCE), seccomp::seccomp),
    of_baseline(0, None, baseline::sysctls),
    of_baseline(0, None, baseline::host_process),
    // restricted
    of_restricted(8, restricted::privilege_escalation),
    of_restricted(22, restricted::dropped_capabilities),
    of_restricted(35, baseline::proc_mount),
    of_restricted(0, restricted::volume_types),
    of_restricted(0, restricted::non_root),
    of_restricted(23, restricted::root_user),
    of_restricted(seccomp::FIELD_SINCE, seccomp::required_seccomp),
];

const fn of_baseline(since: u32, replaced: Option<u32>, run: Run) -> Check {
    Check {
        level: Level::Baseline,
        since,
        replaced,
        run,
    }
}

const fn of_restricted(since: u32, run: Run) -> Check {
    Check {
        level: Level::Restricted,
        since,
        replaced: None,
        run,
    }
}

impl Check {
    fn is_part_of(&self, standard: Standard) -> bool {
        let has_come = |minor: u32| standard.version >= Version::Minor(minor);
        let replaced = standard.level == Level::Restricted && self.replaced.is_some_and(has_come);
        self.level <= standard.level && has_come(self.since) && !replaced
    }
}

/// Everything a Pod, or the template of one, does that `standard` forbids.
#[must_use]
pub fn violations(standard: Standard, pod: &Value) -> Vec<Violation> {
    let checks = CHECKS.iter().filter(|check| check.is_part_of(standard));
    checks
        .filter_map(|check| (check.run)(pod, standard.version))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Pods, each followed by what upstream's evaluator says of it: lines of `LEVEL FIRST-LAST WORDS`, for the minor
    /// versions of the policy from FIRST to LAST; no words where it is allowed. The Pods are those that upstream holds its
    /// own checks to, and some with several faults.
    const FACTS: &[u8] = include_bytes!("upstream-1.36.txt.gz");

    #[test]
    fn every_pod_is_judged_as_upstream_in_upstreams_words() {
        let mut facts = String::new();
        flate2::read::GzDecoder::new(FACTS)
            .read_to_string(&mut facts)
            .expect("text");
        let (mut pod, mut pods, mut judged) = (Value::Null, 0, 0);
        for line in facts.lines() {
            if line.starts_with('{') {
                pod = serde_json::from_str(line).expect("JSON");
                pods += 1;
                continue;
            }
            let [level, range, wanted] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            let (first, last) = range.split_once('-').expect("two ends");
            for minor in [first, last] {
                let standard = format!("{level}:v1.{minor}").parse().expect("a standard");
                assert_eq!(words(standard, &pod), wanted, "{standard}: {pod}");
                judged += 1;
            }
        }
        assert_eq!((pods, judged), (365, 2 * 1_460), "the file is whole");
    }

    fn words(standard: Standard, pod: &Value) -> String {
        super::super::listed(&violations(standard, pod))
    }

    #[test]
    fn the_newest_version_is_the_last_one_known_and_privileged_asks_nothing() {
        let pod = serde_json::json!({ "spec": { "hostPID": true, "hostUsers": false,
            "containers": [{ "name": "a", "securityContext": { "procMount": "Unmasked" } }] } });
        let judge = |standard: &str| words(standard.parse().expect("a standard"), &pod);
        assert_eq!(judge("privileged:latest"), "");
        assert_eq!(judge("baseline:latest"), "host namespaces (hostPID=true)");
        assert_eq!(judge("restricted:latest"), judge("restricted:v1.36"));
        assert_eq!(judge("restricted:v1.99"), judge("restricted:v1.36"));
    }
}
