//! The audit log: who asked for what, when, and what came of it.
//!
//! Knows requests and answers as `service` sees them. What is recorded is `policy`'s to say, its form `event`'s, its way to
//! the disk `log`'s. The event of a write's end is in the file before the write is answered; that of a read is on its way.
//!
//! A request's record is its [`Trail`]. What is deep below `service` adds to it through [`note`]: as in upstream, it belongs
//! to the request's context, and most of what a request passes through need not know of it.

pub mod chain;
pub mod event;
pub mod file;
pub mod log;
pub mod policy;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use corten_api::Status;
use corten_api::schema::proto;
use futures::StreamExt;
use http::header::{CONTENT_TYPE, HeaderMap, USER_AGENT};
use http::request::Parts;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;

use crate::authorize::{Attributes, Verdict as Authorized};
use crate::body::{Body, BoxError};
use crate::impersonate::Way;
use crate::local::BREAK_GLASS;
use crate::negotiate;
use crate::respond::Answer;
use crate::{Peer, User};
use event::{AuthenticationMetadata, Event, Known, ObjectRef};
use log::Log;
use policy::{Level, Policy, Stage, Verdict};

/// Largest streamed answer that is recorded; of a longer one the event says that it is truncated.
const MAX_RESPONSE: usize = 4 * 1024 * 1024;
const TRUNCATED: &str = "audit.k8s.io/truncated";

/// What happens when the log cannot be written. Source: kube-apiserver `--audit-log-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Requests wait for the log; one that cannot be recorded is answered, and counted.
    #[default]
    Blocking,
    /// A request whose beginning cannot be recorded is refused.
    BlockingStrict,
    /// No request waits; what the log has no room for is lost, and counted.
    Batch,
}

/// The audit log of one server.
pub struct Audit {
    policy: Policy,
    log: Log,
    mode: Mode,
    events: AtomicU64,
    rejected: AtomicU64,
    levels: [AtomicU64; 4],
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl Audit {
    #[must_use]
    pub fn new(policy: Policy, log: Log, mode: Mode) -> Audit {
        Audit {
            policy,
            log,
            mode,
            events: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            levels: Default::default(),
        }
    }

    /// The record of a request; `None` where the policy wants none.
    pub fn begin(
        self: &Arc<Audit>,
        id: &str,
        received: Timestamp,
        asked: &Attributes<'_>,
        peer: &Peer,
        parts: &Parts,
    ) -> Option<Arc<Trail>> {
        let mut verdict = self.policy.evaluate(asked);
        if asked.user.name == BREAK_GLASS {
            verdict.level = verdict.level.max(Level::Metadata);
        }
        self.levels[verdict.level as usize].fetch_add(1, Ordering::Relaxed);
        if verdict.level == Level::None {
            return None;
        }
        let agent = parts
            .headers
            .get(USER_AGENT)
            .and_then(|agent| agent.to_str().ok());
        let known = Known {
            request_uri: parts
                .uri
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default(),
            verb: asked.verb.to_owned(),
            user: asked.user.into(),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: source_ips(&parts.headers, peer),
            user_agent: event::user_agent(agent.unwrap_or_default()),
            object_ref: ObjectRef::of(asked),
        };
        Some(Arc::new(Trail {
            audit: self.clone(),
            verdict,
            id: id.to_owned(),
            received,
            state: Mutex::new(State {
                known,
                request: None,
                annotations: BTreeMap::new(),
            }),
        }))
    }

    /// Appends the metrics' text.
    pub fn render(&self, out: &mut String) {
        use std::fmt::Write;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (name, labels, value) in [
            ("event_total", "", read(&self.events)),
            ("requests_rejected_total", "", read(&self.rejected)),
            ("error_total", "{plugin=\"log\"}", self.log.failed()),
        ] {
            let _ = write!(
                out,
                "# TYPE apiserver_audit_{name} counter\napiserver_audit_{name}{labels} {value}\n"
            ); // writing to a string does not fail
        }
        out.push_str("# TYPE apiserver_audit_level_total counter\n");
        for level in Level::ALL {
            let value = read(&self.levels[level as usize]);
            let _ = writeln!(
                out,
                "apiserver_audit_level_total{{level=\"{}\"}} {value}",
                level.as_str()
            );
        }
    }
}

/// Where a request came from: as proxies tell, then the connection itself. Source: Kubernetes `net.SourceIPs`.
fn source_ips(headers: &HeaderMap, peer: &Peer) -> Vec<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let forwarded = text("x-forwarded-for").unwrap_or_default().split(',');
    let mut ips: Vec<IpAddr> = forwarded.filter_map(|ip| ip.trim().parse().ok()).collect();
    if let Some(real) = text("x-real-ip").and_then(|ip| ip.trim().parse().ok())
        && !ips.contains(&real)
    {
        ips.push(real);
    }
    if let Some(own) = peer.address.map(|address| address.ip().to_canonical())
        && ips.last() != Some(&own)
    {
        ips.push(own);
    }
    ips.iter().map(ToString::to_string).collect()
}

tokio::task_local! {
    static TRAIL: Arc<Trail>;
}

/// Runs what a request does with its record at hand.
pub async fn scoped<T>(trail: Option<Arc<Trail>>, request: impl Future<Output = T>) -> T {
    match trail {
        Some(trail) => TRAIL.scope(trail, request).await,
        None => request.await,
    }
}

/// Adds to the record of the request that runs, if it is recorded.
pub fn note(add: impl FnOnce(&Trail)) {
    let _ = TRAIL.try_with(|trail| add(trail)); // nobody wants to know
}

/// The record of one request.
pub struct Trail {
    audit: Arc<Audit>,
    verdict: Verdict,
    id: String,
    received: Timestamp,
    state: Mutex<State>,
}

struct State {
    known: Known,
    request: Option<Value>,
    annotations: BTreeMap<String, String>,
}

/// What was answered.
#[derive(Default)]
struct Answered {
    status: Option<Value>,
    object: Option<Value>,
}

impl Trail {
    /// The first value of a key stays, as upstream.
    pub fn annotate(&self, key: &str, value: impl Into<String>) {
        let mut state = self.state.lock();
        state
            .annotations
            .entry(key.to_owned())
            .or_insert_with(|| value.into());
    }

    pub fn impersonated(&self, user: &User, way: Way) {
        let mut state = self.state.lock();
        state.known.impersonated_user = Some(user.into());
        if way != Way::Legacy {
            let impersonation_constraint = way.verb();
            state.known.authentication_metadata = Some(AuthenticationMetadata {
                impersonation_constraint,
            });
        }
    }

    pub fn authorized(&self, verdict: &Authorized) {
        let decision = if verdict.allowed() { "allow" } else { "forbid" };
        self.annotate("authorization.k8s.io/decision", decision);
        self.annotate("authorization.k8s.io/reason", verdict.reason.to_string());
    }

    /// The object that the request brings, once it is known to be one.
    pub fn request_object(&self, object: &Value) {
        let mut state = self.state.lock();
        if let Some(about) = &mut state.known.object_ref {
            about.learn(object);
        }
        if self.verdict.level >= Level::Request {
            let mut object = object.clone();
            if self.verdict.omit_managed_fields {
                event::omit_managed_fields(&mut object);
            }
            state.request = Some(object);
        }
    }

    /// A body that is no whole object: a patch, options.
    pub fn request_body(&self, body: &Bytes) {
        if self.verdict.level >= Level::Request && !body.is_empty() {
            let json = serde_json::from_slice(body).ok();
            let read = || serde_json::from_slice(&negotiate::yaml_to_json(body).ok()?).ok();
            self.state.lock().request = json.or_else(read);
        }
    }

    fn line(&self, stage: Stage, answered: Answered) -> Option<Vec<u8>> {
        if self.verdict.omit.contains(stage) {
            return None;
        }
        self.audit.events.fetch_add(1, Ordering::Relaxed);
        let now = match stage {
            Stage::RequestReceived => self.received,
            _ => Timestamp::now(),
        };
        let state = self.state.lock();
        let times = (self.received, now);
        let mut event = Event::new(
            self.verdict.level,
            &self.id,
            stage,
            &state.known,
            &state.annotations,
            times,
        );
        event.response_status = answered.status;
        event.response_object = answered.object;
        event.request_object = state.request.as_ref();
        Some(event.line())
    }

    /// The request is there.
    ///
    /// # Errors
    /// `InternalError` when it has to be recorded and cannot be.
    pub async fn received(&self) -> Result<(), Status> {
        let Some(line) = self.line(Stage::RequestReceived, Answered::default()) else {
            return Ok(());
        };
        match self.audit.mode {
            Mode::Batch => self.offer(line),
            Mode::Blocking => self.audit.log.queue(line).await,
            Mode::BlockingStrict if self.audit.log.write(line).await => {}
            Mode::BlockingStrict => {
                self.audit.rejected.fetch_add(1, Ordering::Relaxed);
                return Err(Status::internal("failed to store audit event"));
            }
        }
        Ok(())
    }

    /// Who asked could not be authenticated.
    pub async fn unauthenticated(&self, code: u16, methods: &str) {
        let mut status = event::response_status(code, None);
        status["message"] = methods.into();
        let answered = Answered {
            status: Some(status),
            object: None,
        };
        if let Some(line) = self.line(Stage::ResponseStarted, answered) {
            self.pass(line, false).await;
        }
    }

    /// The handler panicked.
    pub async fn panicked(&self) {
        let status = Status::failure(500, "InternalError", "APIServer panic'd");
        let answered = Answered {
            status: Some(event::response_status(500, Some(&status))),
            object: None,
        };
        if let Some(line) = self.line(Stage::Panic, answered) {
            self.pass(line, true).await;
        }
    }

    /// Records the end of a request, or what there is of it when its answer begins. `lasts`: the answer is a stream that
    /// goes on; `writes`: the answer waits until the event is in the file.
    pub async fn answered(self: Arc<Trail>, answer: Answer, lasts: bool, writes: bool) -> Answer {
        let code = answer.status().as_u16();
        if lasts {
            let answered = Answered {
                status: Some(event::response_status(code, None)),
                object: None,
            };
            if let Some(line) = self.line(Stage::ResponseStarted, answered) {
                self.pass(line, writes).await;
            }
        }
        let whole = self.verdict.level == Level::RequestResponse && !lasts;
        let answer = if whole {
            self.gathered(answer).await
        } else {
            answer
        };
        let Some(bytes) = answer.body().as_bytes() else {
            let end = AtEnd { trail: self, code };
            return answer.map(|body| ending(body, end));
        };
        let json = json_of(&answer, bytes, whole);
        let said = json.as_ref().and_then(Status::from_value);
        let answered = Answered {
            status: Some(event::response_status(code, said.as_ref())),
            object: json.filter(|_| whole).map(|mut object| {
                if self.verdict.omit_managed_fields {
                    event::omit_managed_fields(&mut object);
                }
                object
            }),
        };
        if let Some(line) = self.line(Stage::ResponseComplete, answered) {
            self.pass(line, writes).await;
        }
        answer
    }

    /// The answer with its body in one piece, unless it is too long.
    async fn gathered(&self, answer: Answer) -> Answer {
        if answer.body().as_bytes().is_some() {
            return answer;
        }
        let (parts, body) = answer.into_parts();
        let (mut chunks, mut all) = (body.into_stream(), Vec::new());
        let mut broken = None;
        while all.len() <= MAX_RESPONSE {
            match chunks.next().await {
                Some(Ok(chunk)) => all.extend_from_slice(&chunk),
                Some(Err(error)) => {
                    broken = Some(error);
                    break;
                }
                None => return Answer::from_parts(parts, Body::from(all)),
            }
        }
        self.annotate(TRUNCATED, "true");
        let first: Vec<Result<Bytes, BoxError>> = [Ok(Bytes::from(all))]
            .into_iter()
            .chain(broken.map(Err))
            .collect();
        Answer::from_parts(parts, Body::stream(futures::stream::iter(first).chain(chunks)))
    }

    async fn pass(&self, line: Vec<u8>, wait: bool) {
        match self.audit.mode {
            Mode::Batch => self.offer(line),
            _ if wait => {
                self.audit.log.write(line).await; // what is not written is counted there
            }
            _ => self.audit.log.queue(line).await,
        }
    }

    fn offer(&self, line: Vec<u8>) {
        if self.audit.log.offer(line).is_err() {
            self.audit.log.count_failed();
        }
    }
}

/// An answer as JSON: every one where it is recorded, else only a `Status`, which is told by its first bytes.
fn json_of(answer: &Answer, bytes: &Bytes, whole: bool) -> Option<Value> {
    let content_type = answer.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    let failed = answer.status().as_u16() >= 400;
    if content_type.contains("protobuf") {
        return (whole || failed).then(|| proto::to_json(bytes).ok()).flatten();
    }
    let head = bytes.get(..bytes.len().min(256)).unwrap_or_default();
    let is_status = crate::write::admission::memmem(head, b"\"kind\":\"Status\"");
    if !whole && !failed && !is_status {
        return None;
    }
    if content_type.contains("yaml") {
        return serde_json::from_slice(&negotiate::yaml_to_json(bytes).ok()?).ok();
    }
    serde_json::from_slice(bytes).ok()
}

/// Records the end of an answer whose body is a stream, when the body ends or is dropped.
struct AtEnd {
    trail: Arc<Trail>,
    code: u16,
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        let answered = Answered {
            status: Some(event::response_status(self.code, None)),
            object: None,
        };
        let Some(line) = self.trail.line(Stage::ResponseComplete, answered) else {
            return;
        };
        let log = &self.trail.audit.log;
        let Err(line) = log.offer(line) else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if self.trail.audit.mode != Mode::Batch => {
                let log = log.clone();
                runtime.spawn(async move { log.queue(line).await });
            }
            _ => log.count_failed(),
        }
    }
}

fn ending(body: Body, end: AtEnd) -> Body {
    Body::stream(body.into_stream().map(move |chunk| {
        let _held = &end;
        chunk
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_tell_where_a_request_came_from() {
        let check = |pairs: &[(&'static str, &str)], address: Option<&str>, want: &[&str]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().expect("a value"));
            }
            let peer = Peer {
                user: None,
                certificate: None,
                address: address.map(|address| address.parse().expect("an address")),
                fence: None,
            };
            assert_eq!(source_ips(&headers, &peer), want);
        };
        check(&[], None, &[]);
        check(&[], Some("192.0.2.1:5"), &["192.0.2.1"]);
        check(&[], Some("[::ffff:192.0.2.1]:5"), &["192.0.2.1"]);
        let proxied = [
            ("x-forwarded-for", "198.51.100.1, junk, 192.0.2.1"),
            ("x-real-ip", "203.0.113.1"),
        ];
        check(
            &proxied,
            Some("192.0.2.1:5"),
            &["198.51.100.1", "192.0.2.1", "203.0.113.1", "192.0.2.1"],
        );
        check(&proxied[..1], Some("192.0.2.1:5"), &["198.51.100.1", "192.0.2.1"]);
    }
}
