//! What differs between two values.

use serde_json::{Map, Value};

use super::items::{identity, same};
use super::set::{Element, Set};
use super::topology;
use crate::schema::view::{Topology, View};

/// The paths that only the new value has, that both have with other contents, that only the old one has. A place
/// that comes or goes is in the set together with everything below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    pub added: Set,
    pub modified: Set,
    pub removed: Set,
}

impl Comparison {
    pub fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// The comparison without `fields` and all below them.
    #[must_use]
    pub fn without(&self, fields: &Set) -> Self {
        Self {
            added: self.added.recursive_difference(fields),
            modified: self.modified.recursive_difference(fields),
            removed: self.removed.recursive_difference(fields),
        }
    }

    fn put(&mut self, element: Element, itself: Itself, below: Comparison) {
        let sets = [
            (&mut self.added, itself.added, below.added),
            (&mut self.modified, itself.modified, below.modified),
            (&mut self.removed, itself.removed, below.removed),
        ];
        let mut wanted = sets
            .into_iter()
            .filter(|(_, itself, below)| *itself || !below.is_empty())
            .peekable();
        let mut element = Some(element);
        while let Some((set, itself, below)) = wanted.next() {
            let own = if wanted.peek().is_some() {
                element.clone()
            } else {
                element.take()
            };
            if let Some(own) = own {
                set.put(own, itself, below);
            }
        }
    }
}

/// What happened to a place itself.
#[derive(Debug, Clone, Copy, Default)]
struct Itself {
    added: bool,
    modified: bool,
    removed: bool,
}

/// Compares two values of the same schema.
pub fn compare(view: View<'_>, old: &Value, new: &Value) -> Comparison {
    let mut below = Comparison::default();
    walk(view, Some(old), Some(new), 0, &mut below);
    below
}

/// At least one side is there.
fn walk(
    view: View<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    depth: usize,
    below: &mut Comparison,
) -> Itself {
    let form = |value| topology(view, value, depth);
    match (old, new) {
        (Some(a), Some(b)) => {
            let (was, is) = (form(a), form(b));
            if std::mem::discriminant(&was) == std::mem::discriminant(&is) {
                return as_form(view, is, old, new, depth, below);
            }
            // Without a schema a value may change its form: it is compared as each of both.
            let mut itself = as_form(view, was, old, new, depth, below);
            let other = as_form(view, is, old, new, depth, below);
            itself.added |= other.added;
            itself.modified |= other.modified;
            itself.removed |= other.removed;
            itself
        }
        (Some(value), None) => {
            below.removed = everything(view, value, depth);
            Itself {
                removed: true,
                ..Itself::default()
            }
        }
        (None, Some(value)) => {
            below.added = everything(view, value, depth);
            Itself {
                added: true,
                ..Itself::default()
            }
        }
        (None, None) => Itself::default(),
    }
}

/// All places below one that only one side has: most of what a create compares, and nothing to compare there.
fn everything(view: View<'_>, value: &Value, depth: usize) -> Set {
    let mut all = Set::default();
    match (topology(view, value, depth), value) {
        (Topology::Granular, Value::Object(map)) => {
            for (key, value) in map {
                let below = view
                    .child(key)
                    .map(|child| everything(child.view, value, depth + 1));
                all.put(
                    Element::Field(key.as_str().into()),
                    true,
                    below.unwrap_or_default(),
                );
            }
        }
        (form @ (Topology::Set | Topology::Keyed(_)), Value::Array(list)) => {
            let item = |item| Some((identity(view, form, item).ok()?, item));
            let mut items: Vec<(Element, &Value)> = list.iter().filter_map(item).collect();
            items.sort_by(|a, b| a.0.cmp(&b.0));
            let mut rest = items.into_iter().peekable();
            while let Some((element, item)) = rest.next() {
                let mut below = Set::default();
                if rest.peek().is_some_and(|(next, _)| *next == element) {
                    // Elements that occur more than once are one value.
                    while rest.next_if(|(next, _)| *next == element).is_some() {}
                } else {
                    below = everything(view.element(), item, depth + 1);
                }
                all.put(element, true, below);
            }
        }
        _ => {}
    }
    all
}

fn as_form(
    view: View<'_>,
    form: Topology<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    depth: usize,
    below: &mut Comparison,
) -> Itself {
    let mut itself = Itself {
        added: old.is_none(),
        removed: new.is_none(),
        modified: false,
    };
    match form {
        Topology::Scalar(_) | Topology::AtomicList | Topology::AtomicMap => {
            itself.modified = differ(old, new)
        }
        Topology::Granular => match (map_of(old), map_of(new)) {
            (None, None) => itself.modified = differ(old, new),
            (a, b) => entries(view, a, b, depth, below),
        },
        Topology::Set | Topology::Keyed(_) => match (list_of(old), list_of(new)) {
            ([], []) => itself.modified = differ(old, new),
            (a, b) => elements(view, form, a, b, depth, below),
        },
    }
    itself
}

pub(super) fn map_of(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object).filter(|map| !map.is_empty())
}

pub(super) fn list_of(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Two values that are both there and not the same; an empty list or map is not the same as `null`.
pub(super) fn differ(old: Option<&Value>, new: Option<&Value>) -> bool {
    matches!((old, new), (Some(a), Some(b)) if !same(a, b))
}

fn entries(
    view: View<'_>,
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
    depth: usize,
    below: &mut Comparison,
) {
    let mut one = |key: &str, a: Option<&Value>, b: Option<&Value>| {
        let mut inner = Comparison::default();
        let itself = match view.child(key) {
            Some(child) => walk(child.view, a, b, depth + 1, &mut inner),
            // The schema knows no such field: one value.
            None => Itself {
                added: a.is_none(),
                removed: b.is_none(),
                modified: differ(a, b),
            },
        };
        if itself.added || itself.modified || itself.removed || !inner.is_same() {
            below.put(Element::Field(key.into()), itself, inner);
        }
    };
    // Both maps are sorted.
    let mut a = old.into_iter().flatten().peekable();
    let mut b = new.into_iter().flatten().peekable();
    loop {
        let order = match (a.peek(), b.peek()) {
            (Some((x, _)), Some((y, _))) => x.cmp(y),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return,
        };
        let left = if order.is_le() { a.next() } else { None };
        let right = if order.is_ge() { b.next() } else { None };
        if let Some((key, _)) = left.or(right) {
            one(key, left.map(|l| l.1), right.map(|r| r.1));
        }
    }
}

fn elements(
    view: View<'_>,
    form: Topology<'_>,
    old: &[Value],
    new: &[Value],
    depth: usize,
    below: &mut Comparison,
) {
    if old.len() == new.len() && old.iter().zip(new).all(|(a, b)| a == b) {
        return;
    }
    // By identity; a list holds the values of elements that occur more than once.
    let mut found: Vec<(Element, bool, &Value)> = Vec::with_capacity(old.len() + new.len());
    for (list, is_new) in [(old, false), (new, true)] {
        for item in list {
            if let Ok(element) = identity(view, form, item) {
                found.push((element, is_new, item));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut rest = found.into_iter().peekable();
    let (mut before, mut after): (Vec<&Value>, Vec<&Value>) = (Vec::new(), Vec::new());
    while let Some((element, is_new, item)) = rest.next() {
        before.clear();
        after.clear();
        if is_new { &mut after } else { &mut before }.push(item);
        while let Some((_, is_new, item)) = rest.next_if(|(next, ..)| *next == element) {
            if is_new { &mut after } else { &mut before }.push(item);
        }
        let mut inner = Comparison::default();
        let mut walk_one =
            |a: Option<&Value>, b: Option<&Value>| walk(view.element(), a, b, depth + 1, &mut inner);
        let itself = match (before.as_slice(), after.as_slice()) {
            ([] | [_], [] | [_]) => walk_one(before.first().copied(), after.first().copied()),
            // Elements that occur more than once are compared together, as one value.
            ([_, _, ..], [_, _, ..]) => Itself {
                modified: before.len() != after.len() || before.iter().zip(&after).any(|(a, b)| !same(a, b)),
                ..Itself::default()
            },
            ([_, _, ..], after) => {
                let mut itself = after
                    .first()
                    .map_or_else(Itself::default, |b| walk_one(None, Some(b)));
                itself.removed = true;
                itself
            }
            (before, [_, _, ..]) => {
                let mut itself = before
                    .first()
                    .map_or_else(Itself::default, |a| walk_one(Some(a), None));
                itself.added = true;
                itself
            }
        };
        if itself.added || itself.modified || itself.removed || !inner.is_same() {
            below.put(element, itself, inner);
        }
    }
}
