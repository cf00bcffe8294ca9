//! The compiled rules in force, kept as new as the store.
//!
//! Knows where Roles and bindings are stored. What they mean is `rules`' to say.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use corten_api::registry;
use corten_store::{Entry, Event, EventKind, Revision, Snapshot};
use parking_lot::RwLock;
use serde::Deserialize;

use super::matches::PolicyRule;
use super::rules::{Binding, RoleRef, Rules, Stored, Subject};
use crate::follow::{self, Followed, Index};
use crate::key::prefix_range;
use crate::{ApiServer, Inner, node, stored};

/// The set in force.
#[derive(Default)]
pub struct Current {
    rules: RwLock<Arc<Rules>>,
    pub followed: Followed,
}

impl Current {
    pub fn get(&self) -> Arc<Rules> {
        self.rules.read().clone()
    }
}

impl ApiServer {
    /// Begins to follow Roles, bindings and what belongs to nodes. Does nothing the second time.
    pub(crate) fn follow_rules(&self) {
        let inner = self.inner();
        if inner.following.swap(true, std::sync::atomic::Ordering::AcqRel) {
            return;
        }
        follow::start(&self.0, Policy::default(), |server| &server.rules.followed);
        follow::start(&self.0, node::Follower, |server| &server.nodes.followed);
    }

    /// Waits until what authorization rests on is as new as the newest state of the store.
    pub(crate) async fn catch_up(&self) {
        let inner = self.inner();
        let local = inner.store.snapshot().revision();
        // Without a leader what is here has to do.
        let newest = inner.store.read_barrier().await.unwrap_or(local);
        let newest = Revision(newest.0.max(local.0));
        tokio::join!(
            inner.rules.followed.wait(newest),
            inner.nodes.followed.wait(newest)
        );
    }
}

enum Object {
    Role(super::rules::RoleKey, super::rules::RoleRules),
    Binding(Arc<Binding>),
}

/// Everything stored, by key.
#[derive(Default)]
struct Policy(BTreeMap<Bytes, Object>);

impl Policy {
    fn put(&mut self, entry: &Entry) {
        match parse(entry) {
            Some(object) => self.0.insert(entry.key.clone(), object),
            None => {
                tracing::error!(key = ?entry.key, "a stored Role or binding is damaged; it grants nothing");
                self.0.remove(&entry.key)
            }
        };
    }
}

impl Index for Policy {
    fn range() -> Range<Bytes> {
        prefix_range(&format!("/{}/", super::GROUP))
    }

    fn load(&mut self, _: &Inner, snapshot: &Snapshot) {
        self.0.clear();
        for entry in snapshot.range(Policy::range()) {
            self.put(&entry);
        }
    }

    fn apply(&mut self, _: &Inner, event: &Event) {
        match &event.kind {
            EventKind::Put { entry, .. } => self.put(entry),
            EventKind::Delete { prev } => {
                self.0.remove(&prev.key);
            }
        }
    }

    fn publish(&mut self, server: &Inner) {
        let mut stored = Stored::default();
        for object in self.0.values() {
            match object {
                Object::Role(place, rules) => {
                    stored.roles.insert(place.clone(), rules.clone());
                }
                Object::Binding(binding) => stored.bindings.push(binding.clone()),
            }
        }
        *server.rules.rules.write() = Arc::new(Rules::new(&stored));
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Parsed {
    rules: Option<Vec<PolicyRule>>,
    role_ref: RoleRef,
    subjects: Option<Vec<Subject>>,
}

/// The key says what it is and where; `None` for what cannot be read.
fn parse(entry: &Entry) -> Option<Object> {
    let key = std::str::from_utf8(&entry.key).ok()?;
    let mut parts = key.split('/').skip(2);
    let plural = parts.next()?;
    let namespaced = registry().lookup(super::GROUP, "v1", plural)?.namespaced;
    let namespace: Box<str> = if namespaced {
        parts.next()?.into()
    } else {
        "".into()
    };
    let name: Box<str> = parts.next()?.into();
    let json = stored::Stored::new(&entry.value).ok()?.json().ok()?;
    let parsed: Parsed = serde_json::from_slice(&json).ok()?;
    Some(match plural {
        "roles" | "clusterroles" => Object::Role((namespace, name), parsed.rules.unwrap_or_default().into()),
        _ => Object::Binding(Arc::new(Binding {
            name,
            namespace,
            role: parsed.role_ref,
            subjects: parsed.subjects.unwrap_or_default(),
        })),
    })
}
