//! Custom resources, served live: follows the stored CustomResourceDefinitions, gives them their status, and keeps the
//! set of served types as they say.
//!
//! What a definition means and which status it gets is `corten_api::custom`'s to say. Every server follows on its own;
//! their writes are the same, so it does not matter who is first.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use corten_api::custom::definition::{
    CLEANUP_FINALIZER, compare_versions, condition, set_condition, with_status,
};
use corten_api::options::DeleteOptions;
use corten_api::resource::TypeRef;
use corten_api::{ResourceType, Status, custom, meta, registry};
use corten_store::{Entry, Event, EventKind, Op, Revision, Snapshot, WatchItem};
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::key::Keys;
use crate::read::filter::keys;
use crate::stored::Stored;
use crate::write::{Answered, Decision, Env, Payload, Subject, delete, transact};
use crate::{ApiServer, Inner};

/// Wait before a failed step is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Instances of a deleted definition whose deletion is asked for at once.
const DELETIONS: usize = 16;

/// What this server knows of definitions beside the served types.
#[derive(Default)]
pub struct Definitions {
    /// Ends the watches on a definition's objects when it goes. By the definition's name.
    ends: Mutex<HashMap<String, CancellationToken>>,
    started: std::sync::atomic::AtomicBool,
}

impl ApiServer {
    /// Ends with the server, or with the definition of a custom resource.
    pub(crate) fn end_of_watches(&self, ty: &ResourceType) -> CancellationToken {
        let inner = self.inner();
        if ty.as_custom().is_none() {
            return inner.closing.clone();
        }
        let name = format!("{}.{}", ty.plural, ty.group);
        let known = inner.definitions.ends.lock().get(&name).cloned();
        known.unwrap_or_else(|| {
            let ended = CancellationToken::new();
            ended.cancel();
            ended
        })
    }

    /// Serves the definitions there are and begins to follow them. Does nothing the second time.
    pub(crate) async fn follow_definitions(&self) {
        let started = &self.inner().definitions.started;
        if started.swap(true, std::sync::atomic::Ordering::AcqRel) {
            return;
        }
        let mut follower = Follower::new(Arc::downgrade(&self.0), self.inner());
        let from = follower.load(self);
        tokio::spawn(follower.run(from));
    }
}

fn definitions() -> &'static ResourceType {
    registry()
        .lookup("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        .expect("definitions are built in")
}

const SUBJECT_NAMESPACE: &str = "";

fn subject() -> Subject<'static> {
    Subject {
        ty: definitions(),
        namespace: SUBJECT_NAMESPACE,
    }
}

/// One definition as this server serves it. As a tree a definition takes six times its stored bytes, so the larger part is
/// read from them whenever it is needed.
struct Known {
    entry: Arc<Entry>,
    /// The definition without its versions, with the status it has here.
    outline: Value,
    types: Vec<TypeRef>,
}

/// A definition without its versions and without what only clients read.
fn outline(definition: &Value) -> Value {
    let some = |value: &Value, without: &[&str]| -> Value {
        let all = value.as_object().into_iter().flatten();
        let kept = all.filter(|(name, _)| !without.contains(&name.as_str()));
        kept.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    serde_json::json!({
        "metadata": some(&definition["metadata"], &["annotations", "labels", "managedFields"]),
        "spec": some(&definition["spec"], &["versions"]),
        "status": definition["status"],
    })
}

/// The schemas of a definition's versions, as parts of its stored bytes.
fn texts(entry: &Entry) -> Vec<Option<custom::Text>> {
    #[derive(serde::Deserialize)]
    struct Definition<'a> {
        #[serde(borrow)]
        spec: Spec<'a>,
    }
    #[derive(serde::Deserialize)]
    struct Spec<'a> {
        #[serde(borrow)]
        versions: Vec<Version<'a>>,
    }
    #[derive(serde::Deserialize)]
    struct Version<'a> {
        #[serde(borrow, default)]
        schema: Schema<'a>,
    }
    #[derive(serde::Deserialize, Default)]
    struct Schema<'a> {
        #[serde(borrow, rename = "openAPIV3Schema")]
        text: Option<&'a serde_json::value::RawValue>,
    }
    let plain = Stored::new(&entry.value).ok().and_then(|stored| stored.plain());
    let read = plain.and_then(|json| serde_json::from_slice::<Definition<'_>>(json).ok());
    let shared = |text: &serde_json::value::RawValue| -> custom::Text {
        Arc::new(entry.value.slice_ref(text.get().as_bytes()))
    };
    let versions = read.into_iter().flat_map(|read| read.spec.versions);
    versions.map(|version| version.schema.text.map(shared)).collect()
}

struct Follower {
    server: Weak<Inner>,
    closing: CancellationToken,
    known: HashMap<Bytes, Known>,
    /// Definitions whose instances are being deleted.
    cleaning: HashMap<String, CancellationToken>,
}

impl Follower {
    fn new(server: Weak<Inner>, inner: &Inner) -> Follower {
        Follower {
            server,
            closing: inner.closing.clone(),
            known: HashMap::new(),
            cleaning: HashMap::new(),
        }
    }

    /// Reads all definitions and serves them; returns where to go on.
    fn load(&mut self, server: &ApiServer) -> Revision {
        let snapshot = server.inner().store.snapshot();
        self.known.clear();
        for entry in snapshot.range(keys(definitions()).range(None)) {
            self.take(&entry);
        }
        self.publish(server);
        snapshot.revision()
    }

    fn take(&mut self, entry: &Arc<Entry>) {
        match subject().parse(entry) {
            Ok(definition) => {
                let known = Known {
                    entry: entry.clone(),
                    outline: outline(&definition),
                    types: Vec::new(),
                };
                self.known.insert(entry.key.clone(), known);
                self.settle(&entry.key, definition);
            }
            Err(error) => tracing::error!(%error, "a stored CustomResourceDefinition is damaged"),
        }
    }

    /// What the status of a known definition has to be, and the types that it serves then.
    fn settle(&mut self, key: &Bytes, mut definition: Value) {
        let Some(own) = self.known.get(key) else { return };
        let others: Vec<&Value> = self
            .known
            .iter()
            .filter(|(other, _)| *other != key)
            .map(|(_, known)| &known.outline)
            .collect();
        let settled = with_status(&own.outline, &others, Timestamp::now());
        definition["status"] = settled["status"].clone();
        let types = match condition(&settled, "Established") {
            "True" => {
                let texts = texts(&own.entry);
                let made = custom::types_with(&definition, |idx| texts.get(idx).cloned().flatten());
                made.unwrap_or_else(|error| {
                    tracing::error!(name = meta::name(&settled), %error, "a CustomResourceDefinition cannot be served");
                    Vec::new()
                })
            }
            _ => Vec::new(),
        };
        if let Some(known) = self.known.get_mut(key) {
            known.types = types.into_iter().map(TypeRef::from).collect();
            known.outline = settled;
        }
    }

    fn publish(&self, server: &ApiServer) {
        let inner = server.inner();
        let mut all: Vec<TypeRef> = self
            .known
            .values()
            .flat_map(|known| known.types.iter().cloned())
            .collect();
        all.sort_by(|a, b| {
            a.group
                .cmp(&b.group)
                .then_with(|| compare_versions(&b.version, &a.version))
                .then_with(|| a.plural.cmp(&b.plural))
        });
        let mut ends = inner.definitions.ends.lock();
        let served: HashMap<String, ()> = all
            .iter()
            .map(|ty| (format!("{}.{}", ty.plural, ty.group), ()))
            .collect();
        ends.retain(|name, end| {
            let stays = served.contains_key(name);
            if !stays {
                end.cancel();
            }
            stays
        });
        for name in served.into_keys() {
            ends.entry(name).or_insert_with(|| inner.closing.child_token());
        }
        inner.conversions.retain(|name| ends.contains_key(name));
        drop(ends);
        inner.types.set_custom(all);
    }

    fn server(&self) -> Option<ApiServer> {
        self.server.upgrade().map(ApiServer)
    }

    async fn run(mut self, mut from: Revision) {
        loop {
            if self.closing.is_cancelled() {
                return;
            }
            self.write_all().await;
            let Some(server) = self.server() else { return };
            let watch = server.inner().store.watch(keys(definitions()).range(None), from);
            drop(server);
            let Ok(mut watch) = watch else {
                tokio::time::sleep(RETRY).await;
                let Some(server) = self.server() else { return };
                from = self.load(&server);
                continue;
            };
            loop {
                let item = tokio::select! {
                    item = watch.next() => item,
                    () = self.closing.cancelled() => return,
                };
                let mut ready = vec![item];
                while let Some(item) = watch.next().now_or_never() {
                    let over = item.is_none();
                    ready.push(item);
                    if over {
                        break;
                    }
                }
                let mut events = Vec::new();
                let mut broken = false;
                for item in ready {
                    match item {
                        Some(Ok(WatchItem::Event(event))) => events.push(event),
                        Some(Ok(WatchItem::Progress(_))) => {}
                        Some(Err(_)) | None => broken = true,
                    }
                }
                self.apply(&events).await;
                if broken {
                    break;
                }
            }
            let Some(server) = self.server() else { return };
            from = self.load(&server);
        }
    }

    /// Takes changes over: first the types are served, then the status says so.
    async fn apply(&mut self, events: &[Arc<Event>]) {
        let mut changed = Vec::new();
        let mut freed = false;
        for event in events {
            match &event.kind {
                EventKind::Put { entry, .. } => {
                    self.take(entry);
                    changed.push(entry.key.clone());
                }
                EventKind::Delete { prev } => {
                    self.known.remove(&prev.key);
                    freed = true;
                }
            }
        }
        // Names that one definition gave up may be what another waits for.
        if freed {
            changed = self.known.keys().cloned().collect();
            for key in &changed {
                let entry = self.known[key].entry.clone();
                if let Ok(definition) = subject().parse(&entry) {
                    self.settle(key, definition);
                }
            }
        }
        if let Some(server) = self.server() {
            self.publish(&server);
        }
        for key in changed {
            self.write(&key).await;
        }
    }

    async fn write_all(&mut self) {
        let all: Vec<Bytes> = self.known.keys().cloned().collect();
        for key in all {
            self.write(&key).await;
        }
    }

    /// Writes a definition's status, and cleans up after one that is being deleted.
    async fn write(&mut self, key: &Bytes) {
        let Some(server) = self.server() else { return };
        let Some(known) = self.known.get(key) else { return };
        let (outline, name) = (known.outline.clone(), meta::name(&known.outline).to_owned());
        if meta::is_deleting(&outline) {
            let running = self.cleaning.get(&name).is_some_and(|done| !done.is_cancelled());
            if meta::has_finalizer(&outline, CLEANUP_FINALIZER) && !running {
                let ty = known.types.first().cloned();
                let done = CancellationToken::new();
                self.cleaning.retain(|_, done| !done.is_cancelled());
                self.cleaning.insert(name, done.clone());
                tokio::spawn(clean(
                    Arc::downgrade(&server.0),
                    self.closing.clone(),
                    outline,
                    ty,
                    done,
                ));
            }
            return;
        }
        let written = change(&server, &name, |current| {
            let same = |place: &str| current["metadata"][place] == outline["metadata"][place];
            if !same("uid") || !same("generation") {
                return None; // the change is on its way here
            }
            let mut new = current.clone();
            for field in ["acceptedNames", "conditions"] {
                new["status"][field] = outline["status"][field].clone();
            }
            Some(new)
        });
        if let Err(error) = written.await
            && !error.is_not_found()
        {
            tracing::warn!(name, %error, "the status of a CustomResourceDefinition could not be written");
        }
    }
}

/// Changes a stored definition. `make` gives the new one, or `None` to leave it.
async fn change(
    server: &ApiServer,
    name: &str,
    make: impl Fn(&Value) -> Option<Value>,
) -> Result<(), Status> {
    let mut env = Env::new(Timestamp::now());
    let written = transact(server.inner(), &mut env, |snapshot, _| {
        let current = subject().read(snapshot, name)?;
        let answer = Answered {
            code: http::StatusCode::OK,
            payload: Payload::Value(Value::Null),
            warnings: Vec::new(),
        };
        let Some(new) = make(&current.value) else {
            return Ok(Decision::Nothing(answer));
        };
        let value = subject().encode(&new);
        if value == current.entry.value {
            return Ok(Decision::Nothing(answer));
        }
        if delete::is_over(subject(), &new) {
            let (preconditions, ops) = delete::removal(subject(), snapshot, &current)?;
            return Ok(Decision::commit(preconditions, ops, answer));
        }
        let key = current.key.clone();
        Ok(Decision::commit(
            vec![current.unchanged()],
            vec![Op::Put { key, value }],
            answer,
        ))
    });
    written.await.map(|_| ())
}

/// Deletes the instances of a definition that is being deleted, waits until they are gone, and lets it go.
/// `ty`: one of the types that the definition serves.
async fn clean(
    server: Weak<Inner>,
    closing: CancellationToken,
    definition: Value,
    ty: Option<TypeRef>,
    done: CancellationToken,
) {
    let _done = done.drop_guard();
    loop {
        let step = clean_once(&server, &definition, ty.as_ref());
        tokio::select! {
            cleaned = step => match cleaned {
                Ok(()) => return,
                Err(error) if error.is_not_found() => return,
                Err(error) => {
                    tracing::warn!(name = meta::name(&definition), %error, "instances could not be deleted");
                    tokio::time::sleep(RETRY).await;
                }
            },
            () = closing.cancelled() => return,
        }
    }
}

async fn clean_once(server: &Weak<Inner>, definition: &Value, ty: Option<&TypeRef>) -> Result<(), Status> {
    let gone = || Status::service_unavailable("the server is shutting down");
    let server = ApiServer(server.upgrade().ok_or_else(gone)?);
    // Without established names the instances, if any, are those of another definition.
    if condition(definition, "Established") == "True" {
        delete_instances(&server, definition, ty).await?;
    }
    change(&server, meta::name(definition), |current| {
        if meta::uid(current) != meta::uid(definition) {
            return None;
        }
        let mut new = current.clone();
        let left = meta::finalizers(current).filter(|own| *own != CLEANUP_FINALIZER);
        meta::set_finalizers(&mut new, left.map(str::to_owned).collect());
        let text = "removed all instances";
        let ended = ["Terminating", "False", "InstanceDeletionCompleted", text];
        set_condition(&mut new, ended, Timestamp::now());
        Some(new)
    })
    .await
}

async fn delete_instances(
    server: &ApiServer,
    definition: &Value,
    ty: Option<&TypeRef>,
) -> Result<(), Status> {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    let place = Keys {
        group: &group,
        resource: &plural,
        namespaced: spec["scope"] == "Namespaced",
    };
    let store = &server.inner().store;
    let range = place.range(None);
    loop {
        let snapshot: Snapshot = store.snapshot();
        let instances: Vec<Arc<Entry>> = snapshot.range(range.clone()).collect();
        if instances.is_empty() {
            return Ok(());
        }
        let Some(ty) = ty else {
            // Nothing is served any more: there is no type to delete by, so the bytes go as they are.
            for entry in &instances {
                let ops = vec![Op::Delete {
                    key: entry.key.clone(),
                }];
                let txn = corten_store::Txn {
                    preconditions: Vec::new(),
                    ops,
                };
                store
                    .txn(txn)
                    .await
                    .map_err(|error| crate::store_status(&error))?;
            }
            continue;
        };
        let mut deletions = Vec::new();
        for entry in &instances {
            deletions.push(delete_instance(server, ty, entry.clone()).boxed());
        }
        let mut deletions = futures::stream::iter(deletions).buffer_unordered(DELETIONS);
        while let Some(deleted) = deletions.next().await {
            deleted?;
        }
        // What is left has finalizers: the next change tells.
        let snapshot = store.snapshot();
        if snapshot.range(range.clone()).next().is_none() {
            return Ok(());
        }
        let Ok(mut watch) = store.watch(range.clone(), snapshot.revision()) else {
            continue;
        };
        while let Some(Ok(item)) = watch.next().await {
            if matches!(&item, WatchItem::Event(event) if matches!(event.kind, EventKind::Delete { .. })) {
                break;
            }
        }
    }
}

async fn delete_instance(server: &ApiServer, ty: &ResourceType, entry: Arc<Entry>) -> Result<(), Status> {
    let key = String::from_utf8_lossy(&entry.key).into_owned();
    let mut parts = key.rsplit('/');
    let name = parts.next().unwrap_or_default();
    let namespace = if ty.namespaced {
        parts.next().unwrap_or_default()
    } else {
        ""
    };
    let subject = Subject { ty, namespace };
    let options = DeleteOptions::default();
    let mut env = Env::new(Timestamp::now());
    let deleted = transact(server.inner(), &mut env, |snapshot, env| {
        delete::decide(subject, snapshot, name, &options, env)
    });
    match deleted.await {
        Err(status) if !status.is_not_found() => Err(status),
        _ => Ok(()),
    }
}

/// The mark a definition carries from the moment its deletion is asked for.
pub fn marked_for_deletion(definition: &Value, now: Timestamp) -> Value {
    let mut new = definition.clone();
    if meta::is_deleting(definition) || meta::has_finalizer(definition, CLEANUP_FINALIZER) {
        return new;
    }
    let mut finalizers: Vec<String> = meta::finalizers(definition).map(str::to_owned).collect();
    finalizers.push(CLEANUP_FINALIZER.to_owned());
    meta::set_finalizers(&mut new, finalizers);
    let text = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    set_condition(
        &mut new,
        ["Terminating", "True", "InstanceDeletionPending", text],
        now,
    );
    new
}

/// Refuses what a custom resource's definition does not allow at the moment.
///
/// # Errors
/// 405 for a create while the definition goes.
pub fn check_served(ty: &ResourceType, verb: &str) -> Result<(), Status> {
    let Some(custom) = ty.as_custom() else {
        return Ok(());
    };
    if custom.terminating && verb == "create" {
        let mut status = Status::method_not_allowed(ty.qualified(), verb);
        status.message = format!("{verb} not allowed while custom resource definition is terminating");
        return Err(status);
    }
    Ok(())
}
