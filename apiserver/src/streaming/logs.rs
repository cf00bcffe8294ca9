//! Logs: the agent's response body is the client's response body, piece by piece as it comes.

use corten_api::Status;
use corten_proto::tunnel::{Logs, encode};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};

use super::refused;
use crate::body::{Body, BoxError};
use crate::tunnel::Registry;

/// # Errors
/// What the agent answered, or why it could not be reached.
pub async fn serve(
    registry: &Registry,
    node: &str,
    path: &str,
    logs: &Logs,
) -> Result<Response<Body>, Status> {
    let nothing = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let response = registry
        .send(node, path, &encode(logs), HeaderMap::new(), nothing)
        .await?;
    if response.status() != StatusCode::OK {
        return Err(refused(response).await);
    }
    // No length and no buffering: hyper sends each piece as one chunk at once. A broken tunnel breaks the
    // response, so that a cut log does not look like a whole one.
    let pieces = response.into_body().into_data_stream();
    let pieces = futures::StreamExt::map(pieces, |piece| piece.map_err(|e| Box::new(e) as BoxError));
    let mut response = Response::new(Body::stream(pieces));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}
