//! A token to join with, as people pass it on: `CA-HASH::ID.SECRET`. Pure.
//!
//! The first part pins the cluster's authority: who joins knows the server before it trusts anything the server says.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

/// Between the two parts.
const SEPARATOR: &str = "::";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

/// The SHA-256 of a CA certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CaHash([u8; 32]);

impl CaHash {
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> CaHash {
        CaHash(Sha256::digest(certificate).into())
    }

    /// Of the first certificate in a PEM text, the one new tokens pin; `None` without any.
    #[must_use]
    pub fn of_pem(pem: &str) -> Option<CaHash> {
        let first = CertificateDer::pem_slice_iter(pem.as_bytes()).next()?.ok()?;
        Some(CaHash::of(&first))
    }
}

impl fmt::Display for CaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CaHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CaHash {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<CaHash, BadToken> {
        let mut hash = [0; 32];
        if text.len() != 2 * hash.len() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(BadToken::Hash);
        }
        for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).expect("ASCII digits");
            *byte = u8::from_str_radix(digits, 16).expect("hexadecimal digits");
        }
        Ok(CaHash(hash))
    }
}

/// Its text holds a secret: `Debug` leaves that out.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub ca: CaHash,
    secret: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    #[error(
        "a token to join with is CA-HASH::ID.SECRET, as `corten token create` prints it; this one has no CA-HASH, so \
         the server could not be told from an impostor"
    )]
    NoHash,
    #[error(
        "the first part of a token is the SHA-256 of the cluster's CA certificate, 64 hexadecimal digits"
    )]
    Hash,
    #[error("the second part of a token is ID.SECRET, 6 and 16 characters of a-z and 0-9")]
    Secret,
}

impl JoinToken {
    /// # Errors
    /// `secret` is no `ID.SECRET`.
    pub fn new(ca: CaHash, secret: &str) -> Result<JoinToken, BadToken> {
        match is_bootstrap_token(secret) {
            true => Ok(JoinToken {
                ca,
                secret: secret.to_owned(),
            }),
            false => Err(BadToken::Secret),
        }
    }

    /// What is sent to the server: `ID.SECRET`.
    #[must_use]
    pub fn bearer(&self) -> &str {
        &self.secret
    }

    #[must_use]
    pub fn id(&self) -> &str {
        &self.secret[..ID_LENGTH]
    }

    /// The whole token, for the one who passes it on.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{}{SEPARATOR}{}", self.ca, self.secret)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{SEPARATOR}{}.…", self.ca, self.id())
    }
}

impl FromStr for JoinToken {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<JoinToken, BadToken> {
        let (ca, secret) = text.trim().split_once(SEPARATOR).ok_or(BadToken::NoHash)?;
        JoinToken::new(ca.parse()?, secret)
    }
}

/// Whether `text` has the form `ID.SECRET`. Source: Kubernetes `cluster-bootstrap/token/api`, `BootstrapTokenPattern`.
#[must_use]
pub fn is_bootstrap_token(text: &str) -> bool {
    let of = |part: &str, length| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    text.split_once('.')
        .is_some_and(|(id, secret)| of(id, ID_LENGTH) && of(secret, SECRET_LENGTH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: Result<(), BadToken>) {
        let got = text.parse::<JoinToken>();
        assert_eq!(got.clone().map(|_| ()), want, "{text}");
        if let Ok(token) = got {
            assert_eq!(token.reveal(), text.trim());
            assert!(!format!("{token:?}").contains("0123456789abcdef"));
        }
    }

    #[test]
    fn a_token_pins_its_authority() {
        let hash = "00ff".repeat(16);
        check(&format!("{hash}::abcdef.0123456789abcdef"), Ok(()));
        check(&format!("{hash}::abcdef.0123456789abcdef\n"), Ok(()));
        check("abcdef.0123456789abcdef", Err(BadToken::NoHash));
        check("00ff::abcdef.0123456789abcdef", Err(BadToken::Hash));
        check(
            &format!("{}zz::abcdef.0123456789abcdef", &hash[2..]),
            Err(BadToken::Hash),
        );
        check(&format!("{hash}::abcdef"), Err(BadToken::Secret));
        check(&format!("{hash}::abcdef.0123456789ABCDEF"), Err(BadToken::Secret));
    }
}
