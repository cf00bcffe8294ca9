//! Objects on their way to a webhook or policy that asked for another form of them, and back. Pure.

use corten_api::resource::FieldValidation;
use corten_api::{ResourceType, Status};
use serde_json::Value;

use super::review::kind_of;
use crate::types::Types;
use crate::write::admission::Attributes;

/// Whether the body of this subresource is an object of its own kind, the same in all forms of the resource.
fn has_own_kind(ty: &ResourceType, subresource: &str) -> bool {
    ty.subresource(subresource)
        .is_some_and(|sub| ty.body_of(sub).2 != ty.kind)
}

/// The object of a request in the form `to`.
///
/// # Errors
/// `InternalError` where only a conversion webhook could convert it.
pub fn convert(
    attributes: &Attributes<'_>,
    to: &ResourceType,
    object: &Value,
    _types: &Types,
) -> Result<Value, Status> {
    between(attributes.subject.ty, to, attributes.subresource, object)
}

/// The other way round: from the form `from` to the request's own.
///
/// # Errors
/// See [`convert`].
pub fn back(
    attributes: &Attributes<'_>,
    from: &ResourceType,
    object: &Value,
    _types: &Types,
) -> Result<Value, Status> {
    between(from, attributes.subject.ty, attributes.subresource, object)
}

fn between(
    from: &ResourceType,
    to: &ResourceType,
    subresource: &str,
    object: &Value,
) -> Result<Value, Status> {
    let mut object = object.clone();
    if object.is_null() || from.version == to.version && from.group == to.group {
        return Ok(object);
    }
    if has_own_kind(from, subresource) {
        return Ok(object);
    }
    if from.as_custom().is_none() {
        from.to_stored(&mut object);
        to.from_stored(&mut object);
    }
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".into(), to.api_version().into());
        map.insert("kind".into(), to.kind.as_ref().into());
    }
    Ok(object)
}

/// An object that was changed as JSON, in canonical form and with its defaults.
///
/// # Errors
/// `InternalError` for what is no object of its kind any more.
pub fn read(ty: &ResourceType, subresource: &str, object: &Value) -> Result<Value, Status> {
    let (group, version, kind) = kind_of(ty, subresource);
    let wanted = match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    let own = (&object["apiVersion"], &object["kind"]);
    if own != (&Value::from(wanted.as_str()), &Value::from(kind)) {
        return Err(Status::internal(format!(
            "no kind {} is registered for version {} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
            own.1, own.0
        )));
    }
    if has_own_kind(ty, subresource) {
        let bytes = serde_json::to_vec(object).map_err(Status::internal)?;
        let decoded = ty
            .decode_subresource(subresource, &bytes, FieldValidation::Ignore)
            .map_err(|status| Status::internal(status.message))?;
        return Ok(decoded.value);
    }
    let mut read = ty
        .conform(object, FieldValidation::Ignore)
        .map_err(|misfit| Status::internal(misfit.text))?
        .value;
    if let Some(map) = read.as_object_mut() {
        map.insert("apiVersion".into(), wanted.into());
        map.insert("kind".into(), kind.into());
    }
    ty.set_defaults(&mut read);
    Ok(read)
}
