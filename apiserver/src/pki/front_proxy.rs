//! How this server shows aggregated API servers that a request comes from it, with the user it has authenticated: a client
//! certificate of an authority of its own, the same on every server of a cluster.

use std::path::Path;

use time::OffsetDateTime;

use super::{Ca, Issued, PkiError, issue_client};

/// The name in the certificate; aggregated servers take users from no other.
pub const CLIENT: &str = "front-proxy-client";
/// Start of the names of the files that servers of a cluster share.
const FILE: &str = "front-proxy-ca";

/// The authority and this server's certificate.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    /// What aggregated servers check the certificate with, in PEM.
    pub ca_pem: String,
    pub client: Issued,
}

impl FrontProxy {
    /// With the authority kept in `dir`, made there if it is the first start.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub fn open(dir: &Path, now: OffsetDateTime) -> Result<FrontProxy, PkiError> {
        FrontProxy::of(&Ca::open_as(dir, FILE, "corten-front-proxy-ca", now)?)
    }

    /// With an authority that lives as long as this process, for tests.
    ///
    /// # Errors
    /// Only if a key cannot be generated.
    pub fn generate(now: OffsetDateTime) -> Result<FrontProxy, PkiError> {
        FrontProxy::of(&Ca::generate_as("corten-front-proxy-ca", now)?)
    }

    fn of(ca: &Ca) -> Result<FrontProxy, PkiError> {
        Ok(FrontProxy {
            ca_pem: ca.cert_pem().to_owned(),
            client: issue_client(ca, CLIENT, &[])?,
        })
    }
}
