//! Certificates of the store's members among each other: an authority of their own, so that no client's certificate opens
//! the peers' port and no member's certificate is a user. A certificate names its member by id, never by address.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose};
use rustls::pki_types::ServerName;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;

use super::{
    Ca, Issued, LEAF_LIFE, PkiError, ServerNames, certificates, covers, files, is_of, issuer_of, name,
    subjects_of, trimmed, unusable,
};

/// The files `peer-ca.crt` and `peer-ca.key`, and what is beside them while another authority takes over.
pub(super) const CA_FILES: &str = "peer-ca";
/// Start of the authority's name.
pub(super) const CA_NAME: &str = "corten-peer-ca";
/// The files `peer.crt` and `peer.key`.
const OWN_FILES: &str = "peer";
/// What follows a member's id in the name of its certificate.
const DOMAIN: &str = ".member.corten.internal";

/// One member's credentials.
#[derive(Clone)]
pub struct PeerPki {
    ca: Ca,
    own: Issued,
}

impl PeerPki {
    /// Makes the authority if `dir` has none yet: a cluster's founder does this before anyone joins.
    ///
    /// # Errors
    /// See [`Ca::open`].
    pub fn ensure_ca(dir: &Path, now: OffsetDateTime) -> Result<(), PkiError> {
        Ca::open_as(dir, CA_FILES, CA_NAME, now).map(|_| ())
    }

    /// Opens or makes the files below `dir`; the certificate is issued anew when it is another member's, another
    /// authority's, or ends soon.
    ///
    /// # Errors
    /// See [`Ca::open`].
    pub fn open(dir: &Path, member: u64, now: OffsetDateTime) -> Result<PeerPki, PkiError> {
        let ca = Ca::open_as(dir, CA_FILES, CA_NAME, now)?;
        let names = ServerNames {
            dns: vec![name_of(member)],
            ips: Vec::new(),
        };
        let own = match files::load(dir, OWN_FILES)? {
            Some(found) if is_of(&found.cert_pem, &ca) && covers(&found.cert_pem, &names, LEAF_LIFE, now) => {
                trimmed(found, &ca)
            }
            _ => {
                let mut params = CertificateParams::new(names.dns)?;
                params.distinguished_name = name(&format!("{member:016x}"), &[])?;
                params.extended_key_usages = vec![
                    ExtendedKeyUsagePurpose::ServerAuth,
                    ExtendedKeyUsagePurpose::ClientAuth,
                ];
                let issued = ca.issue(params, LEAF_LIFE, now)?;
                files::store(dir, OWN_FILES, &issued)?;
                issued
            }
        };
        Ok(PeerPki { ca, own })
    }

    /// TLS 1.3, and only for who has a certificate of the peers' authority.
    ///
    /// # Errors
    /// PEM that does not hold what its name says.
    pub fn server_tls(&self) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.roots()?, provider.clone()).build()?;
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates(&self.own.cert_pem)?, self.key()?)?;
        Ok(Arc::new(config))
    }

    /// The dialling side; the name to expect is [`server_name`].
    ///
    /// # Errors
    /// PEM that does not hold what its name says.
    pub fn client_tls(&self) -> Result<Arc<rustls::ClientConfig>, PkiError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(certificates(&self.own.cert_pem)?, self.key()?)?;
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<Arc<rustls::RootCertStore>, PkiError> {
        let mut roots = rustls::RootCertStore::empty();
        for cert in certificates(&self.ca.bundle())? {
            roots.add(cert)?;
        }
        Ok(Arc::new(roots))
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, PkiError> {
        PrivateKeyDer::from_pem_slice(self.own.key_pem.as_bytes())
            .map_err(|error| unusable("peer.key", &error))
    }
}

/// What one member shows and believes now; it changes while the member runs. Open connections stay as they are. Clones are
/// the same.
#[derive(Clone, Default)]
pub struct PeerTls(Arc<Shared>);

#[derive(Default)]
struct Shared {
    now: RwLock<Option<Now>>,
    /// Who signed the certificate that a member has shown last, by the member's id. As many as there ever were members.
    issuers: Mutex<HashMap<u64, Vec<u8>>>,
}

#[derive(Clone)]
struct Now {
    pki: PeerPki,
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
}

impl std::fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PeerTls")
    }
}

impl PeerTls {
    /// Opens the files below `dir` and takes over what has changed.
    ///
    /// # Errors
    /// See [`PeerPki::open`].
    pub fn renew(&self, dir: &Path, member: u64, now: OffsetDateTime) -> Result<(), PkiError> {
        let pki = PeerPki::open(dir, member, now)?;
        let same =
            |old: &Now| old.pki.own.cert_pem == pki.own.cert_pem && old.pki.ca.bundle() == pki.ca.bundle();
        if self.0.now.read().as_ref().is_some_and(same) {
            return Ok(());
        }
        let (server, client) = (pki.server_tls()?, pki.client_tls()?);
        *self.0.now.write() = Some(Now { pki, server, client });
        Ok(())
    }

    /// `None`: this member does not know yet who it is.
    #[must_use]
    pub fn server(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.0.now.read().as_ref().map(|now| now.server.clone())
    }

    /// `None`: this member does not know yet who it is.
    #[must_use]
    pub fn client(&self) -> Option<Arc<rustls::ClientConfig>> {
        self.0.now.read().as_ref().map(|now| now.client.clone())
    }

    /// Notes what a member has shown; it was found to be good.
    pub fn note(&self, member: u64, certificate: &CertificateDer<'_>) {
        if let Some(issuer) = issuer_of(certificate) {
            self.0.issuers.lock().insert(member, issuer);
        }
    }

    /// Whether the certificate that a member has shown last is of the newest authority.
    #[must_use]
    pub fn is_newest(&self, member: u64) -> bool {
        let newest = self
            .0
            .now
            .read()
            .as_ref()
            .and_then(|now| subjects_of(now.pki.ca.cert_pem()).into_iter().next());
        newest.is_some() && self.0.issuers.lock().get(&member) == newest.as_ref()
    }
}

fn name_of(member: u64) -> String {
    format!("{member:016x}{DOMAIN}")
}

/// The name in the certificate of `member`.
#[must_use]
pub fn server_name(member: u64) -> ServerName<'static> {
    ServerName::try_from(name_of(member)).expect("hexadecimal digits and letters are a name")
}

/// Whose certificate this is; its signature has been checked.
#[must_use]
pub fn member_of(certificate: &CertificateDer<'_>) -> Option<u64> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => u64::from_str_radix(name.strip_suffix(DOMAIN)?, 16).ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_its_member_and_is_renewed_for_another() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let now = OffsetDateTime::now_utc();
        PeerPki::ensure_ca(dir.path(), now).expect("ca");
        let first = PeerPki::open(dir.path(), 0xab, now).expect("first");
        let again = PeerPki::open(dir.path(), 0xab, now).expect("again");
        assert_eq!(first.own.cert_pem, again.own.cert_pem);
        let other = PeerPki::open(dir.path(), 0xcd, now).expect("other");
        assert_eq!(first.ca.cert_pem(), other.ca.cert_pem());
        for (pki, member) in [(&first, 0xab), (&other, 0xcd)] {
            let der = certificates(&pki.own.cert_pem).expect("pem");
            assert_eq!(member_of(&der[0]), Some(member));
            pki.server_tls().expect("usable");
            pki.client_tls().expect("usable");
        }
    }
}
