//! `get`: one object by name.

use corten_api::{ResourceType, Status};
use http::StatusCode;
use jiff::Timestamp;

use super::filter::keys;
use super::point;
use super::shape::Shape;
use crate::respond::{self, Answer};
use crate::{Inner, damaged};

/// # Errors
/// `NotFound`; 504 for a `resourceVersion` that does not exist yet.
pub async fn get(
    server: &Inner,
    shape: Shape,
    namespace: Option<&str>,
    name: &str,
    resource_version: Option<&str>,
    now: Timestamp,
) -> Result<Answer, Status> {
    let ty: &ResourceType = &shape.ty;
    let key = keys(ty).object(namespace, name);
    let point = point::of_get(resource_version)?;
    let snapshot = point::snapshot(&server.store, &point, "").await?;
    let entry = snapshot
        .get(&key)
        .ok_or_else(|| Status::not_found(ty.qualified(), name))?;
    let entry = match crate::convert::webhook(ty) {
        Some(_) => server.converted(ty, vec![entry]).await?.remove(0),
        None => entry,
    };
    let mut out = Vec::new();
    shape
        .write_object(&mut out, &entry.value, entry.mod_revision.0, true, now)
        .map_err(damaged)?;
    Ok(respond::json(StatusCode::OK, out))
}
