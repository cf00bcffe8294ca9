//! CustomResourceDefinition. Source: `k8s.io/apiextensions-apiserver/pkg/apis/apiextensions`.
//!
//! What only concerns one version's schema is in `schema_rules` and `structural`.

use serde_json::{Map, Value, json};

use super::conversion::conversion;
use super::schema_rules::text;
use super::{schema_rules, structural};
use crate::custom::JsonPath;
use crate::custom::definition::condition;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child, child_or_new, default, str};
use crate::kinds::common::rules;
use crate::resource::{Kind, keep};
use crate::{meta, names};

pub struct CustomResourceDefinition;

/// Most selectable fields of a version. Source: `MaxSelectableFields`.
const MAX_SELECTABLE_FIELDS: usize = 8;
/// Longest `deprecationWarning`, in bytes.
const MAX_DEPRECATION_WARNING: usize = 256;
const APPROVAL: &str = "api-approved.kubernetes.io";
const APPROVAL_LINK: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];

impl Kind for CustomResourceDefinition {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        let spec = child_or_new(object, "spec");
        let names = child_or_new(spec, "names");
        let kind = str(names, "kind").to_owned();
        if !kind.is_empty() {
            default(names, "singular", kind.to_lowercase());
            default(names, "listKind", format!("{kind}List"));
        }
        let conversion = child_or_new(spec, "conversion");
        default(conversion, "strategy", "None");
        let service = child(conversion, "webhook")
            .and_then(|webhook| child(webhook, "clientConfig"))
            .and_then(|config| child(config, "service"));
        if let Some(service) = service {
            default(service, "port", 443);
        }
        for version in spec
            .get_mut("versions")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
                schema_rules::canonical(schema);
            }
        }
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        let stored = storage_versions(object);
        object.insert(
            "status".into(),
            json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": null, "storedVersions": stored}),
        );
    }

    fn prepare_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        keep(new, old, "status");
        let storage = storage_versions(new);
        let stored = child_or_new(new, "status")
            .entry("storedVersions")
            .or_insert_with(|| json!([]));
        match stored.as_array_mut() {
            Some(list) => {
                let added: Vec<Value> = storage.into_iter().filter(|name| !list.contains(name)).collect();
                list.extend(added);
            }
            None => *stored = storage.into(),
        }
    }

    fn prepare_status_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        crate::kinds::common::status::only_status(new, old);
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = &object["spec"];
        let wanted = format!("{}.{}", text(&spec["names"]["plural"]), text(&spec["group"]));
        if meta::name(object) != wanted {
            errors.invalid(
                "metadata.name",
                meta::name(object),
                "must be spec.names.plural+\".\"+spec.group",
            );
        }
        validate_spec(spec, errors);
        names_valid(&object["status"]["acceptedNames"], "status.acceptedNames", errors);
        stored_versions(object, errors);
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        approval(object, errors);
        preserve_unknown_fields(&object["spec"], errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        if meta::annotation(new, APPROVAL) != meta::annotation(old, APPROVAL) {
            approval(new, errors);
        }
        let (new, old_spec) = (&new["spec"], &old["spec"]);
        if old_spec["preserveUnknownFields"] != true {
            preserve_unknown_fields(new, errors);
        }
        let mut same = |path: &str, pointer: &str| {
            let value = |spec: &Value| spec.pointer(pointer).cloned().unwrap_or_default();
            rules::immutable(path, &value(new), &value(old_spec), errors);
        };
        if condition(old, "Established") == "True" {
            same("spec.scope", "/scope");
            same("spec.names.kind", "/names/kind");
        }
        same("spec.group", "/group");
        same("spec.names.plural", "/names/plural");
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut FieldErrors) {
        names_valid(&new["status"]["acceptedNames"], "status.acceptedNames", errors);
    }
}

fn preserve_unknown_fields(spec: &Value, errors: &mut FieldErrors) {
    if spec["preserveUnknownFields"] == true {
        errors.invalid(
            "spec.preserveUnknownFields",
            true,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        );
    }
}

/// Names of the versions marked for storage, each once; validation wants one.
fn storage_versions(object: &Map<String, Value>) -> Vec<Value> {
    let versions = object.get("spec").and_then(|spec| spec["versions"].as_array());
    let mut names: Vec<Value> = Vec::new();
    for version in versions
        .into_iter()
        .flatten()
        .filter(|version| version["storage"] == true)
    {
        if !names.contains(&version["name"]) {
            names.push(version["name"].clone());
        }
    }
    names
}

/// The value of a member all versions agree on: upstream's errors name it at the top of the spec.
fn shared<'a>(versions: &'a [Value], field: &str) -> Option<&'a Value> {
    let first = versions.first()?.get(field).unwrap_or(&Value::Null);
    versions
        .iter()
        .all(|version| version.get(field).unwrap_or(&Value::Null) == first)
        .then_some(first)
}

fn validate_spec(spec: &Value, errors: &mut FieldErrors) {
    let group = text(&spec["group"]);
    if group.is_empty() {
        errors.required("spec.group", "");
    } else if let wrong @ [_, ..] = &names::dns_subdomain(group)[..] {
        errors.invalid("spec.group", group, &wrong.join(","));
    } else if !group.contains('.') {
        errors.invalid("spec.group", group, "should be a domain with at least one dot");
    }
    match text(&spec["scope"]) {
        "" => errors.required("spec.scope", ""),
        "Cluster" | "Namespaced" => {}
        other => errors.not_supported("spec.scope", other, &["Cluster", "Namespaced"]),
    }
    let versions = spec["versions"].as_array().map_or(&[] as &[Value], Vec::as_slice);
    for (idx, version) in versions.iter().enumerate() {
        if !version["schema"]["openAPIV3Schema"].is_object() {
            errors.required(
                format!("spec.versions[{idx}].schema.openAPIV3Schema"),
                "schemas are required",
            );
        }
    }
    let mut known: Vec<&str> = Vec::new();
    let mut unique = true;
    for (idx, version) in versions.iter().enumerate() {
        let name = text(&version["name"]);
        unique &= !known.contains(&name);
        known.push(name);
        if let wrong @ [_, ..] = &names::dns_1035_label(name)[..] {
            errors.invalid(format!("spec.versions[{idx}].name"), name, &wrong.join(","));
        }
        if let Some(warning) = version["deprecationWarning"].as_str() {
            let path = format!("spec.versions[{idx}].deprecationWarning");
            if version["deprecated"] != true {
                errors.invalid(&path, warning, "can only be set for deprecated versions");
                continue;
            }
            if warning.len() > MAX_DEPRECATION_WARNING {
                let detail = format!("must be <= {MAX_DEPRECATION_WARNING} characters long");
                errors.invalid(&path, warning, &detail);
            }
            if warning.is_empty() {
                errors.invalid(&path, warning, "must not be an empty string");
            }
            if let Some((at, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
                let detail = format!(
                    "must only contain printable UTF-8 characters; non-printable character found at index {at}"
                );
                errors.invalid(&path, warning, &detail);
            }
        }
    }
    if !unique {
        errors.invalid(
            "spec.versions",
            spec["versions"].clone(),
            "must contain unique version names",
        );
    }
    if versions
        .iter()
        .filter(|version| version["storage"] == true)
        .count()
        != 1
    {
        errors.invalid(
            "spec.versions",
            spec["versions"].clone(),
            "must have exactly one version marked as storage version",
        );
    }
    for field in ["plural", "singular", "kind", "listKind"] {
        if text(&spec["names"][field]).is_empty() {
            errors.required(format!("spec.names.{field}"), "");
        }
    }
    names_valid(&spec["names"], "spec.names", errors);
    of_versions(versions, errors);
    conversion(&spec["conversion"], errors);
}

/// Schemas, subresources, columns and selectable fields, each checked once where all versions have the same.
fn of_versions(versions: &[Value], errors: &mut FieldErrors) {
    let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
    let parts = [
        "schema",
        "subresources",
        "additionalPrinterColumns",
        "selectableFields",
    ];
    for (place, part) in parts.into_iter().enumerate() {
        let common = shared(versions, part).is_some()
            && (part != "selectableFields" || shared(versions, "schema").is_some());
        let checked = if common {
            &versions[..versions.len().min(1)]
        } else {
            versions
        };
        for (idx, version) in checked.iter().enumerate() {
            let base = match (common, part) {
                (true, "schema") => "spec.validation".to_owned(),
                (true, part) => format!("spec.{part}"),
                (false, part) => format!("spec.versions[{idx}].{part}"),
            };
            let own = &version[part];
            match place {
                0 if own["openAPIV3Schema"].is_object() => {
                    let status = version["subresources"]["status"].is_object();
                    structural::validate(
                        &own["openAPIV3Schema"],
                        status,
                        &format!("{base}.openAPIV3Schema"),
                        errors,
                    );
                }
                1 if own["scale"].is_object() => scale(&own["scale"], &format!("{base}.scale"), errors),
                2 => columns(own, &base, errors),
                3 => selectable(own, &schema(version), &base, errors),
                _ => {}
            }
        }
    }
}

fn names_valid(own: &Value, base: &str, errors: &mut FieldErrors) {
    for field in ["plural", "singular", "kind", "listKind"] {
        let name = text(&own[field]);
        let mixed = matches!(field, "kind" | "listKind");
        let wrong = match name {
            "" => continue,
            name if mixed => names::dns_1035_label(&name.to_lowercase()),
            name => names::dns_1035_label(name),
        };
        if !wrong.is_empty() {
            let may = if mixed {
                "may have mixed case, but should otherwise match: "
            } else {
                ""
            };
            errors.invalid(
                format!("{base}.{field}"),
                name,
                &format!("{may}{}", wrong.join(",")),
            );
        }
    }
    for field in ["shortNames", "categories"] {
        if field == "categories" {
            let (kind, list) = (text(&own["kind"]), text(&own["listKind"]));
            if !kind.is_empty() && kind == list {
                errors.invalid(
                    format!("{base}.listKind"),
                    list,
                    "kind and listKind may not be the same",
                );
            }
        }
        for (idx, name) in own[field].as_array().into_iter().flatten().enumerate() {
            if let wrong @ [_, ..] = &names::dns_1035_label(text(name))[..] {
                errors.invalid(format!("{base}.{field}[{idx}]"), text(name), &wrong.join(","));
            }
        }
    }
}

fn stored_versions(object: &Value, errors: &mut FieldErrors) {
    let base = "status.storedVersions";
    let stored = object["status"]["storedVersions"]
        .as_array()
        .map_or(&[] as &[Value], Vec::as_slice);
    if stored.is_empty() {
        errors.invalid(base, json!([]), "must have at least one stored version");
        return;
    }
    let versions = object["spec"]["versions"]
        .as_array()
        .map_or(&[] as &[Value], Vec::as_slice);
    for version in versions.iter().filter(|version| version["storage"] == true) {
        if !stored.contains(&version["name"]) {
            let detail = format!("must have the storage version {}", text(&version["name"]));
            errors.invalid(base, object["status"]["storedVersions"].clone(), &detail);
        }
    }
    for (idx, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| version["name"] == *name) {
            errors.invalid(
                format!("{base}[{idx}]"),
                text(name),
                &format!(
                    "missing from spec.versions; {0} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {0} and removes {0} from status.storedVersions",
                    text(name)
                ),
            );
        }
    }
}

/// A path in the dot notation.
fn simple_path(value: &str, path: &str, errors: &mut FieldErrors) -> bool {
    if !value.starts_with('.') {
        errors.invalid(path, value, "must be a simple json path starting with .");
        return false;
    }
    true
}

fn scale(own: &Value, base: &str, errors: &mut FieldErrors) {
    let wanted: [(&str, &[&str], &str); 3] = [
        (
            "specReplicasPath",
            &[".spec."],
            "should be a json path under .spec",
        ),
        (
            "statusReplicasPath",
            &[".status."],
            "should be a json path under .status",
        ),
        (
            "labelSelectorPath",
            &[".spec.", ".status."],
            "should be a json path under either .spec or .status",
        ),
    ];
    for (field, roots, detail) in wanted {
        let (value, path) = (text(&own[field]), format!("{base}.{field}"));
        if value.is_empty() {
            if field != "labelSelectorPath" {
                errors.required(path, "");
            }
        } else if simple_path(value, &path, errors) && !roots.iter().any(|root| value.starts_with(root)) {
            errors.invalid(path, value, detail);
        }
    }
}

fn columns(own: &Value, base: &str, errors: &mut FieldErrors) {
    for (idx, column) in own.as_array().into_iter().flatten().enumerate() {
        let path = |field: &str| format!("{base}[{idx}].{field}");
        if text(&column["name"]).is_empty() {
            errors.required(path("name"), "");
        }
        let one_of = |words: &[&str]| format!("must be one of {}", words.join(","));
        match text(&column["type"]) {
            "" => errors.required(path("type"), &one_of(&COLUMN_TYPES)),
            kind if !COLUMN_TYPES.contains(&kind) => {
                errors.invalid(path("type"), kind, &one_of(&COLUMN_TYPES))
            }
            _ => {}
        }
        let format = text(&column["format"]);
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            errors.invalid(path("format"), format, &one_of(&COLUMN_FORMATS));
        }
        match text(&column["jsonPath"]) {
            "" => errors.required(path("JSONPath"), ""),
            value => {
                if simple_path(value, &path("JSONPath"), errors)
                    && let Err(error) = JsonPath::parse(value)
                {
                    errors.invalid(
                        path("JSONPath"),
                        value,
                        &format!("is an invalid json path: {error}"),
                    );
                }
            }
        }
    }
}

fn selectable(own: &Value, schema: &Value, base: &str, errors: &mut FieldErrors) {
    let mut known: Vec<&str> = Vec::new();
    for (idx, field) in own.as_array().into_iter().flatten().enumerate() {
        let here = format!("{base}[{idx}]");
        let value = text(&field["jsonPath"]);
        if value.is_empty() {
            errors.required(format!("{here}.jsonPath"), "");
            continue;
        }
        let path = format!("{here}.jsonPath");
        let Some(found) = schema_rules::field_at(schema, value).filter(|_| !value.contains('[')) else {
            errors.invalid(path, value, "is an invalid path: does not refer to a valid field");
            continue;
        };
        if value.starts_with(".metadata.") {
            errors.invalid(&path, value, "must not point to fields in metadata");
        }
        if !matches!(text(&found["type"]), "string" | "boolean" | "integer") {
            errors.invalid(
                &path,
                value,
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            );
        }
        if known.contains(&value) {
            errors.duplicate(&path, value);
        } else {
            known.push(value);
        }
    }
    if known.len() > MAX_SELECTABLE_FIELDS {
        errors.too_many(base, known.len(), MAX_SELECTABLE_FIELDS);
    }
}

/// Groups of the Kubernetes project are its own.
fn approval(object: &Value, errors: &mut FieldErrors) {
    let group = text(&object["spec"]["group"]);
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|own| group == *own || group.ends_with(&format!(".{own}")));
    if !protected {
        return;
    }
    let path = format!("metadata.annotations[{APPROVAL}]");
    match meta::annotation(object, APPROVAL) {
        None | Some("") => errors.required(
            path,
            &format!("protected groups must have approval annotation \"{APPROVAL}\", {APPROVAL_LINK}"),
        ),
        Some(given) if given.starts_with("unapproved") || given.contains("://") => {}
        Some(given) => errors.invalid(
            path,
            given,
            &format!(
                "protected groups must have approval annotation \"{APPROVAL}\" with either a URL or a reason starting with \"unapproved\", {APPROVAL_LINK}"
            ),
        ),
    }
}
