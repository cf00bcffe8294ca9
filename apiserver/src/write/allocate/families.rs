//! Which address families a Service has in a cluster of the IPv4 family. Pure.
//!
//! Source: `initIPFamilyFields` of Kubernetes' `registry/core/service/storage/alloc.go`.

use corten_api::field::FieldErrors;
use serde_json::{Value, json};

use super::text;

/// Checks the families against the cluster's. The kind's own defaults are in place.
pub fn settle(spec: &mut Value, old: Option<&Value>, errors: &mut FieldErrors) {
    if text(spec, "type") == "ExternalName" {
        return;
    }
    let policy = text(spec, "ipFamilyPolicy").to_owned();
    let single = policy == "SingleStack";
    if let Some(old) = old {
        if single {
            // The primary address and family cannot change, so keeping the first is all the policy can mean.
            for field in ["clusterIPs", "ipFamilies"] {
                if old[field] == spec[field]
                    && let Some(list) = spec[field].as_array_mut()
                {
                    list.truncate(1);
                }
            }
        } else {
            for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
                if count(old, field) == 2 && count(spec, field) == 1 && old[field][0] == spec[field][0] {
                    let why = format!("must be 'SingleStack' to release the secondary {what}");
                    errors.invalid("spec.ipFamilyPolicy", policy.as_str(), &why);
                }
            }
        }
    }
    if single {
        for (field, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
            if count(spec, field) == 2 {
                let why = format!(
                    "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                );
                errors.invalid("spec.ipFamilyPolicy", policy.as_str(), &why);
            }
        }
    }
    let addresses = spec["clusterIPs"].as_array().into_iter().flatten();
    for (idx, _) in addresses
        .enumerate()
        .filter(|(_, ip)| ip.as_str().is_some_and(|ip| ip.contains(':')))
    {
        let why = "IPv6 is not configured on this cluster";
        errors.invalid(format!("spec.clusterIPs[{idx}]"), spec["clusterIPs"].clone(), why);
    }
    let selects = spec["selector"]
        .as_object()
        .is_some_and(|labels| !labels.is_empty());
    if !errors.is_empty() || (text(spec, "clusterIP") == "None" && !selects) {
        return; // endpoints of a headless Service without selector may be of any family
    }
    if policy == "RequireDualStack" {
        let why = "this cluster is not configured for dual-stack services";
        errors.invalid("spec.ipFamilyPolicy", policy.as_str(), why);
    }
    let families = spec["ipFamilies"].as_array().into_iter().flatten();
    for (idx, family) in families.enumerate().filter(|(_, family)| *family == "IPv6") {
        let why = "not configured on this cluster";
        errors.invalid(format!("spec.ipFamilies[{idx}]"), family.clone(), why);
    }
    if count(spec, "ipFamilies") == 0 {
        spec["ipFamilies"] = json!(["IPv4"]);
    }
}

fn count(spec: &Value, field: &str) -> usize {
    spec[field].as_array().map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(spec: Value, old: Option<Value>, want: &str) {
        let (mut spec, mut errors) = (spec, FieldErrors::default());
        settle(&mut spec, old.as_ref(), &mut errors);
        assert_eq!(errors.aggregate(), want);
    }

    #[test]
    fn a_cluster_of_one_family() {
        check(
            json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]}),
            None,
            "",
        );
        check(
            json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4"]}),
            None,
            "",
        );
        check(json!({"type": "ExternalName"}), None, "");
        check(
            json!({"clusterIP": "None", "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}),
            None,
            "",
        );
        check(
            json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4"]}),
            None,
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        );
        check(
            json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]}),
            None,
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        );
        check(
            json!({"ipFamilyPolicy": "SingleStack", "clusterIP": "fd00::1", "clusterIPs": ["fd00::1"], "ipFamilies": ["IPv6"]}),
            None,
            "spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster",
        );
        check(
            json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]}),
            None,
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
        );
    }

    #[test]
    fn a_secondary_family_goes_with_the_policy() {
        let old = || Some(json!({"clusterIP": "None", "ipFamilies": ["IPv4", "IPv6"]}));
        check(
            json!({"clusterIP": "None", "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]}),
            old(),
            "",
        );
        check(
            json!({"clusterIP": "None", "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4"]}),
            old(),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary IP family",
        );
    }
}
