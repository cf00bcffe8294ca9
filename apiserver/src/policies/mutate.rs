//! MutatingAdmissionPolicy: what policies make of an object before it is judged.

use std::collections::HashSet;

use corten_api::apply::merge::merge;
use corten_api::{ResourceType, Status};
use corten_store::Snapshot;
use serde_json::{Value, json};

use super::compiled::{Mutation, Policy, Rules};
use super::evaluate::{Authority, Input, Variables};
use super::{Seen, in_force, is_exempt};
use crate::webhooks::{Scene, forms};
use crate::write::admission::Attributes;

/// Lets the policies in force change the object, in the order of their names. `round` 0 is the first; later only those
/// that ask for it are run again. Returns whether something changed.
///
/// # Errors
/// A policy that fails, where it fails closed.
pub fn mutate(
    scene: &Scene,
    attributes: &Attributes<'_>,
    snapshot: &Snapshot,
    object: &mut Value,
    again: bool,
) -> Result<bool, Status> {
    if is_exempt(attributes) || object.is_null() {
        return Ok(false);
    }
    let mut changed = false;
    let mut refused: Vec<String> = Vec::new();
    for bound in &scene.hooks.mutating_policies {
        let policy = &*bound.policy;
        let Rules::Mutate { reinvoked, .. } = &policy.rules else {
            continue;
        };
        if again && !reinvoked {
            continue;
        }
        let mut fail = |who: &str, why: String| {
            if !policy.fails_open {
                refused.push(format!("policy '{}'{who} denied request: {why}", policy.name));
            }
        };
        let matched = policy
            .constraints
            .matches(attributes, snapshot, object, &scene.types);
        let form = match matched {
            Ok(Some(form)) => form,
            Ok(None) => continue,
            Err(status) => {
                fail("", format!("failed to configure policy: {}", status.message));
                continue;
            }
        };
        let ty: &ResourceType = form.other.as_deref().unwrap_or(attributes.subject.ty);
        let authority = Authority::new(scene.server.clone(), attributes, ty);
        for binding in &bound.bindings {
            let who = format!(" with binding '{}'", binding.name);
            let params = match in_force(scene, policy, binding, attributes, snapshot, object) {
                Ok(params) => params.unwrap_or_default(),
                Err(why) => {
                    fail(&who, format!("failed to configure binding: {why}"));
                    continue;
                }
            };
            for params in &params {
                let seen = Seen::new(attributes, snapshot, &form, object, &scene.types)?;
                match mutated(
                    policy,
                    &seen.input(params, &authority),
                    ty,
                    attributes.subresource,
                ) {
                    Ok(None) => {}
                    Ok(Some(new)) => {
                        let new = forms::back(attributes, ty, &new, &scene.types)?;
                        changed |= new != *object;
                        *object = new;
                    }
                    Err(why) => fail(&who, why),
                }
            }
        }
    }
    match refused.first() {
        None => Ok(changed),
        Some(first) => {
            let mut status = attributes.forbidden("admission request denied by policy");
            status.message = first.clone();
            Err(status)
        }
    }
}

/// The object after all of a policy's mutations, each of which sees what those before it made; `None`: its conditions do
/// not hold.
fn mutated(
    policy: &Policy,
    input: &Input<'_>,
    ty: &ResourceType,
    subresource: &str,
) -> Result<Option<Value>, String> {
    let Rules::Mutate { mutations, .. } = &policy.rules else {
        return Ok(None);
    };
    let mut object = input.object.clone();
    for (index, mutation) in mutations.iter().enumerate() {
        let now = object.clone();
        let input = Input::new(
            [&now, input.old, input.request, input.params, input.namespace],
            input.authority,
        );
        let variables = Variables::new(&policy.variables, &input);
        let variables = variables.tied();
        if index == 0 && !policy.conditions.hold(&input, Some(variables))? {
            return Ok(None);
        }
        object = mutation.make(&input, variables, ty)?;
        object = forms::read(ty, subresource, &object).map_err(|status| status.message)?;
    }
    Ok(Some(object))
}

impl Mutation {
    fn make<'a>(
        &'a self,
        input: &Input<'a>,
        variables: &'a Variables<'a>,
        ty: &ResourceType,
    ) -> Result<Value, String> {
        match self {
            Mutation::Apply(expression) => {
                let made = expression.eval(input, Some(variables))?;
                let wrong = format!(
                    "expression '{}' must evaluate to Object but got {}",
                    expression.source,
                    made.type_name()
                );
                if made.type_name() != corten_cel::OBJECT {
                    return Err(wrong);
                }
                let mut config = made.to_json().map_err(|error| error.to_string())?;
                let identity = ["apiVersion", "kind"];
                for field in identity {
                    config[field] = input.object[field].clone();
                }
                atomics(ty, &config)?;
                merge(ty.view(), input.object, &config)
                    .map_err(|error| format!("error applying patch: {error}"))
            }
            Mutation::Patch(expression) => {
                let made = expression.eval(input, Some(variables))?;
                let operations = made.to_json().map_err(|error| error.to_string())?;
                let operations = operations.as_array().cloned().ok_or_else(|| {
                    format!(
                        "type error: expected a list of JSONPatch but got {}",
                        made.type_name()
                    )
                })?;
                let mut object = input.object.clone();
                let wire: Vec<Value> = operations.iter().map(operation).collect();
                corten_api::patch::json_patch(&mut object, &json!(wire)).map_err(|status| {
                    format!(
                        "expression '{}': JSON Patch: {}",
                        expression.source, status.message
                    )
                })?;
                Ok(object)
            }
        }
    }
}

/// An operation as RFC 6902 has it: what is empty is left out.
fn operation(made: &Value) -> Value {
    let mut out = json!({});
    for field in ["op", "path", "from"] {
        if made[field].as_str().is_some_and(|text| !text.is_empty()) {
            out[field] = made[field].clone();
        }
    }
    if let Some(value) = made.get("value") {
        out["value"] = value.clone();
    } else if matches!(made["op"].as_str(), Some("add" | "replace" | "test")) {
        out["value"] = Value::Null;
    }
    out
}

/// A change may not set lists, maps or structs that are one value: what others put there would be lost unseen.
/// Source: `patch.validatePatch`.
fn atomics(ty: &ResourceType, config: &Value) -> Result<(), String> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    walk(ty.view(), config, "", &mut found, 0);
    found.retain(|path| seen.insert(path.clone()));
    match found.as_slice() {
        [] => Ok(()),
        all => Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            all.join(", ")
        )),
    }
}

fn walk(
    view: corten_api::schema::view::View<'_>,
    value: &Value,
    path: &str,
    found: &mut Vec<String>,
    depth: usize,
) {
    use corten_api::schema::view::Topology;
    if depth > corten_api::apply::MAX_DEPTH {
        return;
    }
    match (view.topology(value), value) {
        (Topology::AtomicList | Topology::AtomicMap, _) => found.push(path.to_owned()),
        (Topology::Granular, Value::Object(map)) => {
            for (key, value) in map {
                if let Some(below) = view.child(key) {
                    walk(below.view, value, &format!("{path}.{key}"), found, depth + 1);
                }
            }
        }
        (Topology::Keyed(_), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                walk(
                    view.element(),
                    item,
                    &format!("{path}[{index}]"),
                    found,
                    depth + 1,
                );
            }
        }
        _ => {}
    }
}
