//! `list`: a page, or everything, as a stream from one snapshot.
//!
//! Memory of a list is one chunk, whatever its length: the snapshot shares its tree with the store.

use std::fmt::Write;
use std::ops::Range;

use bytes::Bytes;
use corten_api::status::Status;
use corten_store::{RangeIter, Snapshot};
use futures::stream;
use http::StatusCode;
use jiff::Timestamp;

use super::filter::Filter;
use super::list_protobuf;
use super::page;
use super::point::{self, Point};
use super::shape::Shape;
use crate::body::{Body, BoxError};
use crate::negotiate::Media;
use crate::query::ListOptions;
use crate::respond::{self, Answer};
use crate::stored::Damaged;
use crate::{Inner, convert, damaged};

/// Bytes gathered before a part of a streamed list is sent.
const CHUNK_BYTES: usize = 64 * 1024;

/// # Errors
/// Bad options, 410 for an expired page, 504 for a revision that does not exist yet.
pub async fn list(
    server: &Inner,
    shape: Shape,
    namespace: Option<&str>,
    options: &ListOptions,
    now: Timestamp,
) -> Result<Answer, Status> {
    super::options::check_list(options)?;
    let filter = Filter::new(&shape.ty, namespace, options)?;
    let point = point::of_list(options, &filter.prefix)?;
    point::check_age(&point, &filter.prefix, now)?;
    let snapshot = point::snapshot(&server.store, &point, &filter.prefix).await?;
    let limit = match point {
        // Upstream serves this read from its cache and looks at no limit; clients are used to whole lists.
        Point::Any => 0,
        _ => usize::try_from(options.limit).unwrap_or(usize::MAX),
    };
    let start = match point {
        Point::Page(position) => position.start,
        _ => filter.range.start.clone(),
    };
    let page = Page::cut(&snapshot, &filter, filter.range_from(&start), limit, now).map_err(damaged)?;
    if convert::webhook(&shape.ty).is_some() {
        return converted(server, &snapshot, &filter, &shape, &page, now).await;
    }
    let media = shape.media;
    let body = match media {
        Media::Protobuf => {
            let entries = || {
                let filter = filter.clone();
                snapshot
                    .range(page.range.clone())
                    .filter_map(move |entry| match filter.matches(&entry) {
                        Ok(chosen) => chosen.then_some(Ok(entry)),
                        Err(damaged) => Some(Err(damaged)),
                    })
            };
            let written = list_protobuf::write(shape, &page.metadata, now, entries).await;
            return Ok(respond::with_type(
                StatusCode::OK,
                media.content_type(),
                written.map_err(damaged)?,
            ));
        }
        // YAML is made of the whole JSON afterwards.
        Media::Json | Media::Yaml => write(snapshot, filter, shape, page, now),
    };
    Ok(respond::with_type(StatusCode::OK, "application/json", body))
}

/// A list of objects that a webhook may have to convert: whole, as an error has to be told before the first byte.
async fn converted(
    server: &Inner,
    snapshot: &Snapshot,
    filter: &Filter,
    shape: &Shape,
    page: &Page,
    now: Timestamp,
) -> Result<Answer, Status> {
    let mut chosen = Vec::new();
    for entry in snapshot.range(page.range.clone()) {
        if filter.matches(&entry).map_err(damaged)? {
            chosen.push(entry);
        }
    }
    let mut out = Vec::new();
    shape.open_list(&mut out, &page.metadata);
    let mut any = false;
    for entry in server.converted(&shape.ty, chosen).await? {
        if !filter.matches(&entry).map_err(damaged)? {
            continue; // so a page may be shorter than its limit
        }
        if std::mem::replace(&mut any, true) {
            out.push(b',');
        }
        shape
            .write_item(&mut out, &entry.value, entry.mod_revision.0, now)
            .map_err(damaged)?;
    }
    out.extend_from_slice(b"]}\n");
    Ok(respond::json(StatusCode::OK, out))
}

/// Which part of a list goes into one answer.
pub struct Page {
    pub range: Range<Bytes>,
    /// The members of the list's `metadata`.
    pub metadata: String,
}

impl Page {
    /// `limit` 0: no limit. Looks at heads only: what is in the page is written later, piece by piece.
    ///
    /// # Errors
    /// A stored value that is not ours.
    pub fn cut(
        snapshot: &Snapshot,
        filter: &Filter,
        range: Range<Bytes>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Page, Damaged> {
        let revision = snapshot.revision().0;
        let mut metadata = format!("\"resourceVersion\":\"{revision}\"");
        let Some(last) = last_of(snapshot, filter, range.clone(), limit)? else {
            return Ok(Page { range, metadata });
        };
        let token = page::after(&filter.prefix, &last, revision, now);
        write!(metadata, ",\"continue\":\"{token}\"").expect("writing to a String cannot fail");
        let next = page::next_key(&last);
        if filter.selects_all() {
            let remaining = snapshot.count(next.clone()..range.end);
            write!(metadata, ",\"remainingItemCount\":{remaining}").expect("writing to a String cannot fail");
        }
        Ok(Page {
            range: range.start..next,
            metadata,
        })
    }
}

/// The key of the last object of a page that does not hold all there is.
fn last_of(
    snapshot: &Snapshot,
    filter: &Filter,
    range: Range<Bytes>,
    limit: usize,
) -> Result<Option<Bytes>, Damaged> {
    if limit == 0 {
        return Ok(None);
    }
    let mut entries = snapshot.range(range);
    let mut left = limit;
    for entry in entries.by_ref() {
        if filter.matches(&entry)? {
            left -= 1;
            if left == 0 {
                return Ok(entries.next().map(|_| entry.key.clone()));
            }
        }
    }
    Ok(None)
}

struct Streaming {
    entries: RangeIter,
    filter: Filter,
    shape: Shape,
    now: Timestamp,
    any: bool,
    buffer: Vec<u8>,
}

impl Streaming {
    /// Fills the buffer; `false` when the list is complete.
    fn fill(&mut self) -> Result<bool, Damaged> {
        while self.buffer.len() < CHUNK_BYTES {
            let Some(entry) = self.entries.next() else {
                self.buffer.extend_from_slice(b"]}\n");
                return Ok(false);
            };
            if self.filter.matches(&entry)? {
                if std::mem::replace(&mut self.any, true) {
                    self.buffer.push(b',');
                }
                self.shape
                    .write_item(&mut self.buffer, &entry.value, entry.mod_revision.0, self.now)?;
            }
        }
        Ok(true)
    }
}

fn write(snapshot: Snapshot, filter: Filter, shape: Shape, page: Page, now: Timestamp) -> Body {
    let mut buffer = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
    shape.open_list(&mut buffer, &page.metadata);
    let mut streaming = Streaming {
        entries: snapshot.range(page.range),
        filter,
        shape,
        now,
        any: false,
        buffer,
    };
    // Most lists fit into the first chunk and go out with their length.
    match streaming.fill() {
        Ok(false) => return Body::from(streaming.buffer),
        Ok(true) => {}
        Err(damaged) => return Body::stream(stream::iter([Err(BoxError::from(damaged))])),
    }
    let first = Bytes::from(std::mem::take(&mut streaming.buffer));
    let rest = stream::unfold(Some(streaming), |state| async move {
        let mut streaming = state?;
        streaming.buffer = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
        match streaming.fill() {
            Ok(more) => {
                let chunk = Bytes::from(std::mem::take(&mut streaming.buffer));
                Some((Ok(chunk), more.then_some(streaming)))
            }
            Err(damaged) => Some((Err(BoxError::from(damaged)), None)),
        }
    });
    Body::stream(futures::StreamExt::chain(stream::iter([Ok(first)]), rest))
}
