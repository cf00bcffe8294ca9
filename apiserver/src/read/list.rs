//! `list`: a page, or everything as a stream from one snapshot.
//!
//! Memory of a whole list is one chunk, whatever its length: the snapshot shares its tree with the store.

use std::fmt::Write;

use bytes::Bytes;
use corten_api::status::Status;
use corten_store::{RangeIter, Snapshot};
use futures::stream;
use http::StatusCode;
use jiff::Timestamp;

use super::filter::Filter;
use super::page;
use super::point::{self, NoSnapshot, Point};
use super::shape::Shape;
use crate::body::{Body, BoxError};
use crate::query::ListOptions;
use crate::respond::{self, Answer};
use crate::stored::Damaged;
use crate::{Inner, damaged};

/// Bytes gathered before a part of a streamed list is sent.
const CHUNK_BYTES: usize = 64 * 1024;
/// Most objects a page holds, whatever the client's `limit`. A page is held in memory while it is written.
const MAX_PAGE: usize = 10_000;

/// # Errors
/// Bad options, 410 for an expired page, 504 for a revision that does not exist yet.
pub async fn list(
    server: &Inner,
    shape: Shape,
    namespace: Option<&str>,
    options: &ListOptions,
    now: Timestamp,
) -> Result<Answer, Status> {
    let filter = Filter::new(&shape.ty, namespace, options)?;
    let point = point::of_list(options, &filter.prefix)?;
    let snapshot = match point::snapshot(&server.store, &point, &filter.prefix).await {
        Ok(snapshot) => snapshot,
        Err(NoSnapshot {
            status,
            continue_token: None,
        }) => return Err(status),
        Err(NoSnapshot {
            status,
            continue_token: Some(token),
        }) => return Ok(expired(&status, &token)),
    };
    let start = match point {
        Point::Page(position) => position.start,
        _ => filter.range.start.clone(),
    };
    if options.limit > 0 {
        let limit = usize::try_from(options.limit).unwrap_or(usize::MAX).min(MAX_PAGE);
        let page = one_page(&snapshot, &filter, &shape, start, limit, now).map_err(damaged)?;
        return Ok(respond::json(StatusCode::OK, page));
    }
    Ok(respond::with_type(
        StatusCode::OK,
        "application/json",
        whole(snapshot, filter, shape, start, now),
    ))
}

fn expired(status: &Status, token: &str) -> Answer {
    let mut value = status.to_value();
    value["metadata"]["continue"] = token.into();
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::GONE);
    respond::json(code, value.to_string())
}

fn one_page(
    snapshot: &Snapshot,
    filter: &Filter,
    shape: &Shape,
    start: Bytes,
    limit: usize,
    now: Timestamp,
) -> Result<Vec<u8>, Damaged> {
    let revision = snapshot.revision().0;
    let mut items = Vec::with_capacity(CHUNK_BYTES);
    let mut count = 0;
    let mut last = None;
    let mut more = false;
    for entry in snapshot.range(filter.range_from(&start)) {
        if count == limit {
            more = true;
            break;
        }
        if filter.matches(&entry)? {
            if count > 0 {
                items.push(b',');
            }
            shape.write_item(&mut items, &entry.value, entry.mod_revision.0, now)?;
            count += 1;
            last = Some(entry.key.clone());
        }
    }
    let mut metadata = format!("\"resourceVersion\":\"{revision}\"");
    if let (true, Some(last)) = (more, last) {
        let token = page::after(&filter.prefix, &last, revision);
        write!(metadata, ",\"continue\":\"{token}\"").expect("writing to a String cannot fail");
        if filter.selects_all() {
            let mut next = last.to_vec();
            next.push(0);
            let remaining = snapshot.count(filter.range_from(&Bytes::from(next)));
            write!(metadata, ",\"remainingItemCount\":{remaining}").expect("writing to a String cannot fail");
        }
    }
    let mut out = Vec::with_capacity(items.len() + 512);
    shape.open_list(&mut out, &metadata);
    out.extend_from_slice(&items);
    out.extend_from_slice(b"]}\n");
    Ok(out)
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

fn whole(snapshot: Snapshot, filter: Filter, shape: Shape, start: Bytes, now: Timestamp) -> Body {
    let mut buffer = Vec::with_capacity(CHUNK_BYTES * 2);
    shape.open_list(
        &mut buffer,
        &format!("\"resourceVersion\":\"{}\"", snapshot.revision()),
    );
    let entries = snapshot.range(filter.range_from(&start));
    let mut streaming = Streaming {
        entries,
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
