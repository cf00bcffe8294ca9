//! `GET /corten/v1/backup`: the whole state as a stream, for those who may read everything. Knows HTTP; the form of the
//! bytes is the store's.

use std::time::{SystemTime, UNIX_EPOCH};

use corten_api::status::Status;
use corten_store::backup;
use http::StatusCode;

use crate::body::Body;
use crate::respond::{self, Answer};
use crate::{ApiServer, store_status};

pub const PATH: &str = "/corten/v1/backup";

/// A backup that holds every write acknowledged before it was asked for.
///
/// # Errors
/// Those of a linearizable read.
pub async fn answer(server: &ApiServer) -> Result<Answer, Status> {
    let store = &server.inner().store;
    store.read_barrier().await.map_err(|error| store_status(&error))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let chunks = backup::chunks(store.identity(), &store.snapshot(), now.as_secs());
    let body = Body::stream(futures::stream::iter(chunks.map(Ok)));
    Ok(respond::with_type(
        StatusCode::OK,
        "application/octet-stream",
        body,
    ))
}
