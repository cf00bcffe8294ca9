//! Who owns whom: the graph of all objects, and what each of them calls for.
//!
//! Pure. It holds what the watches have shown so far; whether an absent owner is really gone must be asked of the
//! server before anything is deleted.

#![deny(clippy::disallowed_methods)]

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use corten_client::{ObjectKey, PartialObject, Propagation, Target};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// The owner waits until its dependents are gone. Source: meta/v1 `FinalizerDeleteDependents`.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The owner's dependents stay. Source: meta/v1 `FinalizerOrphanDependents`.
pub const ORPHAN: &str = "orphan";

pub type Uid = String;

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Shared by all objects of the kind.
    pub target: Arc<Target>,
    pub key: ObjectKey,
    pub uid: Uid,
}

#[derive(Clone, Debug)]
struct Node {
    place: Place,
    owners: Vec<OwnerReference>,
    terminating: bool,
    foreground: bool,
    orphan: bool,
}

impl Node {
    /// Being deleted, but only once its dependents are gone.
    fn is_waiting(&self) -> bool {
        self.terminating && self.foreground
    }

    fn blocks(&self, owner: &str) -> bool {
        self.owners
            .iter()
            .any(|reference| reference.uid == owner && reference.block_owner_deletion == Some(true))
    }
}

/// What an object calls for.
#[derive(Debug, PartialEq)]
pub enum Call {
    Nothing,
    /// It has owners, and not all of them are known to be alive: look at it.
    Examine(Place),
    /// Take it out of these dependents' owner references, then drop its finalizer.
    Orphan {
        place: Place,
        dependents: Vec<Place>,
    },
    /// These must go first.
    WaitFor {
        dependents: Vec<Uid>,
    },
    /// Nothing holds it back any more.
    DropForeground(Place),
}

/// What is known of one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Alive,
    /// Waits for its dependents to go.
    Waiting,
    /// Absent as far as the watches show.
    Unseen,
    /// The server says that it is gone.
    Gone,
}

/// What to do with an object whose owners are known.
#[derive(Debug, PartialEq)]
pub enum Judgement {
    Keep,
    /// Keep it, but forget these owners.
    Unlink(Vec<Uid>),
    Delete(Propagation),
}

#[derive(Default)]
pub struct Graph {
    nodes: HashMap<Uid, Node>,
    dependents: HashMap<Uid, BTreeSet<Uid>>,
}

impl Graph {
    /// Takes in an object's state; returns who must be looked at because of it.
    pub fn observe(&mut self, target: &Arc<Target>, object: &PartialObject) -> Vec<Uid> {
        let meta = &object.metadata;
        let Some(uid) = meta.uid.clone() else {
            return Vec::new();
        };
        let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|name| name == finalizer);
        let node = Node {
            place: Place {
                target: target.clone(),
                key: ObjectKey::of(meta),
                uid: uid.clone(),
            },
            owners: meta.owner_references.clone().unwrap_or_default(),
            terminating: meta.deletion_timestamp.is_some(),
            foreground: has(FOREGROUND),
            orphan: has(ORPHAN),
        };
        let old = self.nodes.insert(uid.clone(), node.clone());
        let mut look = Vec::new();
        let owners_changed = old.as_ref().is_none_or(|old| old.owners != node.owners);
        if owners_changed {
            for owner in old.iter().flat_map(|old| &old.owners) {
                self.unlink(&owner.uid, &uid);
                // It may have been the last one this owner waited for.
                look.extend(
                    self.nodes
                        .get(&owner.uid)
                        .filter(|owner| owner.is_waiting())
                        .map(|o| o.place.uid.clone()),
                );
            }
            for owner in &node.owners {
                self.dependents
                    .entry(owner.uid.clone())
                    .or_default()
                    .insert(uid.clone());
            }
        }
        if !matches!(self.call(&uid), Call::Nothing) {
            look.push(uid.clone());
        }
        if node.is_waiting() && !old.is_some_and(|old| old.is_waiting()) {
            look.extend(self.dependents_of(&uid));
        }
        look
    }

    /// The object is gone; returns who must be looked at because of it.
    pub fn forget(&mut self, uid: &str) -> Vec<Uid> {
        let Some(node) = self.nodes.remove(uid) else {
            return Vec::new();
        };
        let mut look = self.dependents_of(uid);
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
            look.extend(
                self.nodes
                    .get(&owner.uid)
                    .filter(|owner| owner.is_waiting())
                    .map(|o| o.place.uid.clone()),
            );
        }
        look
    }

    pub fn call(&self, uid: &str) -> Call {
        let Some(node) = self.nodes.get(uid) else {
            return Call::Nothing;
        };
        if node.terminating && node.orphan {
            let dependents = self.dependents_of(uid);
            let dependents = dependents
                .iter()
                .filter_map(|uid| self.nodes.get(uid))
                .map(|node| node.place.clone());
            return Call::Orphan {
                place: node.place.clone(),
                dependents: dependents.collect(),
            };
        }
        if node.is_waiting() {
            let mut blocking = self.dependents_of(uid);
            blocking.retain(|dependent| {
                self.nodes
                    .get(dependent)
                    .is_some_and(|dependent| dependent.blocks(uid))
            });
            if blocking.is_empty() {
                return Call::DropForeground(node.place.clone());
            }
            return Call::WaitFor { dependents: blocking };
        }
        let all_alive = node
            .owners
            .iter()
            .all(|owner| self.owner(&owner.uid) == Owner::Alive);
        if node.terminating || all_alive {
            Call::Nothing
        } else {
            Call::Examine(node.place.clone())
        }
    }

    pub fn owner(&self, uid: &str) -> Owner {
        match self.nodes.get(uid) {
            None => Owner::Unseen,
            Some(node) if node.is_waiting() => Owner::Waiting,
            Some(_) => Owner::Alive,
        }
    }

    pub fn has_dependents(&self, uid: &str) -> bool {
        self.dependents
            .get(uid)
            .is_some_and(|dependents| !dependents.is_empty())
    }

    /// Whether a dependent waits for its own dependents. With an owner that waits, too, that may be a circle of objects of
    /// which each waits for the next; like upstream, nobody looks whether it is.
    pub fn may_close_circle(&self, uid: &str) -> bool {
        let mut dependents = self.dependents.get(uid).into_iter().flatten();
        dependents.any(|dependent| self.owner(dependent) == Owner::Waiting)
    }

    fn dependents_of(&self, uid: &str) -> Vec<Uid> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

/// Decides over an object by its owners, none of them [`Owner::Unseen`] any more.
/// Source: the garbage collector's `attemptToDeleteItem`.
pub fn judge(owners: &[(Uid, Owner)], finalizers: &[String], has_dependents: bool) -> Judgement {
    let having = |state: Owner| owners.iter().filter(move |(_, owner)| *owner == state);
    let alive = owners
        .iter()
        .any(|(_, owner)| matches!(owner, Owner::Alive | Owner::Unseen));
    if alive {
        let gone: Vec<Uid> = having(Owner::Gone)
            .chain(having(Owner::Waiting))
            .map(|(uid, _)| uid.clone())
            .collect();
        return if gone.is_empty() {
            Judgement::Keep
        } else {
            Judgement::Unlink(gone)
        };
    }
    if owners.is_empty() {
        return Judgement::Keep;
    }
    let has = |finalizer: &str| finalizers.iter().any(|name| name == finalizer);
    if (having(Owner::Waiting).next().is_some() && has_dependents) || has(FOREGROUND) {
        Judgement::Delete(Propagation::Foreground)
    } else if has(ORPHAN) {
        Judgement::Delete(Propagation::Orphan)
    } else {
        Judgement::Delete(Propagation::Background)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

    fn target() -> Arc<Target> {
        Arc::new(Target {
            group: String::new(),
            version: "v1".into(),
            kind: "Pod".into(),
            plural: "pods".into(),
            namespaced: true,
        })
    }

    /// `name<owner,owner` and marks: `~` being deleted, `f` foreground finalizer, `o` orphan finalizer after `:`.
    fn object(text: &str) -> PartialObject {
        let (head, marks) = text.split_once(':').unwrap_or((text, ""));
        let (name, owners) = head.split_once('<').unwrap_or((head, ""));
        let finalizers = [('f', FOREGROUND), ('o', ORPHAN)];
        PartialObject {
            metadata: ObjectMeta {
                name: Some(name.into()),
                uid: Some(name.into()),
                deletion_timestamp: marks.contains('~').then_some(Time(jiff::Timestamp::UNIX_EPOCH)),
                finalizers: Some(
                    finalizers
                        .iter()
                        .filter(|(mark, _)| marks.contains(*mark))
                        .map(|(_, f)| (*f).into())
                        .collect(),
                ),
                owner_references: Some(
                    owners
                        .split(',')
                        .filter(|uid| !uid.is_empty())
                        .map(|uid| OwnerReference {
                            uid: uid.into(),
                            block_owner_deletion: Some(true),
                            ..Default::default()
                        })
                        .collect(),
                ),
                ..Default::default()
            },
        }
    }

    /// Applies `steps` (`-name` forgets) and compares who must be looked at after the last, and what each calls for.
    #[track_caller]
    fn check(steps: &str, wanted: &str) {
        let mut graph = Graph::default();
        let mut look = Vec::new();
        for step in steps.split_whitespace() {
            look = match step.strip_prefix('-') {
                Some(uid) => graph.forget(uid),
                None => graph.observe(&target(), &object(step)),
            };
        }
        let text: Vec<String> = look
            .iter()
            .map(|uid| {
                let call = match graph.call(uid) {
                    Call::Nothing => "nothing".to_owned(),
                    Call::Examine(_) => "examine".to_owned(),
                    Call::Orphan { dependents, .. } => format!("orphan {}", dependents.len()),
                    Call::WaitFor { dependents } => format!("wait for {}", dependents.join("+")),
                    Call::DropForeground(_) => "drop".to_owned(),
                };
                format!("{uid}: {call}")
            })
            .collect();
        assert_eq!(text.join("; "), wanted);
    }

    #[test]
    fn an_owner_that_goes_calls_for_its_dependents() {
        check("rs pod<rs", "");
        check("rs pod<rs -rs", "pod: examine");
        check("pod<rs", "pod: examine");
        check("pod<rs rs", "");
        check("rs pod<rs -pod", "");
    }

    #[test]
    fn foreground_waits_for_blocking_dependents_and_then_goes() {
        check("d rs<d d:~f", "d: wait for rs; rs: examine");
        check("d rs<d d:~f -rs", "d: drop");
        check("d:~f", "d: drop");
        check("d rs<d d:~f rs", "d: drop");
    }

    #[test]
    fn a_circle_is_seen_by_the_one_that_closes_it() {
        let mut graph = Graph::default();
        for step in ["a<c:~f", "b<a:~f", "c<b"] {
            graph.observe(&target(), &object(step));
        }
        assert!(graph.may_close_circle("c"));
        assert!(!graph.may_close_circle("b"));
        // `c` no longer blocks `b`, which goes; then `a`, then `c`.
        let mut opened = object("c<b");
        for reference in opened.metadata.owner_references.iter_mut().flatten() {
            reference.block_owner_deletion = Some(false);
        }
        let look = graph.observe(&target(), &opened);
        assert!(look.contains(&"b".to_owned()), "{look:?}");
        assert!(matches!(graph.call("b"), Call::DropForeground(_)));
    }

    #[test]
    fn orphaning_names_the_dependents() {
        check("d rs<d d:~o", "d: orphan 1");
        check("rs<d d:~o", "d: orphan 1");
    }

    #[test]
    fn what_is_being_deleted_is_left_alone() {
        check("pod<rs:~", "");
    }

    /// Owners are written `a` alive, `w` waiting, `g` gone.
    #[track_caller]
    fn check_judge(owners: &str, finalizer: &str, has_dependents: bool, wanted: Judgement) {
        let owners: Vec<(Uid, Owner)> = owners
            .chars()
            .map(|state| {
                let owner = match state {
                    'a' => Owner::Alive,
                    'w' => Owner::Waiting,
                    _ => Owner::Gone,
                };
                (state.to_string(), owner)
            })
            .collect();
        assert_eq!(judge(&owners, &[finalizer.to_owned()], has_dependents), wanted);
    }

    #[test]
    fn one_living_owner_keeps_an_object() {
        check_judge("a", "", true, Judgement::Keep);
        check_judge("agw", "", true, Judgement::Unlink(vec!["g".into(), "w".into()]));
        check_judge("", "", true, Judgement::Keep);
    }

    #[test]
    fn the_way_of_deletion_follows_the_owner_and_finalizers() {
        check_judge("g", "", true, Judgement::Delete(Propagation::Background));
        check_judge("w", "", true, Judgement::Delete(Propagation::Foreground));
        check_judge("w", "", false, Judgement::Delete(Propagation::Background));
        check_judge("g", ORPHAN, true, Judgement::Delete(Propagation::Orphan));
        check_judge("g", FOREGROUND, false, Judgement::Delete(Propagation::Foreground));
    }
}
