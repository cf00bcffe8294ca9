//! Service addresses and node ports: chosen and recorded in the transaction that writes the Service. Pure.
//!
//! Each taken address has an IPAddress object, each port a record. A write asserts that they are absent, so two servers
//! can never give out the same one; deleting the Service deletes them in the same transaction. Source: Kubernetes
//! `registry/core/service/storage/alloc.go`, for a cluster of the IPv4 family.

pub mod addresses;
mod families;
mod ports;
mod ranges;
pub mod repair;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use corten_api::field::FieldErrors;
use corten_api::status::Qualified;
use corten_api::{Status, meta};
use corten_store::{Op, Precondition, Snapshot};
use serde_json::{Value, json};

use super::Env;
use crate::key::Keys;
use crate::{Config, key};

pub const SERVICE_CIDRS: Keys<'static> = Keys {
    group: "networking.k8s.io",
    resource: "servicecidrs",
    namespaced: false,
};
pub const IP_ADDRESSES: Keys<'static> = Keys {
    group: "networking.k8s.io",
    resource: "ipaddresses",
    namespaced: false,
};

/// Writes that go along with a Service's.
#[derive(Default)]
pub struct Records {
    pub preconditions: Vec<Precondition>,
    pub ops: Vec<Op>,
}

/// What a Service holds.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Held {
    pub addresses: BTreeSet<IpAddr>,
    pub ports: BTreeSet<u16>,
}

fn text<'a>(spec: &'a Value, field: &str) -> &'a str {
    spec[field].as_str().unwrap_or_default()
}

fn needs_address(spec: &Value) -> bool {
    text(spec, "type") != "ExternalName" && text(spec, "clusterIP") != "None"
}

fn has_ports(spec: &Value) -> bool {
    matches!(text(spec, "type"), "NodePort" | "LoadBalancer")
}

/// Whether ports that ask for no node port get one.
fn needs_ports(spec: &Value) -> bool {
    text(spec, "type") == "NodePort" || spec["allocateLoadBalancerNodePorts"] != false
}

fn needs_health_port(spec: &Value) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

/// What a stored Service holds.
#[must_use]
pub fn held(service: &Value) -> Held {
    let spec = &service["spec"];
    let list = spec["clusterIPs"].as_array().into_iter().flatten();
    let addresses = list.chain([&spec["clusterIP"]]).filter_map(Value::as_str);
    let ports = spec["ports"].as_array().into_iter().flatten();
    let ports = ports
        .map(|port| &port["nodePort"])
        .chain([&spec["healthCheckNodePort"]]);
    let ports = ports.filter_map(Value::as_u64).filter(|port| *port > 0);
    Held {
        addresses: addresses.filter_map(|ip| ip.parse().ok()).collect(),
        ports: ports.filter_map(|port| u16::try_from(port).ok()).collect(),
    }
}

/// The writes that give back everything a Service holds.
///
/// # Errors
/// `InternalError` for a stored value that is not ours.
pub fn release(snapshot: &Snapshot, service: &Value) -> Result<Records, Status> {
    let mut records = Records::default();
    let held = held(service);
    for address in held.addresses {
        addresses::take_back(&mut records, snapshot, address, service)?;
    }
    let ports = held.ports.into_iter().map(key::node_port);
    records.ops.extend(ports.map(|key| Op::Delete { key }));
    Ok(records)
}

/// # Errors
/// `Invalid` with upstream's texts for what was asked for and is not free; `InternalError` for a full range.
pub fn create(
    config: &Config,
    snapshot: &Snapshot,
    service: &mut Value,
    env: &mut Env,
) -> Result<Records, Status> {
    settle(config, snapshot, service, None, env)
}

/// # Errors
/// See [`create`].
pub fn update(
    config: &Config,
    snapshot: &Snapshot,
    new: &mut Value,
    old: &Value,
    env: &mut Env,
) -> Result<Records, Status> {
    settle(config, snapshot, new, Some(old), env)
}

fn settle(
    config: &Config,
    snapshot: &Snapshot,
    service: &mut Value,
    old: Option<&Value>,
    env: &mut Env,
) -> Result<Records, Status> {
    let before = old.map(held).unwrap_or_default();
    let name = meta::name(service).to_owned();
    let refuse = |errors: &FieldErrors| Status::invalid(Qualified::new("", "Service"), &name, errors);
    let Some(spec) = service.get_mut("spec").filter(|spec| spec.is_object()) else {
        return Ok(Records::default());
    };
    let mut errors = FieldErrors::default();
    families::settle(spec, old.map(|old| &old["spec"]), &mut errors);
    if !errors.is_empty() {
        return Err(refuse(&errors));
    }
    let mut records = Records::default();
    if needs_address(spec) {
        settle_address(snapshot, spec, &before, env, &mut records, &mut errors)?;
    }
    let mut ports = ports::Ports {
        config,
        snapshot,
        before: &before.ports,
        given: BTreeSet::new(),
    };
    if has_ports(spec) {
        let all = needs_ports(spec);
        ports.settle(spec, all, env, &mut errors)?;
    }
    if !errors.is_empty() {
        return Err(refuse(&errors));
    }
    if needs_health_port(spec) {
        ports.settle_health(spec, env)?;
    }
    record(&mut records, snapshot, &before, service, env)?;
    Ok(records)
}

/// Records what the Service gained, and gives back what it lost.
fn record(
    records: &mut Records,
    snapshot: &Snapshot,
    before: &Held,
    service: &Value,
    env: &mut Env,
) -> Result<(), Status> {
    let after = held(service);
    for address in after.addresses.difference(&before.addresses) {
        addresses::give(records, *address, service, env)?;
    }
    for address in before.addresses.difference(&after.addresses) {
        addresses::take_back(records, snapshot, *address, service)?;
    }
    for key in after.ports.difference(&before.ports).copied().map(key::node_port) {
        records.preconditions.push(Precondition::Absent(key.clone()));
        records.ops.push(Op::Put {
            key,
            value: Bytes::new(),
        });
    }
    let lost = before.ports.difference(&after.ports).copied();
    records
        .ops
        .extend(lost.map(key::node_port).map(|key| Op::Delete { key }));
    Ok(())
}

fn settle_address(
    snapshot: &Snapshot,
    spec: &mut Value,
    before: &Held,
    env: &mut Env,
    records: &mut Records,
    errors: &mut FieldErrors,
) -> Result<(), Status> {
    let first = spec["clusterIPs"][0].as_str().unwrap_or_default();
    let asked = match text(spec, "clusterIP") {
        "" => first.to_owned(),
        asked => asked.to_owned(),
    };
    let kept = asked
        .parse()
        .is_ok_and(|address| before.addresses.contains(&address));
    if kept {
        return Ok(());
    }
    let ranges = ranges::ready(snapshot)?;
    let is_free = |address: Ipv4Addr| snapshot.get(&addresses::key(address.into())).is_none();
    let address = if asked.is_empty() {
        let free = ranges
            .iter()
            .find_map(|range| Some((range.free(&mut env.rng, is_free)?, range)));
        let (address, range) =
            free.ok_or_else(|| Status::internal("failed to allocate a serviceIP: range is full"))?;
        records.preconditions.push(range.unchanged());
        address
    } else {
        let mut refuse = |why: &str| {
            let why = format!("failed to allocate IP {asked}: {why}");
            errors.invalid("spec.clusterIPs", json!([asked]), &why);
            Ok(())
        };
        let Ok(address) = asked.parse::<Ipv4Addr>() else {
            return refuse("the provided network does not match the current range");
        };
        let Some(range) = ranges.iter().find(|range| range.contains(address)) else {
            return refuse("the provided network does not match the current range");
        };
        if !is_free(address) {
            return refuse("provided IP is already allocated");
        }
        records.preconditions.push(range.unchanged());
        address
    };
    spec["clusterIP"] = address.to_string().into();
    spec["clusterIPs"] = json!([address.to_string()]);
    Ok(())
}
