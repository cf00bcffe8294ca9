//! Encryption at rest: Secrets, and what a configuration names, are sealed before they are proposed to the store, so log,
//! snapshots, backups and traffic between members hold ciphertext only.
//!
//! A value is sealed with AES-256-GCM under a key of the object's own, derived from a configured key and the object's
//! identity (resource, namespace, name, uid), which is authenticated too. The nonce comes from the content: the same object
//! sealed twice gives the same bytes, so a write that changes nothing is seen to change nothing, and no two contents of an
//! object share a nonce. The labels and selectable fields in a stored value's head stay readable: selectors look at them.
//!
//! A process has one ring of keys, as it has one clock: [`install`] puts it in force. Must not know where files are.

mod config;
pub mod rewrite;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::{digest, hkdf, hmac};

pub use config::{ConfigError, generate};

/// Bytes that name a key: the start of a digest of it.
const ID: usize = 8;
const NONCE: usize = 12;
const SALT: &[u8] = b"corten encryption at rest";

type KeyId = [u8; ID];

/// Why a sealed value cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("it is not what sealing writes")]
    Form,
    #[error("it is sealed under a key that is not configured")]
    UnknownKey,
    #[error("it was changed after it was sealed")]
    Changed,
}

/// A configured key. Has no way to be printed.
struct Key {
    /// Keys of objects come from it.
    objects: hkdf::Prk,
    /// Nonces come from it.
    nonces: hmac::Key,
}

impl Key {
    fn new(secret: &[u8]) -> (KeyId, Key) {
        let digest = digest::digest(&digest::SHA256, &[b"corten key id".as_slice(), secret].concat());
        let mut id = KeyId::default();
        id.copy_from_slice(&digest.as_ref()[..ID]);
        let key = Key {
            objects: hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(secret),
            nonces: hmac::Key::new(hmac::HMAC_SHA256, &[b"corten nonces".as_slice(), secret].concat()),
        };
        (id, key)
    }

    fn of_object(&self, identity: &[u8]) -> LessSafeKey {
        let info = [identity];
        let expanded = self
            .objects
            .expand(&info, &AES_256_GCM)
            .expect("a key is shorter than HKDF's limit");
        LessSafeKey::new(UnboundKey::from(expanded))
    }

    fn nonce(&self, identity: &[u8], plain: &[u8]) -> [u8; NONCE] {
        let mut context = hmac::Context::with_key(&self.nonces);
        context.update(&(identity.len() as u64).to_be_bytes());
        context.update(identity);
        context.update(plain);
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&context.sign().as_ref()[..NONCE]);
        nonce
    }

    /// Key id, identity, nonce, ciphertext; `None` for an identity that is too long.
    fn seal(&self, id: KeyId, identity: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let nonce = self.nonce(identity, plain);
        let length = u16::try_from(identity.len()).ok()?;
        let mut out =
            Vec::with_capacity(ID + 2 + identity.len() + NONCE + plain.len() + AES_256_GCM.tag_len());
        out.extend_from_slice(&id);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(identity);
        out.extend_from_slice(&nonce);
        let mut text = plain.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.of_object(identity)
            .seal_in_place_append_tag(nonce, Aad::from(identity), &mut text)
            .ok()?;
        out.append(&mut text);
        Some(out)
    }
}

/// What only servers of one cluster can read: they share `secret`. `identity` names what it is.
#[must_use]
pub fn seal_with(secret: &[u8], identity: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let (id, key) = Key::new(secret);
    key.seal(id, identity, plain)
}

/// What [`seal_with`] was given.
///
/// # Errors
/// Another secret, or bytes that were changed.
pub fn open_with(secret: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let keys = HashMap::from([Key::new(secret)]);
    let rules = Vec::new();
    Ring { keys, rules }.open(sealed)
}

/// Which resources one entry of the configuration is about, and what it seals them with.
struct Rule {
    /// `secrets`, `deployments.apps`, `*.apps`, `*.`, `*.*`.
    resources: Vec<String>,
    /// `None`: new values stay plain.
    writer: Option<KeyId>,
}

/// All keys that open values, and which one seals what.
#[derive(Default)]
pub struct Ring {
    keys: HashMap<KeyId, Key>,
    rules: Vec<Rule>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({} keys)", self.keys.len())
    }
}

/// Resources whose stored bytes are looked into in place: patterns do not cover them, naming one is an error.
const PLAIN: [(&str, &str); 6] = [
    ("", "pods"),
    ("", "namespaces"),
    ("scheduling.k8s.io", "priorityclasses"),
    ("storage.k8s.io", "storageclasses"),
    ("networking.k8s.io", "ingressclasses"),
    ("node.k8s.io", "runtimeclasses"),
];

impl Ring {
    fn writer(&self, group: &str, plural: &str) -> Option<(KeyId, &Key)> {
        if self.rules.is_empty() || PLAIN.contains(&(group, plural)) {
            return None;
        }
        let covers = |pattern: &str| match pattern.split_once('.') {
            None => group.is_empty() && pattern == plural,
            Some(("*", "*")) => true,
            Some(("*", of)) => of == group,
            Some((resource, of)) => resource == plural && of == group,
        };
        let mut rules = self.rules.iter();
        let rule = rules.find(|rule| rule.resources.iter().any(|pattern| covers(pattern)))?;
        let id = rule.writer?;
        Some((id, self.keys.get(&id)?))
    }

    /// The sealed form of `plain`: key id, identity, nonce, ciphertext. `None`: this resource stays plain.
    fn seal(&self, group: &str, plural: &str, identity: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let (id, key) = self.writer(group, plural)?;
        key.seal(id, identity, plain)
    }

    fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (id, rest) = sealed.split_first_chunk::<ID>().ok_or(OpenError::Form)?;
        let (length, rest) = rest.split_first_chunk::<2>().ok_or(OpenError::Form)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (identity, rest) = rest.split_at_checked(length).ok_or(OpenError::Form)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE>().ok_or(OpenError::Form)?;
        let key = self.keys.get(id).ok_or(OpenError::UnknownKey)?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key
            .of_object(identity)
            .open_in_place(nonce, Aad::from(identity), &mut text)
            .map_err(|_| OpenError::Changed)?
            .len();
        text.truncate(plain);
        Ok(text)
    }

    /// Whether a value of this resource is as it would be written now.
    fn is_current(&self, group: &str, plural: &str, sealed: Option<&[u8]>) -> bool {
        match (self.writer(group, plural), sealed) {
            (None, None) => true,
            (Some((id, _)), Some(sealed)) => sealed.starts_with(&id),
            _ => false,
        }
    }
}

static RING: RwLock<Option<Arc<Ring>>> = RwLock::new(None);

/// Puts a ring in force for this process.
pub fn install(ring: Ring) {
    *RING.write() = Some(Arc::new(ring));
}

/// The ring in force; none in a process that never installed one.
fn current() -> Option<Arc<Ring>> {
    RING.read().clone()
}

/// Whether new values of this resource are sealed.
#[must_use]
pub fn covers(group: &str, plural: &str) -> bool {
    RING.read()
        .as_ref()
        .is_some_and(|ring| ring.writer(group, plural).is_some())
}

/// The sealed form of an object's JSON; `None`: it stays plain.
#[must_use]
pub fn seal(group: &str, plural: &str, identity: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    current()?.seal(group, plural, identity, plain)
}

/// What [`seal`] was given.
///
/// # Errors
/// Bytes that were changed, or a key that this process does not have.
pub fn open(sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    current().ok_or(OpenError::UnknownKey)?.open(sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(secrets: &[&[u8]], resources: &[&str]) -> Ring {
        let keys: Vec<_> = secrets.iter().map(|secret| Key::new(secret)).collect();
        let writer = keys.first().map(|(id, _)| *id);
        Ring {
            keys: keys.into_iter().collect(),
            rules: vec![Rule {
                resources: resources.iter().map(|name| (*name).to_owned()).collect(),
                writer,
            }],
        }
    }

    const ONE: &[u8] = &[1; 32];
    const TWO: &[u8] = &[2; 32];

    #[test]
    fn what_is_sealed_opens_and_shows_nothing() {
        let ring = ring(&[ONE], &["secrets"]);
        let sealed = ring
            .seal("", "secrets", b"secrets/ns/a/u", b"canary")
            .expect("covered");
        assert!(!sealed.windows(6).any(|window| window == b"canary"));
        assert_eq!(ring.open(&sealed).as_deref(), Ok(b"canary".as_slice()));
        assert_eq!(
            ring.seal("", "secrets", b"secrets/ns/a/u", b"canary"),
            Some(sealed.clone()),
            "deterministic"
        );
        let other = ring
            .seal("", "secrets", b"secrets/ns/b/u", b"canary")
            .expect("covered");
        assert_ne!(
            other[other.len() - 20..],
            sealed[sealed.len() - 20..],
            "each object has its own key"
        );
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(ring.open(&changed).is_err(), "byte {at}");
            assert!(ring.open(&sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn an_older_key_still_opens_and_is_not_current() {
        let old = ring(&[ONE], &["secrets"]);
        let sealed = old.seal("", "secrets", b"i", b"x").expect("covered");
        let new = ring(&[TWO, ONE], &["secrets"]);
        assert_eq!(new.open(&sealed).as_deref(), Ok(b"x".as_slice()));
        assert!(old.is_current("", "secrets", Some(&sealed)));
        assert!(!new.is_current("", "secrets", Some(&sealed)));
        assert!(!new.is_current("", "secrets", None));
        assert!(new.is_current("", "pods", None));
        assert_eq!(
            ring(&[TWO], &["secrets"]).open(&sealed),
            Err(OpenError::UnknownKey)
        );
    }

    #[test]
    fn patterns_name_resources() {
        let covers = |pattern: &str, group: &str, plural: &str| {
            ring(&[ONE], &[pattern]).writer(group, plural).is_some()
        };
        assert!(covers("secrets", "", "secrets"));
        assert!(!covers("secrets", "example.com", "secrets"));
        assert!(covers("deployments.apps", "apps", "deployments"));
        assert!(covers("*.apps", "apps", "deployments"));
        assert!(!covers("*.apps", "", "pods"));
        assert!(covers("*.", "", "services"));
        assert!(covers("*.*", "example.com", "things"));
        assert!(!covers("*.*", "", "namespaces"), "searched without parsing");
    }
}
