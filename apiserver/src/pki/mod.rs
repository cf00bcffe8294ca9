//! Certificates of one cluster: the CA, the server's certificate, client certificates and kubeconfigs.
//!
//! Knows files in one directory and X.509. Must not know requests, the store, or what an identity may do.
//!
//! Layout below the directory: `peer-ca` and `peer` (see [`peers`]), `ca.crt`, `ca.key`, `server.crt`, `server.key`, `admin.crt`, `admin.key`,
//! `sa.key`. Keys have mode 0600. Every file is written beside its place, synced and renamed, so a crash leaves the old
//! file or the new one. A key is always written before its certificate; a certificate whose key is missing or
//! does not fit is an error, never silently replaced: it would cut off every client that trusts the old CA.

mod account_key;
mod files;
mod front_proxy;
mod kubeconfig;
pub mod peers;
mod profile;
pub mod rollover;
mod share;
mod sign;
mod tls;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

/// The file with the keys that stored objects are encrypted with, unless a server is given another. Servers share it.
pub const ENCRYPTION: &str = "encryption.yaml";

pub use account_key::AccountKey;
pub use files::write_private;
pub use front_proxy::{CLIENT as FRONT_PROXY_CLIENT, CurrentFrontProxy, FrontProxy};
pub use kubeconfig::{kubeconfig, write_kubeconfig};
pub use profile::TlsProfile;
pub use share::{shared, store_shared};
pub use sign::SignRequest;
pub use tls::ServerTls;

/// Life of the CA certificate.
pub const CA_LIFE: Duration = Duration::days(3650);
/// Life of server and client certificates, unless another is asked for.
pub const LEAF_LIFE: Duration = Duration::days(365);
/// A certificate with less than this part of its life left is issued anew: a third.
const RENEW_WITHIN: i32 = 3;
/// Certificates are valid from this long before they are issued, for hosts whose clocks are behind.
const BACKDATE: Duration = Duration::minutes(5);
pub(crate) const BACKDATE_SECONDS: i64 = BACKDATE.whole_seconds();

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("{action} {path}")]
    File {
        action: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("certificate")]
    Certificate(#[from] rcgen::Error),
    #[error("{path} holds no usable certificate: {reason}")]
    Unusable { path: PathBuf, reason: String },
    #[error("a client certificate holds at most {MAX_GROUPS} groups, {asked} were asked for")]
    TooManyGroups { asked: usize },
    #[error("TLS configuration")]
    Tls(#[from] rustls::Error),
    #[error("client certificate verifier")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// A certificate with its private key, both PEM.
#[derive(Clone)]
pub struct Issued {
    pub cert_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued")
            .field("cert_pem", &self.cert_pem)
            .finish_non_exhaustive()
    }
}

/// The names and addresses the server's certificate must cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerNames {
    pub dns: Vec<String>,
    pub ips: Vec<IpAddr>,
}

impl ServerNames {
    /// The names every Kubernetes API server answers to, plus `localhost`, the Service address and `extra`.
    #[must_use]
    pub fn new(
        cluster_domain: &str,
        service_ip: IpAddr,
        extra: impl IntoIterator<Item = IpAddr>,
    ) -> ServerNames {
        let dns = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "localhost",
        ]
        .into_iter()
        .map(str::to_owned)
        .chain([format!("kubernetes.default.svc.{cluster_domain}")])
        .collect();
        let mut ips = vec![IpAddr::from([127, 0, 0, 1]), service_ip];
        for ip in extra {
            if !ip.is_unspecified() && !ips.contains(&ip) {
                ips.push(ip);
            }
        }
        ServerNames { dns, ips }
    }
}

/// The cluster's certificate authority: signs server and client certificates.
#[derive(Clone)]
pub struct Ca {
    cert_pem: String,
    key_pem: String,
    older: rollover::Older,
}

impl Ca {
    /// A new self-signed authority, not yet on disk.
    ///
    /// # Errors
    /// Only if the key cannot be generated.
    pub fn generate(now: OffsetDateTime) -> Result<Ca, PkiError> {
        Ca::generate_as("corten-ca", now)
    }

    fn generate_as(common_name: &str, now: OffsetDateTime) -> Result<Ca, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = name(common_name, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        params.not_before = now - BACKDATE;
        params.not_after = now + CA_LIFE;
        let cert = params.self_signed(&key)?;
        Ok(Ca {
            cert_pem: cert.pem(),
            key_pem: key.serialize_pem(),
            older: rollover::Older::default(),
        })
    }

    /// The authority kept in `dir`, made there if it is the first start.
    ///
    /// # Errors
    /// Files that cannot be read or written, or that do not hold a certificate and its key.
    pub fn open(dir: &Path, now: OffsetDateTime) -> Result<Ca, PkiError> {
        rollover::recover(dir)?;
        Ca::open_as(dir, "ca", "corten-ca", now)
    }

    /// An authority with files and a name of its own, and with the one before it.
    fn open_as(dir: &Path, file: &str, common_name: &str, now: OffsetDateTime) -> Result<Ca, PkiError> {
        if let Some(found) = files::load(dir, file)? {
            let ca = Ca {
                cert_pem: found.cert_pem,
                key_pem: found.key_pem,
                older: rollover::older(dir, file)?,
            };
            ca.issuer().map_err(|source| PkiError::Unusable {
                path: dir.join(format!("{file}.key")),
                reason: source.to_string(),
            })?;
            return Ok(ca);
        }
        let ca = Ca::generate_as(common_name, now)?;
        files::store(
            dir,
            file,
            &Issued {
                cert_pem: ca.cert_pem.clone(),
                key_pem: ca.key_pem.clone(),
            },
        )?;
        Ok(ca)
    }

    /// The authority's own certificate, PEM.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The certificates to trust, PEM, this one first; more than one while another takes over.
    #[must_use]
    pub fn bundle(&self) -> String {
        format!("{}{}", self.cert_pem, self.older.trusted)
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, rcgen::Error> {
        Issuer::from_ca_cert_pem(&self.cert_pem, KeyPair::from_pem(&self.key_pem)?)
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        life: Duration,
        now: OffsetDateTime,
    ) -> Result<Issued, PkiError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = now - BACKDATE;
        params.not_after = now + life;
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer()?)?;
        // Who shows it shows also what leads to an authority that is about to go.
        Ok(Issued {
            cert_pem: format!("{}{}", cert.pem(), self.older.cross),
            key_pem: key.serialize_pem(),
        })
    }
}

/// Most groups one client certificate of ours can name.
pub const MAX_GROUPS: usize = 2;

/// `rcgen` keeps one value for each attribute type, but Kubernetes reads every `O` as a group: the second group
/// is written as a custom type with the same object identifier.
fn name(common_name: &str, organizations: &[&str]) -> Result<DistinguishedName, PkiError> {
    const ORGANIZATION_NAME: [u64; 4] = [2, 5, 4, 10];
    let types = [
        DnType::OrganizationName,
        DnType::CustomDnType(ORGANIZATION_NAME.to_vec()),
    ];
    if organizations.len() > MAX_GROUPS {
        return Err(PkiError::TooManyGroups {
            asked: organizations.len(),
        });
    }
    let mut name = DistinguishedName::new();
    for (kind, organization) in types.into_iter().zip(organizations) {
        name.push(kind, *organization);
    }
    name.push(DnType::CommonName, common_name);
    Ok(name)
}

/// A client certificate for user `common_name` in the groups `organizations` (at most [`MAX_GROUPS`]), valid for
/// [`LEAF_LIFE`] from now.
///
/// # Errors
/// Too many groups, or a CA whose key does not fit.
pub fn issue_client(ca: &Ca, common_name: &str, organizations: &[&str]) -> Result<Issued, PkiError> {
    issue_client_for(ca, common_name, organizations, LEAF_LIFE)
}

/// As [`issue_client`], valid for `life` from now.
///
/// # Errors
/// See [`issue_client`].
pub fn issue_client_for(
    ca: &Ca,
    common_name: &str,
    organizations: &[&str],
    life: Duration,
) -> Result<Issued, PkiError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = name(common_name, organizations)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    ca.issue(params, life, OffsetDateTime::now_utc())
}

/// A server certificate that covers `names`, valid for [`LEAF_LIFE`] from `now`.
///
/// # Errors
/// A name that is not ASCII, or a CA whose key does not fit.
pub fn issue_server(ca: &Ca, names: &ServerNames, now: OffsetDateTime) -> Result<Issued, PkiError> {
    issue_server_for(ca, names, LEAF_LIFE, now)
}

fn issue_server_for(
    ca: &Ca,
    names: &ServerNames,
    life: Duration,
    now: OffsetDateTime,
) -> Result<Issued, PkiError> {
    let mut params = CertificateParams::new(names.dns.clone())?;
    params.distinguished_name = name("corten-apiserver", &[])?;
    params
        .subject_alt_names
        .extend(names.ips.iter().copied().map(SanType::IpAddress));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    ca.issue(params, life, now)
}

/// Everything a server needs, opened from its data directory.
#[derive(Clone)]
pub struct Pki {
    pub ca: Ca,
    pub server: Issued,
    /// User `kubernetes-admin` in `system:masters`.
    pub admin: Issued,
    /// Signs the tokens of ServiceAccounts.
    pub accounts: AccountKey,
}

impl Pki {
    /// Opens or makes the files below `dir`. The server certificate is issued anew when it does not cover
    /// `names` or ends soon; the CA is never replaced.
    ///
    /// # Errors
    /// See [`Ca::open`].
    pub fn open(dir: &Path, names: &ServerNames, now: OffsetDateTime) -> Result<Pki, PkiError> {
        Pki::open_for(dir, names, LEAF_LIFE, now)
    }

    /// As [`Pki::open`], with a server certificate of another life. The administrator's is not shortened: people copy it.
    ///
    /// # Errors
    /// See [`Ca::open`].
    pub fn open_for(
        dir: &Path,
        names: &ServerNames,
        life: Duration,
        now: OffsetDateTime,
    ) -> Result<Pki, PkiError> {
        files::make_dir(dir)?;
        let ca = Ca::open(dir, now)?;
        let server = match files::load(dir, "server")? {
            Some(found) if is_of(&found.cert_pem, &ca) && covers(&found.cert_pem, names, life, now) => {
                trimmed(found, &ca)
            }
            _ => {
                let issued = issue_server_for(&ca, names, life, now)?;
                files::store(dir, "server", &issued)?;
                issued
            }
        };
        let admin = match files::load(dir, "admin")? {
            Some(found) if is_of(&found.cert_pem, &ca) && lasts(&found.cert_pem, LEAF_LIFE, now) => {
                trimmed(found, &ca)
            }
            _ => {
                let issued = issue_client(&ca, "kubernetes-admin", &["system:masters"])?;
                files::store(dir, "admin", &issued)?;
                issued
            }
        };
        let accounts = AccountKey::open(dir)?;
        Ok(Pki {
            ca,
            server,
            admin,
            accounts,
        })
    }

    /// TLS 1.2 and 1.3 with optional client certificates of our CA, `h2` and `http/1.1` by ALPN.
    ///
    /// # Errors
    /// PEM that does not hold what its name says.
    pub fn server_tls(&self) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        self.server_tls_as(&TlsProfile::default())
    }

    /// As [`Pki::server_tls`], with the versions and suites of `profile`.
    ///
    /// # Errors
    /// PEM that does not hold what its name says.
    pub fn server_tls_as(&self, profile: &TlsProfile) -> Result<Arc<rustls::ServerConfig>, PkiError> {
        server_tls_as(&self.ca, &self.server, profile)
    }
}

/// See [`Pki::server_tls`].
///
/// # Errors
/// PEM that does not hold what its name says.
pub fn server_tls(ca: &Ca, server: &Issued) -> Result<Arc<rustls::ServerConfig>, PkiError> {
    server_tls_as(ca, server, &TlsProfile::default())
}

fn server_tls_as(
    ca: &Ca,
    server: &Issued,
    profile: &TlsProfile,
) -> Result<Arc<rustls::ServerConfig>, PkiError> {
    let provider = Arc::new(profile.provider());
    let mut roots = rustls::RootCertStore::empty();
    for cert in certificates(&ca.bundle())? {
        roots.add(cert)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let key = PrivateKeyDer::from_pem_slice(server.key_pem.as_bytes())
        .map_err(|error| unusable("server.key", &error))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&profile.versions())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&server.cert_pem)?, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A resumed session would be its client's identity beyond the end of the certificate that showed it.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| unusable("certificate", &error))
}

fn unusable(what: &str, error: &dyn std::fmt::Display) -> PkiError {
    PkiError::Unusable {
        path: PathBuf::from(what),
        reason: error.to_string(),
    }
}

/// The name of a certificate's issuer, DER; `None` for what is no certificate.
#[must_use]
pub fn issuer_of(der: &[u8]) -> Option<Vec<u8>> {
    let (_, cert) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(cert.issuer().as_raw().to_vec())
}

/// The names of the authorities in a bundle, DER, in its order.
#[must_use]
pub fn subjects_of(bundle: &str) -> Vec<Vec<u8>> {
    let certificates = certificates(bundle).unwrap_or_default();
    let subject = |der: &CertificateDer<'static>| {
        let (_, cert) = x509_parser::parse_x509_certificate(der).ok()?;
        Some(cert.subject().as_raw().to_vec())
    };
    certificates.iter().filter_map(subject).collect()
}

/// What people are told about the certificates in a text.
#[must_use]
pub fn describe(pem: &str) -> Vec<serde_json::Value> {
    let certificates = certificates(pem).unwrap_or_default();
    let one = |der: &CertificateDer<'static>| {
        let (_, cert) = x509_parser::parse_x509_certificate(der).ok()?;
        let digest = ring::digest::digest(&ring::digest::SHA256, der);
        let hash: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let ends = cert.validity().not_after.timestamp();
        let ends = jiff::Timestamp::from_second(ends).ok()?;
        Some(
            serde_json::json!({ "subject": cert.subject().to_string(), "sha256": hash, "notAfter": ends.to_string() }),
        )
    };
    certificates.iter().filter_map(one).collect()
}

/// The serial number of the first certificate in a PEM text, hexadecimal.
#[must_use]
pub fn serial_of(pem: &str) -> Option<String> {
    let certificates = certificates(pem).ok()?;
    let certificate = crate::identity::Certificate::of(certificates.first()?)?;
    Some(certificate.serial)
}

/// A certificate without what leads to an authority that is gone.
fn trimmed(found: Issued, ca: &Ca) -> Issued {
    const END: &str = "-----END CERTIFICATE-----\n";
    let first = found.cert_pem.find(END).map(|at| at + END.len());
    match first {
        Some(end) if ca.older.cross.is_empty() && end < found.cert_pem.len() => Issued {
            cert_pem: found.cert_pem[..end].to_owned(),
            key_pem: found.key_pem,
        },
        _ => found,
    }
}

/// Whether the certificate names this authority as the one that signed it.
fn is_of(cert_pem: &str, ca: &Ca) -> bool {
    let own = certificates(cert_pem).unwrap_or_default();
    let issuer = own.first().and_then(|der| issuer_of(der));
    issuer.is_some() && issuer.as_ref() == subjects_of(&ca.cert_pem).first()
}

/// Whether a third of `life` is still left of the certificate's; one that lives longer than it should does not count.
fn lasts(cert_pem: &str, life: Duration, now: OffsetDateTime) -> bool {
    let Ok(certs) = certificates(cert_pem) else {
        return false;
    };
    let Some((_, cert)) = certs
        .first()
        .and_then(|der| x509_parser::parse_x509_certificate(der).ok())
    else {
        return false;
    };
    let left = cert.validity().not_after.to_datetime() - now;
    left > life / RENEW_WITHIN && left <= life
}

fn covers(cert_pem: &str, names: &ServerNames, life: Duration, now: OffsetDateTime) -> bool {
    use x509_parser::extensions::GeneralName;
    if !lasts(cert_pem, life, now) {
        return false;
    }
    let Ok(certs) = certificates(cert_pem) else {
        return false;
    };
    let Some((_, cert)) = certs
        .first()
        .and_then(|der| x509_parser::parse_x509_certificate(der).ok())
    else {
        return false;
    };
    let Ok(Some(san)) = cert.subject_alternative_name() else {
        return false;
    };
    let has_dns = |want: &String| {
        san.value
            .general_names
            .iter()
            .any(|n| matches!(n, GeneralName::DNSName(d) if d == want))
    };
    let has_ip = |want: &IpAddr| {
        let octets = match want {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        san.value
            .general_names
            .iter()
            .any(|n| matches!(n, GeneralName::IPAddress(ip) if *ip == octets))
    };
    names.dns.iter().all(has_dns) && names.ips.iter().all(has_ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::User;

    fn names(last: u8) -> ServerNames {
        ServerNames::new(
            "cluster.local",
            IpAddr::from([10, 96, 0, 1]),
            [IpAddr::from([192, 0, 2, last])],
        )
    }

    #[test]
    fn files_are_made_once_and_reused() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let now = OffsetDateTime::now_utc();
        let first = Pki::open(dir.path(), &names(1), now).expect("first start");
        let second = Pki::open(dir.path(), &names(1), now).expect("second start");
        assert_eq!(first.ca.cert_pem(), second.ca.cert_pem());
        assert_eq!(first.server.cert_pem, second.server.cert_pem);
        assert_eq!(first.admin.cert_pem, second.admin.cert_pem);
        let moved = Pki::open(dir.path(), &names(2), now).expect("another address");
        assert_eq!(first.ca.cert_pem(), moved.ca.cert_pem());
        assert_ne!(
            first.server.cert_pem, moved.server.cert_pem,
            "a new address needs a new certificate"
        );
        let late =
            Pki::open(dir.path(), &names(2), now + LEAF_LIFE - Duration::days(30)).expect("a year later");
        assert_ne!(
            moved.server.cert_pem, late.server.cert_pem,
            "renewed before it ends"
        );
        moved.server_tls().expect("usable for TLS");
        use std::os::unix::fs::PermissionsExt;
        for key in ["ca.key", "server.key", "admin.key", "sa.key"] {
            let mode = std::fs::metadata(dir.path().join(key))
                .expect("key file")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
    }

    #[test]
    fn a_lost_key_is_an_error_not_a_new_ca() {
        let dir = tempfile::tempdir().expect("temporary directory");
        Pki::open(dir.path(), &names(1), OffsetDateTime::now_utc()).expect("first start");
        std::fs::remove_file(dir.path().join("ca.key")).expect("remove");
        assert!(Pki::open(dir.path(), &names(1), OffsetDateTime::now_utc()).is_err());
    }

    #[test]
    fn a_client_certificate_names_user_and_groups() {
        let ca = Ca::generate(OffsetDateTime::now_utc()).expect("ca");
        for groups in [&["system:masters"][..], &["system:nodes", "system:masters"]] {
            let issued = issue_client(&ca, "system:node:n1", groups).expect("client certificate");
            let der = certificates(&issued.cert_pem).expect("pem");
            let user = User::from_certificate(&der[0]).expect("identity");
            assert_eq!(user.name, "system:node:n1");
            for group in groups {
                assert!(
                    user.groups.iter().any(|g| g == group),
                    "{group} in {:?}",
                    user.groups
                );
            }
        }
    }
}
