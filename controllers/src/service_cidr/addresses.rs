//! Service addresses and their IPAddress objects, kept in step while people edit them.
//!
//! The API server writes both in one transaction; only hands from outside can part them. Caches may lag behind each
//! other, so each finding is confirmed by a read before it is acted upon. Source of the rules: the address repair loop of
//! kube-apiserver (`ipallocator/controller`), Kubernetes 1.36.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use corten_client::{
    ApiClient, Cache, Change, Controller, EventRecorder, EventType, KubeKind, ObjectExt, ObjectKey,
    QueueHandle, Requeue, Writes,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IPAddress, IPAddressSpec, ParentReference, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::plan::{MANAGED_BY, MANAGER, nets};
use crate::apply;
use crate::context::{Context, Doing, SyncError};

const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
/// How long an address may exist without its Service.
const LEAK_GRACE: SignedDuration = SignedDuration::from_secs(60);

const CLUSTER_IP_OUT_OF_RANGE: &str = "ClusterIPOutOfRange";
const CLUSTER_IP_NOT_ALLOCATED: &str = "ClusterIPNotAllocated";
const CLUSTER_IP_ALREADY_ALLOCATED: &str = "ClusterIPAlreadyAllocated";
const IP_ADDRESS_NOT_ALLOCATED: &str = "IPAddressNotAllocated";
const IP_ADDRESS_WRONG_REFERENCE: &str = "IPAddressWrongReference";

struct Ctx {
    api: ApiClient,
    services: Cache<Service>,
    addresses: Cache<IPAddress>,
    cidrs: Cache<ServiceCIDR>,
    recorder: EventRecorder,
}

/// What is wrong about one address of a Service.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    Fine,
    OutOfRange,
    /// There is no object.
    Missing,
    /// The object is somebody else's, who does not exist or does not hold the address.
    Astray,
    /// Another Service holds it too.
    Shared,
}

pub async fn run(context: Context) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        services: context.cache(),
        addresses: context.cache(),
        cidrs: context.cache(),
        recorder: context.recorder("ipallocator-repair-controller"),
    });
    let of_services = Controller::new("service-addresses");
    let queue = of_services.handle();
    let of_services = of_services
        .watch(&ctx.services, apply::own_key)
        .watch(&ctx.addresses, move |change| {
            lost(&queue, change);
            vec![]
        })
        .needs(&ctx.cidrs);
    let of_addresses = Controller::new("addresses")
        .watch(&ctx.addresses, apply::own_key)
        .needs(&ctx.services);
    let (for_services, for_addresses) = (ctx.clone(), ctx);
    tokio::join!(
        of_services.run(context.shutdown.clone(), move |key, writes| {
            let ctx = for_services.clone();
            async move { sync_service(&ctx, &key, &writes).await }
        }),
        of_addresses.run(context.shutdown.clone(), move |key, writes| {
            let ctx = for_addresses.clone();
            async move { sync_address(&ctx, &key, &writes).await }
        }),
    );
}

/// A Service whose address was taken away from outside gets it back.
fn lost(queue: &QueueHandle, change: &Change<IPAddress>) {
    if let Change::Deleted(address) = change
        && let Some(parent) = parent(address)
    {
        queue.add(parent);
    }
}

/// The Service an address names.
fn parent(address: &IPAddress) -> Option<ObjectKey> {
    let parent = &address.spec.parent_ref;
    let is_service = parent.group.as_deref().unwrap_or_default().is_empty() && parent.resource == "services";
    is_service.then(|| {
        ObjectKey::new(
            parent.namespace.as_deref().unwrap_or_default(),
            parent.name.as_str(),
        )
    })
}

/// What a Service holds; addresses that are none were refused when it was written.
fn held(service: &Service) -> Vec<IpAddr> {
    let ips = service
        .spec
        .iter()
        .flat_map(|spec| spec.cluster_ips.iter().flatten());
    ips.filter_map(|ip| ip.parse().ok()).collect()
}

async fn sync_service(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(seen) = ctx.services.get(key) else {
        return Ok(None);
    };
    for ip in held(&seen) {
        if look(ctx, &seen, ip, cached(&ctx.addresses, ip).as_deref()) == Finding::Fine {
            continue;
        }
        // Now for certain: the object first, for a Service that holds the address after that held it then.
        let address = ctx
            .api
            .get::<IPAddress>(&ObjectKey::cluster(ip.to_string()))
            .await
            .doing(|| format!("read IPAddress {ip}"))?;
        let service = ctx
            .api
            .get::<Service>(key)
            .await
            .doing(|| format!("read Service {key}"))?;
        let Some(service) = service.filter(|service| held(service).contains(&ip)) else {
            continue;
        };
        let finding = look(ctx, &service, ip, address.as_ref());
        mend(ctx, &service, ip, address.as_ref(), finding, writes).await?;
    }
    Ok(None)
}

fn cached(addresses: &Cache<IPAddress>, ip: IpAddr) -> Option<Arc<IPAddress>> {
    addresses.get(&ObjectKey::cluster(ip.to_string()))
}

fn look(ctx: &Ctx, service: &Service, ip: IpAddr, address: Option<&IPAddress>) -> Finding {
    let in_range = ctx
        .cidrs
        .list()
        .iter()
        .any(|cidr| nets(cidr).any(|net| net.contains(&ip)));
    find(service, ip, in_range, address, |other| ctx.services.get(other))
}

fn find(
    service: &Service,
    ip: IpAddr,
    in_range: bool,
    address: Option<&IPAddress>,
    other: impl Fn(&ObjectKey) -> Option<Arc<Service>>,
) -> Finding {
    if !in_range {
        return Finding::OutOfRange;
    }
    let Some(address) = address else {
        return Finding::Missing;
    };
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let labelled = address.label(MANAGED_BY) == Some(MANAGER) && address.label(FAMILY) == Some(family);
    match parent(address) {
        Some(parent) if parent == service.key() && labelled => Finding::Fine,
        Some(parent) if parent != service.key() => match other(&parent) {
            Some(other) if held(&other).contains(&ip) => Finding::Shared,
            _ => Finding::Astray,
        },
        _ => Finding::Astray,
    }
}

async fn mend(
    ctx: &Ctx,
    service: &Service,
    ip: IpAddr,
    address: Option<&IPAddress>,
    finding: Finding,
    writes: &Writes,
) -> Result<(), SyncError> {
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let (reason, message) = match finding {
        Finding::Fine => return Ok(()),
        Finding::OutOfRange => (
            CLUSTER_IP_OUT_OF_RANGE,
            format!(
                "Cluster IP [{family}]: {ip} is not within any configured Service CIDR; please recreate service"
            ),
        ),
        Finding::Missing => (
            CLUSTER_IP_NOT_ALLOCATED,
            format!("Cluster IP [{family}]: {ip} is not allocated; repairing"),
        ),
        Finding::Astray => (
            CLUSTER_IP_NOT_ALLOCATED,
            format!(
                "the ClusterIP [{family}]: {ip} for Service {} has a wrong reference; repairing",
                service.key()
            ),
        ),
        Finding::Shared => (
            CLUSTER_IP_ALREADY_ALLOCATED,
            format!("Cluster IP [{family}]:{ip} was assigned to multiple services; please recreate service"),
        ),
    };
    ctx.recorder.event(service, EventType::Warning, reason, message);
    if finding == Finding::Astray
        && let Some(address) = address
    {
        apply::delete(&ctx.api, &ctx.addresses, address, None, writes).await?;
    }
    if !matches!(finding, Finding::Missing | Finding::Astray) {
        return Ok(());
    }
    match ctx.api.create(&object(service, ip, family)).await {
        Ok(written) => {
            writes.wrote(&ctx.addresses, written.revision);
            Ok(())
        }
        Err(error) if error.is_already_exists() => Ok(()),
        Err(source) => Err(SyncError::Api {
            doing: format!("make IPAddress {ip} again"),
            source,
        }),
    }
}

fn object(service: &Service, ip: IpAddr, family: &str) -> IPAddress {
    let labels = [(FAMILY, family), (MANAGED_BY, MANAGER)];
    IPAddress {
        metadata: ObjectMeta {
            name: Some(ip.to_string()),
            labels: Some(
                labels
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
            ),
            ..ObjectMeta::default()
        },
        spec: IPAddressSpec {
            parent_ref: ParentReference {
                group: None,
                resource: "services".into(),
                namespace: Some(service.namespace().to_owned()),
                name: service.name().to_owned(),
            },
        },
    }
}

/// Removes an address of ours that no Service holds.
async fn sync_address(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(address) = ctx.addresses.get(key) else {
        return Ok(None);
    };
    if address.label(MANAGED_BY) != Some(MANAGER) || address.is_terminating() {
        return Ok(None);
    }
    let name = address.name();
    let (reason, message) = match parent(&address) {
        None => (
            IP_ADDRESS_NOT_ALLOCATED,
            format!("IPAddress {name} appears to have been modified, not referencing a Service: cleaning up"),
        ),
        Some(parent) => {
            let holds = |service: &Service| held(service).iter().any(|ip| ip.to_string() == name);
            if ctx.services.get(&parent).is_some_and(|service| holds(&service)) {
                return Ok(None);
            }
            let doing = || format!("read Service {parent}");
            match ctx.api.get::<Service>(&parent).await.doing(doing)? {
                Some(service) if holds(&service) => return Ok(None),
                Some(_) => (
                    IP_ADDRESS_WRONG_REFERENCE,
                    format!("IPAddress: {name} for Service {parent} has a wrong reference; cleaning up"),
                ),
                None => {
                    if let Some(wait) = young(&*address, Timestamp::now()) {
                        return Ok(Some(wait));
                    }
                    (
                        IP_ADDRESS_NOT_ALLOCATED,
                        format!("IPAddress: {name} for Service {parent} appears to have leaked: cleaning up"),
                    )
                }
            }
        }
    };
    ctx.recorder.event(&*address, EventType::Warning, reason, message);
    apply::delete(&ctx.api, &ctx.addresses, &*address, None, writes).await?;
    Ok(None)
}

/// How long an object has to wait until its age counts against it; `None` if it is old enough.
fn young<K: KubeKind>(object: &K, now: Timestamp) -> Option<Duration> {
    let made = object.meta().creation_timestamp.as_ref()?.0;
    let left = LEAK_GRACE.checked_sub(now.duration_since(made))?;
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(name: &str, ip: &str) -> Service {
        serde_json::from_value(
            json!({ "metadata": { "namespace": "d", "name": name }, "spec": { "clusterIPs": [ip] } }),
        )
        .expect("Service")
    }

    #[track_caller]
    fn check(address: Option<IPAddress>, in_range: bool, other: Option<Service>, want: Finding) {
        let ip = "10.0.0.1".parse().expect("an address");
        let got = find(&service("s", "10.0.0.1"), ip, in_range, address.as_ref(), |_| {
            other.clone().map(Arc::new)
        });
        assert_eq!(got, want);
    }

    #[test]
    fn what_can_be_wrong() {
        let ip = "10.0.0.1".parse().expect("an address");
        let own = object(&service("s", "10.0.0.1"), ip, "IPv4");
        let others = object(&service("t", "10.0.0.1"), ip, "IPv4");
        check(Some(own.clone()), true, None, Finding::Fine);
        check(Some(own.clone()), false, None, Finding::OutOfRange);
        check(None, true, None, Finding::Missing);
        check(Some(others.clone()), true, None, Finding::Astray);
        check(
            Some(others.clone()),
            true,
            Some(service("t", "10.0.0.2")),
            Finding::Astray,
        );
        check(
            Some(others),
            true,
            Some(service("t", "10.0.0.1")),
            Finding::Shared,
        );
        let mut bare = own.clone();
        bare.metadata.labels = None;
        check(Some(bare), true, None, Finding::Astray);
        let mut astray = own;
        astray.spec.parent_ref.resource = "gateways".into();
        check(Some(astray), true, None, Finding::Astray);
    }
}
