//! How this server shows aggregated API servers that a request comes from it, with the user it has authenticated: a client
//! certificate of an authority of its own, the same on every server of a cluster.

use std::path::Path;
use std::sync::Arc;

use time::OffsetDateTime;
use tokio::sync::watch;

use super::{Ca, Issued, LEAF_LIFE, PkiError, issue_client, lasts};

/// The name in the certificate; aggregated servers take users from no other.
pub const CLIENT: &str = "front-proxy-client";
/// Start of the names of the files that servers of a cluster share.
pub(super) const CA_FILES: &str = "front-proxy-ca";
/// Start of the authority's name.
pub(super) const CA_NAME: &str = "corten-front-proxy-ca";

/// The authority and this server's certificate.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    /// What aggregated servers check the certificate with, in PEM, the newest first.
    pub ca_pem: String,
    pub client: Issued,
}

impl FrontProxy {
    /// With the authority kept in `dir`, made there if it is the first start.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub fn open(dir: &Path, now: OffsetDateTime) -> Result<FrontProxy, PkiError> {
        FrontProxy::of(&Ca::open_as(dir, CA_FILES, CA_NAME, now)?)
    }

    /// With an authority that lives as long as this process, for tests.
    ///
    /// # Errors
    /// Only if a key cannot be generated.
    pub fn generate(now: OffsetDateTime) -> Result<FrontProxy, PkiError> {
        FrontProxy::of(&Ca::generate_as(CA_NAME, now)?)
    }

    fn of(ca: &Ca) -> Result<FrontProxy, PkiError> {
        Ok(FrontProxy {
            ca_pem: ca.bundle(),
            client: issue_client(ca, CLIENT, &[])?,
        })
    }
}

/// The one in force, which changes when its authority is replaced or its certificate is about to end. Clones are the same.
#[derive(Clone, Debug)]
pub struct CurrentFrontProxy(Arc<watch::Sender<Arc<FrontProxy>>>);

impl From<FrontProxy> for CurrentFrontProxy {
    fn from(first: FrontProxy) -> CurrentFrontProxy {
        CurrentFrontProxy(Arc::new(watch::Sender::new(Arc::new(first))))
    }
}

impl CurrentFrontProxy {
    #[must_use]
    pub fn get(&self) -> Arc<FrontProxy> {
        self.0.borrow().clone()
    }

    /// Tells when another one is in force.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<FrontProxy>> {
        self.0.subscribe()
    }

    pub fn set(&self, next: FrontProxy) {
        self.0.send_replace(Arc::new(next));
    }

    /// Takes over what has changed below `dir`, and makes a new certificate when this one is about to end.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn renew(&self, dir: &Path, now: OffsetDateTime) -> Result<(), PkiError> {
        let (old, new) = (self.get(), FrontProxy::open(dir, now)?);
        if old.ca_pem != new.ca_pem || !lasts(&old.client.cert_pem, LEAF_LIFE, now) {
            self.set(new);
        }
        Ok(())
    }
}
