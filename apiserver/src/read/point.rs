//! At which revision a read happens: `resourceVersion`, `resourceVersionMatch` and `continue` as one decision. Pure but for
//! [`snapshot`], which asks the store for what was decided.
//!
//! Source: Kubernetes API concepts, "Resource versions".

use corten_api::field::FieldErrors;
use corten_api::status::{Qualified, Status};
use corten_store::{Revision, Snapshot, SnapshotError, Store};

use super::page::{self, Position};
use crate::query::{ListOptions, Match};
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

const LIST_OPTIONS: Qualified<'static> = Qualified {
    group: "meta.k8s.io",
    name: "ListOptions",
};

fn forbidden(field: &str, why: &str) -> Status {
    let mut errors = FieldErrors::default();
    errors.forbidden(field, why);
    Status::invalid(LIST_OPTIONS, "", &errors)
}

/// # Errors
/// `BadRequest` or `Invalid` with upstream's texts.
pub fn parse_revision(text: &str) -> Result<u64, Status> {
    text.parse().map_err(|_| {
        Status::bad_request(format!(
            "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    })
}

/// Where a list reads. `prefix` is its key prefix.
///
/// # Errors
/// Options that contradict each other.
pub fn of_list(options: &ListOptions, prefix: &str) -> Result<Point, Status> {
    let how = options.resource_version_match;
    if options.send_initial_events.is_some() {
        return Err(forbidden(
            "sendInitialEvents",
            "sendInitialEvents is forbidden for list",
        ));
    }
    if let Some(token) = &options.continue_token {
        if how.is_some() {
            return Err(forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for continue",
            ));
        }
        if options.resource_version.as_deref().is_some_and(|rv| rv != "0") {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        return page::decode(token, prefix)
            .map(Point::Page)
            .map_err(Status::bad_request);
    }
    let Some(text) = &options.resource_version else {
        return match how {
            None => Ok(Point::Newest),
            Some(_) => Err(forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            )),
        };
    };
    match (parse_revision(text)?, how) {
        (0, Some(Match::Exact)) => Err(forbidden(
            "resourceVersionMatch",
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        )),
        (0, _) => Ok(Point::Any),
        (revision, Some(Match::Exact)) => Ok(Point::Exact(revision)),
        // Legacy: a first page at a revision is exact, a whole list is not older than it.
        (revision, None) if options.limit > 0 => Ok(Point::Exact(revision)),
        (revision, _) => Ok(Point::NotOlderThan(revision)),
    }
}

/// Where a get reads: unset, `0`, or not older than.
///
/// # Errors
/// A `resourceVersion` that is no number.
pub fn of_get(resource_version: Option<&str>) -> Result<Point, Status> {
    match resource_version.filter(|text| !text.is_empty()) {
        None => Ok(Point::Newest),
        Some(text) => Ok(match parse_revision(text)? {
            0 => Point::Any,
            revision => Point::NotOlderThan(revision),
        }),
    }
}

/// Source: kube-apiserver, `handleErrorForLargeContinue`.
const EXPIRED_PAGE: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// Why there is no snapshot: a `Status`, and for an expired page the token to go on with.
#[derive(Debug)]
pub struct NoSnapshot {
    pub status: Status,
    pub continue_token: Option<String>,
}

impl From<Status> for NoSnapshot {
    fn from(status: Status) -> NoSnapshot {
        NoSnapshot {
            status,
            continue_token: None,
        }
    }
}

/// The state to read from.
///
/// # Errors
/// 410 for what was compacted, 504 for a revision that does not exist yet, 503 when the store has no leader.
pub async fn snapshot(store: &Store, point: &Point, prefix: &str) -> Result<Snapshot, NoSnapshot> {
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
                current if current < *revision => {
                    Err(Status::too_large_resource_version(*revision, current).into())
                }
                _ => Ok(snapshot),
            }
        }
        Point::Exact(revision) => {
            if store.snapshot().revision().0 < *revision {
                newest(store).await?;
            }
            exact(*revision).map_err(|error| match error {
                SnapshotError::Compacted { oldest } => {
                    Status::too_old_resource_version(*revision, oldest.0).into()
                }
                SnapshotError::Future { newest } => {
                    Status::too_large_resource_version(*revision, newest.0).into()
                }
            })
        }
        Point::Page(Position { revision: None, .. }) => Ok(newest(store).await?),
        Point::Page(Position {
            revision: Some(revision),
            start,
        }) => {
            if store.snapshot().revision().0 < *revision {
                newest(store).await?;
            }
            exact(*revision).map_err(|error| match error {
                SnapshotError::Compacted { .. } => NoSnapshot {
                    status: Status::expired(EXPIRED_PAGE),
                    continue_token: Some(page::inconsistent(prefix, start)),
                },
                SnapshotError::Future { newest } => {
                    Status::too_large_resource_version(*revision, newest.0).into()
                }
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
        check(
            "resourceVersion=0&resourceVersionMatch=Exact",
            Err("forbidden for resourceVersion \"0\""),
        );
        check(
            "resourceVersionMatch=Exact",
            Err("forbidden unless resourceVersion is provided"),
        );
        check("resourceVersion=x", Err("invalid syntax"));
        check("continue=abc", Err("continue key is not valid"));
        check(
            "continue=abc&resourceVersion=5",
            Err("specifying resource version is not allowed"),
        );
        check(
            "sendInitialEvents=true",
            Err("sendInitialEvents is forbidden for list"),
        );
    }
}
