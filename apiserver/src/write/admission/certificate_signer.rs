//! CertificateApproval and CertificateSigning: who approves a request for a signer's certificate, or signs it, needs the
//! right to that signer beside the right to the request. Pure.
//!
//! Source: Kubernetes `plugin/pkg/admission/certificates/approval` and `signing`.

use corten_api::Status;
use serde_json::Value;

use super::{Attributes, Operation};
use crate::authorize;
use crate::rbac::rules::Rules;

const GROUP: &str = "certificates.k8s.io";

/// # Errors
/// `Forbidden` with upstream's texts.
pub fn validate(attributes: &Attributes<'_>, object: &Value, rules: &Rules) -> Result<(), Status> {
    let ty = attributes.subject.ty;
    if attributes.operation != Operation::Update
        || ty.group != GROUP
        || ty.plural != "certificatesigningrequests"
        || attributes.user.name.is_empty()
    {
        return Ok(());
    }
    let verb = match attributes.subresource {
        "approval" => "approve",
        "status" if signs(attributes.old.unwrap_or(&Value::Null), object) => "sign",
        _ => return Ok(()),
    };
    let signer = object["spec"]["signerName"].as_str().unwrap_or_default();
    let may = |name: &str| {
        let asked = authorize::Attributes {
            name,
            ..authorize::Attributes::resource(attributes.user, verb, GROUP, "signers")
        };
        rules.authorize(&asked).allowed()
    };
    if may(signer) || may(&of_domain(signer)) {
        return Ok(());
    }
    Err(attributes.forbidden(format!(
        "user not permitted to {verb} requests with signerName {}",
        corten_api::field::quoted(signer)
    )))
}

/// Whether a write of the status is what a signer does.
fn signs(old: &Value, new: &Value) -> bool {
    ["certificate", "conditions"]
        .iter()
        .any(|field| old["status"][*field] != new["status"][*field])
}

/// All signers of the same domain: `example.com/*`.
fn of_domain(signer: &str) -> String {
    format!("{}/*", signer.split('/').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_signer_does() {
        let status =
            |certificate: &str, other: &str| json!({ "status": { "certificate": certificate, "x": other } });
        assert!(signs(&status("", ""), &status("YQ==", "")));
        assert!(!signs(&status("YQ==", ""), &status("YQ==", "y")));
        assert_eq!(of_domain("example.com/a"), "example.com/*");
    }
}
