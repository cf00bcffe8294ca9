//! A new authority beside the old one: both are believed until the old one is dropped.
//!
//! The old authority also signs the new one's key: who trusts only the old certificate believes what the new one has signed,
//! by a certificate that is sent along. So no client has to be told before.
//!
//! Files below `pki/`: `ca.crt` and `ca.key` are always the newest; `ca-old.crt` is the one before, `ca-cross.crt` its word for
//! the newest. The old key is destroyed.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use time::OffsetDateTime;

use super::{BACKDATE, Ca, Issued, PkiError, certificates, files, name};

const FILES: &str = "ca";
const OLD: &str = "ca-old.crt";
const CROSS: &str = "ca-cross.crt";

#[derive(Debug, thiserror::Error)]
pub enum RolloverError {
    #[error("there is no authority in this folder")]
    None,
    #[error("the authority before this one is still believed: finish that first")]
    Unfinished,
    #[error("only one authority is believed: there is nothing to finish")]
    Finished,
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// What is believed and shown beside the newest certificate.
#[derive(Clone, Default)]
pub(super) struct Older {
    /// PEM; empty outside of a rollover.
    pub trusted: String,
    /// PEM of the certificate that leads from the newest authority to the one before.
    pub cross: String,
}

impl Older {
    pub fn read(dir: &Path) -> Result<Older, PkiError> {
        Ok(Older {
            trusted: files::read_text(&dir.join(OLD))?.unwrap_or_default(),
            cross: files::read_text(&dir.join(CROSS))?.unwrap_or_default(),
        })
    }
}

/// Makes a new authority and keeps the old certificate. Servers take it up at their next look, or when they are started
/// again; the files are the same on all of them.
///
/// # Errors
/// See [`RolloverError`].
pub fn rotate(dir: &Path, now: OffsetDateTime) -> Result<(), RolloverError> {
    let Some(found) = files::load(dir, FILES)? else {
        return Err(RolloverError::None);
    };
    if files::read_text(&dir.join(OLD))?.is_some() {
        return Err(RolloverError::Unfinished);
    }
    let old = Ca {
        cert_pem: found.cert_pem,
        key_pem: found.key_pem,
        older: Older::default(),
    };
    // Another name: whose certificate is whose shows, and no chain is ambiguous.
    let common_name = format!("corten-ca-{}", now.unix_timestamp());
    let new = Ca::generate_as(&common_name, now)?;
    let cross = cross(&old, &new, &common_name, now)?;
    // The old certificate first: a crash in between leaves the old authority, believed twice.
    files::write_public(&dir.join(OLD), old.cert_pem.as_bytes())?;
    files::write_public(&dir.join(CROSS), cross.as_bytes())?;
    files::store(
        dir,
        FILES,
        &Issued {
            cert_pem: new.cert_pem,
            key_pem: new.key_pem,
        },
    )?;
    Ok(())
}

/// Believes the newest authority alone from now on.
///
/// # Errors
/// See [`RolloverError`].
pub fn finish(dir: &Path) -> Result<(), RolloverError> {
    if files::read_text(&dir.join(OLD))?.is_none() {
        return Err(RolloverError::Finished);
    }
    files::remove(&dir.join(CROSS))?;
    files::remove(&dir.join(OLD))?;
    Ok(())
}

/// The old authority's word for the new one's key. It ends with the old one.
fn cross(old: &Ca, new: &Ca, common_name: &str, now: OffsetDateTime) -> Result<String, PkiError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = name(common_name, &[])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now - BACKDATE;
    let der = certificates(&old.cert_pem)?;
    let end = der
        .first()
        .and_then(|der| x509_parser::parse_x509_certificate(der).ok())
        .map(|(_, old)| old.validity().not_after.to_datetime());
    params.not_after = end.unwrap_or(now);
    let key = KeyPair::from_pem(&new.key_pem)?;
    Ok(params.signed_by(&key, &old.issuer()?)?.pem())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Pki, ServerNames, issue_client};
    use super::*;
    use rustls::client::danger::ServerCertVerifier;
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

    fn names() -> ServerNames {
        ServerNames::new("cluster.local", [10, 96, 0, 1].into(), [])
    }

    fn roots(pem: &str) -> Arc<rustls::RootCertStore> {
        let mut roots = rustls::RootCertStore::empty();
        certificates(pem)
            .expect("PEM")
            .into_iter()
            .for_each(|der| roots.add(der).expect("root"));
        Arc::new(roots)
    }

    /// Whether a client that trusts `ca_pem` believes a server that shows `chain`.
    fn believes(ca_pem: &str, chain: &str) -> bool {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots(ca_pem), provider)
            .build()
            .expect("verifier");
        let chain: Vec<CertificateDer<'_>> = certificates(chain).expect("PEM");
        let name = ServerName::try_from("kubernetes.default.svc").expect("a name");
        verifier
            .verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now())
            .is_ok()
    }

    /// The same of a client's chain and a server.
    fn admits(ca_pem: &str, chain: &str) -> bool {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots(ca_pem), provider)
            .build()
            .expect("verifier");
        let chain = certificates(chain).expect("PEM");
        verifier
            .verify_client_cert(&chain[0], &chain[1..], UnixTime::now())
            .is_ok()
    }

    #[test]
    fn old_and_new_believe_each_other_until_the_end() {
        let dir = tempfile::tempdir().expect("a folder");
        let now = OffsetDateTime::now_utc();
        let open = || Pki::open(dir.path(), &names(), now).expect("opens");
        let old = open();
        rotate(dir.path(), now).expect("rotates");
        assert!(matches!(rotate(dir.path(), now), Err(RolloverError::Unfinished)));
        let both = open();
        assert_ne!(old.server.cert_pem, both.server.cert_pem, "signed by the new one");
        assert_ne!(old.admin.cert_pem, both.admin.cert_pem);
        assert_eq!(certificates(&both.ca.bundle()).expect("PEM").len(), 2);
        let shown = both.server_chain();
        // Clients of before, of after, and those that know both.
        for trusted in [old.ca.cert_pem(), both.ca.cert_pem(), &both.ca.bundle()] {
            assert!(believes(trusted, &shown));
        }
        assert!(believes(&both.ca.bundle(), &old.server.cert_pem), "a server that does not know yet");
        // Clients' certificates of before and of after, at servers of before and of after.
        let client = issue_client(&both.ca, "x", &[]).expect("issued");
        let with_cross = format!("{}{}", client.cert_pem, both.ca.older.cross);
        assert!(admits(&both.ca.bundle(), &old.admin.cert_pem));
        assert!(admits(&both.ca.bundle(), &client.cert_pem));
        assert!(admits(old.ca.cert_pem(), &with_cross));
        finish(dir.path()).expect("finishes");
        assert!(matches!(finish(dir.path()), Err(RolloverError::Finished)));
        let new = open();
        assert_eq!(new.server.cert_pem, both.server.cert_pem, "nothing is issued again");
        assert!(!admits(&new.ca.bundle(), &old.admin.cert_pem));
        assert!(!believes(&new.ca.bundle(), &old.server.cert_pem));
        assert!(admits(&new.ca.bundle(), &client.cert_pem));
    }
}
