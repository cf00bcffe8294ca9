//! Service addresses and node ports: chosen and recorded in the transaction that writes the Service. Pure.
//!
//! Each taken address or port has one record in the store. A write asserts that the record is absent, so two servers can
//! never give out the same one; deleting the Service deletes its records in the same transaction.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use bytes::Bytes;
use corten_api::field::FieldErrors;
use corten_api::status::Qualified;
use corten_api::{Status, meta};
use corten_store::{Op, Precondition, Snapshot};
use rand::Rng;
use serde_json::{Value, json};

use super::Env;
use crate::{Config, key};

/// Random picks before the range is searched from end to end.
const RANDOM_PICKS: usize = 32;

#[derive(Default)]
pub struct Records {
    pub preconditions: Vec<Precondition>,
    pub ops: Vec<Op>,
}

/// What a Service holds.
#[derive(Default, PartialEq, Eq, Debug)]
struct Held {
    addresses: BTreeSet<Ipv4Addr>,
    ports: BTreeSet<u16>,
}

fn text<'a>(spec: &'a Value, field: &str) -> &'a str {
    spec[field].as_str().unwrap_or_default()
}

fn needs_address(spec: &Value) -> bool {
    text(spec, "type") != "ExternalName" && text(spec, "clusterIP") != "None"
}

fn needs_ports(spec: &Value) -> bool {
    match text(spec, "type") {
        "NodePort" => true,
        "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

fn needs_health_port(spec: &Value) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

fn held(service: &Value) -> Held {
    let spec = &service["spec"];
    let mut held = Held::default();
    let addresses = spec["clusterIPs"]
        .as_array()
        .into_iter()
        .flatten()
        .chain([&spec["clusterIP"]]);
    held.addresses.extend(
        addresses
            .filter_map(Value::as_str)
            .filter_map(|ip| ip.parse::<Ipv4Addr>().ok()),
    );
    let ports = spec["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| &port["nodePort"]);
    let ports = ports.chain([&spec["healthCheckNodePort"]]);
    held.ports.extend(
        ports
            .filter_map(Value::as_u64)
            .filter(|p| *p > 0)
            .filter_map(|p| u16::try_from(p).ok()),
    );
    held
}

fn address_key(address: Ipv4Addr) -> Bytes {
    key::service_address(address.into())
}

/// The writes that give back everything a Service holds.
#[must_use]
pub fn release(service: &Value) -> Vec<Op> {
    let held = held(service);
    let addresses = held.addresses.into_iter().map(address_key);
    let ports = held.ports.into_iter().map(key::node_port);
    addresses.chain(ports).map(|key| Op::Delete { key }).collect()
}

/// # Errors
/// `Invalid` with upstream's texts for what was asked for and is not free; `InternalError` for a full range.
pub fn create(
    config: &Config,
    snapshot: &Snapshot,
    service: &mut Value,
    env: &mut Env,
) -> Result<Records, Status> {
    settle(config, snapshot, service, &Held::default(), env)
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
    settle(config, snapshot, new, &held(old), env)
}

/// Before an update is judged: what the client left out and the Service still needs is taken from `old`, what it no
/// longer needs and the client only repeated is dropped. Source: Kubernetes `patchAllocatedValues`,
/// `dropTypeDependentFields`.
pub fn carry_over(new: &mut Value, old: &Value) {
    let old_spec = &old["spec"];
    if !new["spec"].is_object() {
        return;
    }
    let spec = &mut new["spec"];
    let copy = |spec: &mut Value, field: &str| {
        if !old_spec[field].is_null() {
            spec[field] = old_spec[field].clone();
        }
    };
    let absent = |spec: &Value, field: &str| text(spec, field).is_empty();
    if needs_address(spec) && text(old_spec, "type") != "ExternalName" && absent(spec, "clusterIP") {
        if spec["clusterIPs"].as_array().is_none_or(Vec::is_empty) {
            copy(spec, "clusterIPs");
        }
        copy(spec, "clusterIP");
    }
    if text(spec, "type") == "ExternalName" && text(old_spec, "type") != "ExternalName" {
        let spec = spec.as_object_mut().expect("checked above");
        if spec.get("clusterIP") == old_spec.get("clusterIP") {
            for field in [
                "clusterIP",
                "clusterIPs",
                "ipFamilies",
                "ipFamilyPolicy",
                "internalTrafficPolicy",
            ] {
                spec.remove(field);
            }
        }
    }
    let spec = &mut new["spec"];
    let (needs, had) = (needs_ports(spec), needs_ports(old_spec));
    let none = Vec::new();
    let old_ports = old_spec["ports"].as_array().unwrap_or(&none);
    for port in spec["ports"]
        .as_array_mut()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        let protocol = |p: &Value| p["protocol"].as_str().unwrap_or("TCP").to_owned();
        let own = Value::Object(port.clone());
        let before = old_ports
            .iter()
            .find(|p| p["port"] == own["port"] && protocol(p) == protocol(&own));
        let asked = own["nodePort"].as_u64().unwrap_or(0);
        match before.map(|p| &p["nodePort"]) {
            Some(number) if needs && had && asked == 0 && number.is_u64() => {
                port.insert("nodePort".into(), number.clone());
            }
            Some(number) if !needs && had && *number == own["nodePort"] => {
                port.remove("nodePort");
            }
            _ => {}
        }
    }
    if needs_health_port(spec)
        && needs_health_port(old_spec)
        && spec["healthCheckNodePort"].as_u64().unwrap_or(0) == 0
    {
        copy(spec, "healthCheckNodePort");
    } else if !needs_health_port(spec) && spec["healthCheckNodePort"] == old_spec["healthCheckNodePort"] {
        spec.as_object_mut()
            .expect("checked above")
            .remove("healthCheckNodePort");
    }
}

fn settle(
    config: &Config,
    snapshot: &Snapshot,
    service: &mut Value,
    before: &Held,
    env: &mut Env,
) -> Result<Records, Status> {
    let mut errors = FieldErrors::default();
    let mut taken: BTreeSet<u16> = before.ports.clone();
    let name = meta::name(service).to_owned();
    let Some(spec) = service.get_mut("spec").filter(|spec| spec.is_object()) else {
        return Ok(Records::default());
    };
    if needs_address(spec) {
        settle_address(config, snapshot, spec, before, env, &mut errors)?;
    }
    if text(spec, "type") != "ExternalName" {
        let spec = spec.as_object_mut().expect("checked above");
        if spec.get("clusterIP") == Some(&json!("None")) {
            spec.insert("clusterIPs".into(), json!(["None"]));
        }
        spec.entry("ipFamilies").or_insert_with(|| json!(["IPv4"]));
        spec.entry("ipFamilyPolicy")
            .or_insert_with(|| json!("SingleStack"));
    }
    if needs_ports(spec) {
        let ports = spec["ports"]
            .as_array_mut()
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut);
        for (i, port) in ports.enumerate() {
            let asked = port.get("nodePort").and_then(Value::as_u64).unwrap_or(0);
            let field = format!("spec.ports[{i}].nodePort");
            if let Some(number) = settle_port(
                config,
                snapshot,
                asked,
                &field,
                before,
                &mut taken,
                env,
                &mut errors,
            )? {
                port.insert("nodePort".into(), number.into());
            }
        }
    }
    if needs_health_port(spec) {
        let asked = spec["healthCheckNodePort"].as_u64().unwrap_or(0);
        let field = "spec.healthCheckNodePort";
        if let Some(number) = settle_port(
            config,
            snapshot,
            asked,
            field,
            before,
            &mut taken,
            env,
            &mut errors,
        )? {
            spec["healthCheckNodePort"] = number.into();
        }
    }
    if !errors.is_empty() {
        return Err(Status::invalid(Qualified::new("", "Service"), &name, &errors));
    }
    Ok(difference(before, &held(service)))
}

fn difference(before: &Held, after: &Held) -> Records {
    let mut records = Records::default();
    let gained = after
        .addresses
        .difference(&before.addresses)
        .copied()
        .map(address_key);
    for key in gained.chain(after.ports.difference(&before.ports).copied().map(key::node_port)) {
        records.preconditions.push(Precondition::Absent(key.clone()));
        records.ops.push(Op::Put {
            key,
            value: Bytes::new(),
        });
    }
    let lost = before
        .addresses
        .difference(&after.addresses)
        .copied()
        .map(address_key);
    for key in lost.chain(before.ports.difference(&after.ports).copied().map(key::node_port)) {
        records.ops.push(Op::Delete { key });
    }
    records
}

fn settle_address(
    config: &Config,
    snapshot: &Snapshot,
    spec: &mut Value,
    before: &Held,
    env: &mut Env,
    errors: &mut FieldErrors,
) -> Result<(), Status> {
    let first = spec["clusterIPs"][0].as_str().unwrap_or_default();
    let asked = match text(spec, "clusterIP") {
        "" => first.to_owned(),
        asked => asked.to_owned(),
    };
    let address = if asked.is_empty() {
        free_address(config, snapshot, env)
            .ok_or_else(|| Status::internal("failed to allocate a serviceIP: range is full"))?
    } else {
        let value = json!([asked.clone()]);
        let Ok(address) = asked.parse::<Ipv4Addr>() else {
            errors.invalid(
                "spec.clusterIPs",
                value,
                &format!("failed to allocate IP {asked}: the provided IP is not an IPv4 address"),
            );
            return Ok(());
        };
        if !before.addresses.contains(&address) {
            let range = config.service_cidr;
            if !usable(config, address) {
                errors.invalid(
                    "spec.clusterIPs",
                    value,
                    &format!("failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}"),
                );
                return Ok(());
            }
            if snapshot.get(&address_key(address)).is_some() {
                errors.invalid(
                    "spec.clusterIPs",
                    value,
                    &format!("failed to allocate IP {address}: provided IP is already allocated"),
                );
                return Ok(());
            }
        }
        address
    };
    spec["clusterIP"] = address.to_string().into();
    spec["clusterIPs"] = json!([address.to_string()]);
    Ok(())
}

/// In the range, and neither its network nor its broadcast address.
fn usable(config: &Config, address: Ipv4Addr) -> bool {
    let range = config.service_cidr;
    range.contains(&address) && address != range.network() && address != range.broadcast()
}

fn free_address(config: &Config, snapshot: &Snapshot, env: &mut Env) -> Option<Ipv4Addr> {
    let range = config.service_cidr;
    // The first address is the API server's own; the last is the broadcast address.
    let (low, high) = (
        u32::from(range.network()).checked_add(2)?,
        u32::from(range.broadcast()).checked_sub(1)?,
    );
    if low > high {
        return None;
    }
    let free = |address: &u32| snapshot.get(&address_key(Ipv4Addr::from(*address))).is_none();
    let picks: Vec<u32> = (0..RANDOM_PICKS)
        .map(|_| env.rng.random_range(low..=high))
        .collect();
    picks
        .into_iter()
        .find(|a| free(a))
        .or_else(|| (low..=high).find(free))
        .map(Ipv4Addr::from)
}

#[allow(clippy::too_many_arguments)]
fn settle_port(
    config: &Config,
    snapshot: &Snapshot,
    asked: u64,
    field: &str,
    before: &Held,
    taken: &mut BTreeSet<u16>,
    env: &mut Env,
    errors: &mut FieldErrors,
) -> Result<Option<u16>, Status> {
    let range = &config.node_ports;
    let is_free = |port: u16| snapshot.get(&key::node_port(port)).is_none();
    if asked == 0 {
        let picks: Vec<u16> = (0..RANDOM_PICKS)
            .map(|_| env.rng.random_range(range.clone()))
            .collect();
        let free = |port: &u16| !taken.contains(port) && is_free(*port);
        let found = picks.into_iter().find(free).or_else(|| range.clone().find(free));
        let port = found.ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))?;
        taken.insert(port);
        return Ok(Some(port));
    }
    let port = u16::try_from(asked).ok().filter(|port| range.contains(port));
    let Some(port) = port else {
        let (low, high) = (range.start(), range.end());
        errors.invalid(
            field,
            json!(asked),
            &format!("provided port is not in the valid range. The range of valid ports is {low}-{high}"),
        );
        return Ok(None);
    };
    if !before.ports.contains(&port) && !taken.contains(&port) && !is_free(port) {
        errors.invalid(field, json!(asked), "provided port is already allocated");
        return Ok(None);
    }
    taken.insert(port);
    Ok(Some(port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_store::{Store, Txn};
    use jiff::Timestamp;
    use rand::SeedableRng;

    fn env() -> Env {
        Env {
            now: Timestamp::UNIX_EPOCH,
            rng: rand::rngs::StdRng::seed_from_u64(7),
        }
    }

    async fn apply(store: &Store, records: Records) {
        let txn = Txn {
            preconditions: records.preconditions,
            ops: records.ops,
        };
        let outcome = store.txn(txn).await.expect("store");
        assert!(matches!(outcome, corten_store::TxnOutcome::Committed { .. }));
    }

    #[tokio::test]
    async fn addresses_and_ports_are_given_once_and_given_back() {
        let store = Store::open(corten_store::Config::in_memory())
            .await
            .expect("store");
        let config = Config {
            service_cidr: "10.0.0.0/29".parse().expect("cidr"),
            ..Config::for_tests()
        };
        let mut services = Vec::new();
        for _ in 0..5 {
            let mut service =
                json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
            let records = create(&config, &store.snapshot(), &mut service, &mut env()).expect("free");
            apply(&store, records).await;
            services.push(service);
        }
        let addresses: BTreeSet<&str> = services.iter().map(|s| text(&s["spec"], "clusterIP")).collect();
        assert_eq!(
            addresses.len(),
            5,
            "a /29 has 8 addresses: network, our own and broadcast are not given out"
        );
        let mut service = json!({"metadata": {"name": "s"}, "spec": {"type": "ClusterIP"}});
        let full = create(&config, &store.snapshot(), &mut service, &mut env());
        assert!(full.err().expect("full").message.contains("range is full"));
        let freed = text(&services[0]["spec"], "clusterIP").to_owned();
        apply(
            &store,
            Records {
                ops: release(&services[0]),
                ..Records::default()
            },
        )
        .await;
        service["spec"]["clusterIP"] = freed.clone().into();
        create(&config, &store.snapshot(), &mut service, &mut env()).expect("free again");
        service["spec"]["clusterIP"] = text(&services[1]["spec"], "clusterIP").into();
        let taken = create(&config, &store.snapshot(), &mut service, &mut env())
            .err()
            .expect("taken");
        assert!(
            taken.message.contains("provided IP is already allocated"),
            "{}",
            taken.message
        );
        service["spec"]["clusterIP"] = "192.0.2.1".into();
        let outside = create(&config, &store.snapshot(), &mut service, &mut env())
            .err()
            .expect("outside");
        assert!(
            outside.message.contains("The range of valid IPs is 10.0.0.0/29"),
            "{}",
            outside.message
        );
        let mut port = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "clusterIP": freed, "ports": [{"port": 1, "nodePort": 80}]}});
        let outside = create(&config, &store.snapshot(), &mut port, &mut env())
            .err()
            .expect("outside");
        assert!(
            outside
                .message
                .contains("The range of valid ports is 30000-32767"),
            "{}",
            outside.message
        );
    }

    #[test]
    fn an_update_keeps_what_it_does_not_name() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2"],
            "ports": [{"port": 80, "nodePort": 30001, "protocol": "TCP"}]}});
        let mut new = json!({"spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 81}]}});
        carry_over(&mut new, &old);
        assert_eq!(new["spec"]["clusterIP"], "10.0.0.2");
        assert_eq!(new["spec"]["ports"][0]["nodePort"], 30001);
        let mut plain = old.clone();
        plain["spec"]["type"] = "ClusterIP".into();
        carry_over(&mut plain, &old);
        assert!(
            plain["spec"]["ports"][0].get("nodePort").is_none(),
            "node ports go with the type"
        );
        let gone = difference(&held(&old), &held(&plain));
        assert_eq!(
            gone.ops,
            vec![Op::Delete {
                key: key::node_port(30001)
            }]
        );
    }
}
