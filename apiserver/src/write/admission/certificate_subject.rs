//! CertificateSubjectRestriction: nobody becomes a member of `system:masters` by a certificate request. Pure.

use corten_api::Status;
use corten_api::kinds::certificates::request;
use serde_json::Value;

use super::{Attributes, Operation};
use crate::identity::MASTERS;

/// The signer of certificates for users, and the group it never signs for.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// # Errors
/// `Forbidden` with upstream's text.
pub fn validate(attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
    if attributes.operation != Operation::Create
        || !attributes.is("certificates.k8s.io", "certificatesigningrequests")
    {
        return Ok(());
    }
    let spec = &object["spec"];
    if spec["signerName"] != CLIENT_SIGNER {
        return Ok(());
    }
    let organizations = request::organizations(spec["request"].as_str().unwrap_or_default());
    if organizations.iter().any(|group| group == MASTERS) {
        return Err(attributes.forbidden(format!(
            "use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"
        )));
    }
    Ok(())
}
