//! Endpoints: the older form of what is behind a Service, kept for clients that still read it.
//!
//! [`subsets`] decides; this file fetches and applies. Source of the rules: the Endpoints controller, Kubernetes 1.36.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use corten_api::pod::is_ready;
use corten_client::{ApiClient, Cache, Controller, ObjectExt, ObjectKey, Requeue, Writes};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::apply;
use crate::context::{Context, Doing, SyncError};
use crate::endpoint_slice::endpoints::{
    PortKey, addresses, families, hostname, is_endpoint, is_headless, port_keys, ports, publishes_not_ready,
    target,
};
use crate::endpoint_slice::{selector, services_of};
use crate::pod::node_name;

const WORKERS: usize = 5;
/// Addresses in one Endpoints object; more are left out and the annotation says so.
/// Source: the Endpoints controller's `maxCapacity`.
const MAX_ADDRESSES: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const HEADLESS: &str = "service.kubernetes.io/headless";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";

struct Ctx {
    api: ApiClient,
    services: Cache<Service>,
    pods: Cache<Pod>,
    endpoints: Cache<Endpoints>,
}

pub async fn run(context: Context) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        services: context.cache(),
        pods: context.cache(),
        endpoints: context.cache(),
    });
    let services = ctx.services.clone();
    Controller::new("endpoints")
        .workers(WORKERS)
        .watch(&ctx.services, apply::own_key)
        .watch(&ctx.pods, move |change| services_of(&services, change))
        .watch(&ctx.endpoints, apply::own_key)
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        })
        .await;
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let existing = ctx.endpoints.get(key);
    let Some(service) = ctx.services.get(key).filter(|service| !service.is_terminating()) else {
        return remove(ctx, existing, writes).await;
    };
    let Some(selector) = selector(&service) else {
        return Ok(None);
    };
    let mut pods = ctx.pods.list_namespace(&key.namespace);
    pods.retain(|pod| selector.matches(&pod.metadata.labels));
    let wanted = endpoints(&service, existing.as_deref(), &pods);
    let written = match &existing {
        None => match ctx.api.create(&wanted).await {
            Err(error) if error.is_namespace_terminating() => return Ok(None),
            result => result.doing(|| format!("create Endpoints {key}"))?,
        },
        Some(existing) if same(existing, &wanted) => return Ok(None),
        Some(_) => ctx
            .api
            .replace(&wanted)
            .await
            .doing(|| format!("update Endpoints {key}"))?,
    };
    writes.wrote(&ctx.endpoints, written.revision);
    Ok(None)
}

/// Endpoints without a Service are ours to delete only if we made them.
async fn remove(ctx: &Ctx, existing: Option<Arc<Endpoints>>, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(existing) = existing.filter(|existing| existing.label(MANAGED_BY) == Some(MANAGER)) else {
        return Ok(None);
    };
    apply::delete(&ctx.api, &ctx.endpoints, &existing, None, writes).await?;
    Ok(None)
}

fn endpoints(service: &Service, existing: Option<&Endpoints>, pods: &[Arc<Pod>]) -> Endpoints {
    let mut metadata = existing
        .map(|existing| existing.metadata.clone())
        .unwrap_or_else(|| ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..Default::default()
        });
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    metadata.labels = Some(labels);
    let (subsets, truncated) = subsets(service, pods);
    if truncated {
        metadata
            .annotations
            .get_or_insert_default()
            .insert(OVER_CAPACITY.into(), "truncated".into());
    } else if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(OVER_CAPACITY);
    }
    Endpoints {
        metadata,
        subsets: (!subsets.is_empty()).then_some(subsets),
    }
}

/// Addresses that serve the same ports.
#[derive(Default)]
struct Addresses {
    ports: Vec<EndpointPort>,
    ready: Vec<EndpointAddress>,
    not_ready: Vec<EndpointAddress>,
}

/// Addresses by the ports they serve. The flag says whether some were left out.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let family = families(service)[0];
    let tolerates = publishes_not_ready(service);
    let mut groups: BTreeMap<Vec<PortKey>, Addresses> = BTreeMap::new();
    let eligible = pods
        .iter()
        .filter(|pod| is_endpoint(pod) && (tolerates || !pod.is_terminating()));
    let mut count = 0;
    let mut truncated = false;
    for pod in eligible {
        let Some(ip) = addresses(pod, family).into_iter().next() else {
            continue;
        };
        let ports = ports(service, pod);
        if ports.is_empty() && !is_headless(service) {
            continue;
        }
        if count == MAX_ADDRESSES {
            truncated = true;
            break;
        }
        count += 1;
        let keys = port_keys(&ports);
        let group = groups.entry(keys).or_insert_with(|| Addresses {
            ports: legacy(ports),
            ..Default::default()
        });
        let address = EndpointAddress {
            ip,
            hostname: hostname(service, pod),
            node_name: Some(node_name(pod).to_owned()).filter(|name| !name.is_empty()),
            target_ref: Some(target(pod)),
        };
        if tolerates || is_ready(pod) {
            group.ready.push(address)
        } else {
            group.not_ready.push(address)
        }
    }
    let list = |mut addresses: Vec<EndpointAddress>| {
        addresses.sort_by_key(|address| address.ip.parse::<IpAddr>().ok());
        (!addresses.is_empty()).then_some(addresses)
    };
    let subsets = groups.into_values().map(
        |Addresses {
             ports,
             ready,
             not_ready,
         }| EndpointSubset {
            addresses: list(ready),
            not_ready_addresses: list(not_ready),
            ports: (!ports.is_empty()).then_some(ports),
        },
    );
    (subsets.collect(), truncated)
}

fn legacy(ports: Vec<k8s_openapi::api::discovery::v1::EndpointPort>) -> Vec<EndpointPort> {
    let legacy = ports.into_iter().map(|port| EndpointPort {
        name: port.name.filter(|name| !name.is_empty()),
        port: port.port.unwrap_or(0),
        protocol: port.protocol,
        app_protocol: port.app_protocol,
    });
    legacy.collect()
}

/// Absent and empty are the same.
fn same(old: &Endpoints, new: &Endpoints) -> bool {
    let annotations = |endpoints: &Endpoints| endpoints.metadata.annotations.clone().unwrap_or_default();
    old.subsets.as_deref().unwrap_or_default() == new.subsets.as_deref().unwrap_or_default()
        && old.metadata.labels == new.metadata.labels
        && annotations(old) == annotations(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint_slice::endpoints::tests::{pods, service};

    /// Subsets read `ports=ready/not ready`.
    #[track_caller]
    fn check(service_text: &str, pods_text: &str, wanted: &str) {
        let service = service(service_text);
        let made = endpoints(&service, None, &pods(pods_text));
        let again = endpoints(&service, Some(&made), &pods(pods_text));
        assert!(
            same(&made, &again),
            "a second sync with nothing changed does nothing"
        );
        let names = |addresses: &Option<Vec<EndpointAddress>>| {
            let names = addresses.iter().flatten().map(|address| {
                address
                    .target_ref
                    .as_ref()
                    .and_then(|target| target.name.clone())
                    .expect("a name")
            });
            names.collect::<Vec<_>>().join("+")
        };
        let text: Vec<String> = made
            .subsets
            .iter()
            .flatten()
            .map(|subset| {
                let ports: Vec<String> = subset
                    .ports
                    .iter()
                    .flatten()
                    .map(|port| port.port.to_string())
                    .collect();
                format!(
                    "{}={}/{}",
                    ports.join(","),
                    names(&subset.addresses),
                    names(&subset.not_ready_addresses)
                )
            })
            .collect();
        assert_eq!(text.join(" "), wanted);
    }

    #[test]
    fn ready_pods_are_addresses_and_others_are_not_ready() {
        check("80:8080", "a@10.0.0.2 b@10.0.0.1 c! d~ e.", "8080=b+a/c");
        check("80:8080", "", "");
    }

    #[test]
    fn published_not_ready_addresses_include_the_dying() {
        check("80:8080!", "a@10.0.0.1 b@10.0.0.2! c@10.0.0.3~", "8080=a+b+c/");
    }

    #[test]
    fn named_ports_split_subsets_and_headless_needs_none() {
        check("80:http", "a b/9090", "8080=a/ 9090=b/");
        check("-", "a", "=a/");
        check("80:grpc", "a", "");
    }
}
