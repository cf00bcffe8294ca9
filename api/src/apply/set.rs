//! Sets of paths in an object, and their `FieldsV1` form: steps as [`Element`] writes them, and `.` for a path that is
//! itself a member while others below it are too.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::MAX_DEPTH;
pub use super::element::{BadFields, Element};
use crate::field::quoted;
use crate::schema::view::View;

/// A set of paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    /// Sorted by element; each is a member or has members below.
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    element: Element,
    member: bool,
    below: Set,
}

impl Set {
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Number of member paths.
    pub fn len(&self) -> usize {
        self.nodes
            .iter()
            .map(|n| usize::from(n.member) + n.below.len())
            .sum()
    }

    /// A set of one path.
    pub fn of(path: &[&str]) -> Self {
        let mut set = Self::default();
        set.insert_fields(path);
        set
    }

    /// Adds a path of field names.
    pub fn insert_fields(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let node = self.node(Element::Field((*first).into()));
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert_fields(rest);
        }
    }

    /// Adds an element's own membership and what is a member below it. Cheap when elements come in order.
    pub(super) fn put(&mut self, element: Element, member: bool, below: Set) {
        if !member && below.is_empty() {
            return;
        }
        if self.nodes.last().is_none_or(|last| last.element < element) {
            self.nodes.push(Node {
                element,
                member,
                below,
            });
            return;
        }
        let node = self.node(element);
        node.member |= member;
        if node.below.is_empty() {
            node.below = below;
        } else {
            node.below = node.below.union(&below);
        }
    }

    fn find(&self, element: &Element) -> Result<usize, usize> {
        self.nodes.binary_search_by(|n| n.element.cmp(element))
    }

    fn node(&mut self, element: Element) -> &mut Node {
        let at = match self.find(&element) {
            Ok(at) => at,
            Err(at) => {
                let node = Node {
                    element,
                    member: false,
                    below: Set::default(),
                };
                self.nodes.insert(at, node);
                at
            }
        };
        &mut self.nodes[at]
    }

    /// Whether `element` is a member, and what is below it.
    pub(super) fn at(&self, element: &Element) -> (bool, Option<&Set>) {
        match self.find(element) {
            Ok(at) => (
                self.nodes[at].member,
                Some(&self.nodes[at].below).filter(|s| !s.is_empty()),
            ),
            Err(_) => (false, None),
        }
    }

    /// Calls `f` with every step from here: whether it is a member itself, and what is below.
    pub(super) fn each_child(&self, mut f: impl FnMut(&Element, bool, &Set)) {
        for node in &self.nodes {
            f(&node.element, node.member, &node.below);
        }
    }

    /// [`Set::at`] for a field, without making an element.
    pub(super) fn at_field(&self, name: &str) -> (bool, Option<&Set>) {
        let found = self.nodes.binary_search_by(|n| match &n.element {
            Element::Field(own) => (**own).cmp(name),
            _ => Ordering::Greater,
        });
        match found {
            Ok(at) => (
                self.nodes[at].member,
                Some(&self.nodes[at].below).filter(|s| !s.is_empty()),
            ),
            Err(_) => (false, None),
        }
    }

    /// True when this path of field names is a member.
    pub fn has_fields(&self, path: &[&str]) -> bool {
        match path {
            [] => false,
            [name] => self.at_field(name).0,
            [name, rest @ ..] => self.at_field(name).1.is_some_and(|s| s.has_fields(rest)),
        }
    }

    /// Walks both sets at once; `keep` decides on an element that is in one or both.
    fn zip(
        &self,
        other: &Self,
        mut one: impl FnMut(&Node) -> Option<Node>,
        mut other_one: impl FnMut(&Node) -> Option<Node>,
        mut both: impl FnMut(&Node, &Node) -> Node,
    ) -> Self {
        let (mut a, mut b) = (self.nodes.iter().peekable(), other.nodes.iter().peekable());
        let mut nodes = Vec::new();
        loop {
            let order = match (a.peek(), b.peek()) {
                (Some(x), Some(y)) => x.element.cmp(&y.element),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return Self { nodes },
            };
            let kept = match order {
                Ordering::Less => a.next().and_then(&mut one),
                Ordering::Greater => b.next().and_then(&mut other_one),
                Ordering::Equal => match (a.next(), b.next()) {
                    (Some(x), Some(y)) => Some(both(x, y)),
                    _ => None,
                },
            };
            nodes.extend(kept.filter(|n| n.member || !n.below.is_empty()));
        }
    }

    /// Paths of either.
    pub fn union(&self, other: &Self) -> Self {
        if other.is_empty() {
            return self.clone();
        }
        self.zip(
            other,
            |n| Some(n.clone()),
            |n| Some(n.clone()),
            |a, b| Node {
                element: a.element.clone(),
                member: a.member || b.member,
                below: a.below.union(&b.below),
            },
        )
    }

    /// Paths of both.
    pub fn intersection(&self, other: &Self) -> Self {
        self.zip(
            other,
            |_| None,
            |_| None,
            |a, b| Node {
                element: a.element.clone(),
                member: a.member && b.member,
                below: a.below.intersection(&b.below),
            },
        )
    }

    /// Paths of this set that are not in `other`. A path below a member of `other` stays.
    pub fn difference(&self, other: &Self) -> Self {
        self.zip(
            other,
            |n| Some(n.clone()),
            |_| None,
            |a, b| Node {
                element: a.element.clone(),
                member: a.member && !b.member,
                below: a.below.difference(&b.below),
            },
        )
    }

    /// Paths of this set that are neither in `other` nor below a member of it.
    pub fn recursive_difference(&self, other: &Self) -> Self {
        self.zip(
            other,
            |n| Some(n.clone()),
            |_| None,
            |a, b| Node {
                element: a.element.clone(),
                member: a.member && !b.member,
                below: if b.member {
                    Set::default()
                } else {
                    a.below.recursive_difference(&b.below)
                },
            },
        )
    }

    /// [`Set::union`] that keeps what is there.
    pub fn add(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
        } else if !other.is_empty() {
            *self = self.union(&other);
        }
    }

    /// [`Set::difference`] in place; cheap for a small `other`.
    pub fn subtract(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        self.nodes.retain_mut(|node| {
            let Ok(at) = other.find(&node.element) else {
                return true;
            };
            let known = &other.nodes[at];
            node.member &= !known.member;
            node.below.subtract(&known.below);
            node.member || !node.below.is_empty()
        });
    }

    /// [`Set::recursive_difference`] in place; cheap for a small `other`.
    pub fn subtract_recursive(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        self.nodes.retain_mut(|node| {
            let Ok(at) = other.find(&node.element) else {
                return true;
            };
            let known = &other.nodes[at];
            if known.member {
                return false;
            }
            node.below.subtract_recursive(&known.below);
            node.member || !node.below.is_empty()
        });
    }

    /// Members that have no members below them.
    pub fn leaves(&self) -> Self {
        Self {
            nodes: self
                .nodes
                .iter()
                .map(|n| Node {
                    element: n.element.clone(),
                    member: n.member && n.below.is_empty(),
                    below: n.below.leaves(),
                })
                .collect(),
        }
    }

    /// This set and, of the paths above its members, those that end in a field the schema declares. A set does not
    /// hold structs whose fields it holds; for taking things away they count as held.
    pub fn with_declared_parents(&self, view: View<'_>) -> Self {
        let nodes = self.nodes.iter().map(|node| {
            let (declared, inner) = match &node.element {
                Element::Field(name) => match view.child(name) {
                    Some(child) => (child.declared, Some(child.view)),
                    None => (false, None),
                },
                Element::Key(_) => (false, Some(view.element())),
                _ => (false, None),
            };
            Node {
                element: node.element.clone(),
                member: node.member || (declared && !node.below.is_empty()),
                below: match inner {
                    Some(inner) => node.below.with_declared_parents(inner),
                    None => node.below.clone(),
                },
            }
        });
        Self {
            nodes: nodes.collect(),
        }
    }

    /// Changes that a change of the schema asks for: where a place has become one value, who owned something below
    /// it owns the place.
    pub fn reconcile(&mut self, view: View<'_>) {
        for node in &mut self.nodes {
            if node.below.is_empty() {
                continue;
            }
            let inner = match &node.element {
                Element::Field(name) => view.child(name).map(|c| c.view),
                Element::Key(_) | Element::Value(_) | Element::Index(_) => Some(view.element()),
            };
            match inner.filter(|inner| !inner.is_open()) {
                Some(inner) if inner.is_atomic() => {
                    node.member = true;
                    node.below = Set::default();
                }
                Some(inner) => node.below.reconcile(inner),
                None => {}
            }
        }
    }

    /// Calls `f` with every member path: those of a level first, then what is below each.
    pub fn for_each(&self, f: &mut impl FnMut(&[&Element])) {
        fn walk<'s>(set: &'s Set, path: &mut Vec<&'s Element>, f: &mut impl FnMut(&[&Element])) {
            for node in set.nodes.iter().filter(|n| n.member) {
                path.push(&node.element);
                f(path);
                path.pop();
            }
            for node in set.nodes.iter().filter(|n| !n.below.is_empty()) {
                path.push(&node.element);
                walk(&node.below, path, f);
                path.pop();
            }
        }
        walk(self, &mut Vec::new(), f);
    }

    /// Every member path as error texts show it.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.for_each(&mut |path| paths.push(path.iter().map(|e| e.to_string()).collect()));
        paths
    }

    /// Reads a `FieldsV1` value. Kinds of elements that are not known are passed over.
    ///
    /// # Errors
    /// A key that is no path element, a value that is no object, more levels than [`MAX_DEPTH`].
    pub fn from_fields(fields: &Value) -> Result<Self, BadFields> {
        Ok(read(fields, 0)?.0)
    }

    /// The `FieldsV1` value.
    pub fn to_fields(&self) -> Value {
        self.write(false)
    }

    fn write(&self, itself: bool) -> Value {
        let mut map = Map::new();
        if itself && !self.is_empty() {
            map.insert(".".into(), Value::Object(Map::new()));
        }
        for node in &self.nodes {
            map.insert(node.element.print(), node.below.write(node.member));
        }
        Value::Object(map)
    }
}

/// What is below, and whether the place itself is a member.
fn read(fields: &Value, depth: usize) -> Result<(Set, bool), BadFields> {
    if depth > MAX_DEPTH {
        return Err(BadFields("exceeded max depth".into()));
    }
    let map = match fields {
        Value::Null => return Ok((Set::default(), true)),
        Value::Object(map) => map,
        other => {
            return Err(BadFields(format!(
                "expected a map, got {}",
                quoted(&other.to_string())
            )));
        }
    };
    let mut set = Set::default();
    let mut member = false;
    for (key, value) in map {
        if key == "." {
            member = true;
            continue;
        }
        let Some(element) = Element::parse(key)? else {
            continue;
        };
        let (below, itself) = read(value, depth + 1)?;
        set.put(element, itself, below);
    }
    member |= set.is_empty();
    Ok((set, member))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(fields: Value) -> Set {
        Set::from_fields(&fields).expect("good fields")
    }

    #[test]
    fn fields_go_round() {
        let fields = json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}, "f:finalizers": {".": {}, "v:\"a/b\"": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"app\"}": {".": {}, "f:image": {},
                "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}},
        });
        let got = set(fields.clone());
        assert_eq!(got.to_fields(), fields);
        assert_eq!(
            got.paths(),
            [
                ".metadata.finalizers",
                ".metadata.labels",
                ".metadata.finalizers[=\"a/b\"]",
                ".metadata.labels.app",
                ".spec.containers[name=\"app\"]",
                ".spec.containers[name=\"app\"].image",
                ".spec.containers[name=\"app\"].ports[containerPort=80,protocol=\"TCP\"]",
                ".spec.containers[name=\"app\"].ports[containerPort=80,protocol=\"TCP\"].containerPort",
            ]
        );
    }

    #[test]
    fn what_cannot_be_read() {
        for (fields, want) in [
            (json!({"spec": {}}), "missing colon: spec"),
            (json!({"f:a": []}), "expected a map, got \"[]\""),
            (json!({"i:x": {}}), "bad index: x"),
        ] {
            assert_eq!(Set::from_fields(&fields), Err(BadFields(want.into())));
        }
        assert_eq!(set(json!({"f:a": {"z:b": {}}})).paths(), [".a"]);
    }

    #[test]
    fn operations() {
        let a = set(json!({"f:a": {}, "f:b": {".": {}, "f:c": {}, "f:d": {}}, "f:e": {"f:f": {}}}));
        let b = set(json!({"f:b": {}, "f:e": {"f:f": {}, "f:g": {}}}));
        assert_eq!(
            a.union(&b).to_fields(),
            json!({"f:a": {}, "f:b": {".": {}, "f:c": {}, "f:d": {}}, "f:e": {"f:f": {}, "f:g": {}}})
        );
        assert_eq!(
            a.intersection(&b).to_fields(),
            json!({"f:b": {}, "f:e": {"f:f": {}}})
        );
        assert_eq!(
            a.difference(&b).to_fields(),
            json!({"f:a": {}, "f:b": {"f:c": {}, "f:d": {}}})
        );
        assert_eq!(a.recursive_difference(&b).to_fields(), json!({"f:a": {}}));
        assert_eq!(
            a.leaves().to_fields(),
            json!({"f:a": {}, "f:b": {"f:c": {}, "f:d": {}}, "f:e": {"f:f": {}}})
        );
        assert_eq!(a.len(), 5);
        assert!(a.difference(&a).is_empty());
    }
}
