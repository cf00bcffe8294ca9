//! One member's record. It outlives the member: what was removed is never taken in again under the same id.

use std::ops::Range;

use bytes::Bytes;
use corten_store::Snapshot;
use serde::{Deserialize, Serialize};

use crate::key::prefix_range;

const PREFIX: &str = "/corten.dev.internal/members/";

/// Whether a key of the store is that of a member's record.
#[must_use]
pub fn is_record(key: &[u8]) -> bool {
    key.starts_with(PREFIX.as_bytes())
}

/// What every member knows of every other one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    #[serde(with = "hex")]
    pub id: u64,
    /// The host's name, for people.
    #[serde(default)]
    pub name: String,
    /// Where other members reach it, `address:port`.
    pub peer: String,
    /// Where clients reach it, `address:port`; empty for a witness.
    #[serde(default)]
    pub api: String,
    /// It votes and holds the log, but no objects.
    #[serde(default)]
    pub witness: bool,
    /// It was removed for good: it leaves, or has left.
    #[serde(default)]
    pub removed: bool,
    /// Everybody who stays knows the membership without it: nobody waits for its vote, and it may stop.
    #[serde(default)]
    pub left: bool,
}

impl Record {
    #[must_use]
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("plain data serialises").into()
    }
}

/// All records.
#[must_use]
pub fn range() -> Range<Bytes> {
    prefix_range(PREFIX)
}

#[must_use]
pub fn key(id: u64) -> Bytes {
    format!("{PREFIX}{id:016x}").into()
}

/// Every record there is, those of removed members too. One that cannot be read is passed over: it must not keep a server
/// from starting.
#[must_use]
pub fn all(snapshot: &Snapshot) -> Vec<Record> {
    let records = snapshot.range(range());
    records
        .filter_map(|entry| match serde_json::from_slice(&entry.value) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::error!(%error, "a member's record cannot be read");
                None
            }
        })
        .collect()
}

/// The member with this id (hexadecimal, leading zeros may be missing) or name, if there is exactly one that was not removed.
#[must_use]
pub fn find<'a>(records: &'a [Record], text: &str) -> Option<&'a Record> {
    let id = u64::from_str_radix(text, 16).ok();
    let by_id = records.iter().find(|record| Some(record.id) == id);
    by_id.or_else(|| {
        let mut named = records
            .iter()
            .filter(|record| !record.removed && record.name == text);
        named.next().filter(|_| named.next().is_none())
    })
}

/// JSON's numbers end at 53 bits.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(id: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{id:016x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        u64::from_str_radix(&String::deserialize(from)?, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u64, name: &str, removed: bool) -> Record {
        Record {
            id,
            name: name.into(),
            peer: "192.0.2.1:6444".into(),
            api: "192.0.2.1:6443".into(),
            witness: false,
            removed,
            left: false,
        }
    }

    #[test]
    fn a_member_is_found_by_its_id_or_by_a_name_that_is_its_own() {
        let records = [
            record(0xab, "a", true),
            record(0xac, "a", false),
            record(0xad, "twin", false),
            record(0xae, "twin", false),
        ];
        let found = |text| find(&records, text).map(|record| record.id);
        assert_eq!(found("ab"), Some(0xab));
        assert_eq!(found("00000000000000ac"), Some(0xac));
        assert_eq!(found("a"), Some(0xac));
        assert_eq!(found("twin"), None);
        assert_eq!(found("b"), None);
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let record = record(u64::MAX, "n", false);
        let read: Record = serde_json::from_slice(&record.encode()).expect("JSON");
        assert_eq!(read, record);
    }
}
