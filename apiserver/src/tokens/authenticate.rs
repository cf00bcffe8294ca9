//! Who the bearer of a token is: the signature, the claims, then a look at what the token is bound to.

use corten_api::{Status, registry};
use corten_store::Snapshot;
use jiff::Timestamp;
use serde_json::Value;

use super::{Rejected, claims};
use crate::read::point::{self, Point};
use crate::write::Subject;
use crate::{Inner, User};

/// The user, and those of `audiences` the token is for.
///
/// # Errors
/// See [`Rejected`]; also when the store cannot be asked.
pub async fn bearer(
    inner: &Inner,
    token: &str,
    audiences: &[String],
    now: Timestamp,
) -> Result<(User, Vec<String>), Rejected> {
    let issuer = inner.config.tokens.as_deref().ok_or(Rejected::NotOurs)?;
    let said = issuer.verify(token)?;
    let common = claims::check(&said, audiences, now)?;
    // What this server has is enough to believe a token. Before one is refused the newest state is asked: its
    // account may have been made through another server a moment ago.
    let local = inner.store.snapshot();
    if claims::check_bound(&said, now, |plural, namespace, name| {
        find(&local, plural, namespace, name)
    })
    .is_err()
    {
        let newest = point::snapshot(&inner.store, &Point::Newest, "")
            .await
            .map_err(|status| Rejected::Because(status.message))?;
        claims::check_bound(&said, now, |plural, namespace, name| {
            find(&newest, plural, namespace, name)
        })?;
    }
    Ok((claims::user(&said), common))
}

/// An object of the core group.
///
/// # Errors
/// `NotFound`, or a stored value that is not ours.
pub fn find(snapshot: &Snapshot, plural: &str, namespace: &str, name: &str) -> Result<Value, Status> {
    let ty = registry()
        .lookup("", "v1", plural)
        .ok_or_else(Status::no_such_resource)?;
    let subject = Subject { ty, namespace };
    Ok(subject.read(snapshot, name)?.value)
}
