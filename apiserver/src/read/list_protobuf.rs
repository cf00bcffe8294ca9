//! Lists in protobuf: their head says how long they are, so they are read twice from the same snapshot.
//!
//! The first reading makes the items and keeps them while they are few; of a long list only the sizes are added up, and
//! the second reading makes the items again while they are sent. Memory is bounded whatever the length of the list.

use bytes::Bytes;
use corten_api::schema::{Type, proto, schema};
use corten_store::Entry;
use futures::stream;
use jiff::Timestamp;

use super::shape::{Shape, no_protobuf};
use crate::body::{Body, BoxError};
use crate::negotiate::Form;
use crate::stored::Damaged;

/// Bytes of items kept from the first reading.
const KEEP_BYTES: usize = 512 * 1024;
/// Bytes gathered before a part of a streamed list is sent.
const CHUNK_BYTES: usize = 64 * 1024;
/// Items made before other requests get their turn.
const ITEMS_A_TURN: usize = 64;

/// Makes the items of one list.
struct Items {
    shape: Shape,
    /// The type of the items.
    entry: &'static Type,
    now: Timestamp,
    json: Vec<u8>,
}

impl Items {
    fn write(&mut self, out: &mut Vec<u8>, entry: &Entry) -> Result<(), Damaged> {
        self.json.clear();
        self.shape
            .write_item(&mut self.json, &entry.value, entry.mod_revision.0, self.now)?;
        proto::write_item(out, self.entry, &self.json).map_err(no_protobuf)
    }
}

/// A list as a body. `entries` starts a reading of the chosen entries; `metadata` are the members of the list's
/// `metadata`.
///
/// # Errors
/// A stored value that is not ours.
pub async fn write<I>(
    shape: Shape,
    metadata: &str,
    now: Timestamp,
    entries: impl Fn() -> I,
) -> Result<Body, Damaged>
where
    I: Iterator<Item = Result<std::sync::Arc<Entry>, Damaged>> + Send + 'static,
{
    let (entry, kind, api_version) = match shape.form {
        Form::Partial(version) => (
            schema().find("meta.v1.PartialObjectMetadata"),
            "PartialObjectMetadataList".to_owned(),
            version.api_version().to_owned(),
        ),
        _ => (
            shape.ty.type_facts(),
            shape.ty.list_kind(),
            shape.ty.api_version(),
        ),
    };
    let entry = entry.ok_or_else(|| no_protobuf(format!("{kind} has no protobuf form")))?;
    let mut items = Items {
        shape,
        entry,
        now,
        json: Vec::new(),
    };
    let head = |out: &mut Vec<u8>, size: usize| {
        let list = proto::ListItems {
            api_version: &api_version,
            kind: &kind,
            metadata: &format!("{{{metadata}}}"),
        };
        list.open(out, size).map_err(no_protobuf)
    };
    let (mut kept, mut size) = (Vec::new(), 0);
    for (count, next) in entries().enumerate() {
        if size > KEEP_BYTES {
            kept.clear();
        }
        let before = kept.len();
        items.write(&mut kept, &*next?)?;
        size += kept.len() - before;
        if count % ITEMS_A_TURN == ITEMS_A_TURN - 1 {
            tokio::task::yield_now().await;
        }
    }
    let mut out = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
    head(&mut out, size)?;
    if kept.len() == size {
        out.extend_from_slice(&kept);
        proto::close_list(&mut out);
        return Ok(Body::from(out));
    }
    drop(kept);
    let start = Some((entries(), items, out));
    Ok(Body::stream(stream::unfold(start, |state| async move {
        let (mut rest, mut items, mut out) = state?;
        while out.len() < CHUNK_BYTES {
            match rest.next() {
                Some(next) => {
                    if let Err(damaged) = next.and_then(|entry| items.write(&mut out, &entry)) {
                        return Some((Err(BoxError::from(damaged)), None));
                    }
                }
                None => {
                    proto::close_list(&mut out);
                    return Some((Ok(Bytes::from(out)), None));
                }
            }
        }
        let next = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
        Some((Ok(Bytes::from(out)), Some((rest, items, next))))
    })))
}
