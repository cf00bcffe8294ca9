//! What exists in every cluster from its first moment: four namespaces, the system's two PriorityClasses, the
//! default ServiceCIDR, the Service `kubernetes`, the default Roles, and what `served` knows.
//!
//! Runs through the same verbs as any client, so it is safe to run on every server at every start.

mod served;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use corten_api::kinds::scheduling::priority_class::SYSTEM_CLASSES;
use corten_api::options::DeleteOptions;
use corten_api::resource::Subresource;
use corten_api::{FieldValidation, Status, meta, registry, time};
use futures::future::try_join_all;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::pki::{CurrentFrontProxy, FRONT_PROXY_CLIENT};
use crate::rbac::{self, policy, reconcile};
use crate::write::allocate::repair;
use crate::write::{Answered, Decision, Env, Payload, Subject, create, delete, transact, update};
use crate::{ApiServer, authorities, members};

/// Source: Kubernetes `defaultservicecidr.DefaultServiceCIDRName`.
const DEFAULT_SERVICE_CIDR: &str = "kubernetes";
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

#[derive(Debug, thiserror::Error)]
#[error("make {what}")]
pub struct BootstrapError {
    pub what: String,
    #[source]
    pub source: Status,
}

impl ApiServer {
    /// Makes what is missing; `/readyz` fails until it is done. The endpoint of the Service follows a new advertise
    /// address.
    ///
    /// # Errors
    /// The first object that could not be made.
    pub async fn bootstrap(&self) -> Result<(), BootstrapError> {
        self.follow_definitions().await;
        self.follow_aggregated();
        self.follow_rules();
        self.follow_revoked();
        for name in NAMESPACES {
            self.ensure(
                "",
                "namespaces",
                "",
                json!({ "metadata": { "name": name } }),
                false,
            )
            .await?;
        }
        let rules = policy::objects().into_iter();
        try_join_all(rules.map(|(plural, namespace, object)| self.ensure_rule(plural, namespace, object)))
            .await?;
        self.catch_up().await;
        for (name, value, description) in SYSTEM_CLASSES {
            let class = json!({ "metadata": { "name": name }, "value": value, "description": description });
            self.ensure("scheduling.k8s.io", "priorityclasses", "", class, false)
                .await?;
        }
        self.repair().await?;
        let group = "networking.k8s.io";
        self.ensure(group, "servicecidrs", "", self.service_cidr(), false)
            .await?;
        self.ensure("", "services", "default", self.service(), false)
            .await?;
        self.ensure("", "configmaps", "kube-system", self.front_proxy(), true)
            .await?;
        // All at once: they share the store's next write to disk.
        let served = served::objects().into_iter();
        try_join_all(served.map(|(group, plural, object)| self.ensure(group, plural, "", object, false)))
            .await?;
        self.follow_flow();
        self.mend_flow().await;
        // Only who leads knows who is alive; a server that joins is published when the leader sees it.
        if self.inner().store.standing().borrow().leads {
            let known = members::all(&self.inner().store.snapshot());
            self.publish_servers(&known).await?;
        }
        self.publish_authorities().await?;
        self.inner().bootstrapped.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes the servers among `records`, and this one, the endpoints of the Service `kubernetes`.
    ///
    /// # Errors
    /// What could not be written.
    pub async fn publish_servers(&self, records: &[members::Record]) -> Result<(), BootstrapError> {
        let servers = self.servers(records);
        if servers.is_empty() {
            tracing::warn!(
                "the advertise address is a loopback address: the Service kubernetes has no endpoints"
            );
            return Ok(());
        }
        self.ensure("", "endpoints", "default", endpoints(&servers), true)
            .await?;
        self.ensure(
            "discovery.k8s.io",
            "endpointslices",
            "default",
            endpoint_slice(&servers),
            true,
        )
        .await
    }

    /// Tells nodes and aggregated API servers which authorities are in force.
    ///
    /// # Errors
    /// What could not be written.
    pub async fn publish_authorities(&self) -> Result<(), BootstrapError> {
        self.ensure("", "configmaps", "kube-system", self.front_proxy(), true)
            .await?;
        let ty = registry()
            .lookup("discovery.k8s.io", "v1", "endpointslices")
            .expect("EndpointSlices are built in");
        let subject = Subject {
            ty,
            namespace: "default",
        };
        const NAME: &str = "kubernetes";
        let (config, hash) = (&self.inner().config, self.inner().config.ca.hash());
        let mut env = Env::new(Timestamp::now());
        let written = transact(self.inner(), &mut env, |snapshot, env| {
            let mut slice = match subject.read(snapshot, NAME) {
                Ok(current) => current.value,
                // A server on a loopback address publishes nothing.
                Err(status) if status.is_not_found() => return Ok(nothing()),
                Err(status) => return Err(status),
            };
            if meta::annotation(&slice, authorities::ANNOTATION) == Some(&hash) {
                return Ok(nothing());
            }
            slice["metadata"]["annotations"][authorities::ANNOTATION] = hash.as_str().into();
            update::decide(config, subject, snapshot, NAME, slice, Subresource::Main, env)
        });
        written.await.map(|_| ()).map_err(|source| BootstrapError {
            what: format!("endpointslices {NAME}"),
            source,
        })
    }

    /// Where clients reach the servers, in order. Endpoints must not be loopback addresses.
    fn servers(&self, records: &[members::Record]) -> Vec<SocketAddr> {
        let config = &self.inner().config;
        let own = SocketAddr::new(config.advertise_address, config.port);
        let others = records.iter().filter(|record| !record.removed);
        let all = others.filter_map(|record| record.api.parse().ok()).chain([own]);
        let usable: BTreeSet<SocketAddr> = all
            .filter(|server| !server.ip().is_loopback() && server.is_ipv4() == own.is_ipv4())
            .collect();
        usable.into_iter().collect()
    }

    /// Mends the records of addresses and ports. No address is given out before the first ServiceCIDR exists, so a store
    /// of an older version is complete by then.
    async fn repair(&self) -> Result<(), BootstrapError> {
        let failed = |source| BootstrapError {
            what: "records of Service addresses and ports".into(),
            source,
        };
        let store = &self.inner().store;
        store
            .read_barrier()
            .await
            .map_err(|error| failed(crate::store_status(&error)))?;
        let mut env = Env::new(Timestamp::now());
        for repair in repair::plan(&store.snapshot(), &mut env).map_err(failed)? {
            tracing::warn!(what = repair.what, "repairs");
            store
                .txn(repair.txn)
                .await
                .map_err(|error| failed(crate::store_status(&error)))?;
        }
        Ok(())
    }

    /// Where Service addresses come from; more can be added while the cluster runs.
    fn service_cidr(&self) -> Value {
        json!({
            "metadata": { "name": DEFAULT_SERVICE_CIDR },
            "spec": { "cidrs": [self.inner().config.service_cidr.trunc().to_string()] },
            "status": { "conditions": [{
                "type": "Ready",
                "status": "True",
                "reason": "",
                "message": "Kubernetes default Service CIDR is ready",
                "lastTransitionTime": time::format_time(Timestamp::now()),
            }] },
        })
    }

    /// What aggregated API servers have to know to take users from this server. Source: Kubernetes
    /// `controlplane/controller/clusterauthenticationtrust`.
    fn front_proxy(&self) -> Value {
        let config = &self.inner().config;
        let mut data = json!({ "client-ca-file": &*config.ca.bundle() });
        if let Some(own) = config.front_proxy.as_ref().map(CurrentFrontProxy::get) {
            let list = |names: &[&str]| Value::from(json!(names).to_string());
            for (key, value) in [
                ("requestheader-allowed-names", list(&[FRONT_PROXY_CLIENT])),
                ("requestheader-client-ca-file", own.ca_pem.as_str().into()),
                ("requestheader-extra-headers-prefix", list(&["X-Remote-Extra-"])),
                ("requestheader-group-headers", list(&["X-Remote-Group"])),
                ("requestheader-uid-headers", list(&["X-Remote-Uid"])),
                ("requestheader-username-headers", list(&["X-Remote-User"])),
            ] {
                data[key] = value;
            }
        }
        json!({ "metadata": { "name": "extension-apiserver-authentication" }, "data": data })
    }

    fn service(&self) -> Value {
        let config = &self.inner().config;
        json!({
            "metadata": {
                "name": "kubernetes",
                "labels": { "component": "apiserver", "provider": "kubernetes" },
            },
            "spec": {
                "type": "ClusterIP",
                "clusterIP": config.kubernetes_service_ip().to_string(),
                "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": config.port }],
                "sessionAffinity": "None",
            },
        })
    }

    /// Makes a default Role or binding, or adds what the stored one lacks.
    async fn ensure_rule(
        &self,
        plural: &'static str,
        namespace: &'static str,
        object: Value,
    ) -> Result<(), BootstrapError> {
        let subject = Subject {
            ty: registry()
                .lookup(rbac::GROUP, "v1", plural)
                .expect("Roles and bindings are built in"),
            namespace,
        };
        let name = meta::name(&object).to_owned();
        let failed = |source| BootstrapError {
            what: format!("{plural} {name}"),
            source,
        };
        let (config, store) = (&self.inner().config, &self.inner().store);
        let mut env = Env::new(Timestamp::now());
        let stored = match subject.read(&store.snapshot(), &name) {
            Ok(current) => reconcile::step(&current.value, &object),
            Err(_) => return self.ensure(rbac::GROUP, plural, namespace, object, false).await,
        };
        if stored == reconcile::Step::Nothing {
            return Ok(());
        }
        let written = transact(self.inner(), &mut env, |snapshot, env| {
            let current = subject.read(snapshot, &name)?;
            match reconcile::step(&current.value, &object) {
                reconcile::Step::Nothing => Ok(nothing()),
                reconcile::Step::Update(new) => {
                    update::decide(config, subject, snapshot, &name, new, Subresource::Main, env)
                }
                reconcile::Step::Replace => {
                    delete::decide(subject, snapshot, &name, &DeleteOptions::default(), env)
                }
            }
        });
        match written.await {
            Err(status) if !status.is_not_found() => Err(failed(status)),
            _ => self.ensure(rbac::GROUP, plural, namespace, object, false).await,
        }
    }

    /// Creates the object if it is not there; `refresh`: puts its content in the place of what is there.
    ///
    /// # Errors
    /// It could not be made.
    pub(crate) async fn ensure(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        object: Value,
        refresh: bool,
    ) -> Result<(), BootstrapError> {
        let name = meta::name(&object).to_owned();
        let failed = |source| BootstrapError {
            what: format!("{plural} {name}"),
            source,
        };
        let ty = registry()
            .lookup(group, "v1", plural)
            .expect("bootstrap objects are of built-in kinds");
        let subject = Subject { ty, namespace };
        let config = &self.inner().config;
        let bytes = serde_json::to_vec(&object).expect("a JSON value serialises");
        let object = ty.decode(&bytes, FieldValidation::Strict).map_err(failed)?.value;
        let mut env = Env::new(Timestamp::now());
        let written = transact(self.inner(), &mut env, |snapshot, env| {
            match subject.read(snapshot, &name) {
                Err(status) if status.is_not_found() => {
                    create::decide(config, subject, snapshot, object.clone(), env)
                }
                Err(status) => Err(status),
                Ok(current) if refresh => {
                    let mut wanted = current.value.clone();
                    for (field, value) in object.as_object().into_iter().flatten() {
                        if field != "metadata" {
                            wanted[field] = value.clone();
                        }
                    }
                    update::decide(config, subject, snapshot, &name, wanted, Subresource::Main, env)
                }
                Ok(_) => Ok(nothing()),
            }
        });
        written.await.map(|_| ()).map_err(failed)
    }
}

/// What is there is as it has to be.
fn nothing() -> Decision {
    Decision::Nothing(Answered {
        code: http::StatusCode::OK,
        payload: Payload::Value(Value::Null),
        warnings: Vec::new(),
    })
}

/// Addresses that share a port share a subset.
fn endpoints(servers: &[SocketAddr]) -> Value {
    let ports: BTreeSet<u16> = servers.iter().map(SocketAddr::port).collect();
    let subset = |port: &u16| {
        let addresses = servers.iter().filter(|server| server.port() == *port);
        let addresses: Vec<Value> = addresses
            .map(|server| json!({ "ip": server.ip().to_string() }))
            .collect();
        json!({ "addresses": addresses, "ports": [{ "name": "https", "port": port, "protocol": "TCP" }] })
    };
    json!({
        "metadata": {
            "name": "kubernetes",
            "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
        },
        "subsets": ports.iter().map(subset).collect::<Vec<Value>>(),
    })
}

/// One slice has one port: that of the first server, and the servers that have it.
fn endpoint_slice(servers: &[SocketAddr]) -> Value {
    let first = servers.first();
    let port = first.map(SocketAddr::port);
    let alike = servers.iter().filter(|server| Some(server.port()) == port);
    let endpoint = |server: &SocketAddr| json!({ "addresses": [server.ip().to_string()], "conditions": { "ready": true } });
    json!({
        "metadata": {
            "name": "kubernetes",
            "labels": { "kubernetes.io/service-name": "kubernetes" },
        },
        "addressType": if first.is_none_or(SocketAddr::is_ipv4) { "IPv4" } else { "IPv6" },
        "endpoints": alike.map(endpoint).collect::<Vec<Value>>(),
        "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
    })
}
