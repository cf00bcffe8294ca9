//! Custom resources in a version other than the one they are stored in, where a webhook converts between them.
//!
//! A stored object of a custom resource carries its version in its head ([`STORED_VERSION`]). Who asks for that version
//! gets the stored bytes; only others pay for a call. Reads convert entries before they are written out, many at once;
//! writes put the call as a question of their decision.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_api::custom::Conversion;
use corten_api::{FieldValidation, ResourceType, Status};
use corten_store::{Entry, Memo as EntryMemo};
use parking_lot::Mutex;
use serde_json::Value;

use crate::Inner;
use crate::outbound::Target;
use crate::stored::{Stored, TypeMeta};
use crate::write::question::{Call, CallKey};
use crate::write::{Env, Subject};

/// The pair of a stored head that names the object's version. No field selector can be called so.
pub const STORED_VERSION: &str = "!version";
/// Time for one conversion. Source: apiextensions' `defaultWebhookTimeout`.
const LIMIT: Duration = Duration::from_secs(30);
/// What one call carries at most.
const MAX_OBJECTS: usize = 500;
const MAX_BYTES: usize = 2 << 20;

/// The webhooks that convert, by their definition's name, with the connections to them.
#[derive(Default)]
pub struct Targets(Mutex<HashMap<String, (Value, Arc<Target>)>>);

impl Targets {
    fn of(&self, conversion: &Conversion) -> Result<Arc<Target>, String> {
        let mut known = self.0.lock();
        if let Some((config, target)) = known.get(&conversion.definition)
            && *config == conversion.client_config
        {
            return Ok(target.clone());
        }
        let target = Arc::new(Target::of_client_config(&conversion.client_config)?);
        let own = (conversion.client_config.clone(), target.clone());
        known.insert(conversion.definition.clone(), own);
        Ok(target)
    }

    /// Forgets those of definitions that are gone.
    pub fn retain(&self, stays: impl Fn(&str) -> bool) {
        self.0.lock().retain(|name, _| stays(name));
    }
}

/// Who converts objects of `ty`, if a webhook does.
#[must_use]
pub fn webhook(ty: &ResourceType) -> Option<&Conversion> {
    ty.as_custom()?.conversion.as_deref()
}

/// The version in which stored bytes of `ty` are.
fn stored_version<'a>(conversion: &'a Conversion, value: &'a [u8]) -> &'a str {
    let head = Stored::new(value).and_then(|stored| stored.head());
    let own = head.ok().and_then(|head| head.field(STORED_VERSION));
    own.unwrap_or(&conversion.storage)
}

/// Whether a stored object has to be converted by a webhook before it is one of `ty`.
#[must_use]
pub fn is_due(ty: &ResourceType, value: &[u8]) -> bool {
    webhook(ty).is_some_and(|conversion| stored_version(conversion, value) != ty.version)
}

/// How the server says that an object cannot be shown in a version.
fn failed(ty: &ResourceType, version: &str, why: &str) -> Status {
    let from = format!("{}/{version}, Kind={}", ty.group, ty.kind);
    Status::failure(500, "", format!("conversion webhook for {from} failed: {why}"))
}

fn version_of(object: &Value) -> &str {
    let own = object["apiVersion"].as_str().unwrap_or_default();
    own.rsplit('/').next().unwrap_or_default()
}

/// A call for these objects, which are all of one version.
fn call(
    targets: &Targets,
    conversion: &Conversion,
    seed: &[u8],
    desired: &str,
    objects: &[Value],
) -> Result<Call, String> {
    if conversion.review_version.is_empty() {
        return Err("no supported ConversionReview version".into());
    }
    let target = targets.of(conversion)?;
    let request = conversion.request(desired, objects);
    let content = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
    let key = CallKey::of(&[seed, b"convert", conversion.definition.as_bytes(), &content]);
    Ok(Call {
        key,
        target,
        limit: LIMIT,
        body: Bytes::from(conversion.body(&key.uid(), request)),
    })
}

/// A converted object as one of `ty`: without what its schema does not know, and with its defaults.
fn settled(ty: &ResourceType, object: &Value) -> Result<Value, Status> {
    let mut object = ty
        .conform(object, FieldValidation::Ignore)
        .map_err(|misfit| failed(ty, version_of(object), &misfit.text))?
        .value;
    ty.set_defaults(&mut object);
    Ok(object)
}

impl Inner {
    /// The entries as their types' readers expect them: those in another version are converted.
    ///
    /// # Errors
    /// What the webhook says or fails with.
    pub(crate) async fn converted(
        &self,
        ty: &ResourceType,
        entries: Vec<Arc<Entry>>,
    ) -> Result<Vec<Arc<Entry>>, Status> {
        let Some(conversion) = webhook(ty) else {
            return Ok(entries);
        };
        let mut out = entries;
        let mut batch: Batch = Batch::default();
        for at in 0..out.len() {
            let entry = out[at].clone();
            let version = stored_version(conversion, &entry.value);
            if version == ty.version {
                continue;
            }
            if !batch.takes(version, entry.value.len()) {
                self.convert_batch(ty, conversion, std::mem::take(&mut batch), &mut out)
                    .await?;
            }
            let meta = TypeMeta {
                version,
                ..TypeMeta::of(ty)
            };
            let object = Stored::new(&entry.value)
                .and_then(|stored| stored.parse(meta, entry.mod_revision.0))
                .map_err(crate::damaged)?;
            batch.add(at, version, entry.value.len(), object);
        }
        self.convert_batch(ty, conversion, batch, &mut out).await?;
        Ok(out)
    }

    async fn convert_batch(
        &self,
        ty: &ResourceType,
        conversion: &Conversion,
        batch: Batch,
        out: &mut [Arc<Entry>],
    ) -> Result<(), Status> {
        if batch.objects.is_empty() {
            return Ok(());
        }
        let desired = ty.api_version();
        let refuse = |why: &str| failed(ty, &batch.version, why);
        let seed: [u8; 16] = rand::random();
        let call = call(&self.conversions, conversion, &seed, &desired, &batch.objects);
        let call = call.map_err(|why| refuse(&why))?;
        let answer = self.call(&call.target, call.body, call.limit).await;
        let answer = answer.map_err(|why| refuse(&why.to_string()))?;
        let converted = conversion
            .answer(&call.key.uid(), &desired, &batch.objects, &answer)
            .map_err(|why| refuse(&why))?;
        for (at, object) in batch.places.into_iter().zip(converted) {
            let object = settled(ty, &object)?;
            let before = &out[at];
            let mut fields = ty.selectable_fields(&object);
            fields.push((STORED_VERSION, ty.version.to_string()));
            let value = crate::stored::encode(&object, &fields);
            out[at] = Arc::new(Entry {
                key: before.key.clone(),
                value,
                create_revision: before.create_revision,
                mod_revision: before.mod_revision,
                memo: EntryMemo::default(),
            });
        }
        Ok(())
    }
}

/// Objects of one version that go into one call.
#[derive(Default)]
struct Batch {
    version: String,
    objects: Vec<Value>,
    /// Where the converted ones belong.
    places: Vec<usize>,
    bytes: usize,
}

impl Batch {
    fn takes(&self, version: &str, bytes: usize) -> bool {
        self.objects.is_empty()
            || self.version == version && self.objects.len() < MAX_OBJECTS && self.bytes + bytes <= MAX_BYTES
    }

    fn add(&mut self, at: usize, version: &str, bytes: usize, object: Value) {
        version.clone_into(&mut self.version);
        self.objects.push(object);
        self.places.push(at);
        self.bytes += bytes;
    }
}

impl Subject<'_> {
    /// A stored object in the version of this type. Where a webhook has not converted it yet, that is the request's next
    /// question ([`Env::pending`]) and what is returned is of no matter.
    ///
    /// # Errors
    /// What the webhook says or fails with.
    pub fn in_own_version(&self, stored: Value, env: &mut Env) -> Result<Value, Status> {
        let Some(conversion) = webhook(self.ty) else {
            return Ok(stored);
        };
        if env.is_own() || version_of(&stored) == self.ty.version {
            return Ok(stored);
        }
        let converted = self.ask_webhook(conversion, &self.ty.api_version(), stored, env)?;
        settled(self.ty, &converted)
    }

    /// An object in the version that is stored.
    ///
    /// # Errors
    /// See [`Subject::in_own_version`].
    pub fn in_stored_version(&self, object: &Value, env: &mut Env) -> Result<Value, Status> {
        match webhook(self.ty) {
            Some(conversion) if !env.is_own() && version_of(object) != conversion.storage => {
                let desired = format!("{}/{}", self.ty.group, conversion.storage);
                self.ask_webhook(conversion, &desired, object.clone(), env)
            }
            _ => Ok(object.clone()),
        }
    }

    fn ask_webhook(
        &self,
        conversion: &Conversion,
        desired: &str,
        object: Value,
        env: &mut Env,
    ) -> Result<Value, Status> {
        let version = version_of(&object).to_owned();
        let refuse = |why: &str| failed(self.ty, &version, why);
        let Some(targets) = env.conversions.clone() else {
            return Err(refuse("no webhook can be called here"));
        };
        let objects = [object];
        let call = call(&targets, conversion, &env.seed(), desired, &objects).map_err(|why| refuse(&why))?;
        let answer = match env.memo.get(&call.key) {
            None => {
                env.pending = Some(vec![call]);
                return Err(Status::internal("a conversion has to be asked for first"));
            }
            Some(Err(why)) => return Err(refuse(&why.to_string())),
            Some(Ok(answer)) => answer,
        };
        let mut converted = conversion
            .answer(&call.key.uid(), desired, &objects, answer)
            .map_err(|why| refuse(&why))?;
        converted.pop().ok_or_else(|| refuse("no object was returned"))
    }
}
