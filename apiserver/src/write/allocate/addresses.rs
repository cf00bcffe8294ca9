//! IPAddress objects: who has which Service address. Pure.
//!
//! One is made and removed in the transaction that gives the address to a Service or takes it back.

use std::net::IpAddr;

use bytes::Bytes;
use corten_api::resource::CreateContext;
use corten_api::{Status, meta, registry};
use corten_store::{Entry, Op, Precondition, Snapshot};
use serde_json::{Value, json};

use super::{IP_ADDRESSES, Records};
use crate::damaged;
use crate::stored::{Stored, TypeMeta};
use crate::write::{Env, Subject};

/// Says that an address was given out by the API server. Source: `networkingv1.LabelManagedBy`.
pub const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
pub const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
pub const MANAGER: &str = "ipallocator.k8s.io";

const META: TypeMeta<'static> = TypeMeta {
    group: "networking.k8s.io",
    version: "v1",
    kind: "IPAddress",
};

#[must_use]
pub fn key(address: IpAddr) -> Bytes {
    IP_ADDRESSES.object(None, &address.to_string())
}

/// # Errors
/// `InternalError` for a stored value that is not ours.
pub fn parse(entry: &Entry) -> Result<Value, Status> {
    Stored::new(&entry.value)
        .and_then(|stored| stored.parse(META, entry.mod_revision.0))
        .map_err(damaged)
}

/// Whether an IPAddress names this Service.
#[must_use]
pub fn belongs_to(address: &Value, service: &Value) -> bool {
    let parent = &address["spec"]["parentRef"];
    let is = |field: &str, wanted: &str| parent[field].as_str().unwrap_or_default() == wanted;
    is("group", "")
        && is("resource", "services")
        && is("namespace", meta::namespace(service))
        && is("name", meta::name(service))
}

/// The bytes of a new IPAddress for a Service.
///
/// # Errors
/// Never for an address; the signature is that of preparation.
pub fn object(address: IpAddr, service: &Value, env: &mut Env) -> Result<Bytes, Status> {
    let ty = registry()
        .lookup(META.group, META.version, "ipaddresses")
        .expect("IPAddresses are built in");
    let mut object = json!({
        "metadata": {
            "name": address.to_string(),
            "labels": {
                FAMILY: if address.is_ipv4() { "IPv4" } else { "IPv6" },
                MANAGED_BY: MANAGER,
            },
        },
        "spec": { "parentRef": {
            "resource": "services",
            "namespace": meta::namespace(service),
            "name": meta::name(service),
        } },
    });
    let uid = env.uid();
    let context = CreateContext {
        namespace: "",
        uid: &uid,
        now: env.now,
        name_suffix: "",
    };
    ty.prepare_create(&mut object, &context)?;
    Ok(Subject { ty, namespace: "" }.encode(&object))
}

/// Gives an address that nobody has to a Service.
///
/// # Errors
/// See [`object`].
pub fn give(records: &mut Records, address: IpAddr, service: &Value, env: &mut Env) -> Result<(), Status> {
    let key = key(address);
    let value = object(address, service, env)?;
    records.preconditions.push(Precondition::Absent(key.clone()));
    records.ops.push(Op::Put { key, value });
    Ok(())
}

/// Takes an address back, if it is still this Service's.
///
/// # Errors
/// `InternalError` for a stored value that is not ours.
pub fn take_back(
    records: &mut Records,
    snapshot: &Snapshot,
    address: IpAddr,
    service: &Value,
) -> Result<(), Status> {
    let key = key(address);
    let Some(entry) = snapshot.get(&key) else {
        return Ok(());
    };
    if belongs_to(&parse(&entry)?, service) {
        records
            .preconditions
            .push(Precondition::ModRevision(key.clone(), entry.mod_revision));
        records.ops.push(Op::Delete { key });
    }
    Ok(())
}
