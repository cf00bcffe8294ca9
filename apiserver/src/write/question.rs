//! What a decision has to know from outside, and what it was told.
//!
//! A decision is a plain function, so it cannot call a webhook. It returns the calls as a [`Question`]; the shell makes
//! them, puts the answers into the request's [`Memo`], and decides again. The same call is never made twice for one
//! request: answers are found by the call's content.

#![allow(dead_code, reason = "webhooks, the only ones that ask, follow")]

use std::collections::HashMap;

use sha2::{Digest, Sha256};

/// Calls that may be made at the same time. The decision goes on when all have an answer.
pub type Question = Vec<Call>;

/// One call of a webhook.
#[derive(Debug, Clone)]
pub struct Call {
    pub key: CallKey,
    /// The body. Its JSON may hold the key, so that the receiver can tell calls apart.
    pub body: Vec<u8>,
}

/// What tells one call from another: a digest of the callee and of what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallKey([u8; 32]);

impl CallKey {
    #[must_use]
    pub fn of(callee: &str, content: &[u8]) -> CallKey {
        let mut digest = Sha256::new();
        digest.update(callee.as_bytes());
        digest.update([0]);
        digest.update(content);
        CallKey(digest.finalize().into())
    }

    /// A uid made of the key.
    #[must_use]
    pub fn uid(&self) -> String {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.0[..16]);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
}

/// The body of a good answer, or why there is none.
pub type CallAnswer = Result<bytes::Bytes, String>;

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
