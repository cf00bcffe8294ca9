//! EndpointSlice: which Pods are behind a Service, in slices of at most a hundred.
//!
//! [`endpoints`] turns Pods into endpoints, [`pack`] puts them into slices and changes as few as it can; this file
//! fetches and applies. A change is written at once, without gathering others first.
//! Source of the rules: the EndpointSlice controller, Kubernetes 1.36.

pub mod endpoints;
mod pack;

use std::sync::Arc;

use corten_api::selector::LabelSelector;
use corten_client::{
    ApiClient, Cache, Change, Controller, EventRecorder, EventType, ObjectExt, ObjectKey, Requeue, Writes,
};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::apply;
use crate::context::{Context, Doing, SyncError};
use endpoints::{Family, families, groups, has_endpoints};
use pack::{MANAGED_BY, MANAGER, SERVICE_NAME, pack};

/// Source: kube-controller-manager `--concurrent-service-endpoint-syncs`.
const WORKERS: usize = 5;
/// Index of our slices, by the key of their Service.
const SERVICE: &str = "service";
const ZONE: &str = "topology.kubernetes.io/zone";
const FAILED_TO_UPDATE: &str = "FailedToUpdateEndpointSlices";

struct Ctx {
    api: ApiClient,
    services: Cache<Service>,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
    slices: Cache<EndpointSlice>,
    recorder: EventRecorder,
}

pub async fn run(context: Context) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        services: context.cache(),
        pods: context.cache(),
        nodes: context.cache(),
        slices: context
            .cache::<EndpointSlice>()
            .with_index(SERVICE, |slice| service_of(slice).into_iter().collect()),
        recorder: context.recorder("endpoint-slice-controller"),
    });
    let services = ctx.services.clone();
    Controller::new("endpointslice")
        .workers(WORKERS)
        .watch(&ctx.services, apply::own_key)
        .watch(&ctx.pods, move |change| services_of(&services, change))
        .watch(&ctx.slices, |change| match change {
            Change::Applied { new, .. } => key_of_service(new),
            Change::Deleted(old) => key_of_service(old),
            Change::Resync => vec![],
        })
        .needs(&ctx.nodes)
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        })
        .await;
}

/// The Services whose endpoints a Pod's change may alter.
pub fn services_of(services: &Cache<Service>, change: &Change<Pod>) -> Vec<ObjectKey> {
    let pods: Vec<&Pod> = match change {
        Change::Applied { old: Some(old), new } if endpoints::looks_the_same(old, new) => return vec![],
        Change::Applied { old, new } => old.as_deref().into_iter().chain([&**new]).collect(),
        Change::Deleted(pod) => vec![pod],
        Change::Resync => return vec![],
    };
    let namespace = pods[0].namespace();
    let services = services.list_namespace(namespace);
    let concerned = services
        .iter()
        .filter(|service| pods.iter().any(|pod| selects(service, pod)));
    concerned.map(|service| service.key()).collect()
}

/// As [`selector`] would, but without building one: every Pod's change asks every Service of its namespace.
fn selects(service: &Service, pod: &Pod) -> bool {
    let wanted = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref())
        .filter(|labels| !labels.is_empty());
    wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| pod.label(key) == Some(value)))
        && has_endpoints(service)
}

/// `None` for a Service whose endpoints someone else keeps.
pub fn selector(service: &Service) -> Option<LabelSelector> {
    let labels = service
        .spec
        .as_ref()?
        .selector
        .as_ref()
        .filter(|labels| !labels.is_empty())?;
    has_endpoints(service).then(|| LabelSelector::from_map(labels))
}

/// The namespaced name of the Service a slice of ours belongs to.
fn service_of(slice: &EndpointSlice) -> Option<String> {
    if slice.label(MANAGED_BY) != Some(MANAGER) {
        return None;
    }
    Some(format!("{}/{}", slice.namespace(), slice.label(SERVICE_NAME)?))
}

fn key_of_service(slice: &EndpointSlice) -> Vec<ObjectKey> {
    let ours = slice.label(MANAGED_BY) == Some(MANAGER);
    let name = slice.label(SERVICE_NAME).filter(|_| ours);
    name.map(|name| ObjectKey::new(slice.namespace(), name))
        .into_iter()
        .collect()
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    // The slices of a deleted Service go by their owner reference.
    let Some(service) = ctx.services.get(key).filter(|service| !service.is_terminating()) else {
        return Ok(None);
    };
    let Some(selector) = selector(&service) else {
        return Ok(None);
    };
    let mut pods = ctx.pods.list_namespace(&key.namespace);
    pods.retain(|pod| selector.matches(&pod.metadata.labels));
    let zone = |node: &str| {
        ctx.nodes
            .get(&ObjectKey::cluster(node))?
            .label(ZONE)
            .map(str::to_owned)
    };
    let existing = ctx.slices.by_index(SERVICE, &key.to_string());
    let families = families(&service);
    for family in [Family::IPv4, Family::IPv6] {
        let of_family = |slice: &&Arc<EndpointSlice>| slice.address_type == family.as_str();
        let existing: Vec<Arc<EndpointSlice>> = existing.iter().filter(of_family).cloned().collect();
        let plan = if families.contains(&family) {
            pack(&service, family, &existing, groups(&service, family, &pods, zone))
        } else {
            pack::Plan {
                delete: existing,
                ..Default::default()
            }
        };
        if let Err(error) = apply(ctx, plan, writes).await {
            let message = format!(
                "Error updating Endpoint Slices for Service {key}: {}",
                corten_client::runner::chain(&error)
            );
            // A slice changed under us is no news; anything else is.
            if !matches!(&error, SyncError::Api { source, .. } if source.is_conflict()) {
                ctx.recorder
                    .event(&*service, EventType::Warning, FAILED_TO_UPDATE, message);
            }
            return Err(error);
        }
    }
    Ok(None)
}

async fn apply(ctx: &Ctx, plan: pack::Plan, writes: &Writes) -> Result<(), SyncError> {
    for slice in plan.create {
        match ctx.api.create(&slice).await {
            Ok(written) => writes.wrote(&ctx.slices, written.revision),
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            Err(source) => {
                return Err(SyncError::Api {
                    doing: "create an EndpointSlice".into(),
                    source,
                });
            }
        }
    }
    for slice in plan.update {
        let written = ctx
            .api
            .replace(&slice)
            .await
            .doing(|| format!("update EndpointSlice {}", slice.key()))?;
        writes.wrote(&ctx.slices, written.revision);
    }
    for slice in plan.delete {
        apply::delete(&ctx.api, &ctx.slices, &slice, None, writes).await?;
    }
    Ok(())
}
