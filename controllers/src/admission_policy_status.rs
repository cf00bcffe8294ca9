//! The status of ValidatingAdmissionPolicies: which of their expressions do not fit the types they are about.
//!
//! [`status`] decides; this file finds the types and writes. Like upstream's controller it looks at a policy once for each
//! generation: a type that changes later is seen when the policy does. Source: `pkg/controller/validatingadmissionpolicystatus`.

use std::sync::Arc;

use corten_api::kinds::admissionregistration::type_check::{self, Typed, Warning};
use corten_client::{ApiClient, Cache, Controller, ObjectKey, Patch, Requeue, Writes};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use serde_json::{Value, json};

use crate::apply;
use crate::context::{Context, Doing, SyncError};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const MANAGER: &str = "validatingadmissionpolicy-status-controller";

struct Ctx {
    api: ApiClient,
    policies: Cache<ValidatingAdmissionPolicy>,
}

pub async fn run(context: Context) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        policies: context.cache(),
    });
    Controller::new("validatingadmissionpolicy-status")
        .watch(&ctx.policies, apply::own_key)
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        })
        .await;
}

fn is_seen(policy: &ValidatingAdmissionPolicy) -> bool {
    let status = policy.status.as_ref();
    let observed = status.and_then(|status| status.observed_generation).unwrap_or(0);
    policy.metadata.generation.unwrap_or(0) <= observed
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(policy) = ctx.policies.get(key).filter(|policy| !is_seen(policy)) else {
        return Ok(None);
    };
    let object = serde_json::to_value(&*policy).map_err(|error| SyncError::Invalid(error.to_string()))?;
    let mut types = Vec::new();
    for named in type_check::named(&object) {
        types.extend(match type_check::built_in(&named) {
            Some(ty) => Some(ty),
            None => custom(ctx, &named).await?,
        });
    }
    let params = match type_check::param_kind(&object) {
        Some(kind) => match type_check::built_in_kind(kind) {
            Some(ty) => Some(ty),
            None => custom_kind(ctx, kind).await?,
        },
        None => None,
    };
    let warnings = type_check::check(&object, &types, params.as_ref());
    let object = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": key.name },
        "status": status(policy.metadata.generation.unwrap_or(0), &warnings),
    });
    let patch = Patch::Apply {
        manager: MANAGER.into(),
        force: true,
        object,
    };
    match ctx
        .api
        .patch_status::<ValidatingAdmissionPolicy>(key, &patch)
        .await
    {
        Ok(written) => writes.wrote(&ctx.policies, written.revision),
        Err(error) if error.is_not_found() => {}
        Err(source) => {
            let doing = format!("report the types of ValidatingAdmissionPolicy {key}");
            return Err(SyncError::Api { doing, source });
        }
    }
    Ok(None)
}

/// The type of a custom resource, by its plural.
async fn custom(ctx: &Ctx, (group, version, plural): &type_check::Named) -> Result<Option<Typed>, SyncError> {
    if group.is_empty() {
        return Ok(None);
    }
    let found = ctx
        .api
        .get_path::<Value>(&format!("{DEFINITIONS}/{plural}.{group}"))
        .await;
    match found {
        Ok(definition) => Ok(type_check::custom(&definition, version)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error).doing(|| format!("read the definition of {plural}.{group}")),
    }
}

/// The type of a custom resource, by its kind.
async fn custom_kind(
    ctx: &Ctx,
    (group, version, kind): (&str, &str, &str),
) -> Result<Option<Typed>, SyncError> {
    let list = ctx.api.get_path::<Value>(DEFINITIONS).await;
    let list = list.doing(|| "list CustomResourceDefinitions".to_owned())?;
    let items = list["items"].as_array().into_iter().flatten();
    let mut fits =
        items.filter(|item| item["spec"]["group"] == group && item["spec"]["names"]["kind"] == kind);
    Ok(fits
        .next()
        .and_then(|definition| type_check::custom(definition, version)))
}

fn status(generation: i64, warnings: &[Warning]) -> Value {
    let mut checked = json!({});
    if !warnings.is_empty() {
        let all = warnings
            .iter()
            .map(|own| json!({ "fieldRef": own.field, "warning": own.text }));
        checked["expressionWarnings"] = all.collect();
    }
    json!({ "observedGeneration": generation, "typeChecking": checked })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_looked_at_once_for_each_generation() {
        let policy = |generation: i64, status: Value| -> ValidatingAdmissionPolicy {
            let object = json!({ "metadata": { "name": "p", "generation": generation }, "status": status });
            serde_json::from_value(object).expect("a policy")
        };
        assert!(!is_seen(&policy(1, Value::Null)));
        assert!(is_seen(&policy(1, status(1, &[]))));
        let warning = Warning {
            field: "spec.validations[0].expression".into(),
            text: "no".into(),
        };
        assert!(!is_seen(&policy(2, status(1, &[warning]))));
    }
}
