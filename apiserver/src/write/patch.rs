//! `patch`: the current object changed by a patch, then updated. Pure.

use corten_api::patch::{PatchType, SUPPORTED, json_patch, merge_patch};
use corten_api::resource::Subresource;
use corten_api::{FieldValidation, Status, meta};
use corten_store::Snapshot;
use serde_json::Value;

use super::{Decision, Env, Subject, update};
use crate::Config;

/// A patch as it was sent.
pub struct Patch<'a> {
    pub kind: PatchType,
    pub body: &'a [u8],
    pub validation: FieldValidation,
}

/// # Errors
/// A patch that cannot be carried out, and those of [`update::decide`].
pub fn decide(
    config: &Config,
    subject: Subject<'_>,
    snapshot: &Snapshot,
    name: &str,
    patch: &Patch<'_>,
    part: Subresource,
    env: &mut Env,
) -> Result<Decision, Status> {
    let current = subject.read_own(snapshot, name, env)?;
    let mut decoded = subject
        .ty
        .apply_patch(&current.value, patch.kind, patch.body, patch.validation)?;
    decoded.warnings.extend(meta::dedup_owners(&mut decoded.value));
    let mut decision = update::replace(config, subject, snapshot, current, name, decoded.value, part, env)?;
    if let Decision::Commit(_, answer) | Decision::Nothing(answer) = &mut decision {
        answer.warnings.splice(0..0, decoded.warnings);
    }
    Ok(decision)
}

/// A patch of a Scale. It has no lists, so a strategic merge is a merge.
///
/// # Errors
/// A patch that cannot be carried out.
pub fn of_scale(scale: &Value, patch: &Patch<'_>) -> Result<Value, Status> {
    let body: Value = serde_json::from_slice(patch.body)
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    let mut patched = scale.clone();
    match patch.kind {
        PatchType::Json => json_patch(&mut patched, &body)?,
        PatchType::Merge | PatchType::Strategic => merge_patch(&mut patched, &body),
        PatchType::Apply => return Err(Status::unsupported_media_type(&SUPPORTED)),
    }
    Ok(patched)
}
