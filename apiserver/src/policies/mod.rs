//! Admission policies: rules in CEL that judge (`ValidatingAdmissionPolicy`) or change (`MutatingAdmissionPolicy`) what is
//! written. Pure: parameters and namespaces come from the snapshot that is decided on.
//!
//! Source: Kubernetes `apiserver/pkg/admission/plugin/policy/{generic,validating,mutating}`.

pub mod compiled;
pub mod evaluate;
mod mutate;
mod validate;

use std::sync::Arc;

use corten_api::selector::LabelSelector;
use corten_api::{ResourceType, Status, meta};
use corten_store::Snapshot;
use serde_json::Value;

use crate::read::filter::keys;
use crate::types::Types;
use crate::webhooks::rules::{self, Form};
use crate::webhooks::{Scene, forms};
use crate::write::Subject;
use crate::write::admission::Attributes;
use compiled::{Binding, Policy};
use evaluate::{Authority, Input};

pub use mutate::mutate;
pub use validate::validate;

/// What no policy judges: what decides about admission, and questions about identity that are not stored.
fn is_exempt(attributes: &Attributes<'_>) -> bool {
    rules::is_exempt(attributes)
        || matches!(
            (&*attributes.subject.ty.group, &*attributes.subject.ty.plural),
            ("authentication.k8s.io", "tokenreviews" | "selfsubjectreviews")
                | (
                    "authorization.k8s.io",
                    "localsubjectaccessreviews"
                        | "selfsubjectaccessreviews"
                        | "selfsubjectrulesreviews"
                        | "subjectaccessreviews"
                )
        )
}

/// A policy with the bindings that put it into force.
#[derive(Debug)]
pub struct Bound {
    pub policy: Arc<Policy>,
    pub bindings: Vec<Arc<Binding>>,
}

/// One request as the expressions of one policy see it, whatever the parameters.
struct Seen {
    object: Value,
    old: Value,
    request: Value,
    namespace: Value,
}

impl Seen {
    fn new(
        attributes: &Attributes<'_>,
        snapshot: &Snapshot,
        form: &Form,
        object: &Value,
        types: &Types,
    ) -> Result<Seen, Status> {
        let ty: &ResourceType = form.other.as_deref().unwrap_or(attributes.subject.ty);
        let own = attributes.subject.ty;
        let is_namespace = own.group.is_empty() && own.plural == "namespaces";
        let namespace = match attributes.subject.namespace {
            "" => Value::Null,
            _ if is_namespace => Value::Null,
            _ => evaluate::namespace(&rules::namespace_of(attributes, snapshot)?),
        };
        Ok(Seen {
            object: forms::convert(attributes, ty, object, types)?,
            old: forms::convert(attributes, ty, attributes.old.unwrap_or(&Value::Null), types)?,
            request: evaluate::request(attributes, ty),
            namespace,
        })
    }

    fn input<'a>(&'a self, params: &'a Value, authority: &'a Authority<'a>) -> Input<'a> {
        Input::new(
            [&self.object, &self.old, &self.request, params, &self.namespace],
            authority,
        )
    }
}

/// Whether a binding puts its policy into force for this request, and with which parameters.
///
/// # Errors
/// What is wrong with the binding.
fn in_force(
    scene: &Scene,
    policy: &Policy,
    binding: &Binding,
    attributes: &Attributes<'_>,
    snapshot: &Snapshot,
    object: &Value,
) -> Result<Option<Vec<Value>>, String> {
    let matched = match &binding.constraints {
        None => Ok(true),
        Some(own) if own.has_rules() => own
            .matches(attributes, snapshot, object, &scene.types)
            .map(|form| form.is_some()),
        Some(own) => own.admits(attributes, snapshot, object, &scene.types),
    };
    match matched {
        Ok(true) => params(scene, policy, binding, attributes, snapshot).map(Some),
        Ok(false) => Ok(None),
        Err(status) => Err(status.message),
    }
}

/// The objects a binding hands to its policy; without parameters one null.
fn params(
    scene: &Scene,
    policy: &Policy,
    binding: &Binding,
    attributes: &Attributes<'_>,
    snapshot: &Snapshot,
) -> Result<Vec<Value>, String> {
    let (Some(kind), reference) = (&policy.param_kind, &binding.param_ref) else {
        return Ok(vec![Value::Null]);
    };
    if !reference.is_object() {
        return Ok(vec![Value::Null]);
    }
    let Some(ty) = compiled::param_type(&scene.types, kind) else {
        return Err(format!("paramKind kind `{}, Kind={}` not known", kind.0, kind.1));
    };
    let given = reference["namespace"].as_str().unwrap_or_default();
    let namespace = match (ty.namespaced, given) {
        (false, "") => "",
        (false, _) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into());
        }
        (true, "") => rules::namespace_name(attributes),
        (true, given) => given,
    };
    if ty.namespaced && namespace.is_empty() {
        return Err(
            "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".into(),
        );
    }
    let subject = Subject { ty: &ty, namespace };
    let mut found = Vec::new();
    match reference["name"].as_str().unwrap_or_default() {
        "" => {
            let selector = LabelSelector::from_value(&reference["selector"])?;
            for entry in snapshot.range(keys(&ty).range(Some(namespace).filter(|_| ty.namespaced))) {
                let params = subject.parse(&entry).map_err(|status| status.message)?;
                if selector.matches(meta::labels(&params)) {
                    found.push(params);
                }
            }
        }
        name => match subject.read(snapshot, name) {
            Ok(current) => found.push(current.value),
            Err(missing) if missing.is_not_found() => {}
            Err(status) => return Err(status.message),
        },
    }
    if found.is_empty() && reference["parameterNotFoundAction"] == "Deny" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    Ok(found)
}
