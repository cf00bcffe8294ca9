//! The managers of a new object as text: who makes it owns all it says, so one walk writes down the paths, without
//! sets to compare, merge and print.
//!
//! The same text as [`track::update`](super::track::update) and [`managers::encode`](super::managers::encode) make, or
//! nothing where only they know: elements that occur twice, numbers that are no integers as keys, places that change
//! their form.

use serde_json::{Map, Value};

use super::compare::{differ, list_of, map_of};
use super::items::identity;
use super::managers::{self, Operation};
use super::set::{Element, Set};
use super::topology;
use super::track::{Reset, Writer, system_fields};
use crate::field::FieldErrors;
use crate::json;
use crate::schema::view::{Child, Topology, View};

/// `metadata.managedFields` of `new`, an object without managers that `writer` makes; `zero` is the empty object of its kind. `None`
/// when it has to be worked out with sets.
pub fn managers(writer: &Writer<'_>, zero: &Value, new: &Value) -> Option<String> {
    let Reset::Fields(reset) = writer.reset else {
        return None;
    };
    let mut errors = FieldErrors::default();
    managers::validate_name("manager", writer.name, &mut errors);
    let is_struct = |value| matches!(topology(writer.view, value, 0), Topology::Granular);
    if !errors.is_empty() || !is_struct(zero) || !is_struct(new) {
        return None;
    }
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(b"[{");
    let text = |out: &mut Vec<u8>, head: &str, text: &str| {
        out.extend_from_slice(head.as_bytes());
        json::write_text(out, text);
    };
    text(&mut out, "\"apiVersion\":", writer.api_version);
    text(&mut out, ",\"fieldsType\":", "FieldsV1");
    out.extend_from_slice(b",\"fieldsV1\":{");
    let start = out.len();
    let besides = Besides {
        reset: Some(reset),
        system: Some(system_fields()),
    };
    entries(
        writer.view,
        zero.as_object(),
        new.as_object()?,
        besides,
        0,
        &mut out,
    )?;
    if out.len() == start {
        return None;
    }
    let name = if writer.name.is_empty() {
        "unknown"
    } else {
        writer.name
    };
    text(&mut out, "},\"manager\":", name);
    text(&mut out, ",\"operation\":", Operation::Update.as_str());
    if !writer.subresource.is_empty() {
        text(&mut out, ",\"subresource\":", writer.subresource);
    }
    text(&mut out, ",\"time\":", writer.now);
    out.extend_from_slice(b"}]");
    Some(String::from_utf8(out).expect("made of texts"))
}

/// What nobody comes to own at a place; sets of fields.
#[derive(Clone, Copy, Default)]
struct Besides<'a> {
    /// Not with anything below.
    reset: Option<&'a Set>,
    /// Not themselves.
    system: Option<&'a Set>,
}

fn entries(
    view: View<'_>,
    old: Option<&Map<String, Value>>,
    new: &Map<String, Value>,
    besides: Besides<'_>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    for (name, value) in new {
        let (is_reset, reset) = besides.reset.map_or((false, None), |set| set.at_field(name));
        if is_reset {
            continue;
        }
        let (is_system, system) = besides.system.map_or((false, None), |set| set.at_field(name));
        let old = old.and_then(|old| old.get(name));
        let child = view.child(name);
        let changed = match child {
            Some(Child { view, .. }) => changes(view, old, value, depth + 1)?,
            // The schema knows no such field: one value.
            None => old.is_none() || differ(old, Some(value)),
        };
        node(out, ["f:", name], changed && !is_system, |out| match child {
            Some(child) => below(child.view, old, value, Besides { reset, system }, depth + 1, out),
            None => Some(()),
        })?;
    }
    Some(())
}

/// Whether a place is new or has another value, as a whole.
fn changes(view: View<'_>, old: Option<&Value>, new: &Value, depth: usize) -> Option<bool> {
    let Some(was) = old else { return Some(true) };
    let (before, after) = (topology(view, was, depth), topology(view, new, depth));
    if std::mem::discriminant(&before) != std::mem::discriminant(&after) {
        return None;
    }
    let differ = || differ(old, Some(new));
    Some(match after {
        Topology::Scalar(_) | Topology::AtomicList | Topology::AtomicMap => differ(),
        Topology::Granular => map_of(old).is_none() && map_of(Some(new)).is_none() && differ(),
        Topology::Set | Topology::Keyed(_) if !list_of(old).is_empty() => return None,
        Topology::Set | Topology::Keyed(_) => list_of(Some(new)).is_empty() && differ(),
    })
}

/// The places below one.
fn below(
    view: View<'_>,
    old: Option<&Value>,
    new: &Value,
    besides: Besides<'_>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    match (topology(view, new, depth), new) {
        (Topology::Granular, Value::Object(map)) => entries(view, map_of(old), map, besides, depth, out),
        (form @ (Topology::Set | Topology::Keyed(_)), Value::Array(list)) => {
            let mut items = Vec::with_capacity(list.len());
            for item in list {
                if let Ok(element) = identity(view, form, item) {
                    items.push((printed(&element)?, item));
                }
            }
            items.sort_by(|a, b| a.0.cmp(&b.0));
            if items.windows(2).any(|two| two[0].0 == two[1].0) {
                return None;
            }
            for (key, item) in items {
                node(out, ["", &key], true, |out| {
                    below(view.element(), None, item, Besides::default(), depth + 1, out)
                })?;
            }
            Some(())
        }
        _ => Some(()),
    }
}

/// The key of an element whose text no equal one has in another form, as `1` has `1.0`.
fn printed(element: &Element) -> Option<String> {
    let is_plain = |value: &Value| match value {
        Value::Number(number) => number.is_i64(),
        Value::String(_) | Value::Bool(_) => true,
        _ => false,
    };
    let plain = match element {
        Element::Key(keys) => keys.iter().all(|(_, value)| is_plain(value)),
        Element::Value(value) => is_plain(value),
        Element::Field(_) | Element::Index(_) => true,
    };
    plain.then(|| element.print())
}

/// Writes a place, whose key is the parts of `key`, if it is a member or has members below it.
fn node(
    out: &mut Vec<u8>,
    key: [&str; 2],
    member: bool,
    below: impl FnOnce(&mut Vec<u8>) -> Option<()>,
) -> Option<()> {
    let start = out.len();
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    key.iter().for_each(|part| json::write_escaped(out, part));
    out.extend_from_slice(b"\":{");
    let alone = out.len();
    if member {
        out.extend_from_slice(b"\".\":{}");
    }
    let before = out.len();
    below(out)?;
    if out.len() == before {
        out.truncate(if member { alone } else { start });
        if !member {
            return Some(());
        }
    }
    out.push(b'}');
    Some(())
}
