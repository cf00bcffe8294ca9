//! PKCS#10 requests and issued certificates, as bytes of the API's fields.
//!
//! The texts of frame errors are upstream's; those of DER errors are our own, for upstream prints Go's ASN.1
//! decoder's.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry as oid;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::pem;

/// The bytes of a field, from base64; empty when there is none.
fn text(field: &str) -> String {
    let bytes = STANDARD.decode(field).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The request's bytes in its PEM text: those of the first block.
///
/// # Errors
/// The text of the cause, as upstream's, when that is no request.
pub fn der(pem_text: &str) -> Result<Vec<u8>, String> {
    match pem::blocks(pem_text).next() {
        Some(block) if block.kind == "CERTIFICATE REQUEST" => Ok(block.bytes),
        _ => Err("PEM block type must be CERTIFICATE REQUEST".into()),
    }
}

/// A request from its DER, all of it: what follows the request is an error, as for Go.
///
/// # Errors
/// The text of the cause.
pub fn parse(der: &[u8]) -> Result<X509CertificationRequest<'_>, String> {
    match X509CertificationRequest::from_der(der) {
        Ok(([], request)) => Ok(request),
        Ok(_) => Err("asn1: syntax error: trailing data".into()),
        Err(_) => Err("asn1: structure error: malformed certificate request".into()),
    }
}

/// Checks `spec.request` (base64 of PEM): well formed, and signed by its own key.
///
/// # Errors
/// The text of the cause.
pub fn check(request: &str) -> Result<(), String> {
    let der = der(&text(request))?;
    let request = parse(&der)?;
    match request.verify_signature() {
        Ok(()) => Ok(()),
        Err(X509Error::SignatureUnsupportedAlgorithm) => {
            Err("x509: cannot verify signature: algorithm unimplemented".into())
        }
        Err(_) => Err(wrong_signature(&request).into()),
    }
}

fn wrong_signature(request: &X509CertificationRequest<'_>) -> &'static str {
    let algorithm = &request.signature_algorithm.algorithm;
    if *algorithm == oid::OID_SIG_ED25519 {
        "x509: Ed25519 verification failure"
    } else if [
        oid::OID_SIG_ECDSA_WITH_SHA256,
        oid::OID_SIG_ECDSA_WITH_SHA384,
        oid::OID_SIG_ECDSA_WITH_SHA512,
    ]
    .contains(algorithm)
    {
        "x509: ECDSA verification failure"
    } else {
        "crypto/rsa: verification error"
    }
}

/// What a request asks to be called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns: usize,
    pub emails: usize,
    pub ips: usize,
    pub uris: usize,
    /// The public key as it stands in the request, DER.
    pub public_key: Vec<u8>,
}

/// Reads a request from its PEM text. Its signature is [`check`]'s matter.
///
/// # Errors
/// The text of the cause, as upstream's where the frame is wrong.
pub fn names(pem_text: &str) -> Result<Names, String> {
    let der = der(pem_text)?;
    let request = parse(&der)?;
    let info = &request.certification_request_info;
    let mut names = Names {
        // Go keeps the last one of each.
        common_name: info
            .subject
            .iter_common_name()
            .filter_map(|name| name.as_str().ok())
            .last()
            .unwrap_or_default()
            .into(),
        organizations: info
            .subject
            .iter_organization()
            .filter_map(|o| o.as_str().ok().map(String::from))
            .collect(),
        public_key: info.subject_pki.raw.to_vec(),
        ..Names::default()
    };
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(alternative) = extension else {
            continue;
        };
        for name in &alternative.general_names {
            match name {
                GeneralName::DNSName(_) => names.dns += 1,
                GeneralName::RFC822Name(_) => names.emails += 1,
                GeneralName::IPAddress(_) => names.ips += 1,
                GeneralName::URI(_) => names.uris += 1,
                _ => {}
            }
        }
    }
    Ok(names)
}

/// When the first certificate of a PEM text ends, in seconds since 1970; `None` without one.
pub fn end_of_certificate(pem_text: &str) -> Option<i64> {
    let block = pem::blocks(pem_text).find(|block| block.kind == "CERTIFICATE")?;
    let (_, certificate) = X509Certificate::from_der(&block.bytes).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// The common name in the subject of a request that [`check`] accepts.
pub fn common_name(request: &str) -> Option<String> {
    let der = der(&text(request)).ok()?;
    let request = parse(&der).ok()?;
    let names = request.certification_request_info.subject.iter_common_name();
    let mut names = names.filter_map(|name| name.as_str().ok());
    names.next().map(String::from)
}

/// The organizations in the subject of a request that [`check`] accepts; none of any other.
pub fn organizations(request: &str) -> Vec<String> {
    let Ok(der) = der(&text(request)) else {
        return Vec::new();
    };
    let Ok(request) = parse(&der) else {
        return Vec::new();
    };
    request
        .certification_request_info
        .subject
        .iter_organization()
        .filter_map(|o| o.as_str().ok().map(String::from))
        .collect()
}

/// Checks `status.certificate` (base64 of PEM): certificates and nothing else.
///
/// # Errors
/// The text of the cause.
pub fn check_certificates(certificate: &str) -> Result<(), String> {
    if certificate.is_empty() {
        return Ok(());
    }
    let mut found = false;
    for block in pem::blocks(&text(certificate)) {
        if block.kind != "CERTIFICATE" {
            return Err(format!(
                "only CERTIFICATE PEM blocks are allowed, found {}",
                crate::field::quoted(&block.kind)
            ));
        }
        if block.has_headers {
            return Err("no PEM block headers are permitted".into());
        }
        found = true;
        if block.bytes.is_empty() {
            return Err("found CERTIFICATE PEM block containing 0 certificates".into());
        }
        let mut rest = block.bytes.as_slice();
        while !rest.is_empty() {
            rest = match X509Certificate::from_der(rest) {
                Ok((rest, _)) => rest,
                Err(_) => return Err("x509: malformed certificate".into()),
            };
        }
    }
    if found {
        Ok(())
    } else {
        Err("must contain at least one CERTIFICATE PEM block".into())
    }
}
