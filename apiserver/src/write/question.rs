//! What a decision has to know from outside, and what it was told.
//!
//! A decision is a plain function, so it cannot call a webhook. It returns the calls as a [`Question`]; the shell makes
//! them, puts the answers into the request's [`Memo`], and decides again. The same call is never made twice for one
//! request: answers are found by the call's content.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::outbound::{CallError, Target};

/// Calls that may be made at the same time. The decision goes on when all have an answer.
pub type Question = Vec<Call>;

/// One call of a webhook.
#[derive(Debug, Clone)]
pub struct Call {
    pub key: CallKey,
    pub target: Arc<Target>,
    /// For how long the answer is awaited.
    pub limit: Duration,
    pub body: Bytes,
}

/// What tells one call from another: a digest of the callee and of what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallKey([u8; 32]);

impl CallKey {
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> CallKey {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        CallKey(digest.finalize().into())
    }

    /// A uid made of the key, so that the other side can tell calls apart.
    #[must_use]
    pub fn uid(&self) -> String {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.0[..16]);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
}

/// The body of a good answer, or why there is none.
pub type CallAnswer = Result<Bytes, CallError>;

/// Answers this request has had.
#[derive(Debug, Default)]
pub struct Memo(HashMap<CallKey, CallAnswer>);

impl Memo {
    #[must_use]
    pub fn get(&self, key: &CallKey) -> Option<&CallAnswer> {
        self.0.get(key)
    }

    pub fn put(&mut self, key: CallKey, answer: CallAnswer) {
        self.0.insert(key, answer);
    }

    /// Calls made so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
