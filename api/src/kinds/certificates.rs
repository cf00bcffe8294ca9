//! Kinds of the certificates group.

mod conditions;
pub mod pem;
pub mod request;
mod signer;
pub mod signing_request;

use crate::resource::{READ_WRITE, ResourceType, SubresourceType};

pub(crate) const RESOURCES: &[ResourceType] = &[ResourceType::new(
    [
        "certificates.k8s.io",
        "v1",
        "CertificateSigningRequest",
        "certificatesigningrequests",
    ],
    "certificatesigningrequest",
    "certificates.v1.CertificateSigningRequest",
    &signing_request::CertificateSigningRequest,
)
.cluster()
.short(&["csr"])
.subresources(&[
    SubresourceType::new("approval", "CertificateSigningRequest", READ_WRITE),
    SubresourceType::status("CertificateSigningRequest"),
])];
