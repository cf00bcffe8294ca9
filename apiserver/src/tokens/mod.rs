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
mod verified;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use parking_lot::RwLock;
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
    keys: RwLock<Arc<Keys>>,
    /// Of the keys in force.
    verified: verified::Verified,
}

#[derive(Debug)]
struct Keys {
    /// By the second since 1970 from which each signs, ascending; never empty.
    signing: Vec<(i64, jws::Key)>,
    /// Whose tokens are still believed.
    former: Vec<jws::Public>,
}

impl Keys {
    fn new(keys: &AccountKey) -> Result<Keys, PkiError> {
        let unusable = |reason: String| PkiError::Unusable {
            path: AccountKey::FILE.into(),
            reason,
        };
        let mut signing = Vec::new();
        for (from, der) in keys.to_der()? {
            signing.push((from, jws::Key::from_pkcs8(&der).map_err(unusable)?));
        }
        if signing.is_empty() {
            return Err(unusable("there is no key".into()));
        }
        let former = keys.former_der()?;
        let former = former.iter().filter_map(|der| jws::Public::from_der(der));
        Ok(Keys {
            signing,
            former: former.collect(),
        })
    }

    /// The newest that signs already.
    fn signer(&self, now: Timestamp) -> &jws::Key {
        let due = self.signing.iter().rfind(|(from, _)| *from <= now.as_second());
        &due.unwrap_or(&self.signing[0]).1
    }

    /// The newest first.
    fn public(&self) -> impl Iterator<Item = &jws::Public> {
        let signing = self.signing.iter().rev().map(|(_, key)| key.public());
        signing.chain(&self.former)
    }
}

impl Issuer {
    /// `url` goes into every token as `iss` and is the audience of tokens that ask for none.
    ///
    /// # Errors
    /// A key that is no P-256 key.
    pub fn new(url: impl Into<String>, keys: &AccountKey) -> Result<Issuer, PkiError> {
        Ok(Issuer {
            url: url.into(),
            keys: RwLock::new(Arc::new(Keys::new(keys)?)),
            verified: verified::Verified::default(),
        })
    }

    /// From now on with these keys.
    ///
    /// # Errors
    /// As [`Issuer::new`]; then nothing changes.
    pub fn set_keys(&self, keys: &AccountKey) -> Result<(), PkiError> {
        *self.keys.write() = Arc::new(Keys::new(keys)?);
        self.verified.clear();
        Ok(())
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
    pub fn sign(&self, claims: &Value, now: Timestamp) -> Result<String, String> {
        let keys = self.keys.read().clone();
        keys.signer(now).sign(claims)
    }

    /// The claims of a token that we signed.
    ///
    /// # Errors
    /// See [`Rejected`].
    pub fn verify(&self, token: &str) -> Result<Arc<Value>, Rejected> {
        let digest = verified::digest(token);
        if let Some(claims) = self.verified.get(&digest) {
            return Ok(claims);
        }
        let unverified = jws::unverified_claims(token).ok_or(Rejected::NotOurs)?;
        if unverified["iss"] != self.url {
            return Err(Rejected::NotOurs);
        }
        let keys = self.keys.read().clone();
        let mut refused = jws::UNKNOWN;
        for key in keys.public() {
            match key.verify(token) {
                Ok(claims) => {
                    let claims = Arc::new(claims);
                    let is_current = || Arc::ptr_eq(&keys, &self.keys.read());
                    self.verified.keep(digest, claims.clone(), is_current);
                    return Ok(claims);
                }
                // The key that the token names says more than the others.
                Err(why) if why != jws::UNKNOWN => refused = why,
                Err(_) => {}
            }
        }
        Err(Rejected::Because(refused.into()))
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

    /// `/openid/v1/jwks`: the public keys, also of one that does not sign yet.
    #[must_use]
    pub fn jwks(&self) -> Value {
        let keys = self.keys.read().clone();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let one = |key: &jws::Public| {
            let (x, y) = key.coordinates();
            json!({
                "use": "sig",
                "kty": "EC",
                "kid": key.id(),
                "crv": "P-256",
                "alg": jws::ALGORITHM,
                "x": text(x),
                "y": text(y),
            })
        };
        json!({ "keys": keys.public().map(one).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::rollover;
    use time::OffsetDateTime;

    #[test]
    fn keys_are_shown_then_sign_then_are_believed_then_go() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |second| OffsetDateTime::from_unix_timestamp(second).expect("a time");
        let keys = || AccountKey::open(dir.path()).expect("keys");
        let issuer = Issuer::new("https://i", &keys()).expect("issuer");
        let sign = |second| {
            let now = Timestamp::from_second(second).expect("a time");
            issuer.sign(&json!({"iss": "https://i"}), now).expect("signed")
        };
        let key_of = |token: &str| {
            let header = URL_SAFE_NO_PAD.decode(token.split('.').next().expect("a header"));
            let header: Value = serde_json::from_slice(&header.expect("base64")).expect("JSON");
            header["kid"].as_str().expect("a key").to_owned()
        };
        let shown = || issuer.jwks()["keys"].as_array().map_or(0, Vec::len);
        let first = sign(90);
        // An authority has to be there as well, for the files are written together.
        crate::pki::Ca::open(dir.path(), at(90)).expect("an authority");
        let change = |files: Result<rollover::Files, rollover::RolloverError>| {
            rollover::write(dir.path(), &files.expect("decided")).expect("written");
            issuer.set_keys(&keys()).expect("taken over");
        };
        let files = || rollover::read(dir.path()).expect("read");
        change(rollover::rotate_account_key(&files(), at(100), at(160)));
        assert_eq!(shown(), 2);
        assert_eq!(key_of(&sign(159)), key_of(&first));
        let second = sign(160);
        assert_ne!(key_of(&second), key_of(&first));
        change(rollover::rotate_account_key(&files(), at(200), at(260)));
        assert_eq!(shown(), 3);
        assert!(issuer.verify(&first).is_ok() && issuer.verify(&second).is_ok());
        change(rollover::finish_account_key(&files(), at(300)));
        assert_eq!(shown(), 1);
        for old in [&first, &second] {
            assert_eq!(issuer.verify(old), Err(Rejected::Because(jws::UNKNOWN.into())));
        }
        assert!(issuer.verify(&sign(300)).is_ok());
    }
}
