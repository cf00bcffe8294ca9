//! Continue tokens: where the next page of a list starts. Pure.
//!
//! Source: Kubernetes `storage.EncodeContinue`; the token is opaque to clients, its shape is upstream's.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Longest token accepted, in bytes: base64 of the longest key and the fixed parts.
const MAX_TOKEN_BYTES: usize = 2048;
const VERSION: &str = "meta.k8s.io/v1";
/// In the token of a 410: go on at the newest revision, giving up one consistent list.
const INCONSISTENT: i64 = -1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Revision of the first page; `None`: whatever is newest.
    pub revision: Option<u64>,
    /// First key of the page.
    pub start: Bytes,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: String,
    rv: i64,
    /// The key relative to the list's prefix.
    start: String,
}

/// The token for the page after the object with key `last`. `prefix` is the list's key prefix.
#[must_use]
pub fn after(prefix: &str, last: &[u8], revision: u64) -> String {
    let relative = String::from_utf8_lossy(last.get(prefix.len()..).unwrap_or_default()).into_owned();
    encode(&Wire {
        v: VERSION.into(),
        rv: i64::try_from(revision).unwrap_or(i64::MAX),
        start: relative + "\0",
    })
}

/// The token that goes on from `position` without its revision.
#[must_use]
pub fn inconsistent(prefix: &str, start: &[u8]) -> String {
    let start = String::from_utf8_lossy(start.get(prefix.len()..).unwrap_or_default()).into_owned();
    encode(&Wire {
        v: VERSION.into(),
        rv: INCONSISTENT,
        start,
    })
}

fn encode(wire: &Wire) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(wire).expect("strings and numbers serialise"))
}

/// # Errors
/// Upstream's text for a `BadRequest`.
pub fn decode(token: &str, prefix: &str) -> Result<Position, String> {
    let bad = |why: &str| format!("continue key is not valid: {why}");
    if token.len() > MAX_TOKEN_BYTES {
        return Err(bad("too long"));
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(token.trim_end_matches('='))
        .map_err(|error| bad(&error.to_string()))?;
    let wire: Wire = serde_json::from_slice(&bytes).map_err(|error| bad(&error.to_string()))?;
    if wire.v != VERSION {
        return Err(bad(&format!(
            "server does not recognize this encoded version {:?}",
            wire.v
        )));
    }
    if wire.start.is_empty() || wire.start.starts_with('/') || wire.start.split('/').any(|part| part == "..")
    {
        return Err(bad("encoded start key is not valid"));
    }
    let revision = match wire.rv {
        INCONSISTENT => None,
        rv => Some(
            u64::try_from(rv)
                .ok()
                .filter(|rv| *rv > 0)
                .ok_or_else(|| bad("incorrect encoded start resourceVersion"))?,
        ),
    };
    Ok(Position {
        revision,
        start: Bytes::from(format!("{prefix}{}", wire.start)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_to_the_next_key() {
        let token = after("/core/pods/", b"/core/pods/a/x", 9);
        let position = decode(&token, "/core/pods/").expect("own token");
        assert_eq!(
            position,
            Position {
                revision: Some(9),
                start: Bytes::from("/core/pods/a/x\0")
            }
        );
        let token = inconsistent("/core/pods/", &position.start);
        assert_eq!(decode(&token, "/core/pods/").expect("own token").revision, None);
    }

    #[test]
    fn foreign_tokens_are_refused() {
        let token = |text: &str| URL_SAFE_NO_PAD.encode(text);
        for bad in [
            "%%%".to_owned(),
            token("{}"),
            token(r#"{"v":"v9","rv":1,"start":"a"}"#),
            token(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#),
            token(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../../secrets/"}"#),
            token(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"/x"}"#),
        ] {
            assert!(decode(&bad, "/core/pods/").is_err(), "{bad}");
        }
    }
}
