//! Requests that leave HTTP: logs, exec, attach, port-forward and the tunnels of node agents.
//!
//! Decides which Pod, container and node are meant. How bytes travel is `streaming`'s and `tunnel`'s room.

use corten_api::{ResourceType, Status};
use http::request::Parts;

use crate::query::Query;
use crate::respond::Answer;
use crate::route::Target;
use crate::{ApiServer, User};

/// Whether `sub` of `ty` is served by the node's agent.
#[must_use]
pub fn is_stream(ty: &'static ResourceType, sub: &str) -> bool {
    ty.group.is_empty() && ty.plural == "pods" && matches!(sub, "log" | "exec" | "attach" | "portforward")
}

/// # Errors
/// `ServiceUnavailable`.
#[allow(clippy::unused_async)]
pub async fn stream(
    _server: &ApiServer,
    _user: &User,
    _target: &Target,
    _parts: &mut Parts,
    _query: &Query,
) -> Result<Answer, Status> {
    Err(Status::service_unavailable("no tunnel to the node"))
}

/// # Errors
/// `ServiceUnavailable`.
#[allow(clippy::unused_async)]
pub async fn tunnel(_server: &ApiServer, _user: &User, _node: &str, _parts: Parts) -> Result<Answer, Status> {
    Err(Status::service_unavailable("tunnels are not served"))
}
