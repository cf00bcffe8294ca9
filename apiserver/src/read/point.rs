//! At which revision a read happens: `resourceVersion`, `resourceVersionMatch` and `continue` as one decision. Pure but for
//! [`snapshot`], which asks the store for what was decided.
//!
//! Source: Kubernetes API concepts, "Resource versions".

use corten_api::status::Status;
use corten_store::{Revision, Snapshot, SnapshotError, Store};
use jiff::Timestamp;

use super::options::EXACT;
use super::page::{self, Position};
use crate::query::ListOptions;
use crate::store_status;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Point {
    /// Everything acknowledged before the request.
    Newest,
    /// What this server has now (`resourceVersion=0`).
    Any,
    NotOlderThan(u64),
    Exact(u64),
    Page(Position),
}

/// # Errors
/// Upstream's text, for the caller to say what was wrong with what.
pub fn parse_revision(text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(revision) if digits => Ok(revision),
        _ => {
            let why = if digits {
                "value out of range"
            } else {
                "invalid syntax"
            };
            Err(format!(
                "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}"
            ))
        }
    }
}

/// Where a list reads, of options that go together ([`super::options`]). `prefix` is its key prefix.
///
/// # Errors
/// `BadRequest` for a token or revision that cannot be read. Source: Kubernetes `storage.ValidateListOptions`.
pub fn of_list(options: &ListOptions, prefix: &str) -> Result<Point, Status> {
    let version = options.resource_version.as_deref();
    if let Some(token) = &options.continue_token {
        let position = page::decode(token, prefix)
            .map_err(|why| Status::bad_request(format!("invalid continue token: {why}")))?;
        if version.is_some_and(|version| version != "0") {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        return Ok(Point::Page(position));
    }
    let Some(text) = version else {
        return Ok(Point::Newest);
    };
    let revision = parse_revision(text)
        .map_err(|why| Status::bad_request(format!("invalid resource version: {why}")))?;
    Ok(match (revision, options.resource_version_match.as_deref()) {
        (0, _) => Point::Any,
        (revision, Some(EXACT)) => Point::Exact(revision),
        // Legacy: a first page at a revision is exact, a whole list is not older than it.
        (revision, None) if options.limit > 0 => Point::Exact(revision),
        (revision, _) => Point::NotOlderThan(revision),
    })
}

/// Where a get reads: unset, `0`, or not older than.
///
/// # Errors
/// A `resourceVersion` that is no number.
pub fn of_get(resource_version: Option<&str>) -> Result<Point, Status> {
    match resource_version.filter(|text| !text.is_empty()) {
        None => Ok(Point::Newest),
        Some(text) => Ok(match parse_revision(text).map_err(Status::bad_request)? {
            0 => Point::Any,
            revision => Point::NotOlderThan(revision),
        }),
    }
}

/// Source: kube-apiserver, etcd3 `expiredList` and `inconsistentContinue`.
const EXPIRED_LIST: &str = "The resourceVersion for the provided list is too old.";
const EXPIRED_PAGE: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// 410 for a page whose list is not kept any longer, with a token that goes on without it.
fn expired_page(prefix: &str, start: &[u8]) -> Status {
    Status {
        continue_token: Some(page::inconsistent(prefix, start).into()),
        ..Status::expired(EXPIRED_PAGE)
    }
}

/// # Errors
/// 410 for a page that is asked for too late ([`Position::is_expired`]).
pub fn check_age(point: &Point, prefix: &str, now: Timestamp) -> Result<(), Status> {
    match point {
        Point::Page(position) if position.is_expired(now) => Err(expired_page(prefix, &position.start)),
        _ => Ok(()),
    }
}

/// The state to read from.
///
/// # Errors
/// 410 for what was compacted, 504 for a revision that does not exist yet, 503 when the store has no leader.
pub async fn snapshot(store: &Store, point: &Point, prefix: &str) -> Result<Snapshot, Status> {
    let exact = |revision: u64| store.snapshot_at(Revision(revision));
    match point {
        Point::Any => Ok(store.snapshot()),
        Point::Newest => Ok(newest(store).await?),
        Point::NotOlderThan(revision) => {
            let mut snapshot = store.snapshot();
            if snapshot.revision().0 < *revision {
                snapshot = newest(store).await?;
            }
            match snapshot.revision().0 {
                current if current < *revision => Err(Status::too_large_resource_version(*revision, current)),
                _ => Ok(snapshot),
            }
        }
        Point::Exact(revision) => {
            if store.snapshot().revision().0 < *revision {
                newest(store).await?;
            }
            exact(*revision).map_err(|error| match error {
                SnapshotError::Compacted { .. } => Status::expired(EXPIRED_LIST),
                SnapshotError::Future { newest } => Status::too_large_resource_version(*revision, newest.0),
            })
        }
        Point::Page(Position { revision: None, .. }) => Ok(newest(store).await?),
        Point::Page(Position {
            revision: Some(revision),
            start,
            ..
        }) => {
            if store.snapshot().revision().0 < *revision {
                newest(store).await?;
            }
            exact(*revision).map_err(|error| match error {
                SnapshotError::Compacted { .. } => expired_page(prefix, start),
                SnapshotError::Future { newest } => Status::too_large_resource_version(*revision, newest.0),
            })
        }
    }
}

async fn newest(store: &Store) -> Result<Snapshot, Status> {
    store.read_barrier().await.map_err(|error| store_status(&error))?;
    Ok(store.snapshot())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Query;

    #[track_caller]
    fn check(query: &str, want: Result<Point, &str>) {
        let options = ListOptions::parse(&Query::parse(Some(query))).expect("options");
        match (of_list(&options, "/core/pods/"), want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want, "{query}"),
            (Err(status), Err(part)) => assert!(status.message.contains(part), "{query}: {}", status.message),
            (got, want) => panic!("{query}: got {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn every_combination() {
        check("", Ok(Point::Newest));
        check("limit=5", Ok(Point::Newest));
        check("resourceVersion=0", Ok(Point::Any));
        check("resourceVersion=0&limit=5", Ok(Point::Any));
        check("resourceVersion=7", Ok(Point::NotOlderThan(7)));
        check("resourceVersion=7&limit=5", Ok(Point::Exact(7)));
        check(
            "resourceVersion=7&resourceVersionMatch=Exact",
            Ok(Point::Exact(7)),
        );
        check(
            "resourceVersion=7&limit=5&resourceVersionMatch=NotOlderThan",
            Ok(Point::NotOlderThan(7)),
        );
        check(
            "resourceVersion=0&resourceVersionMatch=NotOlderThan",
            Ok(Point::Any),
        );
        for (bad, why) in [
            ("x", "invalid syntax"),
            ("+5", "invalid syntax"),
            ("99999999999999999999", "value out of range"),
        ] {
            let query = format!("resourceVersion={}", bad.replace('+', "%2B"));
            let text = format!(
                "invalid resource version: resourceVersion: Invalid value: {bad:?}: strconv.ParseUint: parsing {bad:?}: {why}"
            );
            check(&query, Err(&text));
        }
        check(
            "continue=abc",
            Err("invalid continue token: continue key is not valid: "),
        );
        let token = page::after("/core/pods/", b"/core/pods/a/b", 7, Timestamp::UNIX_EPOCH);
        let position = page::decode(&token, "/core/pods/").expect("own token");
        for version in ["", "&resourceVersion=", "&resourceVersion=0"] {
            check(
                &format!("continue={token}{version}"),
                Ok(Point::Page(position.clone())),
            );
        }
        check(
            &format!("continue={token}&resourceVersion=5"),
            Err("specifying resource version is not allowed when using continue"),
        );
    }
}
