//! Bootstrap tokens: short secrets by which a machine that has nothing else joins the cluster. Pure.
//!
//! A token is `ID.SECRET` and lives as the Secret `bootstrap-token-ID` in `kube-system`. Must not know what its bearer may
//! do, only who it is and what the token was made for.
//!
//! Source: Kubernetes `plugin/pkg/auth/authenticator/token/bootstrap`, `staging/.../cluster-bootstrap/token/api`.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corten_api::time;
use jiff::Timestamp;
use serde_json::Value;

use crate::User;

pub const NAMESPACE: &str = "kube-system";
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
pub const SECRET_PREFIX: &str = "bootstrap-token-";
/// The group of all bearers.
pub const GROUP: &str = "system:bootstrappers";
const USER_PREFIX: &str = "system:bootstrap:";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;
/// Bytes of the name of an extra group after its prefix.
const MAX_GROUP: usize = 256;

/// What a token may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// As a bearer token of this API: how nodes join.
    Authentication,
    /// To join as a server. Ours; it shows the cluster's keys.
    Server,
}

impl Usage {
    /// The key in the Secret's data that says `true`.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Usage::Authentication => "usage-bootstrap-authentication",
            Usage::Server => "usage-bootstrap-server",
        }
    }
}

/// Why a token is worth nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such token, or its secret is another: an asker learns no more.
    #[error("the token is not known to this cluster")]
    Unknown,
    #[error("the token {id} has expired at {at}")]
    Expired { id: String, at: String },
    #[error("the token {id} is not for {}", match .usage { Usage::Authentication => "nodes", Usage::Server => "servers" })]
    NotFor { id: String, usage: Usage },
    #[error("the token {id} is damaged: {why}")]
    Damaged { id: String, why: String },
}

/// `ID.SECRET`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub id: &'a str,
    secret: &'a str,
}

impl<'a> Token<'a> {
    /// `None` for what is no bootstrap token.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Token<'a>> {
        let (id, secret) = text.split_once('.')?;
        let of = |part: &str, length| {
            part.len() == length && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        (of(id, ID_LENGTH) && of(secret, SECRET_LENGTH)).then_some(Token { id, secret })
    }

    /// The name of its Secret.
    #[must_use]
    pub fn secret_name(&self) -> String {
        format!("{SECRET_PREFIX}{}", self.id)
    }

    /// Who bears the token, by its Secret. What the token is bound to is only told to who knows the secret part.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn check(&self, secret: &Value, usage: Usage, now: Timestamp) -> Result<User, Refused> {
        let id = || self.id.to_owned();
        let of = |key: &str| datum(secret, key);
        let known = secret["type"] == SECRET_TYPE
            && secret["metadata"]["deletionTimestamp"].is_null()
            && same(&of("token-secret"), self.secret)
            && of("token-id") == self.id;
        if !known {
            return Err(Refused::Unknown);
        }
        let expires = of("expiration");
        if !expires.is_empty() && time::parse(&expires).is_none_or(|at| at < now) {
            return Err(Refused::Expired {
                id: id(),
                at: expires,
            });
        }
        if of(usage.key()) != "true" {
            return Err(Refused::NotFor { id: id(), usage });
        }
        let mut groups = vec![GROUP.to_owned()];
        for group in of("auth-extra-groups").split(',').filter(|g| !g.is_empty()) {
            if !is_group(group) {
                return Err(Refused::Damaged {
                    id: id(),
                    why: format!("{group:?} in auth-extra-groups is no group of bootstrappers"),
                });
            }
            groups.push(group.to_owned());
        }
        groups[1..].sort();
        groups.dedup();
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        Ok(User::new(format!("{USER_PREFIX}{}", self.id), &groups))
    }
}

/// The id of the token that a user came with.
#[must_use]
pub fn token_of(user: &str) -> Option<&str> {
    user.strip_prefix(USER_PREFIX)
}

/// One entry of a Secret's data as text; empty when there is none.
fn datum(secret: &Value, key: &str) -> String {
    let bytes = secret["data"][key]
        .as_str()
        .and_then(|text| STANDARD.decode(text).ok());
    String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
}

/// Takes as long whatever the first difference is.
fn same(left: &str, right: &str) -> bool {
    let differences = left
        .bytes()
        .zip(right.bytes())
        .fold(0, |all, (a, b)| all | (a ^ b));
    left.len() == right.len() && differences == 0
}

/// Source: Kubernetes `BootstrapGroupPattern`, `\Asystem:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\z`.
fn is_group(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("system:bootstrappers:") else {
        return false;
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=MAX_GROUP).contains(&rest.len())
        && rest.bytes().all(|b| plain(b) || b == b':' || b == b'-')
        && rest.bytes().last().is_some_and(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TEXT: &str = "abcdef.0123456789abcdef";

    fn secret(changes: &[(&str, &str)]) -> Value {
        let mut data = json!({});
        let base = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
        ];
        for (key, value) in base.iter().chain(changes) {
            data[*key] = STANDARD.encode(value).into();
        }
        json!({"type": SECRET_TYPE, "metadata": {"name": "bootstrap-token-abcdef"}, "data": data})
    }

    /// `want`: the groups after the first, or the error.
    #[track_caller]
    fn check(secret: &Value, usage: Usage, want: &str) {
        let now = Timestamp::from_second(1_000_000).expect("a time");
        let token = Token::parse(TEXT).expect("a token");
        let got = match token.check(secret, usage, now) {
            Ok(user) => {
                assert_eq!(user.name, "system:bootstrap:abcdef");
                assert_eq!(user.groups[0], GROUP);
                user.groups[1..].join(" ")
            }
            Err(refused) => refused.to_string(),
        };
        assert_eq!(got, want);
    }

    #[test]
    fn tokens_have_one_form() {
        assert!(Token::parse(TEXT).is_some());
        for bad in [
            "",
            "abcdef",
            "abcdef.",
            "Abcdef.0123456789abcdef",
            "abcdef.0123456789abcde",
            "abcdef.0123456789abcdefg",
            "abcde.00123456789abcdef",
            "abcdef.0123456789abcde\n",
            "abcdef.0123456.89abcdef",
        ] {
            assert!(Token::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn who_bears_a_token() {
        use Usage::{Authentication, Server};
        check(&secret(&[]), Authentication, "system:authenticated");
        let groups = "system:bootstrappers:b,system:bootstrappers:a:x-1,system:bootstrappers:b";
        check(
            &secret(&[("auth-extra-groups", groups)]),
            Authentication,
            "system:bootstrappers:a:x-1 system:bootstrappers:b system:authenticated",
        );
        check(
            &secret(&[("expiration", "1970-01-12T13:46:40Z")]),
            Authentication,
            "system:authenticated",
        );
        check(
            &secret(&[("usage-bootstrap-server", "true")]),
            Server,
            "system:authenticated",
        );
    }

    #[test]
    fn what_is_refused() {
        use Usage::{Authentication, Server};
        const UNKNOWN: &str = "the token is not known to this cluster";
        check(
            &secret(&[("token-secret", "0123456789abcdee")]),
            Authentication,
            UNKNOWN,
        );
        check(&secret(&[("token-secret", "")]), Authentication, UNKNOWN);
        check(&secret(&[("token-id", "abcdee")]), Authentication, UNKNOWN);
        let mut going = secret(&[]);
        going["metadata"]["deletionTimestamp"] = "1970-01-12T13:46:40Z".into();
        check(&going, Authentication, UNKNOWN);
        let mut opaque = secret(&[]);
        opaque["type"] = "Opaque".into();
        check(&opaque, Authentication, UNKNOWN);
        check(
            &secret(&[("expiration", "1970-01-12T13:46:39Z")]),
            Authentication,
            "the token abcdef has expired at 1970-01-12T13:46:39Z",
        );
        check(
            &secret(&[("expiration", "tomorrow")]),
            Authentication,
            "the token abcdef has expired at tomorrow",
        );
        check(&secret(&[]), Server, "the token abcdef is not for servers");
        check(
            &secret(&[("usage-bootstrap-authentication", "false")]),
            Authentication,
            "the token abcdef is not for nodes",
        );
        check(
            &secret(&[("auth-extra-groups", "system:masters")]),
            Authentication,
            "the token abcdef is damaged: \"system:masters\" in auth-extra-groups is no group of bootstrappers",
        );
    }
}
