//! The Secret a bootstrap token is, and the table of them. Pure.
//!
//! Source: Kubernetes `cluster-bootstrap/token/api`, `cmd/kubeadm/app/cmd/token.go`.

use std::collections::BTreeMap;

use corten_client::join::JoinToken;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rand::Rng;

pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const USAGE_PREFIX: &str = "usage-bootstrap-";
/// Ours: the token is spent by the first machine that joins.
pub const SINGLE_USE: &str = "corten-single-use";
const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// What a new token is like.
pub struct New {
    pub server: bool,
    pub single_use: bool,
    pub description: String,
    pub groups: Vec<String>,
    /// `None`: never.
    pub expires: Option<Timestamp>,
}

impl New {
    /// The Secret of the token `text`, an `ID.SECRET`.
    pub fn secret(&self, text: &str) -> Secret {
        let (id, secret) = text.split_once('.').unwrap_or((text, ""));
        let usage = if self.server { "server" } else { "authentication" };
        let mut data = BTreeMap::from([
            ("token-id".to_owned(), id.to_owned()),
            ("token-secret".to_owned(), secret.to_owned()),
            (format!("{USAGE_PREFIX}{usage}"), "true".to_owned()),
        ]);
        if let Some(expires) = self.expires {
            data.insert("expiration".into(), whole_seconds(expires));
        }
        if self.single_use {
            data.insert(SINGLE_USE.into(), "true".into());
        }
        if !self.description.is_empty() {
            data.insert("description".into(), self.description.clone());
        }
        if !self.groups.is_empty() {
            data.insert("auth-extra-groups".into(), self.groups.join(","));
        }
        Secret {
            metadata: ObjectMeta {
                name: Some(secret_name(id)),
                namespace: Some(super::NAMESPACE.into()),
                ..Default::default()
            },
            type_: Some(SECRET_TYPE.into()),
            data: Some(
                data.into_iter()
                    .map(|(key, value)| (key, ByteString(value.into_bytes())))
                    .collect(),
            ),
            ..Default::default()
        }
    }
}

fn whole_seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

pub fn secret_name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

/// A new `ID.SECRET`.
pub fn random(random: &mut impl Rng) -> String {
    let mut part = |length| -> String {
        (0..length)
            .map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]))
            .collect()
    };
    format!("{}.{}", part(6), part(16))
}

/// Source: `BootstrapGroupPattern`.
pub fn is_group(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.strip_prefix("system:bootstrappers:").is_some_and(|rest| {
        rest.len() <= 256
            && rest.bytes().all(|b| plain(b) || b == b':' || b == b'-')
            && rest.bytes().last().is_some_and(plain)
    })
}

/// `HOST:PORT` as a URL has it.
pub fn authority(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// What to run on the machine that joins.
pub fn join_command(url: &str, token: &JoinToken, server: bool) -> String {
    match server {
        true => format!("corten server --join {url} --token {}", token.reveal()),
        false => format!("corten agent --server {url} --token {}", token.reveal()),
    }
}

fn datum(secret: &Secret, key: &str) -> String {
    let bytes = secret.data.as_ref().and_then(|data| data.get(key));
    String::from_utf8_lossy(bytes.map(|b| b.0.as_slice()).unwrap_or_default()).into_owned()
}

/// The tokens as `kubeadm token list` shows them.
pub fn table(secrets: &[Secret], now: Timestamp) -> String {
    let heads = ["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS"];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(secrets.iter().map(|secret| row(secret, now)));
    let widths: Vec<usize> = (0..heads.len())
        .map(|column| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        })
        .collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths);
        let text: String = cells.map(|(cell, width)| format!("{cell:<width$}   ")).collect();
        format!("{}\n", text.trim_end())
    };
    rows.iter().map(line).collect()
}

fn row(secret: &Secret, now: Timestamp) -> [String; 6] {
    let expiration = datum(secret, "expiration");
    let (ttl, expires) = match (expiration.as_str(), expiration.parse::<Timestamp>()) {
        ("", _) => ("<forever>".to_owned(), "<never>".to_owned()),
        (_, Ok(at)) => (short(at.as_second() - now.as_second()), whole_seconds(at)),
        (_, Err(_)) => ("<invalid>".to_owned(), expiration.clone()),
    };
    let keys = secret.data.iter().flatten().map(|(key, _)| key.as_str());
    let mut usages: Vec<&str> = keys
        .filter(|key| datum(secret, key) == "true")
        .filter_map(|key| key.strip_prefix(USAGE_PREFIX))
        .collect();
    if datum(secret, SINGLE_USE) == "true" {
        usages.push("once");
    }
    let or_none = |text: String| {
        if text.is_empty() {
            "<none>".to_owned()
        } else {
            text
        }
    };
    [
        format!("{}.{}", datum(secret, "token-id"), datum(secret, "token-secret")),
        ttl,
        expires,
        or_none(usages.join(",")),
        or_none(datum(secret, "description")),
        or_none(datum(secret, "auth-extra-groups")),
    ]
}

/// Source: Kubernetes `duration.ShortHumanDuration`.
fn short(seconds: i64) -> String {
    match seconds {
        ..-1 => "<invalid>".into(),
        -1 => "0s".into(),
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        86_400..31_536_000 => format!("{}d", seconds / 86_400),
        _ => format!("{}y", seconds / 31_536_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_client::join::is_bootstrap_token;

    #[test]
    fn the_table_is_kubeadms() {
        let now = Timestamp::from_second(1_000_000_000).expect("a time");
        let new = |server, expires, description: &str| New {
            server,
            single_use: server,
            description: description.into(),
            groups: Vec::new(),
            expires,
        };
        let in_a_day = Timestamp::from_second(1_000_086_399).expect("a time");
        let secrets = [
            new(false, Some(in_a_day), "").secret("abcdef.0123456789abcdef"),
            new(true, None, "the second").secret("bcdefg.0123456789abcdef"),
        ];
        let lines = [
            "TOKEN                     TTL         EXPIRES                USAGES           DESCRIPTION   EXTRA GROUPS",
            "abcdef.0123456789abcdef   23h         2001-09-10T01:46:39Z   authentication   <none>        <none>",
            "bcdefg.0123456789abcdef   <forever>   <never>                server,once      the second    <none>",
        ];
        assert_eq!(table(&secrets, now).lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn random_tokens_are_tokens() {
        let (one, other) = (random(&mut rand::rng()), random(&mut rand::rng()));
        assert!(is_bootstrap_token(&one), "{one}");
        assert_ne!(one, other);
    }

    #[test]
    fn groups_are_of_bootstrappers() {
        assert!(is_group("system:bootstrappers:a:b-1"));
        assert!(!is_group("system:bootstrappers:"));
        assert!(!is_group("system:masters"));
    }
}
