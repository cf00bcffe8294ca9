//! Bodies of custom resources: read as they are, then pruned by their schema.
//!
//! Source: `schemaCoercingDecoder` of `k8s.io/apiextensions-apiserver` and the strict JSON decoder of unstructured
//! objects.

use serde_json::{Map, Value};

use super::Custom;
use crate::field::{FieldErrors, quoted};
use crate::resource::{Decoded, FieldValidation, Misfit, ResourceType};
use crate::schema::decode::{MAX_STRICT_ERRORS, read};
use crate::schema::scan::{MAX_KEPT_DEPTH, Scanner, Start};
use crate::schema::{error::SyntaxError, schema};
use crate::{Status, meta};

/// Reads a body as an object of a custom type.
///
/// # Errors
/// 400 for bad JSON, a missing kind, another version or (Strict) unknown and repeated fields; 422 for another kind.
pub fn decode(
    ty: &ResourceType,
    custom: &Custom,
    body: &[u8],
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let bad =
        |cause: String| Status::bad_request(format!("error unmarshaling JSON: while decoding JSON: {cause}"));
    let mut strict = Vec::new();
    let mut value = parse(body, &mut strict).map_err(|error| bad(error.to_string()))?;
    let shown = || String::from_utf8_lossy(body).into_owned();
    if !value.is_object() {
        return Err(bad(
            "json: cannot unmarshal into Go value of type map[string]interface {}".into(),
        ));
    }
    if meta::kind(&value).is_empty() {
        return Err(Status::bad_request(format!(
            "Object 'Kind' is missing in '{}'",
            shown()
        )));
    }
    let (given, own) = (meta::api_version(&value).to_owned(), ty.api_version());
    if given.is_empty() {
        return Err(Status::bad_request(format!(
            "Object 'apiVersion' is missing in '{}'",
            shown()
        )));
    }
    if given != own {
        return Err(Status::bad_request(format!(
            "the API version in the data ({given}) does not match the expected API version ({own})"
        )));
    }
    if meta::kind(&value) != ty.kind {
        let mut errors = FieldErrors::default();
        errors.invalid("kind", meta::kind(&value), &format!("must be {}", ty.kind));
        return Err(Status::invalid(ty.qualified_kind(), meta::name(&value), &errors));
    }
    coerce(custom, &mut value, &mut strict).map_err(Status::bad_request)?;
    let warnings = match validation {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Warn => strict,
        FieldValidation::Strict if strict.is_empty() => strict,
        FieldValidation::Strict => {
            return Err(Status::bad_request(format!(
                "strict decoding error: {}",
                strict.join(", ")
            )));
        }
    };
    Ok(Decoded { value, warnings })
}

/// Brings an object that was changed as JSON back into form.
///
/// # Errors
/// The text of what does not fit.
pub fn conform(custom: &Custom, value: &Value, validation: FieldValidation) -> Result<Decoded, Misfit> {
    let mut value = value.clone();
    let mut strict = Vec::new();
    coerce(custom, &mut value, &mut strict).map_err(|text| Misfit { text })?;
    match validation {
        FieldValidation::Strict if !strict.is_empty() => Err(Misfit {
            text: format!("strict decoding error: {}", strict.join(", ")),
        }),
        FieldValidation::Ignore => Ok(Decoded {
            value,
            warnings: Vec::new(),
        }),
        _ => Ok(Decoded {
            value,
            warnings: strict,
        }),
    }
}

/// Metadata in canonical form, everything else as the schema has it.
fn coerce(custom: &Custom, value: &mut Value, strict: &mut Vec<String>) -> Result<(), String> {
    let entry = schema().find("meta.v1.ObjectMeta").expect("every object has it");
    let given = value.get("metadata").cloned().unwrap_or_default();
    let metadata = match given {
        Value::Null => Value::Object(Map::new()),
        given => {
            let bytes = serde_json::to_vec(&given).map_err(|error| error.to_string())?;
            let read = read(entry, &bytes).map_err(|error| error.to_string())?;
            if let Some(error) = read.wrong {
                return Err(error);
            }
            let known = read
                .strict
                .iter()
                .map(|text| text.replacen("field \"", "field \"metadata.", 1));
            strict.extend(known);
            read.value
        }
    };
    let unknown = custom.prune(value);
    strict.extend(
        unknown
            .iter()
            .map(|path| format!("unknown field {}", quoted(path))),
    );
    strict.truncate(MAX_STRICT_ERRORS);
    if let Some(map) = value.as_object_mut() {
        map.insert("metadata".into(), metadata);
    }
    Ok(())
}

/// Parses JSON and notes repeated fields; the last one wins.
fn parse(body: &[u8], strict: &mut Vec<String>) -> Result<Value, SyntaxError> {
    let mut scanner = Scanner::new(body);
    let value = any(&mut scanner, &mut String::new(), 0, strict)?;
    scanner.end()?;
    Ok(value)
}

fn any(
    scanner: &mut Scanner<'_>,
    path: &mut String,
    depth: usize,
    strict: &mut Vec<String>,
) -> Result<Value, SyntaxError> {
    if depth > MAX_KEPT_DEPTH {
        return Err(SyntaxError::Depth);
    }
    let length = path.len();
    match scanner.start()? {
        Start::Object => {
            scanner.open()?;
            let mut map = Map::new();
            let mut first = true;
            while let Some(key) = scanner.key(first)? {
                first = false;
                if length > 0 {
                    path.push('.');
                }
                path.push_str(&key);
                if map.contains_key(&*key) && strict.len() < MAX_STRICT_ERRORS {
                    strict.push(format!("duplicate field {}", quoted(path)));
                }
                let value = any(scanner, path, depth + 1, strict)?;
                path.truncate(length);
                map.insert(key.into_owned(), value);
            }
            Ok(Value::Object(map))
        }
        Start::Array => {
            scanner.open()?;
            let mut list = Vec::new();
            let mut first = true;
            while scanner.element(first)? {
                first = false;
                path.push_str(&format!("[{}]", list.len()));
                list.push(any(scanner, path, depth + 1, strict)?);
                path.truncate(length);
            }
            Ok(Value::Array(list))
        }
        _ => scanner.any(),
    }
}
