//! Node ports: which are free, and which ports of a Service get one. Pure.
//!
//! Each taken port has one record, for all protocols at once. Source: Kubernetes
//! `registry/core/service/storage/alloc.go` and `portallocator`.

use std::collections::{BTreeMap, BTreeSet};

use corten_api::Status;
use corten_api::field::FieldErrors;
use corten_store::Snapshot;
use serde_json::{Map, Value, json};

use super::ranges::{PORT_BAND, pick};
use crate::write::Env;
use crate::{Config, key};

/// What is taken while one Service is settled.
pub struct Ports<'a> {
    pub config: &'a Config,
    pub snapshot: &'a Snapshot,
    /// What the Service had before.
    pub before: &'a BTreeSet<u16>,
    /// What it was given so far.
    pub given: BTreeSet<u16>,
}

impl Ports<'_> {
    fn is_free(&self, port: u16) -> bool {
        !self.given.contains(&port)
            && !self.before.contains(&port)
            && self.snapshot.get(&key::node_port(port)).is_none()
    }

    /// Any free port.
    ///
    /// # Errors
    /// The range is full.
    fn next(&mut self, env: &mut Env) -> Result<u16, &'static str> {
        let range = &self.config.node_ports;
        let (low, high) = (u32::from(*range.start()), u32::from(*range.end()));
        let band = PORT_BAND.of(u64::from(high.saturating_sub(low)) + 1);
        let free = |number: u32| u16::try_from(number).is_ok_and(|port| self.is_free(port));
        let port = pick(&mut env.rng, low, high, band, free)
            .and_then(|number| u16::try_from(number).ok())
            .ok_or("range is full")?;
        self.given.insert(port);
        Ok(port)
    }

    /// This very port.
    ///
    /// # Errors
    /// It is outside the range, or another Service has it.
    fn take(&mut self, asked: u64) -> Result<u16, String> {
        let range = &self.config.node_ports;
        let Some(port) = u16::try_from(asked).ok().filter(|port| range.contains(port)) else {
            let (low, high) = (range.start(), range.end());
            return Err(format!(
                "provided port is not in the valid range. The range of valid ports is {low}-{high}"
            ));
        };
        // A Service may use one number for several protocols.
        if self.before.contains(&port) || self.given.contains(&port) || self.is_free(port) {
            self.given.insert(port);
            return Ok(port);
        }
        Err("provided port is already allocated".into())
    }

    /// Gives the Service's ports their numbers. `all`: also those that did not ask for one.
    ///
    /// # Errors
    /// `InternalError` for a full range; what was asked for and is not free goes to `errors`.
    pub fn settle(
        &mut self,
        spec: &mut Value,
        all: bool,
        env: &mut Env,
        errors: &mut FieldErrors,
    ) -> Result<(), Status> {
        let list = || spec["ports"].as_array().into_iter().flatten();
        // Ports of one number but different protocols share their node port.
        let mut asked: BTreeMap<u64, u64> = BTreeMap::new();
        for port in list().filter(|port| node_port(port) > 0) {
            asked.entry(number(port)).or_insert_with(|| node_port(port));
        }
        let mut shared: BTreeMap<u64, u16> = BTreeMap::new();
        let ports = spec["ports"].as_array_mut().into_iter().flatten();
        for (idx, port) in ports.enumerate() {
            let (number, wanted) = (number(port), node_port(port));
            let wanted = match (wanted, asked.get(&number)) {
                (0, _) if !all => continue,
                (0, Some(other)) => *other,
                (wanted, _) => wanted,
            };
            let given = if wanted > 0 {
                match self.take(wanted) {
                    Ok(port) => port,
                    Err(why) => {
                        errors.invalid(format!("spec.ports[{idx}].nodePort"), json!(wanted), &why);
                        continue;
                    }
                }
            } else if let Some(port) = shared.get(&number) {
                *port
            } else {
                let next = self.next(env);
                next.map_err(|why| Status::internal(format!("failed to allocate a nodePort: {why}")))?
            };
            shared.insert(number, given);
            if let Some(port) = port.as_object_mut() {
                set(port, "nodePort", given);
            }
        }
        Ok(())
    }

    /// The port on which a load balancer asks for a Service's health.
    ///
    /// # Errors
    /// `InternalError`, also for a port that is not free: upstream answers so.
    pub fn settle_health(&mut self, spec: &mut Value, env: &mut Env) -> Result<(), Status> {
        let asked = spec["healthCheckNodePort"].as_u64().unwrap_or(0);
        let given = if asked > 0 {
            self.take(asked).map_err(|why| {
                Status::internal(format!(
                    "failed to allocate requested HealthCheck NodePort {asked}: {why}"
                ))
            })?
        } else {
            self.next(env).map_err(|why| {
                Status::internal(format!("failed to allocate a HealthCheck NodePort 0: {why}"))
            })?
        };
        if let Some(spec) = spec.as_object_mut() {
            set(spec, "healthCheckNodePort", given);
        }
        Ok(())
    }
}

fn set(map: &mut Map<String, Value>, field: &str, port: u16) {
    map.insert(field.into(), port.into());
}

fn number(port: &Value) -> u64 {
    port["port"].as_u64().unwrap_or(0)
}

fn node_port(port: &Value) -> u64 {
    port["nodePort"].as_u64().unwrap_or(0)
}
