//! List and watch, kept alive: whatever happens, the sink ends up with what the server has.
//!
//! Knows the list and watch protocol (bookmarks, 410, resuming). Must not know types: objects pass as raw JSON,
//! so that only the sink pays for decoding, once per kind.

use std::io::BufRead;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use kube::client::Body;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::backoff::Backoff;
use crate::error::ApiError;
use crate::informers::Selection;
use crate::object::Target;
use crate::request::ApiClient;
use crate::runner::chain;

/// First and longest wait after a failed list or watch. Source: client-go's reflector waits 0.8 s to 30 s; we start
/// lower because a restarted server is back within milliseconds.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LIMIT: Duration = Duration::from_secs(10);
/// A watch that lived this long counts as healthy, so the next failure starts the back-off anew: of servers that die one after
/// the other, each is left at once, and one that ends every watch is asked once a second.
const HEALTHY_AFTER: Duration = Duration::from_secs(1);
/// Seconds one watch lasts, at least; up to twice that, at random. Source: client-go's reflector, 5 to 10 min.
const WATCH_SECONDS: u64 = 300;
/// How much longer than asked a watch may stay open before it counts as dead.
const WATCH_MARGIN: Duration = Duration::from_secs(10);
/// How long the server may take to open a watch.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest line of a watch: one object with its envelope.
const MAX_LINE_BYTES: usize = 32 << 20;

/// Receives what the reflector sees, in order.
pub trait Sink: Send {
    /// A full list begins. What it does not mention is gone once `list_end` comes.
    fn list_begin(&mut self);
    fn list_item(&mut self, object: &str) -> Result<(), serde_json::Error>;
    fn list_end(&mut self, revision: u64);
    /// Added or modified. The object's revision. A text that is no such object changes nothing.
    fn apply(&mut self, object: &str) -> Result<u64, serde_json::Error>;
    /// The revision of the deletion, which the last state of the object carries.
    fn delete(&mut self, object: &str) -> Result<u64, serde_json::Error>;
    /// Everything up to `revision` has been delivered.
    fn bookmark(&mut self, revision: u64);
}

/// What form the objects come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Whole but for `managedFields`, if the server can leave them out; no component reads them.
    Full,
    /// Only metadata; a server that cannot sends full objects, and the sink ignores the rest.
    Metadata,
}

impl Form {
    fn accept(self, list: bool) -> &'static str {
        match (self, list) {
            (Form::Full, _) => "application/json;as=Unmanaged;g=corten.dev;v=v1,application/json",
            (Form::Metadata, true) => {
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
            }
            (Form::Metadata, false) => {
                "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
            }
        }
    }
}

/// Follows a collection until `shutdown`. Never returns for any other reason.
pub async fn reflect(
    api: ApiClient,
    target: Target,
    selection: Selection,
    form: Form,
    sink: &mut dyn Sink,
    shutdown: CancellationToken,
) {
    let mut reflector = Reflector {
        api,
        target,
        selection,
        form,
        revision: None,
        opened: None,
    };
    let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_LIMIT);
    while !shutdown.is_cancelled() {
        let result = tokio::select! {
            () = shutdown.cancelled() => return,
            result = reflector.round(sink) => result,
        };
        let opened = reflector.opened.take();
        let lived = opened.map_or(Duration::ZERO, |opened| opened.elapsed());
        let failures = if lived < HEALTHY_AFTER {
            backoff.failures()
        } else {
            0
        };
        let wait = wait_after(&mut backoff, lived, rand::random());
        match result {
            Ok(()) if lived >= HEALTHY_AFTER => continue,
            // A server that ends every watch at once must not be asked in a tight loop.
            Ok(()) => debug!(target = %reflector.target, "watch ended early"),
            Err(error) if must_relist(&error) => {
                debug!(target = %reflector.target, %error, "revision is no longer served, listing again");
                reflector.revision = None;
            }
            Err(error) if failures == 0 => {
                debug!(target = %reflector.target, error = %chain(&error), "watch interrupted");
            }
            Err(error) => {
                warn!(target = %reflector.target, error = %chain(&error), failures, "cannot list or watch");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// The wait after a watch that lived so long.
fn wait_after(backoff: &mut Backoff, lived: Duration, random: f64) -> Duration {
    if lived >= HEALTHY_AFTER {
        backoff.reset();
    }
    backoff.next(random)
}

/// The revision we hold is compacted (410), or newer than the server has (it was restored from a backup).
fn must_relist(error: &ApiError) -> bool {
    let too_large = match error {
        ApiError::Status(status) => status.details.as_ref().is_some_and(|details| {
            details
                .causes
                .iter()
                .any(|cause| cause.reason == "ResourceVersionTooLarge")
        }),
        _ => false,
    };
    error.is_gone() || too_large
}

struct Reflector {
    api: ApiClient,
    target: Target,
    selection: Selection,
    form: Form,
    /// Where the next watch begins; `None` calls for a list first.
    revision: Option<u64>,
    /// When the server began to answer the watch of this round.
    opened: Option<Instant>,
}

impl Reflector {
    /// Lists if need be, then watches until the watch ends. `Ok`: it ended in the regular way.
    async fn round(&mut self, sink: &mut dyn Sink) -> Result<(), ApiError> {
        if self.revision.is_none() {
            self.list(sink).await?;
        }
        self.watch(sink).await
    }

    async fn list(&mut self, sink: &mut dyn Sink) -> Result<(), ApiError> {
        sink.list_begin();
        let mut token = String::new();
        loop {
            let page = self
                .api
                .list_page_as(&self.target, &self.selection, &token, self.form.accept(true))
                .await?;
            for item in &page.items {
                sink.list_item(item.get())
                    .unwrap_or_else(|error| self.undecodable(item.get(), &error));
            }
            if let Some(next) = page.metadata.continue_token.filter(|next| !next.is_empty()) {
                token = next;
                continue;
            }
            let revision = page
                .metadata
                .resource_version
                .and_then(|text| text.parse().ok())
                .unwrap_or(0);
            sink.list_end(revision);
            self.revision = Some(revision);
            return Ok(());
        }
    }

    async fn watch(&mut self, sink: &mut dyn Sink) -> Result<(), ApiError> {
        let seconds = WATCH_SECONDS + rand::random_range(0..WATCH_SECONDS);
        let mut path = self.target.collection_path(&self.selection.namespace);
        path.push_str(&format!(
            "?watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={}",
            self.revision.unwrap_or(0)
        ));
        self.selection.push_query(&mut path);
        let open = self.api.open(Method::GET, path, self.form.accept(false), None);
        let response = tokio::time::timeout(OPEN_TIMEOUT, open)
            .await
            .unwrap_or(Err(ApiError::Timeout))?;
        let opened = Instant::now();
        self.opened = Some(opened);
        let deadline = opened + Duration::from_secs(seconds) + WATCH_MARGIN;
        let mut lines = Lines::new(response.into_body());
        loop {
            let line = match tokio::time::timeout_at(deadline, lines.next()).await {
                Ok(line) => line?,
                Err(_) => return Err(ApiError::Timeout),
            };
            match line {
                Some(line) => self.event(sink, &line)?,
                None => return Ok(()),
            }
        }
    }

    fn event(&mut self, sink: &mut dyn Sink, line: &[u8]) -> Result<(), ApiError> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        if let Some((change, object)) = plain_change(line)
            && let Ok(revision) = change.tell(sink, object)
        {
            self.saw(revision);
            return Ok(());
        }
        let event: RawEvent = serde_json::from_slice(line).map_err(ApiError::Decode)?;
        let object = event.object.get();
        let change = match event.kind {
            "ERROR" => {
                let status = serde_json::from_str(object).map_err(ApiError::Decode)?;
                return Err(ApiError::Status(Box::new(status)));
            }
            "ADDED" | "MODIFIED" => Change::Applied,
            "DELETED" => Change::Deleted,
            "BOOKMARK" => {
                let revision = revision_of(object)?;
                sink.bookmark(revision);
                self.saw(revision);
                return Ok(());
            }
            other => {
                warn!(target = %self.target, event = other, "unknown watch event");
                self.saw(revision_of(object)?);
                return Ok(());
            }
        };
        let revision = match change.tell(sink, object) {
            Ok(revision) => revision,
            Err(error) => {
                self.undecodable(object, &error);
                revision_of(object)?
            }
        };
        self.saw(revision);
        Ok(())
    }

    fn saw(&mut self, revision: u64) {
        self.revision = Some(revision.max(self.revision.unwrap_or(0)));
    }

    /// One object that does not decode must not stop the watch of all others.
    fn undecodable(&self, object: &str, error: &serde_json::Error) {
        let head: EventHead = serde_json::from_str(object).unwrap_or_default();
        tracing::error!(
            target = %self.target, namespace = head.metadata.namespace, name = head.metadata.name, %error,
            "object does not decode, it is missing from the cache"
        );
    }
}

/// What an event says of its object.
#[derive(Clone, Copy)]
enum Change {
    Applied,
    Deleted,
}

impl Change {
    fn tell(self, sink: &mut dyn Sink, object: &str) -> Result<u64, serde_json::Error> {
        match self {
            Change::Applied => sink.apply(object),
            Change::Deleted => sink.delete(object),
        }
    }
}

/// The object of an event that is written as API servers write it, found without reading the object: it is decoded once,
/// by the sink. Whatever else a line holds makes a text that is no JSON; then it is read in full.
fn plain_change(line: &[u8]) -> Option<(Change, &str)> {
    let (change, rest) = [
        (&br#"{"type":"ADDED","object":"#[..], Change::Applied),
        (br#"{"type":"MODIFIED","object":"#, Change::Applied),
        (br#"{"type":"DELETED","object":"#, Change::Deleted),
    ]
    .into_iter()
    .find_map(|(head, change)| Some((change, line.strip_prefix(head)?)))?;
    let object = rest.trim_ascii_end().strip_suffix(b"}")?;
    Some((change, std::str::from_utf8(object).ok()?))
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Default, Deserialize)]
struct EventHead {
    #[serde(default)]
    metadata: EventMeta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EventMeta {
    namespace: String,
    name: String,
    resource_version: String,
}

/// The revision of an object that no sink decodes.
fn revision_of(object: &str) -> Result<u64, ApiError> {
    let head: EventHead = serde_json::from_str(object).map_err(ApiError::Decode)?;
    Ok(head.metadata.resource_version.parse().unwrap_or(0))
}

/// Splits a body into lines, bounded. A line that lies within one frame is not copied.
struct Lines {
    body: Body,
    /// What is left of the newest frame.
    frame: Bytes,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
}

impl Lines {
    fn new(body: Body) -> Lines {
        Lines {
            body,
            frame: Bytes::new(),
            begun: Vec::new(),
        }
    }

    /// `None` once the body has ended; a part of a line at the end is dropped, the resumed watch brings it again.
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            // Reading from memory does not fail.
            let length = (&self.frame[..]).skip_until(b'\n').unwrap_or_default();
            let part = self.frame.split_to(length);
            let whole = part.last() == Some(&b'\n');
            if whole && self.begun.is_empty() {
                return Ok(Some(part));
            }
            self.begun.extend_from_slice(&part);
            if whole {
                return Ok(Some(std::mem::take(&mut self.begun).into()));
            }
            if self.begun.len() > MAX_LINE_BYTES {
                return Err(ApiError::TooLarge {
                    limit: MAX_LINE_BYTES,
                });
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(ApiError::Transport(kube::Error::Service(error.into())));
                }
                Some(Ok(frame)) => self.frame = frame.into_data().unwrap_or_default(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;
    use crate::object::{KubeKind, ObjectExt};
    use http::{Request, Response};
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use k8s_openapi::api::core::v1::ConfigMap;
    use parking_lot::Mutex;
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::sync::Arc;

    /// Bytes per frame: small, so that lines and frames never match.
    const FRAME: usize = 7;

    fn object(text: &str) -> String {
        let (name, revision) = text.split_once('@').expect("tests write name@revision");
        format!(r#"{{"metadata":{{"namespace":"a","name":"{name}","resourceVersion":"{revision}"}}}}"#)
    }

    /// `list REVISION [>TOKEN] objects`, `watch +added -deleted *bookmark`, `gone`, or `500`.
    fn answer(script: &str) -> (u16, String) {
        let mut words = script.split_whitespace();
        let events = |words: std::str::SplitWhitespace| {
            let line = |word: &str| {
                let (kind, object) = match word.split_at(1) {
                    ("+", text) => ("ADDED", object(text)),
                    ("-", text) => ("DELETED", object(text)),
                    (_, revision) => (
                        "BOOKMARK",
                        format!(r#"{{"metadata":{{"resourceVersion":"{revision}"}}}}"#),
                    ),
                };
                format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
            };
            words.map(line).collect::<String>()
        };
        match words.next() {
            Some("list") => {
                let revision = words.next().expect("a revision");
                let (tokens, items): (Vec<&str>, Vec<&str>) = words.partition(|word| word.starts_with('>'));
                let token = tokens.first().map_or("", |token| &token[1..]);
                let items: Vec<String> = items.into_iter().map(object).collect();
                let meta = format!(r#"{{"resourceVersion":"{revision}","continue":"{token}"}}"#);
                (
                    200,
                    format!(r#"{{"metadata":{meta},"items":[{}]}}"#, items.join(",")),
                )
            }
            Some("watch") => (200, events(words)),
            Some("gone") => (
                200,
                "{\"type\":\"ERROR\",\"object\":{\"code\":410,\"reason\":\"Expired\",\"message\":\"\"}}\n"
                    .into(),
            ),
            Some(code) => (
                code.parse().expect("a code"),
                r#"{"code":500,"reason":"InternalError"}"#.into(),
            ),
            None => panic!("empty script"),
        }
    }

    /// Plays `scripts` to a reflector until none is left; compares what was asked (`list`, `list TOKEN` or
    /// `watch REVISION`) and what the cache holds then.
    async fn check(scripts: &[&str], asked: &str, cached: &str) {
        let left: Arc<Mutex<VecDeque<String>>> = Arc::new(Mutex::new(
            scripts.iter().map(|script| (*script).to_owned()).collect(),
        ));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let shutdown = CancellationToken::new();
        let (log, done) = (requests.clone(), shutdown.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            let parameter = |name: &str| {
                let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                pairs
                    .into_iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| value.to_owned())
            };
            let next = left.lock().pop_front();
            if next.is_some() {
                log.lock().push(match parameter("watch") {
                    Some(_) => format!("watch {}", parameter("resourceVersion").unwrap_or_default()),
                    None => format!("list {}", parameter("continue").unwrap_or_default())
                        .trim()
                        .to_owned(),
                });
            }
            let done = done.clone();
            async move {
                let Some(script) = next else {
                    done.cancel();
                    return std::future::pending::<Result<Response<_>, Infallible>>().await;
                };
                let (code, text) = answer(&script);
                let frames: Vec<Result<Frame<Bytes>, Infallible>> = text
                    .as_bytes()
                    .chunks(FRAME)
                    .map(|part| Ok(Frame::data(Bytes::copy_from_slice(part))))
                    .collect();
                let body = StreamBody::new(futures::stream::iter(frames));
                Ok(Response::builder().status(code).body(body).expect("a response"))
            }
        });
        let api = ApiClient::new(kube::Client::new(service, "default"));
        let cache = Cache::<ConfigMap>::new();
        let mut feed = cache.feed();
        reflect(
            api,
            ConfigMap::target(),
            Selection::all(),
            Form::Full,
            &mut feed,
            shutdown,
        )
        .await;
        assert_eq!(requests.lock().join(", "), asked);
        let objects: Vec<String> = cache
            .list()
            .iter()
            .map(|object| format!("{}@{}", object.name(), object.revision()))
            .collect();
        assert_eq!(
            format!("{} to {}", objects.join(" "), cache.seen().progress().revision),
            cached
        );
    }

    #[tokio::test]
    async fn pages_become_one_list_and_the_watch_goes_on_from_there() {
        check(
            &[
                "list 5 >t1 x@1",
                "list 5 y@2",
                "watch +z@6 -x@7 *9",
                "watch +z@10",
            ],
            "list, list t1, watch 5, watch 9",
            "y@2 z@10 to 10",
        )
        .await;
    }

    /// Records what it is told.
    #[derive(Default)]
    struct Told(Vec<String>);

    impl Sink for Told {
        fn list_begin(&mut self) {}
        fn list_item(&mut self, _: &str) -> Result<(), serde_json::Error> {
            Ok(())
        }
        fn list_end(&mut self, _: u64) {}
        fn apply(&mut self, object: &str) -> Result<u64, serde_json::Error> {
            let head: EventHead = serde_json::from_str(object)?;
            self.0.push(format!("+{}", head.metadata.name));
            Ok(head.metadata.resource_version.parse().expect("a number"))
        }
        fn delete(&mut self, object: &str) -> Result<u64, serde_json::Error> {
            let revision = self.apply(object)?;
            let told = self.0.pop().unwrap_or_default().replace('+', "-");
            self.0.push(told);
            Ok(revision)
        }
        fn bookmark(&mut self, revision: u64) {
            self.0.push(format!("*{revision}"));
        }
    }

    #[tokio::test]
    async fn an_event_means_the_same_however_it_is_written() {
        let x = object("x@3");
        for (line, told) in [
            (format!(r#"{{"type":"ADDED","object":{x}}}"#), "+x"),
            (format!("{{\"type\":\"MODIFIED\",\"object\":{x} }}\r\n"), "+x"),
            (format!(r#"{{"type":"DELETED","object":{x}}}"#), "-x"),
            (format!(r#"{{ "type": "DELETED", "object": {x} }}"#), "-x"),
            (format!(r#"{{"object":{x},"type":"ADDED"}}"#), "+x"),
            (
                format!(r#"{{"type":"ADDED","object":{x},"more":{{"a":1}}}}"#),
                "+x",
            ),
            (
                r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"3"}}}"#.into(),
                "*3",
            ),
        ] {
            let service = tower::service_fn(|_: Request<Body>| async {
                Ok::<_, Infallible>(Response::new(Body::empty()))
            });
            let mut reflector = Reflector {
                api: ApiClient::new(kube::Client::new(service, "default")),
                target: ConfigMap::target(),
                selection: Selection::all(),
                form: Form::Full,
                revision: None,
                opened: None,
            };
            let mut sink = Told::default();
            reflector.event(&mut sink, line.as_bytes()).expect("an event");
            assert_eq!(
                (sink.0.join(" ").as_str(), reflector.revision),
                (told, Some(3)),
                "{line}"
            );
        }
    }

    #[tokio::test]
    async fn a_compacted_revision_leads_to_a_new_list() {
        check(
            &["list 5 x@1 y@2", "gone", "list 20 y@2 z@15", "watch *21"],
            "list, watch 5, list, watch 20",
            "y@2 z@15 to 21",
        )
        .await;
    }

    #[tokio::test]
    async fn errors_are_tried_again_from_where_it_stood() {
        check(
            &["500", "list 5 x@1", "500", "watch +y@6", "500", "watch *8"],
            "list, list, watch 5, watch 5, watch 6, watch 6",
            "x@1 y@6 to 8",
        )
        .await;
    }

    #[test]
    fn the_end_of_a_watch_that_has_lived_lengthens_no_wait() {
        let waits = |lived: u64| -> Vec<u128> {
            let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_LIMIT);
            let lived = Duration::from_millis(lived);
            let wait = |_| wait_after(&mut backoff, lived, 0.0).as_millis();
            (0..5).map(wait).collect()
        };
        assert_eq!(waits(900), [50, 100, 200, 400, 800]);
        assert_eq!(waits(1100), [50; 5]);
    }

    #[tokio::test]
    async fn a_list_cut_short_starts_over_and_forgets_nothing() {
        check(
            &["list 5 >t x@1", "500", "list 6 x@1 y@6", "watch *7"],
            "list, list t, list, watch 6",
            "x@1 y@6 to 7",
        )
        .await;
    }
}
