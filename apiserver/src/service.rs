//! One request from its head to its answer: route, authenticate, record, authorize, dispatch, count.
//!
//! Knows the order of these steps. Must not know verbs (`dispatch`) or sockets (`serve`).

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use corten_api::Status;
use futures::FutureExt;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use jiff::Timestamp;
use tokio::time::timeout;

use crate::audit::{self, Trail};
use crate::authorize::{Attributes, Reason};
use crate::body::{Body, RequestBody};
use crate::impersonate::{Acting, Step, Way};
use crate::metrics::{Gauge, Labels};
use crate::negotiate;
use crate::query::Query;
use crate::read::filter::keys;
use crate::respond::{self, Answer};
use crate::route::{NoRoute, Operation, Verb, route};
use crate::tokens::{self, authenticate, documents};
use crate::{
    ApiServer, Peer, User, aggregate, authorities, backup, connect, deadline, discovery, dispatch, health,
    impersonate, join, members, openapi, pretty, rbac, revoked,
};

/// Names a request in the audit log; a client may choose it. Source: Kubernetes `audit.HeaderAuditID`.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Tell of which flow a request was. Source: Kubernetes `flowcontrol.ResponseHeaderMatched…UID`.
const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

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
        let audit_id = self.audit_id(peer, &parts);
        let mut trail = None;
        let limit = deadline::of(&routed, &query);
        let accept = text(&parts, header::ACCEPT).map(str::to_owned);
        // Boxed, here and below: a step of a request is kilobytes, and is moved whenever it is wrapped in another.
        let asked = Box::pin(self.answer(peer, routed, parts, query, body, audit_id.as_ref(), &mut trail));
        let answered = match limit {
            Ok(limit) => AssertUnwindSafe(timeout(limit, asked)).catch_unwind().await,
            Err(status) => {
                drop(asked);
                Ok(Ok(respond::status_for(&status, accept.as_deref())))
            }
        };
        let mut answer = match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => respond::status_for(&deadline::exceeded(), accept.as_deref()),
            Err(_) => {
                tracing::error!(
                    verb = labels.verb,
                    resource = %labels.resource,
                    "a request handler panicked"
                );
                if let Some(trail) = trail.take() {
                    trail.panicked().await;
                }
                respond::status(&Status::internal("the request handler failed"))
            }
        };
        if let Some(trail) = trail {
            let lasts = matches!(labels.verb, "watch" | "log" | "connect" | "tunnel");
            let reads = matches!(method, Method::GET | Method::HEAD | Method::OPTIONS);
            answer = trail.answered(answer, lasts, !reads).await;
        }
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
        if let Some(id) = audit_id {
            answer.headers_mut().insert(AUDIT_ID, id);
        }
        labels.code = answer.status().as_u16();
        self.inner().metrics.record(labels, started.elapsed());
        answer
    }

    /// Finds out who asks, and begins the request's record.
    #[expect(clippy::too_many_arguments, reason = "what a request consists of")]
    async fn answer(
        &self,
        peer: &Peer,
        routed: Result<Operation, NoRoute>,
        parts: Parts,
        query: Query,
        body: RequestBody,
        audit_id: Option<&HeaderValue>,
        trail: &mut Option<Arc<Trail>>,
    ) -> Answer {
        let received = Timestamp::now();
        let path = parts.uri.path().to_owned();
        let accept = text(&parts, header::ACCEPT).map(str::to_owned);
        let accept = accept.as_deref();
        let begin = |user: &User| {
            let audit = self.inner().config.audit.as_ref()?;
            let asked = attributes(user, &routed, &parts.method, &path, &query);
            let id = audit_id.and_then(|id| id.to_str().ok()).unwrap_or_default();
            audit.begin(id, received, &asked, peer, &parts)
        };
        if let Ok(Operation::Join(what)) = routed {
            *trail = begin(&User::anonymous());
            let done = Box::pin(join::answer(self, what, &parts, body)).await;
            return done.unwrap_or_else(|status| respond::status_for(&status, accept));
        }
        let user = match self.authenticate(peer, &parts, received).await {
            Ok(user) => User {
                fence: peer.fence.clone(),
                ..user
            },
            Err(status) => {
                let answer = respond::status_for(&status, accept);
                if let Some(trail) = begin(&User::default()) {
                    trail.unauthenticated(status.code, &methods(peer, &parts)).await;
                }
                return answer;
            }
        };
        *trail = begin(&user);
        if let Some(trail) = trail
            && let Err(status) = trail.received().await
        {
            return respond::status_for(&status, accept);
        }
        let request = Box::pin(self.perform(peer, user, routed, parts, query, body, &path, accept));
        audit::scoped(trail.clone(), request).await
    }

    /// What somebody who is known asks for.
    #[expect(clippy::too_many_arguments, reason = "what a request consists of")]
    async fn perform(
        &self,
        peer: &Peer,
        user: User,
        routed: Result<Operation, NoRoute>,
        parts: Parts,
        query: Query,
        body: RequestBody,
        path: &str,
        accept: Option<&str>,
    ) -> Answer {
        let acting = match impersonate::wanted(&parts.headers) {
            Ok(None) => Ok(user),
            Ok(Some(acting)) => {
                let asked = attributes(&user, &routed, &parts.method, path, &query);
                Box::pin(self.acting(acting, &asked)).await
            }
            Err(status) => Err(status),
        };
        let user = match acting {
            Ok(user) => user,
            Err(status) => return respond::status_for(&status, accept),
        };
        let asked = attributes(&user, &routed, &parts.method, path, &query);
        let streams = asked.verb == "list";
        let mut told = [None, None];
        let mut seats = None;
        if waits(&routed) {
            let count = |most| self.count(&routed, &query, most);
            let admission = self.inner().flow.admit(&asked, count).await;
            told = [
                (SCHEMA_UID, admission.schema_uid),
                (LEVEL_UID, admission.level_uid),
            ]
            .map(Some);
            seats = Some(admission.seats);
        }
        let mut answer = match seats {
            Some(None) => too_many_requests(),
            seats => {
                let answer = self
                    .work(peer, user, routed, parts, query, body, path, accept)
                    .await;
                match streams {
                    true => respond::holding(answer, seats), // until it is sent
                    false => answer,
                }
            }
        };
        for (name, uid) in told.into_iter().flatten() {
            if let Some(uid) = uid {
                answer.headers_mut().insert(name, uid);
            }
        }
        answer
    }

    /// What somebody who has his turn asks for.
    #[expect(clippy::too_many_arguments, reason = "what a request consists of")]
    async fn work(
        &self,
        peer: &Peer,
        user: User,
        routed: Result<Operation, NoRoute>,
        parts: Parts,
        query: Query,
        body: RequestBody,
        path: &str,
        accept: Option<&str>,
    ) -> Answer {
        let asked = attributes(&user, &routed, &parts.method, path, &query);
        if let Err(status) = self.permit(&asked).await {
            return respond::status_for(&status, accept);
        }
        if let Some(remote) = self.inner().remotes.of_path(path) {
            let done = Box::pin(aggregate::exchange(self.inner(), &remote, &user, parts, body)).await;
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
            Operation::Resource(target) => {
                Box::pin(dispatch::resource(self, &user, target, parts, query, body)).await
            }
            Operation::Tunnel { node } => {
                connect::tunnel(self, &user, &node, parts, peer.issuer().map(<[u8]>::to_vec))
            }
            Operation::Join(_) => unreachable!("answered before authentication"),
            Operation::Backup => Box::pin(backup::answer(self)).await,
            Operation::Members(call) => Box::pin(members::serve::answer(self, &call, &query)).await,
            Operation::Authorities(call) => Box::pin(authorities::answer(self, call, &query)).await,
            Operation::Revoked(call) => Box::pin(revoked::serve::answer(self, &user, call, body)).await,
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

/// What a request asks for; a path that leads nowhere is asked for as such.
fn attributes<'a>(
    user: &'a User,
    routed: &'a Result<Operation, NoRoute>,
    method: &Method,
    path: &'a str,
    query: &'a Query,
) -> Attributes<'a> {
    let operation = routed.as_ref().unwrap_or(&Operation::Index);
    Attributes::of(user, operation, method, path, query)
}

/// Whether a request waits for its turn: all do but connections that last. A watch lasts too; its turn is its beginning.
fn waits(routed: &Result<Operation, NoRoute>) -> bool {
    match routed {
        Ok(Operation::Resource(target)) => {
            let sub = target.subresource.as_deref();
            !matches!(sub, Some("exec" | "attach" | "portforward" | "log" | "proxy"))
        }
        Ok(Operation::Tunnel { .. }) => false,
        _ => true,
    }
}

/// What upstream's filter answers for whom there is no room.
fn too_many_requests() -> Answer {
    let text = "Too many requests, please try again later.\n";
    let mut answer = respond::text(StatusCode::TOO_MANY_REQUESTS, text);
    answer
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

/// How somebody tried to authenticate, for the audit log. Source: Kubernetes `filters.getAuthMethods`.
fn methods(peer: &Peer, parts: &Parts) -> String {
    let scheme = text(parts, header::AUTHORIZATION).and_then(|value| value.trim().split_once(' '));
    let is = |name: &str| scheme.is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case(name));
    let tried = [
        ("basic", is("basic")),
        ("bearer", is("bearer")),
        ("x509", peer.user.is_some()),
    ];
    let tried: Vec<&str> = tried
        .iter()
        .filter(|(_, tried)| *tried)
        .map(|(name, _)| *name)
        .collect();
    if tried.is_empty() {
        return "Authentication failed, no credentials provided".into();
    }
    format!("Authentication failed, attempted: {}", tried.join(", "))
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
    /// `Unauthorized` for credentials that are not understood: they are never taken for none.
    async fn authenticate(&self, peer: &Peer, parts: &Parts, now: Timestamp) -> Result<User, Status> {
        let until = peer.certificate.as_ref().map(|certificate| certificate.until);
        if until.is_some_and(|until| until < now.as_second()) {
            tracing::debug!("a client's certificate has ended while its connection was open");
            return Err(Status::unauthorized());
        }
        if peer
            .issuer()
            .is_some_and(|issuer| self.inner().config.ca.is_retired(issuer))
        {
            tracing::debug!(
                "a client's certificate is of an authority that was retired while its connection was open"
            );
            return Err(Status::unauthorized());
        }
        if self.inner().revoked.denies(peer) {
            tracing::debug!("a client's certificate was revoked");
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
            (None, None)
                if parts.headers.contains_key(header::AUTHORIZATION) || !self.inner().config.anonymous =>
            {
                return Err(Status::unauthorized());
            }
            (None, None) => User::anonymous(),
        };
        Ok(user)
    }

    /// Whom a user acts as. `asked`: what the user's request is about. What allowed it last time is tried first, and its
    /// refusal is the one that is told, as upstream.
    ///
    /// # Errors
    /// `Forbidden` for who may not act as another user.
    async fn acting(&self, acting: Acting, asked: &Attributes<'_>) -> Result<User, Status> {
        let user = asked.user;
        let last = self.inner().acting.last(&user.name);
        let others = Way::ALL.into_iter().filter(|way| Some(*way) != last);
        let ways: Vec<Way> = last
            .into_iter()
            .chain(others)
            .filter(|way| acting.is_by(*way, user))
            .collect();
        let open = |way: Way| {
            let verb = way.verb_on(asked.verb);
            let on = verb.as_deref().map(|verb| Attributes { verb, ..*asked });
            acting
                .steps(way, user, on)
                .iter()
                .try_for_each(|step| self.passes(step))
        };
        let mut refused = None;
        let first_open = |refused: &mut Option<Status>| {
            ways.iter().copied().find(|way| match open(*way) {
                Ok(()) => true,
                Err(status) => {
                    refused.get_or_insert(status);
                    false
                }
            })
        };
        let mut way = first_open(&mut refused);
        if way.is_none() {
            // Nothing is refused by rules that are older than the store.
            self.catch_up().await;
            refused = None;
            way = first_open(&mut refused);
        }
        let Some(way) = way else {
            return Err(refused.unwrap_or_else(|| Status::internal("all impersonation modes failed")));
        };
        self.inner().acting.note(&user.name, way);
        let user = acting.into_user(way);
        audit::note(|trail| trail.impersonated(&user, way));
        Ok(user)
    }

    fn passes(&self, step: &Step<'_>) -> Result<(), Status> {
        let ask = |asked: &Attributes<'_>| {
            let verdict = self.authorize_now(asked);
            match verdict.allowed() {
                true => Ok(()),
                false => Err(asked.forbidden(&verdict.reason)),
            }
        };
        match step {
            Step::Ask(asked) => ask(asked),
            Step::Either(all, each) => ask(all).or_else(|_| each.iter().try_for_each(ask)),
            Step::Never(asked, why) => Err(asked.forbidden(&Reason::Text(why.clone()))),
        }
    }

    /// How many objects a list has to look at, up to `most`; 0 for what is no list.
    fn count(&self, routed: &Result<Operation, NoRoute>, query: &Query, most: usize) -> usize {
        let Ok(Operation::Resource(target)) = routed else {
            return 0;
        };
        let lists = match target.verb {
            Verb::List => true,
            Verb::Watch => query.is_true("sendInitialEvents"),
            _ => false,
        };
        let ty = lists
            .then(|| self.lookup(&target.group, &target.version, &target.resource))
            .flatten();
        let Some(ty) = ty.filter(|_| target.name.is_none()) else {
            return 0;
        };
        let limit = query
            .get("limit")
            .and_then(|limit| limit.parse().ok())
            .filter(|limit| *limit > 0);
        let range = keys(&ty).range(target.namespace.as_deref());
        let most = most.min(limit.unwrap_or(usize::MAX));
        self.inner().store.snapshot().range(range).take(most).count()
    }

    /// The name of a request, chosen by the client or made here; `None` where nobody would see it.
    fn audit_id(&self, peer: &Peer, parts: &Parts) -> Option<HeaderValue> {
        if peer.address.is_none() && self.inner().config.audit.is_none() {
            return None;
        }
        let chosen = parts.headers.get(AUDIT_ID).filter(|id| !id.is_empty());
        let mut id = match chosen {
            Some(id) => id.clone(),
            None => {
                let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
                let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
                HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).ok()?
            }
        };
        // No two answers have the same: it must not push what they share out of the connection's table of headers.
        id.set_sensitive(true);
        Some(id)
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
