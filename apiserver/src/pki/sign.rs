//! Certificates for requests that others made: subject, key and names are taken over byte for byte, the rest is ours.
//!
//! Writes DER itself: `rcgen` keeps one value for each part of a name, and Kubernetes reads every organization as a group.
//! Must not know which requests deserve a certificate (the signing controller).
//!
//! Source: RFC 5280; Kubernetes `pkg/controller/certificates/authority`, `PermissiveSigningPolicy`.

use corten_api::kinds::certificates::request;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{BACKDATE, Ca, PkiError, certificates, unusable};

/// A certificate of a shorter life than this is not shortened by [`BACKDATE`].
const SHORT: Duration = Duration::hours(8);

const SEQUENCE: u8 = 0x30;
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]` and `[3]`, constructed.
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_3: u8 = 0xa3;
/// `[0]` within the authority's key identifier.
const KEY_IDENTIFIER: u8 = 0x80;

const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];

/// What a certificate is to be.
#[derive(Debug, Clone)]
pub struct SignRequest {
    /// The PKCS#10 request, PEM.
    pub request_pem: String,
    /// As `spec.usages` of a CertificateSigningRequest.
    pub usages: Vec<String>,
    /// From now.
    pub life: std::time::Duration,
}

impl Ca {
    /// A certificate for the subject, key and alternative names of the request, PEM. It ends no later than the authority.
    ///
    /// # Errors
    /// A request that cannot be read or is not signed by its own key, a usage that no certificate has, an authority whose
    /// key is no P-256 key.
    pub fn sign(&self, asked: &SignRequest, now: OffsetDateTime) -> Result<String, PkiError> {
        let of_request = |reason: &str| PkiError::Unusable {
            path: "request".into(),
            reason: reason.to_owned(),
        };
        let request_der = request::der(&asked.request_pem).map_err(|reason| of_request(&reason))?;
        let request = request::parse(&request_der).map_err(|reason| of_request(&reason))?;
        request
            .verify_signature()
            .map_err(|_| of_request("it is not signed by its own key"))?;
        let info = &request.certification_request_info;
        let authority_der = certificates(self.cert_pem())?;
        let (_, authority) = authority_der
            .first()
            .and_then(|der| X509Certificate::from_der(der).ok())
            .ok_or_else(|| unusable("ca.crt", &"no certificate"))?;

        let life = Duration::try_from(asked.life).unwrap_or(Duration::MAX);
        let backdated = if life < SHORT { Duration::ZERO } else { BACKDATE };
        let last = authority.validity().not_after.to_datetime();
        let end = now
            .checked_add(life - backdated)
            .map_or(last, |end| end.min(last));
        let random = SystemRandom::new();
        let mut serial = [0; 16];
        random
            .fill(&mut serial)
            .map_err(|_| of_request("no randomness for a serial number"))?;
        serial[0] = (serial[0] & 0x7f) | 0x40; // positive, and of full length

        let algorithm = tlv(SEQUENCE, &tlv(OID, ECDSA_WITH_SHA256));
        let validity = [time_of(now - BACKDATE), time_of(end)].concat();
        let extensions = extensions(asked, info, &authority).map_err(|usage| PkiError::Unusable {
            path: "usages".into(),
            reason: format!("unrecognized usage {usage:?}"),
        })?;
        let body = tlv(
            SEQUENCE,
            &[
                tlv(CONTEXT_0, &tlv(INTEGER, &[2])), // version 3
                tlv(INTEGER, &serial),
                algorithm.clone(),
                authority.subject().as_raw().to_vec(),
                tlv(SEQUENCE, &validity),
                info.subject.as_raw().to_vec(),
                info.subject_pki.raw.to_vec(),
                tlv(CONTEXT_3, &tlv(SEQUENCE, &extensions)),
            ]
            .concat(),
        );
        let key = PrivatePkcs8KeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|error| unusable("ca.key", &error))?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.secret_pkcs8_der(), &random)
            .map_err(|error| unusable("ca.key", &error))?;
        let signature = key
            .sign(&random, &body)
            .map_err(|_| unusable("ca.key", &"no randomness for a signature"))?;
        let mut bits = vec![0]; // no unused bits
        bits.extend_from_slice(signature.as_ref());
        let der = tlv(SEQUENCE, &[body, algorithm, tlv(BIT_STRING, &bits)].concat());
        // Who shows it shows also what leads to an authority that is about to go.
        Ok(format!("{}{}", pem(&der), self.older.cross))
    }
}

/// # Errors
/// The usage that is none.
fn extensions(
    asked: &SignRequest,
    info: &x509_parser::certification_request::X509CertificationRequestInfo<'_>,
    authority: &X509Certificate<'_>,
) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    let (bits, extended) = usages(&asked.usages)?;
    if bits != 0 {
        all.extend(extension(KEY_USAGE, true, &key_usage(bits)));
    }
    if !extended.is_empty() {
        let list: Vec<u8> = extended.iter().flat_map(|oid| tlv(OID, oid)).collect();
        all.extend(extension(EXTENDED_KEY_USAGE, false, &tlv(SEQUENCE, &list)));
    }
    all.extend(extension(BASIC_CONSTRAINTS, true, &tlv(SEQUENCE, &[]))); // not an authority
    let own_id = authority
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        });
    if let Some(id) = own_id {
        all.extend(extension(
            AUTHORITY_KEY_ID,
            false,
            &tlv(SEQUENCE, &tlv(KEY_IDENTIFIER, id)),
        ));
    }
    let requested = info
        .iter_attributes()
        .find_map(|attribute| match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(requested) => Some(&requested.extensions),
            _ => None,
        });
    let names = requested
        .into_iter()
        .flatten()
        .find(|extension| extension.oid.as_bytes() == SUBJECT_ALT_NAME);
    if let Some(names) = names {
        let no_subject = info.subject.iter().next().is_none();
        all.extend(extension(SUBJECT_ALT_NAME, no_subject, names.value));
    }
    Ok(all)
}

/// The bits of the key usage, by RFC 5280's numbers, and the object identifiers of the extended ones.
fn usages(asked: &[String]) -> Result<(u16, Vec<&'static [u8]>), String> {
    const PKIX: [&[u8]; 10] = [
        &[0x2b, 6, 1, 5, 5, 7, 3, 0],
        &[0x2b, 6, 1, 5, 5, 7, 3, 1],
        &[0x2b, 6, 1, 5, 5, 7, 3, 2],
        &[0x2b, 6, 1, 5, 5, 7, 3, 3],
        &[0x2b, 6, 1, 5, 5, 7, 3, 4],
        &[0x2b, 6, 1, 5, 5, 7, 3, 5],
        &[0x2b, 6, 1, 5, 5, 7, 3, 6],
        &[0x2b, 6, 1, 5, 5, 7, 3, 7],
        &[0x2b, 6, 1, 5, 5, 7, 3, 8],
        &[0x2b, 6, 1, 5, 5, 7, 3, 9],
    ];
    const ANY: &[u8] = &[0x55, 0x1d, 0x25, 0];
    const MICROSOFT_SGC: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 10, 3, 3];
    const NETSCAPE_SGC: &[u8] = &[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 4, 1];
    let (mut bits, mut extended) = (0, Vec::new());
    for usage in asked {
        match usage.as_str() {
            "signing" | "digital signature" => bits |= 1 << 0,
            "content commitment" => bits |= 1 << 1,
            "key encipherment" => bits |= 1 << 2,
            "data encipherment" => bits |= 1 << 3,
            "key agreement" => bits |= 1 << 4,
            "cert sign" => bits |= 1 << 5,
            "crl sign" => bits |= 1 << 6,
            "encipher only" => bits |= 1 << 7,
            "decipher only" => bits |= 1 << 8,
            "any" => extended.push(ANY),
            "server auth" => extended.push(PKIX[1]),
            "client auth" => extended.push(PKIX[2]),
            "code signing" => extended.push(PKIX[3]),
            "email protection" | "s/mime" => extended.push(PKIX[4]),
            "ipsec end system" => extended.push(PKIX[5]),
            "ipsec tunnel" => extended.push(PKIX[6]),
            "ipsec user" => extended.push(PKIX[7]),
            "timestamping" => extended.push(PKIX[8]),
            "ocsp signing" => extended.push(PKIX[9]),
            "microsoft sgc" => extended.push(MICROSOFT_SGC),
            "netscape sgc" => extended.push(NETSCAPE_SGC),
            other => return Err(other.to_owned()),
        }
    }
    extended.sort_unstable();
    extended.dedup();
    Ok((bits, extended))
}

/// A bit string whose first bit is bit 0 of `bits`, without trailing zeros as DER asks.
fn key_usage(bits: u16) -> Vec<u8> {
    let reversed = bits.reverse_bits().to_be_bytes();
    let bytes = if reversed[1] == 0 {
        &reversed[..1]
    } else {
        &reversed[..]
    };
    let unused = bytes.last().map_or(0, |last| last.trailing_zeros().min(7)) as u8;
    tlv(BIT_STRING, &[&[unused], bytes].concat())
}

fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let mut content = tlv(OID, id);
    if critical {
        content.extend(tlv(BOOLEAN, &[0xff]));
    }
    content.extend(tlv(OCTET_STRING, value));
    tlv(SEQUENCE, &content)
}

fn time_of(at: OffsetDateTime) -> Vec<u8> {
    let at = at.to_offset(time::UtcOffset::UTC);
    let rest = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    match at.year() {
        year @ 1950..2050 => tlv(UTC_TIME, format!("{:02}{rest}", year % 100).as_bytes()),
        year => tlv(GENERALIZED_TIME, format!("{year:04}{rest}").as_bytes()),
    }
}

/// Tag, length and content.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let from = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len() - 1);
        out.push(0x80 | (bytes.len() - from) as u8);
        out.extend_from_slice(&bytes[from..]);
    }
    out.extend_from_slice(content);
    out
}

fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::User;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn asked(common_name: &str, dns: &[&str], usages: &[&str], seconds: u64) -> SignRequest {
        let names: Vec<String> = dns.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("parameters");
        let groups = ["a", "b"];
        params.distinguished_name = super::super::name(common_name, &groups).expect("a name");
        params.distinguished_name.push(DnType::LocalityName, "here");
        let key = KeyPair::generate().expect("key");
        SignRequest {
            request_pem: params
                .serialize_request(&key)
                .expect("request")
                .pem()
                .expect("PEM"),
            usages: usages.iter().map(|usage| (*usage).to_owned()).collect(),
            life: std::time::Duration::from_secs(seconds),
        }
    }

    fn parsed<T>(pem: &str, look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
        let der = certificates(pem).expect("PEM");
        let (rest, cert) = X509Certificate::from_der(&der[0]).expect("a certificate");
        assert!(rest.is_empty());
        look(&cert)
    }

    #[test]
    fn a_certificate_has_what_was_asked_for_and_is_the_authoritys() {
        let now = OffsetDateTime::now_utc();
        let ca = Ca::generate(now).expect("ca");
        let asked = asked(
            "jane",
            &["x.example"],
            &["digital signature", "decipher only", "client auth", "server auth"],
            100_000,
        );
        let pem = ca.sign(&asked, now).expect("a certificate");
        let der = certificates(&pem).expect("PEM");
        let user = User::from_certificate(&der[0]).expect("a user");
        assert_eq!(
            (user.name.as_str(), &user.groups[..2]),
            ("jane", &["a".to_owned(), "b".to_owned()][..])
        );
        let authority = certificates(ca.cert_pem()).expect("PEM");
        let (_, authority) = X509Certificate::from_der(&authority[0]).expect("the authority");
        parsed(&pem, |cert| {
            cert.verify_signature(Some(authority.public_key()))
                .expect("signed by the authority");
            let usage = cert.key_usage().expect("one").expect("some").value;
            assert!(usage.digital_signature() && usage.decipher_only() && !usage.key_cert_sign());
            let extended = cert.extended_key_usage().expect("one").expect("some").value;
            assert!(extended.client_auth && extended.server_auth && !extended.any);
            assert!(!cert.is_ca());
            let names = cert.subject_alternative_name().expect("one").expect("some").value;
            assert_eq!(names.general_names.len(), 1);
            let life = cert.validity().not_after.timestamp() - now.unix_timestamp();
            assert_eq!(life, 100_000 - 300);
        });
        // What rustls checks is what counts in the end.
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(certificates(ca.cert_pem()).expect("PEM").remove(0))
            .expect("root");
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(std::sync::Arc::new(roots), provider)
                .build()
                .expect("verifier");
        verifier
            .verify_client_cert(&der[0], &[], rustls_pki_types::UnixTime::now())
            .expect("a client's certificate");
    }

    #[test]
    fn lives_are_as_asked_and_end_with_the_authority() {
        let now = OffsetDateTime::now_utc();
        let ca = Ca::generate(now).expect("ca");
        let end = |seconds| {
            let pem = ca
                .sign(&asked("x", &[], &["client auth"], seconds), now)
                .expect("signed");
            parsed(&pem, |cert| cert.validity().not_after.timestamp()) - now.unix_timestamp()
        };
        assert_eq!(end(120), 120);
        assert_eq!(end(u64::MAX), super::super::CA_LIFE.whole_seconds());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let now = OffsetDateTime::now_utc();
        let ca = Ca::generate(now).expect("ca");
        let mut bad = asked("x", &[], &["client auth"], 60);
        bad.usages.push("world domination".into());
        assert!(ca.sign(&bad, now).is_err());
        // A block without a proper end is none, wherever else it may pass for one.
        bad = asked("x", &[], &["client auth"], 60);
        bad.request_pem = format!("{}\0|\n", bad.request_pem.trim_end());
        assert!(ca.sign(&bad, now).is_err());
        bad.request_pem = "nonsense".into();
        assert!(ca.sign(&bad, now).is_err());
        // The same when something follows the request within its block: whoever reads it again would refuse it.
        let mut longer = request::der(&asked("x", &[], &["client auth"], 60).request_pem).expect("DER");
        longer.push(0);
        bad = asked("x", &[], &["client auth"], 60);
        bad.request_pem = pem(&longer).replace("CERTIFICATE", "CERTIFICATE REQUEST");
        let error = ca.sign(&bad, now).expect_err("trailing data").to_string();
        assert!(error.contains("trailing data"), "{error}");
    }

    #[test]
    fn lengths_and_bits_are_der() {
        assert_eq!(tlv(4, &[]), [4, 0]);
        assert_eq!(tlv(4, &[7; 200])[..3], [4, 0x81, 200]);
        assert_eq!(tlv(4, &[7; 300])[..4], [4, 0x82, 1, 44]);
        assert_eq!(key_usage(1), [3, 2, 7, 0x80]);
        assert_eq!(key_usage(0b101), [3, 2, 5, 0xa0]);
        assert_eq!(key_usage(1 << 8), [3, 3, 7, 0, 0x80]);
    }
}
