//! What can go wrong when asking the API server, by what a caller can do about it.
//!
//! Knows HTTP codes and `Status` reasons. Must not know who asked.

#![deny(clippy::disallowed_methods)]

use std::time::Duration;

use kube::core::Status;

/// An API call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The server answered with a Kubernetes `Status`.
    #[error("{} ({} {})", .0.message, .0.code, .0.reason)]
    Status(Box<Status>),
    /// No answer, or only a part of one: the write may or may not have happened.
    #[error("reach the API server")]
    Transport(#[source] kube::Error),
    /// The server kept the connection but did not answer in time; a write may or may not have happened.
    #[error("the API server did not answer in time")]
    Timeout,
    /// An answer that is not what was asked for.
    #[error("decode the answer of the API server")]
    Decode(#[source] serde_json::Error),
    /// A line, page or body beyond what this client is willing to hold.
    #[error("answer of the API server exceeds {limit} bytes")]
    TooLarge { limit: usize },
}

impl ApiError {
    /// The HTTP code of the server's answer, 0 if there was none.
    pub fn code(&self) -> u16 {
        match self {
            ApiError::Status(status) => status.code,
            _ => 0,
        }
    }

    pub fn reason(&self) -> &str {
        match self {
            ApiError::Status(status) => &status.reason,
            _ => "",
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// 409 because the object changed since it was read, or a uid or revision precondition failed.
    pub fn is_conflict(&self) -> bool {
        self.code() == 409 && self.reason() != "AlreadyExists"
    }

    pub fn is_already_exists(&self) -> bool {
        self.code() == 409 && self.reason() == "AlreadyExists"
    }

    pub fn is_forbidden(&self) -> bool {
        self.code() == 403
    }

    pub fn is_invalid(&self) -> bool {
        self.code() == 422
    }

    /// 410: the revision asked for is compacted; only a new list helps.
    pub fn is_gone(&self) -> bool {
        self.code() == 410
    }

    /// A create in a namespace that is being deleted; trying again cannot help.
    pub fn is_namespace_terminating(&self) -> bool {
        match self {
            ApiError::Status(status) => status.details.as_ref().is_some_and(|details| {
                details
                    .causes
                    .iter()
                    .any(|cause| cause.reason == "NamespaceTerminating")
            }),
            _ => false,
        }
    }

    /// How long the server asks us to wait (`Retry-After`), if it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ApiError::Status(status) => {
                let seconds = status
                    .details
                    .as_ref()
                    .map_or(0, |details| details.retry_after_seconds);
                (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
            }
            _ => None,
        }
    }
}
