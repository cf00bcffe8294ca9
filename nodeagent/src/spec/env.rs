//! The environment of a container.
//!
//! Order and precedence are the kubelet's: variables of Services, then `envFrom` in order, then `env` in order; a later
//! one of the same name wins, and `$(NAME)` sees only what came before.

use std::collections::BTreeMap;

use corten_api::names::env_var_name;
use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, Pod, Service};

use super::expand::expand;
use super::fields::{self, Runtime};
use super::{ConfigError, Objects};
use crate::pod::containers::spec;

/// All variables with their final values, in a stable order.
///
/// # Errors
/// What keeps the container from being made: a missing object or key that is not optional.
pub fn environment(
    pod: &Pod,
    container: &Container,
    objects: &Objects,
    runtime: &Runtime,
) -> Result<Vec<(String, String)>, ConfigError> {
    let services = service_variables(pod, &objects.services);
    let mut made = Ordered::default();
    for source in container.env_from.iter().flatten() {
        for (name, value) in from_source(source, objects)? {
            made.set(name, value);
        }
    }
    for variable in container.env.iter().flatten() {
        let value = value_of(pod, container, variable, objects, runtime, |name| {
            made.get(name).or_else(|| services.get(name)).cloned()
        })?;
        if let Some(value) = value {
            made.set(variable.name.clone(), value);
        }
    }
    for (name, value) in services {
        if made.get(&name).is_none() {
            made.set(name, value);
        }
    }
    Ok(made.entries)
}

#[derive(Default)]
struct Ordered {
    entries: Vec<(String, String)>,
    places: BTreeMap<String, usize>,
}

impl Ordered {
    fn get(&self, name: &str) -> Option<&String> {
        self.places.get(name).map(|place| &self.entries[*place].1)
    }

    fn set(&mut self, name: String, value: String) {
        match self.places.get(&name) {
            Some(place) => self.entries[*place].1 = value,
            None => {
                self.places.insert(name.clone(), self.entries.len());
                self.entries.push((name, value));
            }
        }
    }
}

/// `None`: an optional source that is not there; the variable is left out.
fn value_of(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    objects: &Objects,
    runtime: &Runtime,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Option<String>, ConfigError> {
    let Some(source) = &variable.value_from else {
        return Ok(Some(expand(
            variable.value.as_deref().unwrap_or_default(),
            lookup,
        )));
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(field) = &source.field_ref {
        return fields::field(pod, &field.field_path, runtime).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return fields::resource(pod, selector, &container.name, runtime).map(Some);
    }
    if let Some(key) = &source.config_map_key_ref {
        let optional = key.optional == Some(true);
        let Some(map) = objects.config_maps.get(&key.name) else {
            return missing(optional, format!("configmap {:?} not found", key.name));
        };
        return match map.data.as_ref().and_then(|data| data.get(&key.key)) {
            Some(value) => Ok(Some(value.clone())),
            None => missing(
                optional,
                format!(
                    "couldn't find key {} in ConfigMap {namespace}/{}",
                    key.key, key.name
                ),
            ),
        };
    }
    if let Some(key) = &source.secret_key_ref {
        let optional = key.optional == Some(true);
        let Some(secret) = objects.secrets.get(&key.name) else {
            return missing(optional, format!("secret {:?} not found", key.name));
        };
        return match secret.data.as_ref().and_then(|data| data.get(&key.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None => missing(
                optional,
                format!("couldn't find key {} in Secret {namespace}/{}", key.key, key.name),
            ),
        };
    }
    if source.file_key_ref.is_some() {
        return Err(ConfigError(format!(
            "env variable {}: fileKeyRef is not supported by this node",
            variable.name
        )));
    }
    Ok(Some(String::new()))
}

fn missing(optional: bool, message: String) -> Result<Option<String>, ConfigError> {
    if optional {
        Ok(None)
    } else {
        Err(ConfigError(message))
    }
}

fn from_source(source: &EnvFromSource, objects: &Objects) -> Result<Vec<(String, String)>, ConfigError> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let mut made = Vec::new();
    if let Some(reference) = &source.config_map_ref {
        match objects.config_maps.get(&reference.name) {
            Some(map) => made.extend(map.data.clone().unwrap_or_default()),
            None if reference.optional == Some(true) => {}
            None => return Err(ConfigError(format!("configmap {:?} not found", reference.name))),
        }
    }
    if let Some(reference) = &source.secret_ref {
        match objects.secrets.get(&reference.name) {
            Some(secret) => made.extend(
                secret
                    .data
                    .iter()
                    .flatten()
                    .map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned())),
            ),
            None if reference.optional == Some(true) => {}
            None => return Err(ConfigError(format!("secret {:?} not found", reference.name))),
        }
    }
    let named = made
        .into_iter()
        .map(|(key, value)| (format!("{prefix}{key}"), value));
    Ok(named.filter(|(name, _)| env_var_name(name).is_empty()).collect())
}

/// Variables for each Service of the namespace (`enableServiceLinks`, default true) and always for `kubernetes`.
fn service_variables(pod: &Pod, services: &[std::sync::Arc<Service>]) -> BTreeMap<String, String> {
    let links = spec(pod).enable_service_links != Some(false);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut made = BTreeMap::new();
    let is_master = |service: &Service| {
        service.metadata.name.as_deref() == Some("kubernetes")
            && service.metadata.namespace.as_deref() == Some("default")
    };
    // A Service of the Pod's own namespace wins over the master's of the same name.
    let (master, own): (Vec<_>, Vec<_>) = services.iter().partition(|service| is_master(service));
    for service in master {
        add_service(&mut made, service);
    }
    for service in own {
        if links && service.metadata.namespace.as_deref() == Some(namespace) {
            add_service(&mut made, service);
        }
    }
    made
}

fn add_service(made: &mut BTreeMap<String, String>, service: &Service) {
    let Some(service_spec) = &service.spec else { return };
    let address = service_spec.cluster_ip.as_deref().unwrap_or_default();
    if address.is_empty() || address == "None" {
        return;
    }
    let variable = |text: &str| text.to_uppercase().replace('-', "_");
    let name = variable(service.metadata.name.as_deref().unwrap_or_default());
    let host = if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    };
    made.insert(format!("{name}_SERVICE_HOST"), address.to_owned());
    for (place, port) in service_spec.ports.iter().flatten().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if place == 0 {
            made.insert(format!("{name}_SERVICE_PORT"), port.port.to_string());
            made.insert(format!("{name}_PORT"), url.clone());
        }
        if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            made.insert(
                format!("{name}_SERVICE_PORT_{}", variable(port_name)),
                port.port.to_string(),
            );
        }
        let prefix = format!("{name}_PORT_{}_{}", port.port, protocol.to_uppercase());
        made.insert(prefix.clone(), url);
        made.insert(format!("{prefix}_PROTO"), protocol.to_lowercase());
        made.insert(format!("{prefix}_PORT"), port.port.to_string());
        made.insert(format!("{prefix}_ADDR"), address.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn objects() -> Objects {
        let map = json!({"metadata": {"name": "m"}, "data": {"a": "1", "b": "2", "bad key": "3"}});
        let secret = json!({"metadata": {"name": "s"}, "data": {"token": "aGk="}});
        let service = |namespace: &str, name: &str, ip: &str| -> Arc<Service> {
            let service = json!({"metadata": {"name": name, "namespace": namespace},
                "spec": {"clusterIP": ip, "ports": [{"port": 443, "name": "https"}]}});
            Arc::new(serde_json::from_value(service).expect("a Service"))
        };
        Objects {
            config_maps: [(
                "m".to_owned(),
                Arc::new(serde_json::from_value(map).expect("a ConfigMap")),
            )]
            .into(),
            secrets: [(
                "s".to_owned(),
                Arc::new(serde_json::from_value(secret).expect("a Secret")),
            )]
            .into(),
            services: vec![
                service("default", "kubernetes", "10.96.0.1"),
                service("ns", "my-db", "10.96.0.7"),
            ],
            ..Objects::default()
        }
    }

    /// `wanted`: lines `NAME=value` that must be there, or `error: text`; Service variables are left out of `links: false`.
    #[track_caller]
    fn check(container: Value, links: bool, wanted: &[&str]) {
        let mut container = container;
        container["name"] = json!("c");
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "web"}},
            "spec": {"enableServiceLinks": links, "nodeName": "node-0", "containers": [container.clone()]},
        }))
        .expect("a Pod");
        let container: Container = serde_json::from_value(container).expect("a container");
        let runtime = Runtime {
            host_ips: vec!["192.0.2.1".into()],
            pod_ips: vec!["10.244.0.5".into()],
            ..Runtime::default()
        };
        let seen = match environment(&pod, &container, &objects(), &runtime) {
            Ok(entries) => entries
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            Err(error) => vec![format!("error: {error}")],
        };
        for line in wanted {
            assert!(seen.iter().any(|seen| seen == line), "no {line} in {seen:?}");
        }
    }

    #[test]
    fn values_references_and_order() {
        let env = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)$(C)"}, {"name": "C", "value": "3"},
            {"name": "H", "value": "$(KUBERNETES_SERVICE_HOST)"}]);
        check(
            json!({"env": env}),
            false,
            &["A=1", "B=1$(C)", "C=3", "H=10.96.0.1"],
        );
    }

    #[test]
    fn sources() {
        let from = |source: Value| json!({"env": [{"name": "X", "valueFrom": source}]});
        check(
            from(json!({"fieldRef": {"fieldPath": "metadata.labels['app']"}})),
            true,
            &["X=web"],
        );
        check(
            from(json!({"fieldRef": {"fieldPath": "status.podIP"}})),
            true,
            &["X=10.244.0.5"],
        );
        check(
            from(json!({"configMapKeyRef": {"name": "m", "key": "a"}})),
            true,
            &["X=1"],
        );
        check(
            from(json!({"secretKeyRef": {"name": "s", "key": "token"}})),
            true,
            &["X=hi"],
        );
        check(
            from(json!({"configMapKeyRef": {"name": "m", "key": "z", "optional": true}})),
            true,
            &[],
        );
        let message = "error: couldn't find key z in ConfigMap ns/m";
        check(
            from(json!({"configMapKeyRef": {"name": "m", "key": "z"}})),
            true,
            &[message],
        );
        check(
            from(json!({"secretKeyRef": {"name": "no", "key": "z"}})),
            true,
            &["error: secret \"no\" not found"],
        );
        let resources = json!({"resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}}, "env": [
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}}]});
        check(resources, true, &["CPU=2", "MEM=1024"]);
    }

    #[test]
    fn whole_maps_and_services() {
        check(
            json!({"envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}]}),
            true,
            &["P_a=1", "P_b=2"],
        );
        check(
            json!({"envFrom": [{"configMapRef": {"name": "no"}}]}),
            true,
            &["error: configmap \"no\" not found"],
        );
        check(
            json!({}),
            true,
            &[
                "KUBERNETES_SERVICE_HOST=10.96.0.1",
                "KUBERNETES_SERVICE_PORT=443",
                "MY_DB_SERVICE_PORT_HTTPS=443",
                "MY_DB_PORT=tcp://10.96.0.7:443",
                "MY_DB_PORT_443_TCP_ADDR=10.96.0.7",
            ],
        );
        check(json!({}), false, &["KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443"]);
    }
}
