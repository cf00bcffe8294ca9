//! What a start finds wrong about addresses and ports, and the transactions that mend it. Pure.
//!
//! A Service is the truth: what it holds must be recorded, and what is recorded must be held by a Service. While the
//! server runs a transaction keeps both in step, and the controllers watch over IPAddress objects; this is for stores
//! that were restored, edited, or written by a version that kept records of its own. Source: Kubernetes
//! `ipallocator/controller` and `portallocator/controller`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use corten_api::resource::CreateContext;
use corten_api::{Status, meta, registry, time};
use corten_store::{Op, Precondition, Snapshot, Txn};
use serde_json::{Value, json};

use super::{IP_ADDRESSES, addresses, held};
use crate::key;
use crate::write::{Env, Subject};

/// One thing to mend. Its preconditions fail if somebody changed it meanwhile; then there is nothing to mend.
#[derive(Debug, PartialEq)]
pub struct Repair {
    pub what: String,
    pub txn: Txn,
}

/// All that is to be mended in this state, in order. Empty for a store this version has always kept.
///
/// # Errors
/// `InternalError` for a stored value that is not ours.
pub fn plan(snapshot: &Snapshot, env: &mut Env) -> Result<Vec<Repair>, Status> {
    let services = services(snapshot)?;
    let mut repairs = Vec::new();
    let mut holders: BTreeMap<IpAddr, &Found> = BTreeMap::new();
    let mut ports: BTreeMap<u16, &Found> = BTreeMap::new();
    for found in &services {
        let held = held(&found.service);
        for address in held.addresses {
            holders.entry(address).or_insert(found);
        }
        for port in held.ports {
            ports.entry(port).or_insert(found);
        }
    }
    for (address, found) in &holders {
        repairs.extend(missing_address(snapshot, *address, found, env)?);
    }
    for entry in snapshot.range(IP_ADDRESSES.range(None)) {
        let object = addresses::parse(&entry)?;
        if meta::label(&object, addresses::MANAGED_BY) != Some(addresses::MANAGER) {
            continue;
        }
        let address = meta::name(&object).parse::<IpAddr>().ok();
        if address.is_none_or(|address| !holders.contains_key(&address)) {
            repairs.push(Repair {
                what: format!("IPAddress {} belongs to no Service", meta::name(&object)),
                txn: Txn {
                    preconditions: vec![Precondition::ModRevision(entry.key.clone(), entry.mod_revision)],
                    ops: vec![Op::Delete {
                        key: entry.key.clone(),
                    }],
                },
            });
        }
    }
    for (port, found) in &ports {
        repairs.extend(missing_port(snapshot, *port, found, env)?);
    }
    for entry in snapshot.range(key::node_ports()) {
        let name = entry.key.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let port = std::str::from_utf8(name).ok().and_then(|port| port.parse().ok());
        if port.is_none_or(|port| !ports.contains_key(&port)) {
            repairs.push(Repair {
                what: format!(
                    "node port {} belongs to no Service",
                    String::from_utf8_lossy(name)
                ),
                txn: Txn {
                    preconditions: vec![Precondition::ModRevision(entry.key.clone(), entry.mod_revision)],
                    ops: vec![Op::Delete {
                        key: entry.key.clone(),
                    }],
                },
            });
        }
    }
    repairs.extend(old_records(snapshot));
    Ok(repairs)
}

struct Found {
    service: Value,
    unchanged: Precondition,
}

fn services(snapshot: &Snapshot) -> Result<Vec<Found>, Status> {
    let ty = registry()
        .lookup("", "v1", "services")
        .expect("Services are built in");
    let subject = Subject { ty, namespace: "" };
    let entries = snapshot.range(subject.keys().range(None));
    let found = entries.map(|entry| {
        Ok(Found {
            service: subject.parse(&entry)?,
            unchanged: Precondition::ModRevision(entry.key.clone(), entry.mod_revision),
        })
    });
    found.collect()
}

/// An address that is not recorded, or is recorded for a Service that does not hold it.
fn missing_address(
    snapshot: &Snapshot,
    address: IpAddr,
    found: &Found,
    env: &mut Env,
) -> Result<Option<Repair>, Status> {
    let key = addresses::key(address);
    let as_it_is = match snapshot.get(&key) {
        None => Precondition::Absent(key.clone()),
        Some(entry) => {
            let object = addresses::parse(&entry)?;
            let managed = meta::label(&object, addresses::MANAGED_BY) == Some(addresses::MANAGER);
            if managed && addresses::belongs_to(&object, &found.service) {
                return Ok(None);
            }
            Precondition::ModRevision(key.clone(), entry.mod_revision)
        }
    };
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let what = format!("Cluster IP [{family}]: {address} is not allocated; repairing");
    let event = Occurrence {
        reason: "ClusterIPNotAllocated",
        action: "ClusterIPAllocation",
        controller: "ipallocator-repair-controller",
        message: &what,
    };
    let ops = vec![
        Op::Put {
            key,
            value: addresses::object(address, &found.service, env)?,
        },
        event.about(&found.service, env)?,
    ];
    let preconditions = vec![as_it_is, found.unchanged.clone()];
    Ok(Some(Repair {
        what,
        txn: Txn { preconditions, ops },
    }))
}

fn missing_port(
    snapshot: &Snapshot,
    port: u16,
    found: &Found,
    env: &mut Env,
) -> Result<Option<Repair>, Status> {
    let key = key::node_port(port);
    if snapshot.get(&key).is_some() {
        return Ok(None);
    }
    let what = format!("Port {port} is not allocated; repairing");
    let event = Occurrence {
        reason: "PortNotAllocated",
        action: "PortAllocation",
        controller: "portallocator-repair-controller",
        message: &what,
    };
    let preconditions = vec![Precondition::Absent(key.clone()), found.unchanged.clone()];
    let ops = vec![
        Op::Put {
            key,
            value: Bytes::new(),
        },
        event.about(&found.service, env)?,
    ];
    Ok(Some(Repair {
        what,
        txn: Txn { preconditions, ops },
    }))
}

/// Records of addresses from before there were IPAddress objects.
fn old_records(snapshot: &Snapshot) -> Option<Repair> {
    let entries = snapshot.range(key::old_service_addresses());
    let ops: Vec<Op> = entries
        .map(|entry| Op::Delete {
            key: entry.key.clone(),
        })
        .collect();
    (!ops.is_empty()).then(|| Repair {
        what: "address records of an older version".into(),
        txn: Txn {
            preconditions: Vec::new(),
            ops,
        },
    })
}

/// What `kubectl describe service` shows about a repair.
struct Occurrence<'a> {
    reason: &'static str,
    action: &'static str,
    controller: &'static str,
    message: &'a str,
}

impl Occurrence<'_> {
    fn about(&self, service: &Value, env: &mut Env) -> Result<Op, Status> {
        let ty = registry()
            .lookup("", "v1", "events")
            .expect("Events are built in");
        let namespace = meta::namespace(service);
        let mut event = json!({
            "metadata": { "name": format!("{}.{}", meta::name(service), env.name_suffix()) },
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Service",
                "namespace": namespace,
                "name": meta::name(service),
                "uid": meta::uid(service),
                "resourceVersion": meta::resource_version(service),
            },
            "type": "Warning",
            "reason": self.reason,
            "action": self.action,
            "message": self.message,
            "source": { "component": self.controller },
            "reportingComponent": self.controller,
            "firstTimestamp": time::format_time(env.now),
            "lastTimestamp": time::format_time(env.now),
            "count": 1,
        });
        let uid = env.uid();
        let context = CreateContext {
            namespace,
            uid: &uid,
            now: env.now,
            name_suffix: "",
        };
        ty.prepare_create(&mut event, &context)?;
        let subject = Subject { ty, namespace };
        Ok(Op::Put {
            key: subject.key(meta::name(&event)),
            value: subject.encode(&event),
        })
    }
}
