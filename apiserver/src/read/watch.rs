//! `watch`: a stream of events, each encoded once and shared by all watchers of the same form.
//!
//! The walk: initial objects if asked for, then the store's events from the same revision on. A watch ends by its
//! time limit, by an `ERROR` event, or with its connection; it never goes silent and never skips.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use corten_api::schema::proto;
use corten_api::status::Status;
use corten_store::{Entry, Event, EventKind, RangeIter, Revision, Watch, WatchError, WatchItem};
use futures::{FutureExt, StreamExt, stream};
use http::StatusCode;
use jiff::Timestamp;
use rand::Rng;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use super::filter::Filter;
use super::options;
use super::point::parse_revision;
use super::shape::{Shape, no_protobuf};
use crate::body::{Body, BoxError};
use crate::negotiate::{self, Form, Media};
use crate::query::ListOptions;
use crate::respond::{self, Answer};
use crate::stored::Damaged;
use crate::{ApiServer, Inner, store_status};

/// A watch without `timeoutSeconds` lasts this long up to twice as long. Source: kube-apiserver
/// `--min-request-timeout`, 1800.
const MIN_TIMEOUT: Duration = Duration::from_secs(1800);
/// Longest `timeoutSeconds` honoured.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// A watch with bookmarks hears how far it is at least this often. Source: kube-apiserver's watch cache, 1 minute.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long a watch waits for this server to come to a revision that its client has from another one. Source: kube-apiserver's
/// watch cache, 3 s.
const FRESH_WITHIN: Duration = Duration::from_secs(3);
/// Bytes of events joined into one frame when several are ready.
const JOIN_BYTES: usize = 32 * 1024;

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// All objects as `ADDED`, then what follows. `mark_end`: a bookmark says where the objects end.
    State {
        newest: bool,
        not_older_than: u64,
        mark_end: bool,
    },
    /// Only what follows the newest state.
    Now,
    /// What follows a revision.
    After(u64),
}

/// Where a watch with these options begins. Source: Kubernetes "Resource versions", the part on watch.
///
/// # Errors
/// `Invalid` for options that do not go together, `BadRequest` for a revision that is no number.
fn start(options: &ListOptions) -> Result<Start, Status> {
    let options = options::with_watch_defaults(options);
    options::check_watch(&options)?;
    let revision = options
        .resource_version
        .as_deref()
        .map(parse_revision)
        .transpose();
    let revision = revision.map_err(Status::bad_request)?;
    Ok(match (options.send_initial_events, revision) {
        (Some(true), _) => Start::State {
            newest: revision.is_none(),
            not_older_than: revision.unwrap_or(0),
            mark_end: options.allow_watch_bookmarks,
        },
        (_, None | Some(0)) => Start::Now,
        (_, Some(revision)) => Start::After(revision),
    })
}

/// # Errors
/// Bad options. What the store refuses comes as an `ERROR` event, as upstream does.
pub async fn watch(
    server: &ApiServer,
    shape: Shape,
    namespace: Option<&str>,
    options: &ListOptions,
) -> Result<Answer, Status> {
    let inner = server.inner();
    let content_type =
        (shape.media.watch_type()).ok_or_else(|| Status::not_acceptable(&negotiate::WATCH_TYPES))?;
    let start = start(options)?;
    let filter = Filter::new(&shape.ty, namespace, options)?;
    let timeout = match options.timeout_seconds {
        Some(seconds) if seconds != 0 => {
            Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(MAX_TIMEOUT)
        }
        _ => MIN_TIMEOUT.mul_f64(1.0 + rand::rng().random::<f64>()),
    };
    let (at_least, state, mark_end) = match start {
        Start::After(revision) => (revision, false, false),
        Start::State {
            newest: false,
            not_older_than,
            mark_end,
        } => (not_older_than, true, mark_end),
        Start::State { mark_end, .. } => (newest(inner).await?, true, mark_end),
        Start::Now => (newest(inner).await?, false, false),
    };
    let now = Instant::now();
    let mut watching = Watching {
        _open: Open::new(server.clone()),
        closing: server.end_of_watches(&shape.ty),
        form: shape.number(),
        shape,
        filter,
        phase: Phase::Waiting { state, mark_end },
        told: Revision(at_least),
        header_sent: false,
        seen: None,
        deadline: Box::pin(tokio::time::sleep_until(now + timeout)),
        bookmark: options
            .allow_watch_bookmarks
            .then(|| Box::pin(tokio::time::sleep_until(now + BOOKMARK_EVERY))),
    };
    if inner.store.snapshot().revision() >= watching.told {
        watching.begin_now(state, mark_end);
    }
    let events = stream::unfold(watching, |mut watching| async move {
        let next = watching.next().await?;
        Some((next, watching))
    });
    Ok(respond::with_type(
        StatusCode::OK,
        content_type,
        Body::stream(events),
    ))
}

async fn newest(inner: &Inner) -> Result<u64, Status> {
    let revision = inner.store.read_barrier().await;
    Ok(revision.map_err(|error| store_status(&error))?.0)
}

/// Counts an open watch, and keeps its server.
struct Open(ApiServer);

impl Open {
    fn new(server: ApiServer) -> Open {
        server.inner().metrics.watches.fetch_add(1, Ordering::Relaxed);
        Open(server)
    }

    fn inner(&self) -> &Inner {
        self.0.inner()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.inner().metrics.watches.fetch_sub(1, Ordering::Relaxed);
    }
}

enum Phase {
    /// Until this server has come to where the watch begins: at once, but for a client that was ahead of it.
    Waiting {
        state: bool,
        mark_end: bool,
    },
    Initial {
        entries: Option<RangeIter>,
        mark_end: bool,
    },
    Live(Box<Watch>),
    Ended,
}

struct Watching {
    _open: Open,
    closing: CancellationToken,
    shape: Shape,
    filter: Filter,
    phase: Phase,
    /// The client knows it has seen everything up to here.
    told: Revision,
    /// What the bytes of this watch's events are shared under.
    form: u64,
    /// A Table watch names its columns once.
    header_sent: bool,
    /// What the next event means, where its objects had to be converted to tell.
    seen: Option<Option<(Kind, Arc<Entry>)>>,
    deadline: Pin<Box<Sleep>>,
    bookmark: Option<Pin<Box<Sleep>>>,
}

impl Watching {
    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        loop {
            let converts = self.converts();
            match &mut self.phase {
                Phase::Ended => return None,
                Phase::Waiting { state, mark_end } => {
                    let (state, mark_end) = (*state, *mark_end);
                    match self.begin(state, mark_end).await {
                        Ok(bytes) if bytes.is_empty() => {}
                        Ok(bytes) => return Some(Ok(bytes)),
                        Err(damaged) => return Some(Err(damaged.into())),
                    }
                }
                Phase::Initial { .. } if converts => match self.initial_converted().await {
                    Ok(bytes) if bytes.is_empty() => {}
                    Ok(bytes) => return Some(Ok(bytes)),
                    Err(damaged) => return Some(Err(damaged.into())),
                },
                Phase::Initial { .. } => match self.initial() {
                    Ok(bytes) if bytes.is_empty() => {}
                    Ok(bytes) => return Some(Ok(bytes)),
                    Err(damaged) => return Some(Err(damaged.into())),
                },
                Phase::Live(_) => match self.live().await {
                    Ok(Some(bytes)) => return Some(Ok(bytes)),
                    Ok(None) => self.phase = Phase::Ended,
                    Err(damaged) => return Some(Err(damaged.into())),
                },
            }
        }
    }

    /// Waits for the revision the watch begins at; what to tell a client that asks for one that does not come.
    async fn begin(&mut self, state: bool, mark_end: bool) -> Result<Bytes, Damaged> {
        tokio::select! {
            applied = self._open.inner().store.wait_applied(self.told) => match applied {
                Ok(()) => self.begin_now(state, mark_end),
                Err(_) => self.phase = Phase::Ended,
            },
            () = self.closing.cancelled() => self.phase = Phase::Ended,
            () = &mut self.deadline => self.phase = Phase::Ended,
            () = tokio::time::sleep(FRESH_WITHIN) => {
                self.phase = Phase::Ended;
                let current = self._open.inner().store.snapshot().revision();
                let status = Status::too_large_resource_version(self.told.0, current.0);
                let mut out = Vec::new();
                error_line(&mut out, self.shape.media, &status)?;
                return Ok(out.into());
            }
        }
        Ok(Bytes::new())
    }

    /// Takes the state if it was asked for.
    fn begin_now(&mut self, state: bool, mark_end: bool) {
        let entries = state.then(|| {
            let snapshot = self._open.inner().store.snapshot();
            self.told = snapshot.revision();
            snapshot.range(self.filter.range.clone())
        });
        self.phase = Phase::Initial { entries, mark_end };
    }

    /// The next chunk of initial events; moves on to the store's events after the last one.
    fn initial(&mut self) -> Result<Bytes, Damaged> {
        let Phase::Initial { entries, mark_end } = &mut self.phase else {
            return Ok(Bytes::new());
        };
        let mark_end = *mark_end;
        let mut out = Vec::new();
        let now = Timestamp::now();
        let table = matches!(self.shape.form, Form::Table(_));
        if let Some(mut entries) = entries.take() {
            while out.len() < JOIN_BYTES {
                let Some(entry) = entries.next() else {
                    if mark_end {
                        bookmark(&mut out, &self.shape, self.told, true)?;
                    }
                    self.follow(&mut out)?;
                    return Ok(out.into());
                };
                if self.filter.matches(&entry)? {
                    let header = table && !std::mem::replace(&mut self.header_sent, true);
                    line(
                        &mut out,
                        Kind::Added,
                        &self.shape,
                        &entry,
                        entry.mod_revision,
                        header,
                        now,
                    )?;
                }
            }
            self.phase = Phase::Initial {
                entries: Some(entries),
                mark_end,
            };
        } else {
            self.follow(&mut out)?;
        }
        Ok(out.into())
    }

    /// Whether objects may have to be converted by a webhook before they are shown.
    fn converts(&self) -> bool {
        crate::convert::webhook(&self.shape.ty).is_some()
    }

    /// All initial events at once, as lists of such objects are.
    async fn initial_converted(&mut self) -> Result<Bytes, Damaged> {
        let Phase::Initial { entries, mark_end } = &mut self.phase else {
            return Ok(Bytes::new());
        };
        let (entries, mark_end) = (entries.take(), *mark_end);
        let mut out = Vec::new();
        let mut chosen = Vec::new();
        let is_state = entries.is_some();
        for entry in entries.into_iter().flatten() {
            if self.filter.matches(&entry)? {
                chosen.push(entry);
            }
        }
        let converted = self._open.inner().converted(&self.shape.ty, chosen).await;
        let chosen = match converted {
            Ok(chosen) => chosen,
            Err(status) => {
                self.phase = Phase::Ended;
                error_line(&mut out, self.shape.media, &status)?;
                return Ok(out.into());
            }
        };
        let now = Timestamp::now();
        let table = matches!(self.shape.form, Form::Table(_));
        for entry in &chosen {
            if !self.filter.matches(entry)? {
                continue;
            }
            let header = table && !std::mem::replace(&mut self.header_sent, true);
            let (shape, revision) = (&self.shape, entry.mod_revision);
            line(&mut out, Kind::Added, shape, entry, revision, header, now)?;
        }
        if mark_end && is_state {
            bookmark(&mut out, &self.shape, self.told, true)?;
        }
        self.follow(&mut out)?;
        Ok(out.into())
    }

    /// Has the object of an event converted, for [`Watching::event`] to show; where fields of its own select it, both its
    /// states, as only then it shows whether they match.
    async fn convert_event(&mut self, event: &Event) -> Result<Result<(), Status>, Damaged> {
        let (before, after) = self.matching(event)?;
        let (mut before, mut after) = (before.cloned(), after.cloned());
        let both = self.filter.selects_own_fields();
        let shown = meaning(before.clone(), after.clone()).map(|(_, shown)| shown);
        for state in [&mut before, &mut after] {
            let Some(entry) = state else { continue };
            if !both && shown.as_ref().is_none_or(|shown| !Arc::ptr_eq(shown, entry)) {
                continue;
            }
            let converted = self._open.inner().converted(&self.shape.ty, vec![entry.clone()]);
            match converted.await {
                Ok(mut converted) => *state = converted.pop(),
                Err(status) => return Ok(Err(status)),
            }
        }
        let (before, after) = (
            self.if_matches(before.as_ref())?,
            self.if_matches(after.as_ref())?,
        );
        self.seen = Some(meaning(before.cloned(), after.cloned()));
        Ok(Ok(()))
    }

    fn follow(&mut self, out: &mut Vec<u8>) -> Result<(), Damaged> {
        self.phase = match self._open.inner().store.watch_tagged(
            self.filter.range.clone(),
            self.filter.tag.clone(),
            self.told,
        ) {
            Ok(watch) => Phase::Live(Box::new(watch)),
            Err(error) => {
                error_line(out, self.shape.media, &status_of(error, self.told))?;
                Phase::Ended
            }
        };
        Ok(())
    }

    /// Waits for events and joins those that are ready. `None`: the watch is over.
    async fn live(&mut self) -> Result<Option<Bytes>, Damaged> {
        loop {
            let Phase::Live(watch) = &mut self.phase else {
                return Ok(None);
            };
            let item = tokio::select! {
                biased;
                item = watch.next() => item,
                () = self.closing.cancelled() => return Ok(None),
                () = &mut self.deadline => return self.last_bookmark(),
                () = timer(&mut self.bookmark) => {
                    watch.progress_handle().request();
                    self.bookmark = Some(Box::pin(tokio::time::sleep(BOOKMARK_EVERY)));
                    continue;
                }
            };
            if let Some(Ok(WatchItem::Event(event))) = &item
                && self.converts()
                && let Err(status) = self.convert_event(event).await?
            {
                self.phase = Phase::Ended;
                let mut out = Vec::new();
                error_line(&mut out, self.shape.media, &status)?;
                return Ok(Some(out.into()));
            }
            let Some(first) = self.take(item)? else { continue };
            if self.converts() {
                return Ok(Some(first)); // the next event may have to be converted first
            }
            // One event alone is sent as shared bytes; several that are ready are joined into one frame.
            let mut joined: Option<Vec<u8>> = None;
            while joined.as_ref().map_or(first.len(), Vec::len) < JOIN_BYTES {
                let Phase::Live(watch) = &mut self.phase else {
                    break;
                };
                let Some(item) = watch.next().now_or_never() else {
                    break;
                };
                if let Some(bytes) = self.take(item)? {
                    joined
                        .get_or_insert_with(|| first.to_vec())
                        .extend_from_slice(&bytes);
                }
            }
            return Ok(Some(joined.map_or(first, Bytes::from)));
        }
    }

    /// The bytes of one item, if it has any for this watcher.
    fn take(&mut self, item: Option<Result<WatchItem, WatchError>>) -> Result<Option<Bytes>, Damaged> {
        match item {
            Some(Ok(WatchItem::Event(event))) => {
                self._open
                    .inner()
                    .metrics
                    .watch_events
                    .fetch_add(1, Ordering::Relaxed);
                let bytes = self.event(&event)?;
                if bytes.is_some() {
                    self.told = event.revision;
                }
                Ok(bytes)
            }
            Some(Ok(WatchItem::Progress(revision))) if revision > self.told => {
                self.told = revision;
                let mut out = Vec::new();
                bookmark(&mut out, &self.shape, revision, false)?;
                Ok(Some(out.into()))
            }
            Some(Ok(WatchItem::Progress(_))) => Ok(None),
            Some(Err(error)) => {
                self.phase = Phase::Ended;
                let mut out = Vec::new();
                error_line(&mut out, self.shape.media, &status_of(error, self.told))?;
                Ok(Some(out.into()))
            }
            None => {
                self.phase = Phase::Ended;
                Ok(None)
            }
        }
    }

    fn event(&mut self, event: &Arc<Event>) -> Result<Option<Bytes>, Damaged> {
        let seen = self.seen.take();
        let seen = match &seen {
            Some(seen) => seen.as_ref().map(|(kind, entry)| (*kind, entry)),
            None => {
                let (before, after) = self.matching(event)?;
                meaning(before, after)
            }
        };
        let Some((kind, entry)) = seen else {
            return Ok(None);
        };
        let table = matches!(self.shape.form, Form::Table(_));
        let header = table && !std::mem::replace(&mut self.header_sent, true);
        // One event is an addition, a change or a deletion to each watcher, and each of these is one object's state.
        let form = self.form << 3 | kind.number() << 1 | u64::from(header);
        let encodings = &self._open.inner().encodings;
        let make = || {
            let mut out = Vec::with_capacity(entry.value.len() + 128);
            let (shape, revision) = (&self.shape, event.revision);
            line(&mut out, kind, shape, entry, revision, header, Timestamp::now())?;
            Ok(out)
        };
        encodings.get_or_make(event, form, make).map(Some)
    }

    fn if_matches<'e>(&self, state: Option<&'e Arc<Entry>>) -> Result<Option<&'e Arc<Entry>>, Damaged> {
        let Some(entry) = state else { return Ok(None) };
        Ok(self.filter.matches(entry)?.then_some(entry))
    }

    /// The states before and after the event, as far as they match.
    fn matching<'e>(&self, event: &'e Event) -> Result<States<&'e Arc<Entry>>, Damaged> {
        let (before, after) = match &event.kind {
            EventKind::Delete { prev } => (Some(prev), None),
            EventKind::Put { entry, prev } => (prev.as_ref(), Some(entry)),
        };
        Ok((self.if_matches(before)?, self.if_matches(after)?))
    }

    /// A watch that ends in time tells how far it came, so that the client can resume there.
    fn last_bookmark(&mut self) -> Result<Option<Bytes>, Damaged> {
        let Phase::Live(watch) = &mut self.phase else {
            return Ok(None);
        };
        let mut progress = None;
        if self.bookmark.is_some() {
            watch.progress_handle().request();
            if let Some(Some(Ok(WatchItem::Progress(revision)))) = watch.next().now_or_never() {
                progress = Some(revision).filter(|revision| *revision > self.told);
            }
        }
        self.phase = Phase::Ended;
        let Some(revision) = progress else {
            return Ok(None);
        };
        let mut out = Vec::new();
        bookmark(&mut out, &self.shape, revision, false)?;
        Ok(Some(out.into()))
    }
}

/// An object before and after an event.
type States<E> = (Option<E>, Option<E>);

/// What an event means to a watcher, of the states before and after it that match: an object that begins to match is added,
/// one that no longer matches is deleted (and shown as it last matched).
fn meaning<E>(before: Option<E>, after: Option<E>) -> Option<(Kind, E)> {
    match (before, after) {
        (None, Some(entry)) => Some((Kind::Added, entry)),
        (Some(_), Some(entry)) => Some((Kind::Modified, entry)),
        (Some(entry), None) => Some((Kind::Deleted, entry)),
        (None, None) => None,
    }
}

async fn timer(sleep: &mut Option<Pin<Box<Sleep>>>) {
    match sleep {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}

/// What an event is to one watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Added,
    Modified,
    Deleted,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Added => "ADDED",
            Kind::Modified => "MODIFIED",
            Kind::Deleted => "DELETED",
        }
    }

    /// Two bits.
    fn number(self) -> u64 {
        self as u64
    }
}

fn line(
    out: &mut Vec<u8>,
    kind: Kind,
    shape: &Shape,
    entry: &Entry,
    revision: Revision,
    header: bool,
    now: Timestamp,
) -> Result<(), Damaged> {
    framed(out, shape.media, kind.as_str(), |out| {
        shape.write_object(out, &entry.value, revision.0, header, now)
    })
}

fn bookmark(
    out: &mut Vec<u8>,
    shape: &Shape,
    revision: Revision,
    initial_events_end: bool,
) -> Result<(), Damaged> {
    framed(out, shape.media, "BOOKMARK", |out| {
        shape.write_bookmark(out, revision.0, initial_events_end);
        Ok(())
    })
}

fn error_line(out: &mut Vec<u8>, media: Media, status: &Status) -> Result<(), Damaged> {
    framed(out, media, "ERROR", |out| {
        out.extend_from_slice(&status.to_bytes());
        Ok(())
    })
}

/// Appends one event: a line of JSON, or a frame of protobuf with its length before it.
fn framed(
    out: &mut Vec<u8>,
    media: Media,
    kind: &str,
    object: impl FnOnce(&mut Vec<u8>) -> Result<(), Damaged>,
) -> Result<(), Damaged> {
    if media == Media::Protobuf {
        let mut json = Vec::new();
        object(&mut json)?;
        proto::watch_event(out, kind, &proto::from_json(&json).map_err(no_protobuf)?);
        return Ok(());
    }
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    object(out)?;
    out.extend_from_slice(b"}\n");
    Ok(())
}

fn status_of(error: WatchError, at: Revision) -> Status {
    match error {
        WatchError::Compacted { oldest } => Status::too_old_resource_version(at.0, oldest.0),
        WatchError::Lagged { seen, newest } => Status::too_old_resource_version(seen.0, newest.0),
        WatchError::Future { newest } => Status::too_large_resource_version(at.0, newest.0),
        WatchError::Closed => Status::service_unavailable("the server is shutting down"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Query;

    #[track_caller]
    fn check(query: &str, want: Result<Start, &str>) {
        let options = ListOptions::parse(&Query::parse(Some(query))).expect("options");
        match (start(&options), want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want, "{query}"),
            (Err(status), Err(part)) => assert!(status.message.contains(part), "{query}: {}", status.message),
            (got, want) => panic!("{query}: got {got:?}, want {want:?}"),
        }
    }

    #[test]
    fn where_a_watch_begins() {
        let state = |newest, not_older_than, mark_end| {
            Ok(Start::State {
                newest,
                not_older_than,
                mark_end,
            })
        };
        check("", state(true, 0, false));
        check("allowWatchBookmarks=1", state(true, 0, true));
        check("resourceVersion=0", state(false, 0, false));
        check("resourceVersion=0&allowWatchBookmarks=1", state(false, 0, true));
        check("resourceVersion=5", Ok(Start::After(5)));
        check("resourceVersion=5&allowWatchBookmarks=1", Ok(Start::After(5)));
        let list = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
        check(list, state(true, 0, true));
        check(&format!("{list}&resourceVersion=0"), state(false, 0, true));
        check(&format!("{list}&resourceVersion=9"), state(false, 9, true));
        let live = "sendInitialEvents=false&resourceVersionMatch=NotOlderThan";
        check(live, Ok(Start::Now));
        check(&format!("{live}&resourceVersion=0"), Ok(Start::Now));
        check(&format!("{live}&resourceVersion=3"), Ok(Start::After(3)));
        check(
            "sendInitialEvents=true",
            Err("requires setting resourceVersionMatch to NotOlderThan"),
        );
        check("resourceVersion=x", Err("invalid syntax"));
    }
}
