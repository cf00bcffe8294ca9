//! Values of `fieldRef` and `resourceFieldRef`, for variables and downward API files.

use std::collections::BTreeMap;

use corten_api::quantity::{self, Quantity, ResourceList};
use k8s_openapi::api::core::v1::{Pod, ResourceFieldSelector};

use super::ConfigError;
use crate::pod::containers::{find, spec};

/// What is only known on the node.
#[derive(Debug, Clone, Default)]
pub struct Runtime {
    pub host_ips: Vec<String>,
    /// Empty until the sandbox runs.
    pub pod_ips: Vec<String>,
    pub allocatable: ResourceList,
}

/// # Errors
/// A path that is not one of those the API allows.
pub fn field(pod: &Pod, path: &str, runtime: &Runtime) -> Result<String, ConfigError> {
    let meta = &pod.metadata;
    if let Some((list, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let map = match list {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(unsupported(path)),
        };
        return Ok(map
            .as_ref()
            .and_then(|map| map.get(key))
            .cloned()
            .unwrap_or_default());
    }
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => spec(pod).node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec(pod).service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => first(&runtime.host_ips),
        "status.hostIPs" => runtime.host_ips.join(","),
        "status.podIP" => first(&runtime.pod_ips),
        "status.podIPs" => runtime.pod_ips.join(","),
        _ => return Err(unsupported(path)),
    })
}

fn unsupported(path: &str) -> ConfigError {
    ConfigError(format!("unsupported fieldPath: {path}"))
}

/// One `key="value"` a line, sorted, the value quoted as Go quotes strings.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let line = |(key, value): (&String, &String)| format!("{key}={value:?}");
    map.into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
}

/// # Errors
/// No such container, or a resource the API does not allow here.
pub fn resource(
    pod: &Pod,
    selector: &ResourceFieldSelector,
    default_container: &str,
    runtime: &Runtime,
) -> Result<String, ConfigError> {
    let name = selector
        .container_name
        .as_deref()
        .filter(|name| !name.is_empty())
        .unwrap_or(default_container);
    let (container, _) = find(pod, name).ok_or_else(|| ConfigError(format!("container {name} not found")))?;
    let (list, what) = selector
        .resource
        .split_once('.')
        .ok_or_else(|| ConfigError(format!("unsupported container resource : {}", selector.resource)))?;
    let resources = container.resources.as_ref();
    let set = |map: Option<&BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>| {
        map.and_then(|map| map.get(what))
            .map(quantity::from_api)
            .filter(|amount| !amount.is_zero())
    };
    let amount = match list {
        // Without a limit the node's allocatable amount is what the container can get.
        "limits" => set(resources.and_then(|resources| resources.limits.as_ref()))
            .or_else(|| runtime.allocatable.get(what).cloned()),
        "requests" => set(resources.and_then(|resources| resources.requests.as_ref())),
        _ => {
            return Err(ConfigError(format!(
                "unsupported container resource : {}",
                selector.resource
            )));
        }
    }
    .unwrap_or(Quantity::ZERO);
    let divisor = selector
        .divisor
        .as_ref()
        .map(quantity::from_api)
        .filter(|divisor| !divisor.is_zero());
    let (amount, divisor) = match what {
        "cpu" => (
            amount.milli_value(),
            divisor.map_or(1000, |divisor| divisor.milli_value()),
        ),
        _ => (amount.value(), divisor.map_or(1, |divisor| divisor.value())),
    };
    Ok((amount + divisor - 1)
        .checked_div(divisor)
        .unwrap_or(amount)
        .to_string())
}
