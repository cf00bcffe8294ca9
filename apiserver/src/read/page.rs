//! Continue tokens: where the next page of a list starts. Pure.
//!
//! Source: Kubernetes `storage.EncodeContinue`; the token is opaque to clients, its shape is upstream's.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Longest token accepted, in bytes: base64 of the longest key and the fixed parts.
const MAX_TOKEN_BYTES: usize = 2048;
const VERSION: &str = "meta.k8s.io/v1";
/// In the token of a 410: go on at the newest revision, giving up one consistent list.
const INCONSISTENT: i64 = -1;
/// How long a token leads to the state of its list: as long as upstream keeps one at least, which compacts every five
/// minutes. History reaches further back here; but a client has to cope with the 410, and its list is worth little by then.
const LIFETIME: SignedDuration = SignedDuration::from_mins(5);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Revision of the first page; `None`: whatever is newest.
    pub revision: Option<u64>,
    /// First key of the page.
    pub start: Bytes,
    /// When the page before this one was given, in seconds since 1970.
    pub given: i64,
}

impl Position {
    /// Whether its list may still be continued as it was.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.revision.is_some() && now.as_second().saturating_sub(self.given) >= LIFETIME.as_secs()
    }
}

/// What a token lacks reads as zero, which is then refused in upstream's words.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Wire {
    v: String,
    rv: i64,
    /// The key relative to the list's prefix.
    start: String,
    /// Ours alone: [`Position::given`].
    given: i64,
}

/// The first key after `last`.
#[must_use]
pub fn next_key(last: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(last.len() + 1);
    next.extend_from_slice(last);
    next.push(0);
    next.into()
}

/// The token for the page after the object with key `last`. `prefix` is the list's key prefix.
#[must_use]
pub fn after(prefix: &str, last: &[u8], revision: u64, now: Timestamp) -> String {
    let relative = String::from_utf8_lossy(last.get(prefix.len()..).unwrap_or_default()).into_owned();
    encode(&Wire {
        v: VERSION.into(),
        rv: i64::try_from(revision).unwrap_or(i64::MAX),
        start: relative + "\0",
        given: now.as_second(),
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
        given: 0,
    })
}

fn encode(wire: &Wire) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(wire).expect("strings and numbers serialise"))
}

/// # Errors
/// Upstream's text, without what the caller puts before it.
pub fn decode(token: &str, prefix: &str) -> Result<Position, String> {
    let bad = |why: String| format!("continue key is not valid: {why}");
    if token.len() > MAX_TOKEN_BYTES {
        return Err(bad(format!("longer than {MAX_TOKEN_BYTES} bytes")));
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(token)
        .map_err(|error| bad(base64_error(&error, token)))?;
    let wire: Wire = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    if wire.v != VERSION {
        return Err(format!(
            "continue key is not valid: server does not recognize this encoded version {}",
            wire.v
        ));
    }
    if wire.rv == 0 {
        return Err(bad(format!(
            "incorrect encoded start resourceVersion (version {VERSION})"
        )));
    }
    if wire.start.is_empty() {
        return Err(bad(format!("encoded start key empty (version {VERSION})")));
    }
    // A token names a place below the list's own prefix, whatever a client wrote into it.
    let relative = wire.start.strip_prefix('/').unwrap_or(&wire.start);
    if relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(bad(wire.start));
    }
    Ok(Position {
        revision: u64::try_from(wire.rv).ok(),
        start: Bytes::from(format!("{prefix}{relative}")),
        given: wire.given,
    })
}

/// As Go words it.
fn base64_error(error: &base64::DecodeError, token: &str) -> String {
    let at = match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => *at,
        base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => token.len(),
    };
    format!("illegal base64 data at input byte {at}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_to_the_next_key() {
        let now = Timestamp::from_second(1_000).expect("in range");
        let token = after("/core/pods/", b"/core/pods/a/x", 9, now);
        let position = decode(&token, "/core/pods/").expect("own token");
        assert_eq!(
            position,
            Position {
                revision: Some(9),
                start: Bytes::from("/core/pods/a/x\0"),
                given: 1_000,
            }
        );
        let later = |seconds| now + SignedDuration::from_secs(seconds);
        assert!(!position.is_expired(later(299)) && position.is_expired(later(300)));
        let token = inconsistent("/core/pods/", &position.start);
        let position = decode(&token, "/core/pods/").expect("own token");
        assert_eq!(position.revision, None);
        assert!(!position.is_expired(later(300)));
    }

    #[test]
    fn foreign_tokens_are_refused() {
        let token = |text: &str| URL_SAFE_NO_PAD.encode(text);
        for (bad, want) in [
            ("%%%".to_owned(), "illegal base64 data at input byte 0"),
            (token("{}"), "server does not recognize this encoded version "),
            (
                token(r#"{"v":"v9","rv":1,"start":"a"}"#),
                "server does not recognize this encoded version v9",
            ),
            (
                token(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#),
                "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ),
            (
                token(r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#),
                "encoded start key empty (version meta.k8s.io/v1)",
            ),
            (
                token(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../../secrets/"}"#),
                "../../secrets/",
            ),
            (token(r#"{"v":"meta.k8s.io/v1","rv":1,"start":"//x"}"#), "//x"),
        ] {
            let error = decode(&bad, "/core/pods/").expect_err("not ours");
            assert!(
                error.starts_with("continue key is not valid: ") && error.contains(want),
                "{bad}: {error}"
            );
        }
    }
}
