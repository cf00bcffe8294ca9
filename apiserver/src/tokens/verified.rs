//! Tokens whose signatures were found good, so that the next request with one costs a digest instead of a signature's check.
//!
//! Only what a key has said is kept. Whether a token has expired, and whether what it is bound to is still there, is looked at
//! on every request: a deleted account's token is worth nothing at once. Upstream keeps whole answers for 10 s.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

/// Tokens kept at most, some 4 KB each.
const MAX_TOKENS: usize = 2048;

/// Of the token, which is not kept itself.
pub type Digest = [u8; 32];

/// The digest that a token is kept under.
pub fn digest(token: &str) -> Digest {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Claims by the digests of their tokens.
#[derive(Debug, Default)]
pub struct Verified(Mutex<Generations>);

/// When the newer half is full the older one goes; whatever is asked for gets into the newer one.
#[derive(Debug, Default)]
struct Generations {
    newer: HashMap<Digest, Arc<Value>>,
    older: HashMap<Digest, Arc<Value>>,
}

impl Generations {
    fn keep(&mut self, digest: Digest, claims: Arc<Value>) {
        if self.newer.len() >= MAX_TOKENS / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(digest, claims);
    }
}

impl Verified {
    /// What the token says, if its signature is known to be good.
    pub fn get(&self, digest: &Digest) -> Option<Arc<Value>> {
        let mut all = self.0.lock();
        if let Some(claims) = all.newer.get(digest) {
            return Some(claims.clone());
        }
        let claims = all.older.remove(digest)?;
        all.keep(*digest, claims.clone());
        Some(claims)
    }

    /// Keeps what a token says, if `is_current`: the keys it was checked with are still those that are believed.
    pub fn keep(&self, digest: Digest, claims: Arc<Value>, is_current: impl FnOnce() -> bool) {
        let mut all = self.0.lock();
        if is_current() {
            all.keep(digest, claims);
        }
    }

    /// Forgets everything: the keys have changed.
    pub fn clear(&self) {
        *self.0.lock() = Generations::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_number_is_bounded() {
        let (all, used) = (Verified::default(), digest("used"));
        all.keep(used, Arc::default(), || true);
        all.keep(digest("old key"), Arc::default(), || false);
        assert!(all.get(&digest("old key")).is_none());
        for number in 0..10 * MAX_TOKENS {
            all.keep(digest(&number.to_string()), Arc::default(), || true);
            if number % 100 == 0 {
                assert!(all.get(&used).is_some(), "{number}");
            }
        }
        let kept = all.0.lock();
        assert!(kept.newer.len() + kept.older.len() <= MAX_TOKENS);
        assert!(!kept.older.contains_key(&digest("0")) && !kept.newer.contains_key(&digest("0")));
        drop(kept);
        all.clear();
        assert!(all.get(&used).is_none());
    }
}
