//! Compact JSON web signatures with ES256, the one algorithm of our tokens: a token that names another is refused.
//!
//! Knows keys and bytes. Must not know what claims mean.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const ALGORITHM: &str = "ES256";
/// Why a token of another key is not believed.
pub const UNKNOWN: &str = "invalid signature, no keys found";
/// Longest token looked at, in bytes.
const MAX_TOKEN: usize = 16 * 1024;
/// What comes before the point in the DER form of a P-256 public key.
const PUBLIC_KEY_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Bytes of one coordinate.
const COORDINATE: usize = 32;

pub struct Key {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    public: Public,
}

/// The public part of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Public {
    /// Uncompressed.
    point: Vec<u8>,
    id: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.public.id)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// # Errors
    /// The text of what is wrong with the key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Key, String> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random)
            .map_err(|error| error.to_string())?;
        let public = Public::of_point(pair.public_key().as_ref().to_vec());
        Ok(Key { pair, random, public })
    }

    /// What others need to check what this key signs.
    pub fn public(&self) -> &Public {
        &self.public
    }

    /// # Errors
    /// Only when the system has no randomness.
    pub fn sign(&self, claims: &Value) -> Result<String, String> {
        let header = json!({"alg": ALGORITHM, "kid": self.public.id});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(claims));
        let signature = self
            .pair
            .sign(&self.random, message.as_bytes())
            .map_err(|_| "no randomness for a signature".to_owned())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl Public {
    fn of_point(point: Vec<u8>) -> Public {
        let mut digest = Sha256::new();
        digest.update(PUBLIC_KEY_PREFIX);
        digest.update(&point);
        let id = URL_SAFE_NO_PAD.encode(digest.finalize());
        Public { point, id }
    }

    /// From a SubjectPublicKeyInfo; `None` for another kind of key.
    pub fn from_der(der: &[u8]) -> Option<Public> {
        let point = der.strip_prefix(&PUBLIC_KEY_PREFIX)?;
        (point.len() == 2 * COORDINATE + 1).then(|| Public::of_point(point.to_vec()))
    }

    /// The key's name: the hash of its public part. Source: Kubernetes `keyIDFromPublicKey`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The coordinates of the public key.
    pub fn coordinates(&self) -> (&[u8], &[u8]) {
        // An uncompressed point: a byte that says so, then both coordinates.
        self.point[1..].split_at(COORDINATE)
    }

    /// The claims, if this key signed them.
    ///
    /// # Errors
    /// Why the token is not believed.
    pub fn verify(&self, token: &str) -> Result<Value, &'static str> {
        let parts = Parts::of(token).ok_or("malformed token")?;
        let header: Value = decode(parts.header).ok_or("malformed token")?;
        if header["alg"] != ALGORITHM || header["kid"].as_str().is_some_and(|kid| kid != self.id) {
            return Err(UNKNOWN);
        }
        let signature = URL_SAFE_NO_PAD
            .decode(parts.signature)
            .map_err(|_| "malformed token")?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.point)
            .verify(parts.message.as_bytes(), &signature)
            .map_err(|_| "go-jose/go-jose: error in cryptographic primitive")?;
        decode(parts.claims).ok_or("malformed token")
    }
}

/// What a token says, not to be believed: only to see whose it claims to be.
pub fn unverified_claims(token: &str) -> Option<Value> {
    decode(Parts::of(token)?.claims)
}

pub struct Parts<'a> {
    pub header: &'a str,
    pub claims: &'a str,
    pub signature: &'a str,
    /// What was signed: header and claims.
    pub message: &'a str,
}

impl<'a> Parts<'a> {
    /// `None` for what has not three parts, or is too long.
    pub fn of(token: &'a str) -> Option<Parts<'a>> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        (!claims.contains('.')).then_some(Parts {
            header,
            claims,
            signature,
            message,
        })
    }
}

fn decode(part: &str) -> Option<Value> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok().filter(Value::is_object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        let pair = rcgen::KeyPair::generate().expect("key");
        Key::from_pkcs8(&pair.serialize_der()).expect("P-256")
    }

    #[test]
    fn only_what_was_signed_is_believed() {
        let key = key();
        let claims = json!({"iss": "https://a", "sub": "x"});
        let token = key.sign(&claims).expect("sign");
        assert_eq!(key.public().verify(&token), Ok(claims.clone()));
        assert_eq!(unverified_claims(&token), Some(claims));
        let other = super::tests::key();
        assert_eq!(
            other.public().verify(&token),
            Err("invalid signature, no keys found")
        );
        let mut parts: Vec<&str> = token.split('.').collect();
        let forged = URL_SAFE_NO_PAD.encode(json!({"iss": "https://a", "sub": "root"}).to_string());
        parts[1] = &forged;
        assert_eq!(
            key.public().verify(&parts.join(".")),
            Err("go-jose/go-jose: error in cryptographic primitive")
        );
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        assert!(key.public().verify(&format!("{none}.{}.", parts[1])).is_err());
        for broken in ["", "a", "a.b", "a.b.c.d", "a.b.c", "é.b.c", &"a".repeat(20_000)] {
            assert_eq!(key.public().verify(broken), Err("malformed token"), "{broken}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_believed_or_harmful(text in "[A-Za-z0-9_.=+/ -]{0,80}|.{0,40}") {
            proptest::prop_assert!(key().public().verify(&text).is_err());
            let _ = unverified_claims(&text); // must not panic
        }
    }

    #[test]
    fn a_public_key_comes_back_from_its_file() {
        let pair = rcgen::KeyPair::generate().expect("key");
        let key = Key::from_pkcs8(&pair.serialize_der()).expect("P-256");
        let der = rcgen::PublicKeyData::subject_public_key_info(&pair);
        assert_eq!(Public::from_der(&der).as_ref(), Some(key.public()));
        assert_eq!(Public::from_der(b"nonsense"), None);
    }

    #[test]
    fn the_key_is_named_by_its_public_part() {
        let key = key();
        let key = key.public();
        assert_eq!(key.id().len(), 43);
        let (x, y) = key.coordinates();
        assert_eq!((x.len(), y.len()), (COORDINATE, COORDINATE));
    }
}
