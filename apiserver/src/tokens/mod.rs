//! Bearer tokens: those of ServiceAccounts, made by `serviceaccounts/token`, checked on requests and by TokenReview, and the
//! `bootstrap` tokens of machines that join.
//!
//! `jws` signs and verifies bytes, `claims` says what a token must say, both pure; `authenticate` is the shell that
//! asks the store whether what a token is bound to is still there. Must not know what a user may do.
//!
//! Source: Kubernetes `pkg/serviceaccount`.

pub(crate) mod authenticate;
pub mod bootstrap;
pub(crate) mod claims;
pub(crate) mod documents;
pub(crate) mod jws;
pub mod oidc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::pki::{AccountKey, PkiError};

/// The issuer of a cluster whose domain is `cluster.local`.
pub const DEFAULT_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Why a token is no proof of who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejected {
    /// No token of ours: another authenticator might know it.
    NotOurs,
    /// Ours, but worth nothing any more.
    Because(String),
}

impl std::fmt::Display for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Rejected::NotOurs => f.write_str("invalid bearer token"),
            Rejected::Because(why) => write!(f, "[invalid bearer token, {why}]"),
        }
    }
}

/// Makes and recognises the tokens of one cluster. The same on every server.
#[derive(Debug)]
pub struct Issuer {
    url: String,
    key: jws::Key,
}

impl Issuer {
    /// `url` goes into every token as `iss` and is the audience of tokens that ask for none.
    ///
    /// # Errors
    /// A key that is no P-256 key.
    pub fn new(url: impl Into<String>, key: &AccountKey) -> Result<Issuer, PkiError> {
        let key = jws::Key::from_pkcs8(&key.to_der()?).map_err(|reason| PkiError::Unusable {
            path: AccountKey::FILE.into(),
            reason,
        })?;
        Ok(Issuer { url: url.into(), key })
    }

    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Who the tokens for this server are for.
    #[must_use]
    pub fn audiences(&self) -> Vec<String> {
        vec![self.url.clone()]
    }

    /// # Errors
    /// Only when the system has no randomness.
    pub fn sign(&self, claims: &Value) -> Result<String, String> {
        self.key.sign(claims)
    }

    /// The claims of a token that we signed.
    ///
    /// # Errors
    /// See [`Rejected`].
    pub fn verify(&self, token: &str) -> Result<Value, Rejected> {
        let unverified = jws::unverified_claims(token).ok_or(Rejected::NotOurs)?;
        if unverified["iss"] != self.url {
            return Err(Rejected::NotOurs);
        }
        self.key
            .verify(token)
            .map_err(|why| Rejected::Because(why.into()))
    }

    /// `/.well-known/openid-configuration`.
    #[must_use]
    pub fn discovery(&self, jwks_uri: &str) -> Value {
        json!({
            "issuer": self.url,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [jws::ALGORITHM],
        })
    }

    /// `/openid/v1/jwks`: the public key.
    #[must_use]
    pub fn jwks(&self) -> Value {
        let (x, y) = self.key.coordinates();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{
            "use": "sig",
            "kty": "EC",
            "kid": self.key.id(),
            "crv": "P-256",
            "alg": jws::ALGORITHM,
            "x": text(x),
            "y": text(y),
        }]})
    }
}
