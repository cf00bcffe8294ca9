//! Whom we trust when we call out: the authorities a configuration names, or those of the host.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Where hosts keep the authorities they trust, in PEM. Source: Go's `crypto/x509`, `root_linux.go`.
const HOST_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What a client shows about itself.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// Which certificates of the other side are taken.
pub enum Trust<'a> {
    /// Authorities in PEM.
    Bundle(&'a [u8]),
    /// What the host trusts.
    Host,
    /// Any. For `insecureSkipTLSVerify`.
    Anyone,
}

/// For calls of other components that trust whom the host trusts.
///
/// # Errors
/// The host has no bundle of authorities, or none that can be read.
pub fn host_trust() -> Result<Arc<ClientConfig>, String> {
    client(&Trust::Host, None)
}

/// The same, for those that trust the authorities of a bundle in PEM.
///
/// # Errors
/// It holds none, or none that can be read.
pub fn bundle_trust(pem: &[u8]) -> Result<Arc<ClientConfig>, String> {
    client(&Trust::Bundle(pem), None)
}

/// # Errors
/// A bundle without certificates, or an identity that cannot be used.
pub fn client(trust: &Trust<'_>, identity: Option<Identity>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Anyone => Arc::new(Lenient {
            inner: None,
            trusted: Vec::new(),
            provider: provider.clone(),
        }),
        Trust::Bundle(pem) => Arc::new(Lenient::of(certificates(pem)?, provider.clone())?),
        Trust::Host => {
            let pem = HOST_BUNDLES.iter().find_map(|path| std::fs::read(path).ok());
            let pem = pem.ok_or("this host has no bundle of trusted authorities")?;
            Arc::new(Lenient::of(certificates(&pem)?, provider.clone())?)
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(own) => builder
            .with_client_auth_cert(own.chain, own.key)
            .map_err(|error| error.to_string())?,
    };
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| format!("unable to load root certificates: {error}"))?;
    if all.is_empty() {
        return Err("unable to load root certificates: unable to parse bytes as PEM block".into());
    }
    Ok(all)
}

/// As rustls verifies, and beside that a certificate that is itself among the trusted ones, as Go takes it: generators
/// of webhooks' certificates often make one that is authority and server at once.
#[derive(Debug)]
struct Lenient {
    /// `None`: anybody.
    inner: Option<Arc<WebPkiServerVerifier>>,
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl Lenient {
    fn of(
        trusted: Vec<CertificateDer<'static>>,
        provider: Arc<rustls::crypto::CryptoProvider>,
    ) -> Result<Lenient, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.iter().cloned());
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| format!("unable to load root certificates: {error}"))?;
        Ok(Lenient {
            inner: Some(inner),
            trusted,
            provider,
        })
    }

    /// The trusted certificate itself: its time and its names still count.
    fn is_trusted_itself(&self, shown: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> bool {
        if !self.trusted.contains(shown) {
            return false;
        }
        let Ok((_, certificate)) = X509Certificate::from_der(shown) else {
            return false;
        };
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let validity = certificate.validity();
        let in_time = validity.not_before.timestamp() <= now && now <= validity.not_after.timestamp();
        let parsed = rustls::server::ParsedCertificate::try_from(shown);
        in_time && parsed.is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, name).is_ok())
    }
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else {
            return Ok(ServerCertVerified::assertion());
        };
        match inner.verify_server_cert(end_entity, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Other(_) | CertificateError::UnknownIssuer,
            )) if self.is_trusted_itself(end_entity, name, now) => Ok(ServerCertVerified::assertion()),
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// What Go's TLS says where rustls says it otherwise.
#[must_use]
pub fn in_go_words(error: &std::io::Error) -> String {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => {
            let why = match why {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    "x509: certificate signed by unknown authority".to_owned()
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "x509: certificate has expired or is not yet valid".to_owned()
                }
                CertificateError::NotValidForNameContext { expected, presented } => {
                    format!("x509: {}", other_name(&expected.to_str(), presented))
                }
                other => format!("x509: {other}"),
            };
            format!("tls: failed to verify certificate: {why}")
        }
        Some(other) => format!("tls: {other}"),
        None => error.to_string(),
    }
}

/// As Go says that a certificate is for others. `presented`: `DnsName("a")`, `IpAddress(127.0.0.1)`.
fn other_name(expected: &str, presented: &[String]) -> String {
    let is_address = expected.parse::<std::net::IpAddr>().is_ok();
    let kind = if is_address { "IpAddress(" } else { "DnsName(" };
    let names = presented.iter().filter_map(|own| own.strip_prefix(kind));
    let names: Vec<&str> = names
        .map(|own| own.trim_end_matches(')').trim_matches('"'))
        .collect();
    match (names.is_empty(), is_address) {
        (false, _) => format!("certificate is valid for {}, not {expected}", names.join(", ")),
        (true, true) => {
            format!("cannot validate certificate for {expected} because it doesn't contain any IP SANs")
        }
        (true, false) => {
            format!("certificate is not valid for any names, but wanted to match {expected}")
        }
    }
}
