//! Endpoints into slices: at most a hundred each, and as few slices written as possible.
//!
//! Pure.

#![deny(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_client::ObjectExt;
use corten_client::object::controller_reference;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::endpoints::{Family, Group, PortKey, is_headless, port_keys};

/// Source: kube-controller-manager `--max-endpoints-per-slice`.
pub const MAX_ENDPOINTS: usize = 100;

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
pub const HEADLESS: &str = "service.kubernetes.io/headless";

#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    pub delete: Vec<Arc<EndpointSlice>>,
}

/// A slice on its way to what it should be.
struct Draft {
    /// `None` for a slice that does not exist yet.
    old: Option<Arc<EndpointSlice>>,
    endpoints: Vec<Endpoint>,
    ports: Vec<EndpointPort>,
}

/// What to write so that the slices hold exactly `groups`. A Service always keeps one slice, empty if need be.
pub fn pack(service: &Service, family: Family, existing: &[Arc<EndpointSlice>], groups: Vec<Group>) -> Plan {
    let mut by_ports: BTreeMap<Vec<PortKey>, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in existing {
        let ports = port_keys(slice.ports.as_deref().unwrap_or_default());
        by_ports.entry(ports).or_default().push(slice.clone());
    }
    let mut drafts = Vec::new();
    for group in groups {
        let old = by_ports.remove(&port_keys(&group.ports)).unwrap_or_default();
        drafts.extend(fill(old, group));
    }
    // Ports nobody serves any more.
    let mut unused: Vec<Arc<EndpointSlice>> = by_ports.into_values().flatten().collect();
    let (empty, mut used): (Vec<Draft>, Vec<Draft>) =
        drafts.into_iter().partition(|draft| draft.endpoints.is_empty());
    unused.extend(empty.into_iter().filter_map(|draft| draft.old));
    if used.is_empty() {
        let old = unused.pop();
        used.push(Draft {
            old,
            endpoints: Vec::new(),
            ports: Vec::new(),
        });
    }
    let mut plan = Plan {
        delete: unused,
        ..Plan::default()
    };
    for draft in used {
        let slice = finished(service, family, &draft);
        match &draft.old {
            None => plan.create.push(slice),
            Some(old) if !same(old, &slice) => plan.update.push(slice),
            Some(_) => {}
        }
    }
    plan
}

/// Keeps each endpoint where it is; new ones go first to slices that change anyway, then to any with room.
fn fill(old: Vec<Arc<EndpointSlice>>, group: Group) -> Vec<Draft> {
    let mut wanted: BTreeMap<String, Endpoint> = BTreeMap::new();
    for endpoint in group.endpoints {
        wanted.insert(identity(&endpoint), endpoint);
    }
    let mut drafts: Vec<(bool, Draft)> = Vec::new();
    for slice in old {
        let mut changed = false;
        let mut endpoints = Vec::new();
        for present in slice.endpoints.iter().flatten() {
            match wanted.remove(&identity(present)) {
                Some(endpoint) => {
                    changed |= endpoint != *present;
                    endpoints.push(endpoint);
                }
                None => changed = true,
            }
        }
        // A slice written by someone with another bound gives the rest away.
        while endpoints.len() > MAX_ENDPOINTS {
            changed = true;
            if let Some(endpoint) = endpoints.pop() {
                wanted.insert(identity(&endpoint), endpoint);
            }
        }
        drafts.push((
            changed,
            Draft {
                old: Some(slice),
                endpoints,
                ports: group.ports.clone(),
            },
        ));
    }
    let mut new: Vec<Endpoint> = wanted.into_values().collect();
    for only_changed in [true, false] {
        for (changed, draft) in &mut drafts {
            let room = MAX_ENDPOINTS - draft.endpoints.len();
            if (*changed || !only_changed) && room > 0 && !new.is_empty() {
                *changed = true;
                draft.endpoints.extend(new.drain(..room.min(new.len())));
            }
        }
    }
    let mut drafts: Vec<Draft> = drafts.into_iter().map(|(_, draft)| draft).collect();
    while !new.is_empty() {
        let endpoints = new.drain(..MAX_ENDPOINTS.min(new.len())).collect();
        drafts.push(Draft {
            old: None,
            endpoints,
            ports: group.ports.clone(),
        });
    }
    drafts
}

/// The Pod; for endpoints of other origin, the addresses.
fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    uid.unwrap_or_else(|| endpoint.addresses.join(","))
}

fn finished(service: &Service, family: Family, draft: &Draft) -> EndpointSlice {
    let mut metadata = match &draft.old {
        Some(old) => old.metadata.clone(),
        None => ObjectMeta {
            generate_name: Some(format!("{}-", service.name())),
            namespace: service.metadata.namespace.clone(),
            ..Default::default()
        },
    };
    metadata.labels = Some(labels(service));
    let ours = controller_reference(service);
    if !metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.uid == ours.uid)
    {
        metadata.owner_references = Some(vec![ours]);
    }
    EndpointSlice {
        metadata,
        address_type: family.as_str().to_owned(),
        endpoints: Some(draft.endpoints.clone()),
        ports: Some(draft.ports.clone()),
    }
}

/// The Service's labels, and ours.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(SERVICE_NAME.to_owned(), service.name().to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

/// Absent and empty lists are the same.
fn same(old: &EndpointSlice, new: &EndpointSlice) -> bool {
    old.endpoints.as_deref().unwrap_or_default() == new.endpoints.as_deref().unwrap_or_default()
        && port_keys(old.ports.as_deref().unwrap_or_default())
            == port_keys(new.ports.as_deref().unwrap_or_default())
        && old.metadata.labels == new.metadata.labels
        && old.metadata.owner_references == new.metadata.owner_references
}

#[cfg(test)]
mod tests {
    use super::super::endpoints::groups;
    use super::super::endpoints::tests::{pod, pods, service};
    use super::*;

    /// Packs `before`, then `after` onto it; the second plan reads `+created ~updated -deleted` as endpoint counts.
    #[track_caller]
    fn check(before: &str, after: &str, wanted: &str) {
        let service = service("80:http");
        let groups_of = |text: &str| groups(&service, Family::IPv4, &pods(text), |_| None);
        let first = pack(&service, Family::IPv4, &[], groups_of(before));
        let existing: Vec<Arc<EndpointSlice>> = first.create.into_iter().map(Arc::new).collect();
        let again = pack(&service, Family::IPv4, &existing, groups_of(before));
        assert_eq!(
            again,
            Plan::default(),
            "a second sync with nothing changed does nothing"
        );
        let plan = pack(&service, Family::IPv4, &existing, groups_of(after));
        let count = |slice: &EndpointSlice| slice.endpoints.as_ref().map_or(0, Vec::len);
        let mut words: Vec<String> = plan
            .create
            .iter()
            .map(|slice| format!("+{}", count(slice)))
            .collect();
        words.extend(plan.update.iter().map(|slice| format!("~{}", count(slice))));
        words.extend(plan.delete.iter().map(|slice| format!("-{}", count(slice))));
        assert_eq!(words.join(" "), wanted);
    }

    fn many(count: usize) -> String {
        (0..count)
            .map(|at| format!("pod-{at}@10.1.{}.{}", at / 250, at % 250))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_service_without_pods_keeps_one_empty_slice() {
        check("", "", "");
        check("", "a", "+1 -0");
        check("a", "", "~0");
    }

    #[test]
    fn changes_touch_only_their_slice() {
        check("a b", "a b!", "~2");
        check("a b", "a", "~1");
        check(&many(150), &many(151), "~51");
        check(&many(150), &many(149), "~99");
        check(&many(100), &many(101), "+1");
    }

    #[test]
    fn other_ports_are_other_slices() {
        check("a", "a b/9090", "+1");
        check("a b/9090", "a", "-1");
    }

    #[test]
    fn slices_carry_the_service_and_its_labels() {
        let headless = service("80:http-");
        let slice = &pack(&headless, Family::IPv4, &[], Vec::new()).create[0];
        let labels = slice.metadata.labels.as_ref().expect("labels");
        let keys: Vec<&str> = labels.keys().map(String::as_str).collect();
        assert_eq!(keys, [MANAGED_BY, SERVICE_NAME, HEADLESS, "team"]);
        assert_eq!(slice.metadata.generate_name.as_deref(), Some("web-"));
        assert_eq!(slice.controller().map(|owner| owner.uid.as_str()), Some("s"));
        assert_eq!(pod("x").uid(), "x");
    }
}
