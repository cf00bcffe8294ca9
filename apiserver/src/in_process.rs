//! The front end as a tower service, for components in the same process.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, header};
use http_body_util::BodyExt;

use crate::body::{Body, BoxError};
use crate::{ApiServer, Fence, Peer, User};

/// See [`ApiServer::in_process`].
#[derive(Clone)]
pub struct InProcess {
    server: ApiServer,
    peer: Arc<Peer>,
    agent: Option<HeaderValue>,
}

impl InProcess {
    pub(crate) fn new(server: ApiServer, user: Option<User>) -> InProcess {
        InProcess {
            server,
            peer: Arc::new(Peer {
                user,
                certificate: None,
                address: None,
                fence: None,
            }),
            agent: None,
        }
    }

    /// The same caller under the name of its program, which stands in the managed fields of what it writes.
    #[must_use]
    pub fn named(mut self, program: &str) -> InProcess {
        self.agent = HeaderValue::from_str(program).ok();
        self
    }

    /// The same caller, elected: each of its writes happens only while `fence` holds.
    #[must_use]
    pub fn fenced(mut self, fence: Fence) -> InProcess {
        Arc::make_mut(&mut self.peer).fence = Some(fence);
        self
    }
}

impl<B> tower::Service<http::Request<B>> for InProcess
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let (server, peer) = (self.server.clone(), self.peer.clone());
        let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        if let Some(agent) = &self.agent {
            let headers = request.headers_mut();
            headers.entry(header::USER_AGENT).or_insert_with(|| agent.clone());
        }
        Box::pin(async move { Ok(server.handle(&peer, request).await) })
    }
}
