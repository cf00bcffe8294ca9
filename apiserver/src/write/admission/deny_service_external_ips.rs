//! DenyServiceExternalIPs: no Service takes addresses that are not the cluster's. Off by default, as upstream. Pure.
//!
//! Source: Kubernetes `plugin/pkg/admission/network/denyserviceexternalips`; CVE-2020-8554.

use corten_api::Status;
use serde_json::Value;

use super::{Attributes, Operation};

/// # Errors
/// `Forbidden` for an address that the Service did not have before.
pub fn validate(attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
    let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
    match writes && attributes.is("", "services") && takes_more(object, attributes.old) {
        true => Err(attributes.forbidden("Use of external IPs is denied by admission control")),
        false => Ok(()),
    }
}

fn takes_more(new: &Value, old: Option<&Value>) -> bool {
    let of = |service: &Value| -> Vec<String> {
        let ips = service["spec"]["externalIPs"].as_array().into_iter().flatten();
        ips.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let had = old.map(of).unwrap_or_default();
    of(new).iter().any(|ip| !had.contains(ip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_service_has_it_keeps() {
        let service = |ips: &[&str]| json!({ "spec": { "externalIPs": ips } });
        for (new, old, more) in [
            (service(&[]), None, false),
            (service(&["192.0.2.1"]), None, true),
            (
                service(&["192.0.2.1"]),
                Some(service(&["192.0.2.1", "192.0.2.2"])),
                false,
            ),
            (
                service(&["192.0.2.1", "192.0.2.3"]),
                Some(service(&["192.0.2.1"])),
                true,
            ),
            (json!({ "spec": {} }), Some(json!({})), false),
        ] {
            assert_eq!(takes_more(&new, old.as_ref()), more, "{new} {old:?}");
        }
    }
}
