//! Field ownership: who manages which fields of an object, and server-side apply.
//!
//! Pure functions on JSON values and a [`View`](crate::schema::view::View) of their schema. [`set`] holds sets of
//! paths and their `FieldsV1` form, [`items`] says which element of a list is which, [`extract`], [`compare`],
//! [`merge`] and [`prune`] walk values, [`check`] tells what a configuration may not contain, [`managers`] is
//! `metadata.managedFields`, and [`track`] puts them together for writes; [`creation`] is the short way for new
//! objects. Nothing here knows requests or storage; time comes in as text.
//!
//! Source of the rules: the documentation of server-side apply, the structured-merge-diff specification and the
//! behaviour of kube-apiserver 1.36.

pub mod check;
pub mod compare;
pub mod creation;
mod element;
pub mod extract;
pub mod items;
pub mod managers;
pub mod merge;
pub mod prune;
pub mod set;
pub mod track;

use serde_json::Value;

use crate::schema::view::{Topology, View};

/// Levels of an object that are owned one by one; what lies deeper is owned as a whole with its parent. Upstream
/// has no such bound; no built-in type comes near it.
pub const MAX_DEPTH: usize = 128;

/// The topology of a place, with everything below [`MAX_DEPTH`] as one value.
fn topology<'a>(view: View<'a>, value: &Value, depth: usize) -> Topology<'a> {
    match view.topology(value) {
        Topology::Granular if depth >= MAX_DEPTH => Topology::AtomicMap,
        Topology::Set | Topology::Keyed(_) if depth >= MAX_DEPTH => Topology::AtomicList,
        other => other,
    }
}
