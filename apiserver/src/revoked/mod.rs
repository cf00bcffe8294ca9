//! Certificates that are refused before their end: a deny list, which Kubernetes does not have.
//!
//! An entry is a record in the store and names one certificate by its serial number, or a user, whose certificates of before
//! are refused. Every server follows the records; who holds what was revoked is refused with the next request, and the
//! connections that were opened with it end. `connections` knows the latter, `serve` the HTTP side below
//! `/corten/v1/revoked`. Must not know where certificates come from.

mod connections;
pub mod serve;

pub use connections::{Connections, Cut};

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use corten_store::{Event, EventKind, Snapshot};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::follow::{self, Followed, Index};
use crate::identity::Certificate;
use crate::key::prefix_range;
use crate::{ApiServer, Inner, Peer, pki};

const PREFIX: &str = "/corten.dev.internal/revoked/";
/// Most entries: each is kept until somebody takes it back.
pub const MAX_ENTRIES: usize = 10_000;
/// Bytes of a serial number. Source: RFC 5280, 4.1.2.2, and one for the sign.
const MAX_SERIAL: usize = 21;
/// Bytes of a user's name, and of a reason.
const MAX_TEXT: usize = 1024;

/// What is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Revoked {
    /// Of one certificate, hexadecimal without leading zeros; empty: all of `user`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub serial: String,
    /// The common name; empty where there is a serial number.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When, in seconds since 1970: certificates of `user` that were issued later are good.
    #[serde(default)]
    pub at: i64,
    /// Who revoked it.
    #[serde(default)]
    pub by: String,
}

impl Revoked {
    /// Makes the serial number canonical.
    ///
    /// # Errors
    /// Neither or both of serial number and user, or one that cannot be; in words for the one who asks.
    fn checked(mut self) -> Result<Revoked, String> {
        let plain: String = self.serial.chars().filter(|sign| *sign != ':').collect();
        match (plain.is_empty(), self.user.is_empty()) {
            (true, true) => return Err("either a serial number or a user is required".into()),
            (false, false) => return Err("a serial number and a user at once mean two entries".into()),
            _ => {}
        }
        if !plain.bytes().all(|byte| byte.is_ascii_hexdigit()) || plain.len() > 2 * MAX_SERIAL {
            return Err(format!(
                "serial: Invalid value: {:?}: must be a hexadecimal number",
                self.serial
            ));
        }
        if self.user.len() > MAX_TEXT || self.reason.len() > MAX_TEXT {
            return Err(format!("user and reason must be no more than {MAX_TEXT} bytes"));
        }
        if !plain.is_empty() {
            let digits = plain.trim_start_matches('0').to_ascii_lowercase();
            self.serial = if digits.is_empty() { "0".into() } else { digits };
        }
        Ok(self)
    }

    /// Names the entry; what is asked for with it takes it back.
    #[must_use]
    pub fn id(&self) -> String {
        match self.user.as_str() {
            "" => format!("serial:{}", self.serial),
            user => format!("user:{user}"),
        }
    }
}

fn range() -> Range<Bytes> {
    prefix_range(PREFIX)
}

fn key(id: &str) -> Bytes {
    format!("{PREFIX}{id}").into()
}

/// Every entry that can be read, by its key.
fn entries(snapshot: &Snapshot) -> BTreeMap<Bytes, Revoked> {
    let all = snapshot.range(range());
    all.filter_map(|entry| Some((entry.key.clone(), parse(&entry.value)?)))
        .collect()
}

fn parse(value: &[u8]) -> Option<Revoked> {
    serde_json::from_slice(value)
        .inspect_err(|error| tracing::error!(%error, "a record of a revoked certificate cannot be read"))
        .ok()
}

/// The entries by what they name.
#[derive(Debug, Default)]
struct List {
    serials: HashSet<String>,
    /// The time of the entry, by the user's name.
    users: HashMap<String, i64>,
}

impl List {
    fn of<'a>(entries: impl Iterator<Item = &'a Revoked>) -> List {
        let mut list = List::default();
        for entry in entries {
            match entry.user.as_str() {
                "" => _ = list.serials.insert(entry.serial.clone()),
                user => _ = list.users.insert(user.to_owned(), entry.at),
            }
        }
        list
    }

    fn denies(&self, user: &str, certificate: &Certificate) -> bool {
        // Signed at the earliest so long after the begin that it states.
        let issued = certificate.from + pki::BACKDATE_SECONDS;
        self.serials.contains(&certificate.serial) || self.users.get(user).is_some_and(|at| issued <= *at)
    }
}

/// The list in force, and who is connected.
#[derive(Default)]
pub struct Current {
    list: RwLock<Arc<List>>,
    pub followed: Followed,
    pub connections: Arc<Connections>,
    following: AtomicBool,
}

impl Current {
    /// Whether the certificate that `peer` came with was revoked.
    #[must_use]
    pub fn denies(&self, peer: &Peer) -> bool {
        match (&peer.certificate, &peer.user) {
            (Some(certificate), Some(user)) => self.list.read().denies(&user.name, certificate),
            _ => false,
        }
    }
}

impl ApiServer {
    /// Begins to follow the deny list. Does nothing the second time.
    pub(crate) fn follow_revoked(&self) {
        if !self.inner().revoked.following.swap(true, Ordering::AcqRel) {
            follow::start(&self.0, Follower::default(), |server| &server.revoked.followed);
        }
    }
}

/// The records, by key.
#[derive(Default)]
struct Follower(BTreeMap<Bytes, Revoked>);

impl Index for Follower {
    fn range() -> Range<Bytes> {
        range()
    }

    fn load(&mut self, _: &Inner, snapshot: &Snapshot) {
        self.0 = entries(snapshot);
    }

    fn apply(&mut self, _: &Inner, event: &Event) {
        let put = match &event.kind {
            EventKind::Put { entry, .. } => parse(&entry.value),
            EventKind::Delete { .. } => None,
        };
        match put {
            Some(entry) => _ = self.0.insert(event.key.clone(), entry),
            None => _ = self.0.remove(&event.key),
        }
    }

    fn publish(&mut self, server: &Inner) {
        let current = &server.revoked;
        let list = Arc::new(List::of(self.0.values()));
        *current.list.write() = list.clone();
        current
            .connections
            .cut(|user, certificate| list.denies(user, certificate));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(serial: &str, user: &str, at: i64) -> Revoked {
        Revoked {
            serial: serial.into(),
            user: user.into(),
            reason: String::new(),
            at,
            by: String::new(),
        }
    }

    #[test]
    fn a_serial_number_is_one_certificate_and_a_user_all_of_before() {
        let list = List::of([entry("ab", "", 0), entry("", "jane", 1_000_000)].iter());
        let check = |user: &str, serial: &str, issued: i64, want: bool| {
            let certificate = Certificate {
                issuer: Vec::new(),
                serial: serial.into(),
                from: issued - pki::BACKDATE_SECONDS,
                until: i64::MAX,
            };
            assert_eq!(list.denies(user, &certificate), want, "{user} {serial} {issued}");
        };
        check("bob", "ab", 5, true);
        check("bob", "abc", 5, false);
        check("jane", "1", 999_999, true);
        check("jane", "1", 1_000_000, true);
        check("jane", "1", 1_000_001, false);
        check("jane2", "1", 5, false);
    }

    #[test]
    fn what_is_named_is_canonical() {
        let id = |serial: &str, user: &str| entry(serial, user, 0).checked().map(|entry| entry.id());
        assert_eq!(id("00:AB:01", "").as_deref(), Ok("serial:ab01"));
        assert_eq!(id("0", "").as_deref(), Ok("serial:0"));
        assert_eq!(id("", "system:node:a/b").as_deref(), Ok("user:system:node:a/b"));
        for (serial, user) in [("", ""), ("1", "jane"), ("xyz", ""), ("::", "")] {
            assert!(id(serial, user).is_err(), "{serial} {user}");
        }
        assert!(id(&"a".repeat(43), "").is_err());
        assert!(id("", &"a".repeat(1025)).is_err());
    }
}
