//! What a ServiceCIDR says about itself, and when it may go. Pure.

#![deny(clippy::disallowed_methods)]

use std::net::IpAddr;

use corten_client::ObjectExt;
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};

pub const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
pub const READY: &str = "Ready";
const TERMINATING: &str = "Terminating";
const IS_READY: &str = "Kubernetes Service CIDR is ready";
const IS_NEEDED: &str =
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
/// Addresses the API server gave to Services; others do not keep a range.
pub const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
pub const MANAGER: &str = "ipallocator.k8s.io";

#[derive(Debug, PartialEq, Eq)]
pub struct Ready {
    pub is_ready: bool,
    pub reason: &'static str,
    pub message: &'static str,
}

/// What one sync will write.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// The finalizer is to be added (`true`) or removed.
    pub finalizer: Option<bool>,
    pub ready: Option<Ready>,
}

/// For a range that stays.
pub fn staying(cidr: &ServiceCIDR) -> Plan {
    let ready = Ready {
        is_ready: true,
        reason: "",
        message: IS_READY,
    };
    Plan {
        finalizer: (!is_kept(cidr)).then_some(true),
        ready: news(cidr, ready),
    }
}

/// For a range that is being deleted: it goes once every address in it lies in another range that stays.
pub fn leaving(cidr: &ServiceCIDR, all: &[ServiceCIDR], addresses: &[IPAddress]) -> Plan {
    if !is_kept(cidr) {
        return Plan {
            finalizer: None,
            ready: None,
        };
    }
    let others: Vec<IpNet> = all
        .iter()
        .filter(|other| other.uid() != cidr.uid() && !other.is_terminating())
        .flat_map(nets)
        .collect();
    let own: Vec<IpNet> = nets(cidr).collect();
    let covered = own
        .iter()
        .all(|net| others.iter().any(|other| other.contains(net)));
    let given = addresses
        .iter()
        .filter(|address| address.label(MANAGED_BY) == Some(MANAGER));
    let mut given = given.filter_map(|address| address.name().parse::<IpAddr>().ok());
    let depends = given.any(|address| lies_in(&own, address) && !lies_in(&others, address));
    if covered || !depends {
        return Plan {
            finalizer: Some(false),
            ready: None,
        };
    }
    let ready = Ready {
        is_ready: false,
        reason: TERMINATING,
        message: IS_NEEDED,
    };
    Plan {
        finalizer: None,
        ready: news(cidr, ready),
    }
}

pub fn nets(cidr: &ServiceCIDR) -> impl Iterator<Item = IpNet> {
    let cidrs = cidr.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    cidrs.filter_map(|cidr| cidr.parse().ok())
}

fn lies_in(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}

fn is_kept(cidr: &ServiceCIDR) -> bool {
    let finalizers = cidr.metadata.finalizers.iter().flatten();
    finalizers.into_iter().any(|finalizer| finalizer == FINALIZER)
}

/// `ready`, unless the range says so already.
fn news(cidr: &ServiceCIDR, ready: Ready) -> Option<Ready> {
    let conditions = cidr
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let told = conditions.into_iter().any(|c| {
        c.type_ == READY
            && (c.status == "True") == ready.is_ready
            && c.reason == ready.reason
            && c.message == ready.message
    });
    (!told).then_some(ready)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `NAME NET[,NET]`; `!` before the name: being deleted.
    fn cidr(text: &str) -> ServiceCIDR {
        let (name, cidrs) = text.split_once(' ').expect("a name and ranges");
        let mut object = json!({
            "metadata": { "name": name, "uid": name.trim_start_matches('!'), "finalizers": [FINALIZER] },
            "spec": { "cidrs": cidrs.split(',').collect::<Vec<_>>() },
        });
        if name.starts_with('!') {
            object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        serde_json::from_value(object).expect("ServiceCIDR")
    }

    fn address(text: &str) -> IPAddress {
        let (name, manager) = text
            .strip_suffix('?')
            .map_or((text, MANAGER), |name| (name, "me"));
        serde_json::from_value(
            json!({ "metadata": { "name": name, "labels": { MANAGED_BY: manager } },
            "spec": { "parentRef": { "resource": "services", "name": "s" } } }),
        )
        .expect("IPAddress")
    }

    /// `addresses`: `?` marks one that somebody else manages.
    #[track_caller]
    fn check(leaves: &str, others: &[&str], addresses: &str, goes: bool) {
        let leaves = cidr(leaves);
        let mut all: Vec<ServiceCIDR> = others.iter().map(|text| cidr(text)).collect();
        all.push(leaves.clone());
        let addresses: Vec<IPAddress> = addresses.split_whitespace().map(address).collect();
        let plan = leaving(&leaves, &all, &addresses);
        assert_eq!(plan.finalizer, goes.then_some(false));
        assert_eq!(
            plan.ready.map(|ready| ready.reason),
            (!goes).then_some(TERMINATING)
        );
    }

    #[test]
    fn a_range_goes_when_nothing_depends_on_it() {
        check("!a 10.0.0.0/24", &[], "", true);
        check("!a 10.0.0.0/24", &[], "10.0.0.7", false);
        check("!a 10.0.0.0/24", &[], "10.0.0.7? 10.0.1.7", true);
        check("!a 10.0.0.0/24", &["b 10.0.0.0/16"], "10.0.0.7", true);
        check("!a 10.0.0.0/24", &["b 10.0.0.0/25"], "10.0.0.7", true);
        check("!a 10.0.0.0/24", &["b 10.0.0.0/25"], "10.0.0.200", false);
        check("!a 10.0.0.0/24", &["!b 10.0.0.0/16"], "10.0.0.7", false);
        check(
            "!a 10.0.0.0/24,fd00::/112",
            &["b 10.0.0.0/16"],
            "10.0.0.7 fd00::5",
            false,
        );
        check("!a 10.0.0.0/24,fd00::/112", &["b 10.0.0.0/16"], "10.0.0.7", true);
    }

    #[test]
    fn a_range_that_stays_is_ready_and_kept() {
        let mut range = cidr("a 10.0.0.0/24");
        range.metadata.finalizers = None;
        let plan = staying(&range);
        assert_eq!(plan.finalizer, Some(true));
        assert!(
            plan.ready
                .is_some_and(|ready| ready.is_ready && ready.message == IS_READY)
        );
        range.metadata.finalizers = Some(vec![FINALIZER.into()]);
        range.status = serde_json::from_value(
            json!({ "conditions": [{ "type": READY, "status": "True", "reason": "",
            "message": IS_READY, "lastTransitionTime": "2026-01-01T00:00:00Z" }] }),
        )
        .expect("status");
        let quiet = Plan {
            finalizer: None,
            ready: None,
        };
        assert_eq!(staying(&range), quiet, "a second look changes nothing");
    }
}
