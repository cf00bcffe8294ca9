//! A node's identity: a key and the certificate for it, in one file, so that there is never one without the other.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

/// How much of a certificate's life has passed when it is renewed, at least; the jitter comes on top.
const RENEW_AFTER: f64 = 0.6;
/// Nodes that were made together do not renew together: up to this much of the life later.
const JITTER: f64 = 0.15;

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("{action} {path}")]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("the identity is damaged: {0}")]
    Damaged(String),
    #[error("TLS configuration")]
    Tls(#[from] rustls::Error),
}

/// A certificate with its key, both PEM.
#[derive(Clone)]
pub struct Identity {
    certificate_pem: String,
    key_pem: String,
    facts: Facts,
}

/// What its certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub common_name: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.facts.fmt(f)
    }
}

impl Identity {
    /// # Errors
    /// A certificate that cannot be read.
    pub fn new(certificate_pem: String, key_pem: String) -> Result<Identity, IdentityError> {
        let facts =
            facts(&certificate_pem).ok_or_else(|| IdentityError::Damaged("no certificate in it".into()))?;
        Ok(Identity {
            certificate_pem,
            key_pem,
            facts,
        })
    }

    /// The identity in a file; `None` if there is no file.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds something else.
    pub fn load(path: &Path) -> Result<Option<Identity>, IdentityError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(IdentityError::File {
                    action: "read",
                    path: path.to_owned(),
                    source,
                });
            }
        };
        // Both stand in it; whoever reads PEM skips what is not asked for.
        Identity::new(text.clone(), text).map(Some)
    }

    /// # Errors
    /// What the file system reports.
    pub fn store(&self, path: &Path) -> Result<(), IdentityError> {
        let text = format!("{}{}", self.certificate_pem, self.key_pem);
        crate::file::replace(path, text.as_bytes(), 0o600).map_err(|source| IdentityError::File {
            action: "write",
            path: path.to_owned(),
            source,
        })
    }

    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether the first of these authorities has signed it, by its name.
    #[must_use]
    pub fn is_of_first(&self, ca_pem: &str) -> bool {
        let first = |pem: &str| CertificateDer::pem_slice_iter(pem.as_bytes()).next()?.ok();
        let (Some(own), Some(authority)) = (first(&self.certificate_pem), first(ca_pem)) else {
            return false;
        };
        match (
            X509Certificate::from_der(&own),
            X509Certificate::from_der(&authority),
        ) {
            (Ok((_, own)), Ok((_, authority))) => own.issuer().as_raw() == authority.subject().as_raw(),
            _ => false,
        }
    }

    /// What proves this identity to servers that `ca_pem` vouches for. Sessions are not resumed: a resumed one would go on
    /// as who one was before.
    ///
    /// # Errors
    /// Certificates or keys that cannot be used.
    pub fn tls(&self, ca_pem: &str) -> Result<rustls::ClientConfig, IdentityError> {
        let damaged = |error: rustls::pki_types::pem::Error| IdentityError::Damaged(error.to_string());
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            roots.add(certificate.map_err(damaged)?)?;
        }
        let chain = CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(damaged)?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(damaged)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }
}

fn facts(pem: &str) -> Option<Facts> {
    let der = CertificateDer::pem_slice_iter(pem.as_bytes()).next()?.ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    Some(Facts {
        common_name: certificate
            .subject()
            .iter_common_name()
            .next()?
            .as_str()
            .ok()?
            .to_owned(),
        not_before: at(certificate.validity().not_before)?,
        not_after: at(certificate.validity().not_after)?,
    })
}

impl Facts {
    /// When to renew: after six tenths to three quarters of the life that is left from `from`, the moment it was taken into
    /// use. `random` is in `0..1`.
    #[must_use]
    pub fn renew_at(&self, from: Timestamp, random: f64) -> Timestamp {
        let start = from.max(self.not_before);
        let life = self.not_after.duration_since(start).as_secs_f64().max(0.0);
        let after =
            SignedDuration::try_from_secs_f64(life * (RENEW_AFTER + JITTER * random)).unwrap_or_default();
        start.checked_add(after).unwrap_or(self.not_after)
    }

    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.not_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("identity.pem");
        assert!(Identity::load(&path).expect("nothing yet").is_none());
        let key = rcgen::KeyPair::generate().expect("key");
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "system:node:n");
        let certificate = params.self_signed(&key).expect("certificate").pem();
        let identity = Identity::new(certificate.clone(), key.serialize_pem()).expect("identity");
        identity.store(&path).expect("written");
        let again = Identity::load(&path).expect("read").expect("there");
        assert_eq!(again.facts(), identity.facts());
        assert_eq!(again.facts().common_name, "system:node:n");
        again.tls(&certificate).expect("usable");
        std::fs::write(&path, "nonsense").expect("written");
        assert!(Identity::load(&path).is_err());
    }

    #[test]
    fn it_is_renewed_well_before_its_end() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let facts = Facts {
            common_name: "n".into(),
            not_before: at(1000),
            not_after: at(2000),
        };
        assert_eq!(facts.renew_at(at(0), 0.0), at(1600));
        assert_eq!(facts.renew_at(at(1000), 1.0), at(1750));
        assert_eq!(
            facts.renew_at(at(1500), 0.0),
            at(1800),
            "found on disk at a restart"
        );
        assert_eq!(facts.renew_at(at(3000), 0.5), at(3000), "at once");
        assert!(facts.is_over(at(2000)) && !facts.is_over(at(1999)));
    }
}
