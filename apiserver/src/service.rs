//! One request from its head to its answer: route, authenticate, authorize, dispatch, count.
//!
//! Knows the order of these steps. Must not know verbs (`dispatch`) or sockets (`serve`).

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use corten_api::Status;
use futures::FutureExt;
use http::request::Parts;
use http::{Method, Request, StatusCode, header};
use jiff::Timestamp;

use crate::authorize::Attributes;
use crate::body::{Body, RequestBody};
use crate::metrics::{Gauge, Labels};
use crate::negotiate;
use crate::query::Query;
use crate::respond::{self, Answer};
use crate::route::{NoRoute, Operation, Verb, route};
use crate::tokens::{self, authenticate, documents};
use crate::{
    ApiServer, Peer, User, aggregate, backup, connect, discovery, dispatch, health, impersonate, join,
    members, openapi, pretty, rbac,
};

impl ApiServer {
    /// The answer to one request. Never panics: a bug in a handler becomes a 500 and a log line.
    pub(crate) async fn handle(&self, peer: &Peer, request: Request<RequestBody>) -> Answer {
        let started = Instant::now();
        let _inflight = Gauge::new(&self.inner().metrics.inflight);
        let (parts, body) = request.into_parts();
        let query = Query::parse(parts.uri.query());
        let (method, wants_gzip) = (
            parts.method.clone(),
            negotiate::accepts_gzip(text(&parts, header::ACCEPT_ENCODING)),
        );
        let pretty = pretty::wanted(&query, text(&parts, header::USER_AGENT));
        let routed = route(&parts.method, parts.uri.path(), &query);
        let mut labels = self.labels(&routed);
        let compress =
            wants_gzip && peer.address.is_some() && matches!(labels.verb, "list" | "get" | "document");
        let answered = AssertUnwindSafe(self.answer(peer, routed, parts, query, body))
            .catch_unwind()
            .await;
        let mut answer = answered.unwrap_or_else(|_| {
            tracing::error!(
                verb = labels.verb,
                resource = %labels.resource,
                "a request handler panicked"
            );
            respond::status(&Status::internal("the request handler failed"))
        });
        // Documents that are kept compressed have their encoding already.
        let encoded = answer.headers().contains_key(header::CONTENT_ENCODING);
        if pretty && !encoded && !matches!(labels.verb, "watch" | "log" | "connect") {
            answer = respond::pretty(answer);
        }
        if compress && !encoded && answer.status() == StatusCode::OK {
            answer = respond::gzip(answer);
        }
        if method == Method::HEAD {
            answer = answer.map(|_| Body::empty());
        }
        labels.code = answer.status().as_u16();
        self.inner().metrics.record(labels, started.elapsed());
        answer
    }

    async fn answer(
        &self,
        peer: &Peer,
        routed: Result<Operation, NoRoute>,
        parts: Parts,
        query: Query,
        body: RequestBody,
    ) -> Answer {
        let path = parts.uri.path().to_owned();
        let accept = text(&parts, header::ACCEPT).map(str::to_owned);
        let accept = accept.as_deref();
        if let Ok(Operation::Join(what)) = routed {
            let done = join::answer(self, what, &parts, body).await;
            return done.unwrap_or_else(|status| respond::status_for(&status, accept));
        }
        let user = match self.authenticate(peer, &parts).await {
            Ok(user) => User {
                fence: peer.fence.clone(),
                ..user
            },
            Err(status) => return respond::status_for(&status, accept),
        };
        let asked = match &routed {
            Ok(operation) => Attributes::of(&user, operation, &parts.method, &path, &query),
            Err(_) => Attributes::of(&user, &Operation::Index, &parts.method, &path, &query),
        };
        if let Err(status) = self.permit(&asked).await {
            return respond::status_for(&status, accept);
        }
        if let Some(remote) = self.inner().remotes.of_path(&path) {
            let done = aggregate::exchange(self.inner(), &remote, &user, parts, body).await;
            return done.unwrap_or_else(|status| respond::status_for(&status, accept));
        }
        let operation = match routed {
            Ok(operation) => operation,
            Err(NoRoute::NotFound) => return respond::page_not_found(),
            Err(NoRoute::MethodNotAllowed) => return method_not_allowed(),
            Err(NoRoute::BadPath) => {
                return respond::status_for(&Status::bad_request("invalid request path"), accept);
            }
            Err(NoRoute::TooLong) => {
                return respond::text(StatusCode::URI_TOO_LONG, "request path is too long\n");
            }
        };
        let rules_change = changes_rules(&operation);
        if rules_change {
            self.catch_up().await; // nobody is refused by what was, nor grants by it
        }
        let negotiated = matches!(
            operation,
            Operation::LegacyVersions | Operation::Groups | Operation::Group(_) | Operation::Resources { .. }
        );
        let done = match operation {
            Operation::Resource(target) => dispatch::resource(self, &user, target, parts, query, body).await,
            Operation::Tunnel { node } => connect::tunnel(self, &user, &node, parts),
            Operation::Join(_) => unreachable!("answered before authentication"),
            Operation::Backup => backup::answer(self).await,
            Operation::Members(call) => members::serve::answer(self, &call, &query).await,
            Operation::Index => Ok(discovery::index(&self.types())),
            Operation::LegacyVersions => {
                discovery::legacy_versions(self.inner(), &self.types(), accept, &parts.headers)
            }
            Operation::Groups => discovery::groups(&self.types(), accept, &parts.headers),
            Operation::Group(group) => Ok(discovery::group(&self.types(), &group)),
            Operation::Resources { group, version } => {
                Ok(discovery::resources(&self.types(), &group, &version))
            }
            Operation::Version => Ok(discovery::version()),
            Operation::Health { health, check } => {
                Ok(health::answer(self.inner(), health, check.as_deref(), &query))
            }
            Operation::Metrics => Ok(health::metrics(self.inner())),
            Operation::OpenIdConfiguration => Ok(documents::configuration(self.inner())),
            Operation::OpenIdKeys => Ok(documents::keys(self.inner())),
            Operation::OpenApiV2 => Ok(openapi::v2(&self.types(), accept, &parts.headers)),
            Operation::OpenApiV3Index => Ok(openapi::v3_index(&self.types())),
            Operation::OpenApiV3 { group, version } => {
                let (hash, headers) = (query.get("hash"), &parts.headers);
                Ok(openapi::v3(
                    &self.types(),
                    &group,
                    &version,
                    accept,
                    hash,
                    headers,
                ))
            }
        };
        if rules_change {
            self.catch_up().await; // what was written holds for the next request
        }
        // The documents of discovery are objects like others; those that are asked for in a form of their own have it.
        let done = match done {
            Ok(answer) if negotiated => respond::negotiated(answer, accept).await,
            done => done,
        };
        done.unwrap_or_else(|status| respond::status_for(&status, accept))
    }
}

/// Whether the operation writes what authorization rests on.
fn changes_rules(operation: &Operation) -> bool {
    match operation {
        Operation::Resource(target) => {
            target.group == rbac::GROUP && !matches!(target.verb, Verb::Get | Verb::List | Verb::Watch)
        }
        _ => false,
    }
}

/// What upstream's handler answers for a method a path does not have.
pub(crate) fn method_not_allowed() -> Answer {
    let text = "the server does not allow this method on the requested resource";
    respond::status(&Status::failure(405, "MethodNotAllowed", text))
}

pub(crate) fn text(parts: &Parts, name: header::HeaderName) -> Option<&str> {
    parts.headers.get(name).and_then(|value| value.to_str().ok())
}

/// The token of `Authorization: Bearer TOKEN`.
pub(crate) fn bearer_token(parts: &Parts) -> Option<&str> {
    let (scheme, token) = text(parts, header::AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl ApiServer {
    /// A client certificate counts before a token.
    ///
    /// # Errors
    /// `Unauthorized` for credentials that are not understood: they are never taken for none; `Forbidden` for who may
    /// not act as another user.
    async fn authenticate(&self, peer: &Peer, parts: &Parts) -> Result<User, Status> {
        let now = Timestamp::now();
        if peer.until.is_some_and(|until| until < now.as_second()) {
            tracing::debug!("a client's certificate has ended while its connection was open");
            return Err(Status::unauthorized());
        }
        let user = match (&peer.user, bearer_token(parts)) {
            (Some(user), _) => user.clone(),
            (None, Some(token)) => {
                let tokens = self.inner().config.tokens.as_deref();
                let audiences = tokens.map(tokens::Issuer::audiences).unwrap_or_default();
                let known = authenticate::bearer(self.inner(), token, &audiences, now).await;
                known.map(|(user, _)| user).map_err(|rejected| {
                    tracing::debug!(%rejected, "a bearer token was refused");
                    Status::unauthorized()
                })?
            }
            (None, None) if parts.headers.contains_key(header::AUTHORIZATION) => {
                return Err(Status::unauthorized());
            }
            (None, None) => User::anonymous(),
        };
        let Some(acting) = impersonate::wanted(&parts.headers)? else {
            return Ok(user);
        };
        for asked in acting.asks(&user) {
            self.permit(&asked).await?;
        }
        Ok(acting.into_user())
    }

    fn labels(&self, routed: &Result<Operation, NoRoute>) -> Labels {
        let none = Labels {
            verb: "none",
            group: "".into(),
            resource: "".into(),
            code: 0,
        };
        match routed {
            Err(_) => none,
            Ok(Operation::Resource(target)) => {
                match self.lookup(&target.group, &target.version, &target.resource) {
                    Some(ty) => {
                        let verb = match (target.verb, target.subresource.as_deref()) {
                            (Verb::Create, Some("exec" | "attach" | "portforward")) => "connect",
                            (Verb::Get, Some("log")) => "log",
                            (_, Some("proxy")) => "connect",
                            (verb, _) => verb.as_str(),
                        };
                        Labels {
                            verb,
                            group: ty.group.clone(),
                            resource: ty.plural.clone(),
                            code: 0,
                        }
                    }
                    None => none,
                }
            }
            Ok(Operation::Tunnel { .. }) => Labels {
                verb: "tunnel",
                ..none
            },
            Ok(_) => Labels {
                verb: "document",
                ..none
            },
        }
    }
}
