//! Writes: a decision on a snapshot, then one transaction that holds only if what was read still stands.
//!
//! Every verb's core is a plain function `(snapshot, request, env) -> Decision`; [`transact`] is the only shell. It
//! decides on what this server has, asks for the newest state only when the answer would be an error or "nothing to do",
//! and decides again when another writer was faster or when somebody outside (a webhook) had to be asked.

pub mod admin_access;
pub mod admission;
pub mod allocate;
pub mod apply;
pub mod binding;
pub mod classes;
pub mod commit;
pub mod create;
pub mod delete;
pub mod evict;
pub mod lanes;
pub mod patch;
pub mod question;
pub mod scale;
pub mod update;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use corten_api::resource::By;
use corten_api::{ResourceType, Status, meta};
use corten_store::{Entry, Op, Precondition, Snapshot, Store, Txn, TxnOutcome};
use http::StatusCode;
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::PodSecurity;
use crate::convert::{self, STORED_VERSION, Targets};
use crate::event_rate_limit::EventRateLimit;
use crate::identity::User;
use crate::key::Keys;
use crate::rbac::rules::Rules;
use crate::read::filter::keys;
use crate::stored::{self, Stored, TypeMeta};
use crate::strict::Strict;
use crate::webhooks::Scene;
use crate::{Inner, damaged, store_status};
use admission::{Attributes, Operation, RequestOptions};
use question::{Memo, Question};

/// Decisions of one request before it gives up. Each needs another writer to have changed the same object meanwhile.
pub const MAX_ATTEMPTS: usize = 64;

/// Who makes a request, and how.
#[derive(Debug, Default)]
pub struct Asker {
    /// Nobody, for what the server does on its own.
    pub user: User,
    pub options: RequestOptions,
    pub dry_run: bool,
}

impl Asker {
    /// The request as admission sees it, for an object that is not stored yet.
    #[must_use]
    pub fn attributes<'a>(
        &'a self,
        subject: Subject<'a>,
        operation: Operation,
        name: &'a str,
    ) -> Attributes<'a> {
        Attributes {
            subject,
            operation,
            subresource: "",
            name,
            user: &self.user,
            old: None,
            options: &self.options,
            dry_run: self.dry_run,
        }
    }
}

/// Time one request may take when others have to be asked. Source: kube-apiserver, `--request-timeout`.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// Calls that one request may need, over all its attempts.
const MAX_CALLS: usize = 512;

/// What a decision needs from outside: time, randomness, who asks, and what others have answered.
pub struct Env {
    pub now: Timestamp,
    /// The same in every run of one request's decision.
    seed: [u8; 32],
    pub rng: StdRng,
    pub asker: Arc<Asker>,
    /// Who manages the fields that are written.
    pub manager: String,
    /// The subresource that writes, where the part of the object does not tell: `scale`.
    pub subresource: Option<&'static str>,
    /// The Roles and bindings in force.
    pub rules: Arc<Rules>,
    /// Answers to the questions of earlier runs.
    pub memo: Memo,
    /// For the request's audit record; those of the last run count.
    pub annotations: Vec<(String, String)>,
    /// For the client, from whom was asked before the answer exists.
    pub warnings: Vec<String>,
    /// What has to be asked before the decision can come to an end, found where no decision is returned. Looked at
    /// before the decision is.
    pub pending: Option<Question>,
    /// The webhooks that convert custom resources; `None` outside of [`transact`].
    pub conversions: Option<Arc<Targets>>,
    /// Of Events; `None`: they are not counted.
    pub event_limit: Option<Arc<EventRateLimit>>,
    /// What is configured about Pod security; `None`: nothing.
    pub pod_security: Option<Arc<PodSecurity>>,
    /// Services take no addresses that are not the cluster's.
    pub deny_external_ips: bool,
    /// What is asked beyond Kubernetes' defaults.
    pub strict: Strict,
    /// What the limit said about this request.
    pub event_verdict: Option<Result<(), Status>>,
    /// Webhooks and policies of the state that is decided on; `None`: there are none.
    pub scene: Option<Scene>,
}

impl Env {
    #[must_use]
    pub fn new(now: Timestamp) -> Env {
        let seed = rand::rng().random();
        Env {
            now,
            seed,
            rng: StdRng::from_seed(seed),
            asker: Arc::new(Asker::default()),
            manager: "kube-apiserver".into(),
            subresource: None,
            rules: Arc::default(),
            memo: Memo::default(),
            annotations: Vec::new(),
            warnings: Vec::new(),
            pending: None,
            conversions: None,
            event_limit: None,
            pod_security: None,
            deny_external_ips: false,
            strict: Strict::default(),
            event_verdict: None,
            scene: None,
        }
    }

    /// The same for a write of another manager than this server.
    #[must_use]
    pub fn of(now: Timestamp, manager: String) -> Env {
        Env {
            manager,
            ..Env::new(now)
        }
    }

    /// Whose the written fields are.
    #[must_use]
    pub fn writer(&self) -> By<'_> {
        By {
            manager: &self.manager,
            subresource: self.subresource,
            now: self.now,
        }
    }

    /// The same for a request of `user`.
    #[must_use]
    pub fn by(mut self, user: &User, options: RequestOptions, dry_run: bool) -> Env {
        self.asker = Arc::new(Asker {
            user: user.clone(),
            options,
            dry_run,
        });
        self
    }

    /// Before the decision is made once more: the same names and uids as the first time.
    fn restart(&mut self) {
        self.rng = StdRng::from_seed(self.seed);
        self.annotations.clear();
        self.warnings.clear();
    }

    /// Whether the server writes on its own: nobody has to be asked, and objects stay in the version they have.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.asker.user.name.is_empty()
    }

    /// Tells calls of this request from those of others.
    #[must_use]
    pub fn seed(&self) -> [u8; 32] {
        self.seed
    }

    pub fn uid(&mut self) -> String {
        uuid::Builder::from_random_bytes(self.rng.random())
            .into_uuid()
            .to_string()
    }

    /// Five characters for a `generateName`.
    pub fn name_suffix(&mut self) -> String {
        use corten_api::names::{GENERATED_SUFFIX, SUFFIX_ALPHABET};
        (0..GENERATED_SUFFIX)
            .map(|_| char::from(SUFFIX_ALPHABET[self.rng.random_range(0..SUFFIX_ALPHABET.len())]))
            .collect()
    }
}

/// Which object a request is about.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub ty: &'a ResourceType,
    /// Empty for cluster scope.
    pub namespace: &'a str,
}

impl<'a> Subject<'a> {
    #[must_use]
    pub fn key(&self, name: &str) -> Bytes {
        keys(self.ty).object(Some(self.namespace), name)
    }

    #[must_use]
    pub fn meta(&self) -> TypeMeta<'a> {
        TypeMeta::of(self.ty)
    }

    #[must_use]
    pub fn keys(&self) -> Keys<'_> {
        keys(self.ty)
    }

    /// The stored object with its type and revision.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn read(&self, snapshot: &Snapshot, name: &str) -> Result<Current, Status> {
        let key = self.key(name);
        let entry = snapshot
            .get(&key)
            .ok_or_else(|| Status::not_found(self.ty.qualified(), name))?;
        let value = self.parse(&entry)?;
        Ok(Current { key, entry, value })
    }

    /// An object that many requests look at, without its managers: parsed once for each state of it, and kept with it.
    ///
    /// # Errors
    /// `InternalError` for a stored value that is not ours.
    pub fn shared(&self, entry: &Entry) -> Result<Arc<Value>, Status> {
        let parsed = entry.memo.get_or_init(|| {
            let mut value = self.parse(entry)?;
            if let Some(metadata) = value["metadata"].as_object_mut() {
                metadata.remove("managedFields");
            }
            Ok::<_, Status>(Arc::new(value))
        });
        Result::clone(&parsed)
    }

    /// # Errors
    /// `InternalError` for a stored value that is not ours.
    pub fn parse(&self, entry: &Entry) -> Result<Value, Status> {
        let stored = Stored::new(&entry.value).map_err(damaged)?;
        let mut meta = self.meta();
        let head = stored.head().map_err(damaged)?;
        if let Some(version) = head.field(STORED_VERSION)
            && convert::webhook(self.ty).is_some()
        {
            meta.version = version;
        }
        let is_own = meta.version == self.ty.version;
        let mut value = stored.parse(meta, entry.mod_revision.0).map_err(damaged)?;
        if is_own {
            self.ty.from_stored(&mut value);
        }
        Ok(value)
    }

    /// [`Subject::read`], in the version of this type also where a webhook converts.
    ///
    /// # Errors
    /// `NotFound`, and what the webhook says or fails with.
    pub fn read_own(&self, snapshot: &Snapshot, name: &str, env: &mut Env) -> Result<Current, Status> {
        let mut current = self.read(snapshot, name)?;
        current.value = self.in_own_version(current.value, env)?;
        Ok(current)
    }

    /// The bytes that show an object to who wrote it: `stored`, unless a webhook converts between the two versions.
    #[must_use]
    pub fn shown(&self, object: &Value, stored: &Bytes) -> Bytes {
        match convert::webhook(self.ty) {
            None => stored.clone(),
            Some(_) => self.encode(object),
        }
    }

    /// [`Subject::encode`], in the stored version also where a webhook converts.
    ///
    /// # Errors
    /// What the webhook says or fails with.
    pub fn encode_own(&self, object: &Value, env: &mut Env) -> Result<Bytes, Status> {
        if convert::webhook(self.ty).is_none() {
            return Ok(self.encode(object));
        }
        Ok(self.encode(&self.in_stored_version(object, env)?))
    }

    /// Whether objects are stored in the form in which they are written.
    #[must_use]
    pub fn is_stored_as_written(&self) -> bool {
        !self.ty.has_other_forms() && convert::webhook(self.ty).is_none()
    }

    /// The bytes to store.
    #[must_use]
    pub fn encode(&self, object: &Value) -> Bytes {
        self.encode_managed(object, None)
    }

    /// The bytes to store of an object whose `managedFields` are the text `managers`, if any, and not in it. Text is only for
    /// objects that are [stored as they are written](Subject::is_stored_as_written).
    #[must_use]
    pub fn encode_managed(&self, object: &Value, managers: Option<&str>) -> Bytes {
        debug_assert!(managers.is_none() || self.is_stored_as_written());
        if self.ty.has_other_forms() {
            let mut stored = object.clone();
            self.ty.to_stored(&mut stored);
            let plain = stored::encode(&stored, &self.ty.stored_fields(&stored));
            return stored::seal(plain, self.ty, &stored);
        }
        let mut fields = self.ty.selectable_fields(object);
        if let Some(custom) = self.ty.as_custom() {
            let own = meta::api_version(object).rsplit('/').next().unwrap_or_default();
            let version = match custom.conversion {
                Some(_) if !own.is_empty() => own,
                _ => &custom.storage,
            };
            if custom.conversion.is_some() && version != self.ty.version {
                fields.retain(|(name, _)| name.starts_with("metadata.")); // the others are fields of another version
            }
            fields.push((STORED_VERSION, version.to_owned()));
        }
        let plain = stored::encode_managed(object, managers, &fields);
        stored::seal(plain, self.ty, object)
    }
}

/// An object as it is stored.
pub struct Current {
    pub key: Bytes,
    pub entry: std::sync::Arc<Entry>,
    pub value: Value,
}

impl Current {
    #[must_use]
    pub fn unchanged(&self) -> Precondition {
        Precondition::ModRevision(self.key.clone(), self.entry.mod_revision)
    }
}

/// What the client is told.
pub struct Answered {
    pub code: StatusCode,
    pub payload: Payload,
    pub warnings: Vec<String>,
}

pub enum Payload {
    /// Stored bytes; their revision is `at`, or that of the transaction's first write.
    Stored {
        value: Bytes,
        at: Option<u64>,
    },
    /// A Scale; its revision is `at`, or that of the transaction's first write.
    Scale {
        scale: Value,
        at: Option<u64>,
    },
    /// An object that was not stored (dry run).
    Value(Value),
    Status(Status),
}

pub enum Decision {
    Commit(Txn, Answered),
    Nothing(Answered),
    /// Cannot be decided before these calls are answered.
    Ask(Question),
}

impl Decision {
    #[must_use]
    pub fn commit(preconditions: Vec<Precondition>, ops: Vec<Op>, answer: Answered) -> Decision {
        Decision::Commit(Txn { preconditions, ops }, answer)
    }
}

/// Decides, writes, and decides again until the state that was read is the state that was written to. Returns the answer
/// and the revision of the transaction's first write (0 if nothing was written).
///
/// # Errors
/// What the decision says on the newest state, or what the store says.
pub async fn transact(
    inner: &Inner,
    env: &mut Env,
    decide: impl FnMut(&Snapshot, &mut Env) -> Result<Decision, Status>,
) -> Result<(Answered, u64), Status> {
    let settled = settle(inner, env, decide).await;
    if !env.annotations.is_empty() {
        let told = std::mem::take(&mut env.annotations);
        crate::audit::note(|trail| {
            told.into_iter()
                .for_each(|(key, value)| trail.annotate(&key, value))
        });
    }
    settled
}

async fn settle(
    inner: &Inner,
    env: &mut Env,
    mut decide: impl FnMut(&Snapshot, &mut Env) -> Result<Decision, Status>,
) -> Result<(Answered, u64), Status> {
    let store = &inner.store;
    env.conversions.get_or_insert_with(|| inner.conversions.clone());
    env.event_limit.clone_from(&inner.config.event_rate_limit);
    env.pod_security.clone_from(&inner.config.pod_security);
    env.deny_external_ips = inner.config.deny_external_ips;
    env.strict = inner.config.strict;
    let deadline = Instant::now() + REQUEST_LIMIT;
    let mut newest = false;
    let mut lane = None;
    let mut attempts = 0;
    while attempts < MAX_ATTEMPTS {
        let snapshot = store.snapshot();
        env.restart();
        env.rules = inner.rules.get();
        env.scene = inner.scene(&snapshot, env);
        let decided = decide(&snapshot, env);
        if let Some(calls) = env.pending.take() {
            inner.ask(calls, env, deadline).await?;
            continue;
        }
        let settled = match decided {
            Ok(Decision::Commit(txn, answer)) if env.asker.dry_run => return Ok((answer, before(&txn))),
            Ok(Decision::Commit(txn, answer)) => match commit::fenced(store, txn, env).await? {
                TxnOutcome::Committed { revisions, .. } => {
                    return Ok((answer, revisions.first().map_or(0, |revision| revision.0)));
                }
                TxnOutcome::Conflict { key, .. } => {
                    attempts += 1;
                    drop(lane.take());
                    lane = Some(inner.lanes.enter(&key).await);
                    barrier(store).await?;
                    newest = true;
                    continue;
                }
            },
            Ok(Decision::Ask(calls)) => {
                inner.ask(calls, env, deadline).await?;
                continue;
            }
            Ok(Decision::Nothing(answer)) => Ok((answer, 0)),
            Err(status) => Err(status),
        };
        attempts += 1;
        if newest {
            return settled;
        }
        barrier(store).await?;
        newest = true;
        if store.snapshot().revision() == snapshot.revision() {
            return settled; // else what was decided may rest on an old state
        }
    }
    Err(Status::too_many_requests(
        "the object is written by others too often, please try again later",
        1,
    ))
}

impl Inner {
    /// What is configured about admission; nothing of it concerns what the server does on its own.
    fn scene(&self, snapshot: &Snapshot, env: &Env) -> Option<Scene> {
        if env.is_own() {
            return None;
        }
        let hooks = self.hooks.at(snapshot)?;
        let types = self.types.get();
        let server = self.me.upgrade().map(crate::ApiServer);
        Some(Scene { hooks, types, server })
    }

    /// Makes the calls a decision waits for, all at once, until `deadline`.
    async fn ask(&self, calls: Question, env: &mut Env, deadline: Instant) -> Result<(), Status> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || env.memo.len() + calls.len() > MAX_CALLS {
            let why = "request did not complete within requested timeout";
            return Err(Status::timeout(why, 0));
        }
        let calls = calls.into_iter().map(|call| async move {
            let answer = self.call(&call.target, call.body, call.limit.min(left)).await;
            (call.key, answer)
        });
        for (key, answer) in futures::future::join_all(calls).await {
            env.memo.put(key, answer);
        }
        Ok(())
    }
}

/// The revision of the object a transaction would have changed; 0 for one it would have made. Every decision about an
/// object asserts first that this object is unchanged.
fn before(txn: &Txn) -> u64 {
    match txn.preconditions.first() {
        Some(Precondition::ModRevision(_, revision)) => revision.0,
        _ => 0,
    }
}

async fn barrier(store: &Store) -> Result<(), Status> {
    store
        .read_barrier()
        .await
        .map(|_| ())
        .map_err(|error| store_status(&error))
}

/// Refuses an object whose own name is not the one in the URL.
///
/// # Errors
/// `BadRequest` with upstream's text.
pub fn check_name(object: &Value, name: &str) -> Result<(), Status> {
    match meta::name(object) {
        "" => Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        ))),
        own if own == name => Ok(()),
        own => Err(Status::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({name})"
        ))),
    }
}
