//! What the server has of one kind, as last seen: objects by key, named indexes, and who wants to hear of changes.
//!
//! Knows objects and revisions. Must not know how they arrive ([`reflect`](crate::reflect) feeds it).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, Weak};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{broadcast, watch};

use crate::decode::{self, Omit};
use crate::object::{Object, ObjectExt, ObjectKey, PartialObject};
use crate::reflect::Sink;

/// Changes a [`Subscription`] may lag behind before it gets [`Change::Resync`].
pub const SUBSCRIPTION_CAPACITY: usize = 4096;

/// From an object to the values it is found under.
pub type IndexFn<K> = fn(&K) -> Vec<String>;

/// Indexes that several components share.
pub mod index {
    use k8s_openapi::api::core::v1::Pod;

    use crate::object::{Object, ObjectExt};

    /// Uids of all owners.
    pub const OWNER: &str = "owner";
    /// Uid of the owner with `controller: true`.
    pub const CONTROLLER: &str = "controller";
    /// `spec.nodeName` of a Pod; a Pod without one is in no bucket.
    pub const NODE: &str = "node";

    pub fn owner<K: Object>(object: &K) -> Vec<String> {
        object
            .meta()
            .owner_references
            .iter()
            .flatten()
            .map(|owner| owner.uid.clone())
            .collect()
    }

    pub fn controller<K: Object>(object: &K) -> Vec<String> {
        object
            .controller()
            .map(|owner| owner.uid.clone())
            .into_iter()
            .collect()
    }

    pub fn node(pod: &Pod) -> Vec<String> {
        pod.spec
            .as_ref()
            .and_then(|spec| spec.node_name.clone())
            .filter(|name| !name.is_empty())
            .into_iter()
            .collect()
    }
}

/// One change to the cache, delivered after the cache holds it.
#[derive(Debug)]
pub enum Change<K> {
    /// Added (`old` is `None`) or modified.
    Applied { old: Option<Arc<K>>, new: Arc<K> },
    /// Gone; the last state seen.
    Deleted(Arc<K>),
    /// Changes were missed, or none was seen yet: look at the whole cache. Only subscriptions get this.
    Resync,
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        match self {
            Change::Applied { old, new } => Change::Applied {
                old: old.clone(),
                new: new.clone(),
            },
            Change::Deleted(object) => Change::Deleted(object.clone()),
            Change::Resync => Change::Resync,
        }
    }
}

/// How far a cache has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The first list is complete.
    pub synced: bool,
    /// Everything up to this revision is in the cache (as far as it matches the cache's selection).
    pub revision: u64,
}

/// The side of a cache that knows no type: how far it has come.
#[derive(Clone)]
pub struct Seen(watch::Receiver<Progress>);

impl Seen {
    pub fn progress(&self) -> Progress {
        *self.0.borrow()
    }

    /// Until the first list is complete; also returns when the cache was shut down.
    pub async fn wait_synced(&self) {
        // An error means the reflector is gone: the component is shutting down.
        let _ = self.0.clone().wait_for(|progress| progress.synced).await;
    }

    /// Until the cache holds everything up to `revision`; also returns when the cache was shut down.
    pub async fn wait_revision(&self, revision: u64) {
        let _ = self
            .0
            .clone()
            .wait_for(|progress| progress.synced && progress.revision >= revision)
            .await;
    }
}

/// Objects of one kind. A cheap handle; all clones share one store.
pub struct Cache<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Cache {
            shared: self.shared.clone(),
        }
    }
}

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

struct Shared<K> {
    store: RwLock<Store<K>>,
    /// Held while a change is stored and announced, so a new handler sees each object exactly once.
    listeners: Mutex<Listeners<K>>,
    /// Made for the first subscription: its places take memory, and most caches have handlers only.
    changes: OnceLock<broadcast::Sender<Change<K>>>,
    /// One for a cache and its [`Cache::identities`].
    progress: Arc<watch::Sender<Progress>>,
}

struct Listeners<K> {
    handlers: Vec<Handler<K>>,
    /// Kept by those who read them.
    identities: Vec<Weak<Shared<PartialObject>>>,
}

impl<K> Listeners<K> {
    /// Tells every cache of identities that somebody still has.
    fn pass_on(&mut self, tell: impl Fn(&Cache<PartialObject>)) {
        self.identities.retain(|cache| {
            let cache = cache.upgrade().map(|shared| Cache { shared });
            cache.iter().for_each(&tell);
            cache.is_some()
        });
    }
}

struct Store<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    indexes: Vec<Index<K>>,
}

struct Index<K> {
    name: &'static str,
    values: IndexFn<K>,
    buckets: HashMap<String, BTreeMap<ObjectKey, Arc<K>>>,
}

impl<K: Object> Default for Cache<K> {
    fn default() -> Self {
        Cache::new()
    }
}

impl<K: Object> Cache<K> {
    /// An empty cache that nothing feeds; tests and own feeders use [`Cache::feed`].
    pub fn new() -> Self {
        Cache::at(Arc::new(watch::Sender::new(Progress::default())))
    }

    fn at(progress: Arc<watch::Sender<Progress>>) -> Self {
        Cache {
            shared: Arc::new(Shared {
                store: RwLock::new(Store {
                    objects: BTreeMap::new(),
                    indexes: Vec::new(),
                }),
                listeners: Mutex::new(Listeners {
                    handlers: Vec::new(),
                    identities: Vec::new(),
                }),
                changes: OnceLock::new(),
                progress,
            }),
        }
    }

    /// The identities of this cache's objects (no labels, no annotations), as a cache that changes with this one and is
    /// never behind it.
    pub fn identities(&self) -> Cache<PartialObject> {
        let mut listeners = self.shared.listeners.lock();
        let identities = Cache::at(self.shared.progress.clone());
        for object in self.list() {
            identities.store_applied(identity(object.meta()));
        }
        listeners.identities.push(Arc::downgrade(&identities.shared));
        identities
    }

    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.shared.store.read().objects.get(key).cloned()
    }

    /// All objects, by namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.shared.store.read().objects.values().cloned().collect()
    }

    /// The objects of one namespace, by name.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let store = self.shared.store.read();
        let first = ObjectKey::new(namespace, "");
        store
            .objects
            .range(first..)
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, o)| o.clone())
            .collect()
    }

    pub fn len(&self) -> usize {
        self.shared.store.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps an index from now on; a second call with the same name changes nothing.
    pub fn add_index(&self, name: &'static str, values: IndexFn<K>) {
        let mut store = self.shared.store.write();
        if store.indexes.iter().any(|index| index.name == name) {
            return;
        }
        let mut index = Index {
            name,
            values,
            buckets: HashMap::new(),
        };
        for (key, object) in &store.objects {
            index.insert(key, object);
        }
        store.indexes.push(index);
    }

    /// As [`add_index`](Self::add_index), to chain after `informer()`.
    pub fn with_index(self, name: &'static str, values: IndexFn<K>) -> Self {
        self.add_index(name, values);
        self
    }

    /// How many objects an index holds under `value`. The index must have been added.
    pub fn index_len(&self, name: &'static str, value: &str) -> usize {
        let store = self.shared.store.read();
        store.bucket(name, value).map_or(0, BTreeMap::len)
    }

    /// The objects an index holds under `value`, by key. The index must have been added.
    pub fn by_index(&self, name: &'static str, value: &str) -> Vec<Arc<K>> {
        let store = self.shared.store.read();
        store
            .bucket(name, value)
            .map(|bucket| bucket.values().cloned().collect())
            .unwrap_or_default()
    }

    /// Calls `handler` for every object now in the cache (as added), then for every change, in order, on the
    /// reflector's task. It must not block and must not register anything on this same cache; reading is fine.
    pub fn on_change(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        let mut listeners = self.shared.listeners.lock();
        for object in self.list() {
            handler(&Change::Applied {
                old: None,
                new: object,
            });
        }
        listeners.handlers.push(Box::new(handler));
    }

    /// A stream of changes; the first is always [`Change::Resync`].
    pub fn subscribe(&self) -> Subscription<K> {
        // Between two changes: one that is announced to nobody is in the cache already.
        let _between = self.shared.listeners.lock();
        let make = || broadcast::Sender::new(SUBSCRIPTION_CAPACITY);
        Subscription {
            changes: self.shared.changes.get_or_init(make).subscribe(),
            resync: true,
        }
    }

    pub fn seen(&self) -> Seen {
        Seen(self.shared.progress.subscribe())
    }

    pub async fn wait_synced(&self) {
        self.seen().wait_synced().await;
    }

    pub async fn wait_revision(&self, revision: u64) {
        self.seen().wait_revision(revision).await;
    }

    /// The feeding side.
    pub fn feed(&self) -> Feed<K> {
        self.feed_stripped(&decode::MANAGED, |_| {})
    }

    /// A feeding side that first takes from each object what no reader of this cache needs.
    pub fn feed_stripped(&self, omit: &'static Omit, strip: fn(&mut K)) -> Feed<K> {
        Feed {
            cache: self.clone(),
            listing: None,
            omit,
            events: None,
            strip,
        }
    }

    fn announce(&self, handlers: &[Handler<K>], change: Change<K>) {
        for handler in handlers {
            handler(&change);
        }
        if let Some(changes) = self.shared.changes.get() {
            // No receiver is no error.
            let _ = changes.send(change);
        }
    }

    fn store_applied(&self, object: K) {
        let mut listeners = self.shared.listeners.lock();
        let new = Arc::new(object);
        let key = new.key();
        let old = self.shared.store.write().insert(key, new.clone());
        if old
            .as_ref()
            .is_none_or(|old| old.revision() != new.revision() || new.revision() == 0)
        {
            listeners.pass_on(|identities| identities.store_applied(identity(new.meta())));
            self.announce(&listeners.handlers, Change::Applied { old, new });
        }
    }

    fn store_deleted(&self, key: &ObjectKey, last: Option<Arc<K>>) {
        let mut listeners = self.shared.listeners.lock();
        let Some(old) = self.shared.store.write().remove(key) else {
            return;
        };
        let last = last.unwrap_or(old);
        listeners.pass_on(|identities| {
            identities.store_deleted(key, Some(Arc::new(identity(last.meta()))));
        });
        self.announce(&listeners.handlers, Change::Deleted(last));
    }

    fn advance(&self, revision: u64) {
        self.shared.progress.send_if_modified(|progress| {
            let newer = revision > progress.revision;
            progress.revision = progress.revision.max(revision);
            newer
        });
    }
}

/// What remains of an object whose kind does not matter.
fn identity(meta: &ObjectMeta) -> PartialObject {
    let metadata = ObjectMeta {
        annotations: None,
        labels: None,
        managed_fields: None,
        creation_timestamp: meta.creation_timestamp.clone(),
        deletion_grace_period_seconds: meta.deletion_grace_period_seconds,
        deletion_timestamp: meta.deletion_timestamp.clone(),
        finalizers: meta.finalizers.clone(),
        generate_name: meta.generate_name.clone(),
        generation: meta.generation,
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        owner_references: meta.owner_references.clone(),
        resource_version: meta.resource_version.clone(),
        self_link: meta.self_link.clone(),
        uid: meta.uid.clone(),
    };
    PartialObject { metadata }
}

impl<K: Object> Store<K> {
    fn bucket(&self, name: &'static str, value: &str) -> Option<&BTreeMap<ObjectKey, Arc<K>>> {
        let index = self.indexes.iter().find(|index| index.name == name);
        index.expect("the index was added at start").buckets.get(value)
    }

    fn insert(&mut self, key: ObjectKey, object: Arc<K>) -> Option<Arc<K>> {
        let old = self.objects.insert(key.clone(), object.clone());
        for index in &mut self.indexes {
            if let Some(old) = &old {
                index.remove(&key, old);
            }
            index.insert(&key, &object);
        }
        old
    }

    fn remove(&mut self, key: &ObjectKey) -> Option<Arc<K>> {
        let old = self.objects.remove(key)?;
        for index in &mut self.indexes {
            index.remove(key, &old);
        }
        Some(old)
    }
}

impl<K> Index<K> {
    fn insert(&mut self, key: &ObjectKey, object: &Arc<K>) {
        for value in (self.values)(object) {
            self.buckets
                .entry(value)
                .or_default()
                .insert(key.clone(), object.clone());
        }
    }

    fn remove(&mut self, key: &ObjectKey, object: &K) {
        for value in (self.values)(object) {
            if let Some(bucket) = self.buckets.get_mut(&value) {
                bucket.remove(key);
                if bucket.is_empty() {
                    self.buckets.remove(&value);
                }
            }
        }
    }
}

/// Puts objects into a cache; one per cache.
pub struct Feed<K> {
    cache: Cache<K>,
    /// Keys a running list has not mentioned yet.
    listing: Option<BTreeMap<ObjectKey, Arc<K>>>,
    omit: &'static Omit,
    /// How the objects of events are read, if not as those of lists.
    events: Option<Decoding<K>>,
    strip: fn(&mut K),
}

/// Makes an object of its text.
pub type Decoding<K> = Box<dyn Fn(&str) -> Result<K, serde_json::Error> + Send>;

impl<K: Object> Feed<K> {
    /// The objects of events come from `events`, for instance because somebody else in the process decodes them, too.
    #[must_use]
    pub fn with_events(self, events: Option<Decoding<K>>) -> Self {
        Feed { events, ..self }
    }

    fn decode(&self, text: &str) -> Result<K, serde_json::Error> {
        match &self.events {
            Some(events) => events(text),
            None => decode::object(text, self.omit),
        }
    }

    pub fn apply_object(&mut self, mut object: K) {
        // Nobody reads managed fields from a cache, and they are a third of many objects.
        object.meta_mut().managed_fields = None;
        (self.strip)(&mut object);
        let revision = object.revision();
        if let Some(unseen) = &mut self.listing {
            unseen.remove(&object.key());
        }
        self.cache.store_applied(object);
        if self.listing.is_none() {
            self.cache.advance(revision);
        }
    }

    pub fn delete_object(&mut self, object: K) {
        let revision = object.revision();
        self.cache.store_deleted(&object.key(), Some(Arc::new(object)));
        self.cache.advance(revision);
    }
}

impl<K: Object> Sink for Feed<K> {
    fn list_begin(&mut self) {
        self.listing = Some(self.cache.shared.store.read().objects.clone());
    }

    fn list_item(&mut self, object: &str) -> Result<(), serde_json::Error> {
        self.apply_object(decode::object(object, self.omit)?);
        Ok(())
    }

    fn list_end(&mut self, revision: u64) {
        for key in self.listing.take().unwrap_or_default().into_keys() {
            self.cache.store_deleted(&key, None);
        }
        self.cache.shared.progress.send_modify(|progress| {
            progress.synced = true;
            // A server restored from a backup may be behind what we saw: its word counts.
            progress.revision = revision;
        });
    }

    fn apply(&mut self, object: &str) -> Result<u64, serde_json::Error> {
        let object = self.decode(object)?;
        let revision = object.revision();
        self.apply_object(object);
        Ok(revision)
    }

    fn delete(&mut self, object: &str) -> Result<u64, serde_json::Error> {
        let object = self.decode(object)?;
        let revision = object.revision();
        self.delete_object(object);
        Ok(revision)
    }

    fn bookmark(&mut self, revision: u64) {
        self.cache.advance(revision);
    }
}

/// Changes of one cache, bounded by [`SUBSCRIPTION_CAPACITY`].
pub struct Subscription<K> {
    changes: broadcast::Receiver<Change<K>>,
    resync: bool,
}

impl<K> Subscription<K> {
    /// The next change; `None` once the cache is gone. Cancel safe.
    pub async fn recv(&mut self) -> Option<Change<K>> {
        if std::mem::take(&mut self.resync) {
            return Some(Change::Resync);
        }
        match self.changes.recv().await {
            Ok(change) => Some(change),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Change::Resync),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodSpec};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn object(text: &str) -> ConfigMap {
        let (key, revision) = text.split_once('@').expect("tests write ns/name@revision");
        let (namespace, name) = key.split_once('/').expect("tests write ns/name@revision");
        ConfigMap {
            metadata: ObjectMeta {
                namespace: Some(namespace.into()),
                name: Some(name.into()),
                resource_version: Some(revision.into()),
                ..Default::default()
            },
            ..Default::default()
        }
    }

    fn raw(text: &str) -> String {
        serde_json::to_string(&object(text)).expect("an object encodes")
    }

    /// Feeds steps such as `list a/x@1 a/y@2 ; apply a/x@3 ; delete a/y@4` and compares what a handler heard.
    #[track_caller]
    fn check(steps: &str, heard: &str) {
        let cache = Cache::<ConfigMap>::new();
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = log.clone();
        cache.on_change(move |change| {
            sink.lock().push(match change {
                Change::Applied { old: None, new } => format!("+{}", new.key()),
                Change::Applied { new, .. } => format!("~{}", new.key()),
                Change::Deleted(object) => format!("-{}", object.key()),
                Change::Resync => "resync".into(),
            });
        });
        let mut feed = cache.feed();
        for step in steps.split(';') {
            let mut words = step.split_whitespace();
            match words.next() {
                Some("list") => {
                    feed.list_begin();
                    words.for_each(|word| feed.list_item(&raw(word)).expect("decodes"));
                    feed.list_end(10);
                }
                Some("apply") => words.for_each(|word| {
                    feed.apply(&raw(word)).expect("decodes");
                }),
                Some("delete") => words.for_each(|word| {
                    feed.delete(&raw(word)).expect("decodes");
                }),
                other => panic!("unknown step {other:?}"),
            }
        }
        assert_eq!(log.lock().join(" "), heard);
    }

    #[test]
    fn handlers_hear_each_change_once() {
        check("list a/x@1 a/y@2", "+a/x +a/y");
        check(
            "list a/x@1 ; apply a/x@11 b/z@12 ; delete a/x@13",
            "+a/x ~a/x +b/z -a/x",
        );
    }

    #[test]
    fn a_second_list_tells_only_the_difference() {
        check("list a/x@1 a/y@2 ; list a/y@2 a/z@4", "+a/x +a/y +a/z -a/x");
        check("list a/x@1 ; list a/x@5", "+a/x ~a/x");
    }

    #[test]
    fn namespaces_and_indexes_follow_changes() {
        let cache = Cache::<Pod>::new().with_index(index::NODE, index::node);
        let pod = |name: &str, node: &str| Pod {
            metadata: ObjectMeta {
                namespace: Some("a".into()),
                name: Some(name.into()),
                ..Default::default()
            },
            spec: Some(PodSpec {
                node_name: Some(node.into()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut feed = cache.feed();
        feed.apply_object(pod("x", ""));
        feed.apply_object(pod("y", "n1"));
        assert_eq!(cache.by_index(index::NODE, "n1").len(), 1);
        feed.apply_object(pod("x", "n1"));
        assert_eq!(cache.by_index(index::NODE, "n1").len(), 2);
        feed.delete_object(pod("y", "n1"));
        assert_eq!(cache.by_index(index::NODE, "n1").len(), 1);
        assert_eq!(cache.list_namespace("a").len(), 1);
        assert!(cache.list_namespace("b").is_empty());
    }

    #[tokio::test]
    async fn identities_go_with_the_objects() {
        let cache = Cache::<ConfigMap>::new();
        let mut feed = cache.feed();
        feed.list_begin();
        let mut first = object("a/x@1");
        first.metadata.labels = Some([("l".to_owned(), "v".to_owned())].into());
        feed.apply_object(first);
        let identities = cache.identities();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let sink = heard.clone();
        identities.on_change(move |change| {
            sink.lock().push(match change {
                Change::Applied { old, new } => {
                    assert_eq!(new.meta().labels, None);
                    format!("{}{}", if old.is_some() { '~' } else { '+' }, new.key())
                }
                Change::Deleted(last) => format!("-{}@{}", last.key(), last.revision()),
                Change::Resync => "resync".into(),
            });
        });
        feed.apply_object(object("a/y@2"));
        assert!(!identities.seen().progress().synced);
        feed.list_end(3);
        identities.wait_synced().await;
        feed.apply_object(object("a/x@4"));
        feed.delete_object(object("a/y@5"));
        identities.wait_revision(5).await;
        feed.list_begin();
        feed.list_end(6);
        assert_eq!(heard.lock().join(" "), "+a/x +a/y ~a/x -a/y@5 -a/x@4");
        assert!(identities.is_empty());
        // Who lets go of it is told no more.
        drop(identities);
        feed.apply_object(object("a/z@7"));
        assert_eq!(heard.lock().len(), 5);
        assert!(cache.shared.listeners.lock().identities.is_empty());
    }

    #[tokio::test]
    async fn progress_counts_deletes_and_bookmarks() {
        let cache = Cache::<ConfigMap>::new();
        let mut feed = cache.feed();
        assert!(!cache.seen().progress().synced);
        feed.list_begin();
        feed.list_end(5);
        cache.wait_synced().await;
        feed.delete_object(object("a/x@9"));
        cache.wait_revision(9).await;
        feed.bookmark(12);
        cache.wait_revision(12).await;
    }

    #[tokio::test]
    async fn a_lagging_subscription_is_told_to_resync() {
        let cache = Cache::<ConfigMap>::new();
        let mut subscription = cache.subscribe();
        assert!(matches!(subscription.recv().await, Some(Change::Resync)));
        let mut feed = cache.feed();
        for revision in 1..=SUBSCRIPTION_CAPACITY + 1 {
            feed.apply_object(object(&format!("a/x@{revision}")));
        }
        assert!(matches!(subscription.recv().await, Some(Change::Resync)));
        assert!(matches!(subscription.recv().await, Some(Change::Applied { .. })));
    }
}
