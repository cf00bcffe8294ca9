//! The kind of the apiextensions group: defaults, invalid definitions, updates, columns.

mod common;

use common::*;
use corten_api::resource::Subresource;
use serde_json::{Value, json};

const CRD: Name = ("apiextensions.k8s.io/v1", "CustomResourceDefinition");
const DNS_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const COLUMN_TYPES: &str = "must be one of boolean,date,integer,number,string";
const NOT_WEBHOOK: &str = "should not be set when strategy is not set to Webhook";

fn crd() -> Value {
    json!({
        "metadata": {"name": "dogs.example.com", "annotations": {}},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "dogs", "kind": "Dog", "listKind": "DogList", "singular": "dog"},
            "conversion": {"strategy": "None"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}},
                "additionalPrinterColumns": [{"name": "N", "type": "integer", "jsonPath": ".spec.n"}],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "n": {"type": "integer"}, "o": {"type": "object"}, "f": {"type": "number"},
                    }},
                    "x": {"type": "string"},
                }}},
            }],
        },
    })
}

/// Sets a value of the good definition.
#[track_caller]
fn bad(pointer: &str, value: Value, want: &[&str]) {
    invalid(CRD, &crd(), pointer, value, want);
}

/// Replaces the schema of the field `x`; `want` without the path of that field.
#[track_caller]
fn bad_schema(schema: Value, want: &[&str]) {
    let base = "spec.validation.openAPIV3Schema.properties[x]";
    let want: Vec<String> = want.iter().map(|line| format!("{base}{line}")).collect();
    let want: Vec<&str> = want.iter().map(String::as_str).collect();
    let at = "/spec/versions/0/schema/openAPIV3Schema/properties/x";
    invalid(CRD, &crd(), at, schema, &want);
}

#[test]
fn names_and_columns() {
    known_as(CRD, false, &["crd", "crds"], &["status"]);
    assert_eq!(
        resource(CRD).categories.iter().collect::<Vec<&str>>(),
        ["api-extensions"]
    );
    let mut object = crd();
    object["metadata"]["creationTimestamp"] = "2026-01-01T00:55:00Z".into();
    columns(
        CRD,
        object,
        &["Name=dogs.example.com", "Created At=2026-01-01T00:55:00Z"],
    );
}

#[test]
fn defaults() {
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": schema});
    golden(
        CRD,
        json!({"metadata": {"name": "dogs.example.com"}, "spec": {
            "group": "example.com", "scope": "Cluster", "names": {"plural": "dogs", "kind": "Dog"}, "versions": [version],
        }}),
        json!({
            "metadata": {"name": "dogs.example.com", "generation": 1},
            "spec": {
                "group": "example.com", "scope": "Cluster",
                "names": {"plural": "dogs", "kind": "Dog", "singular": "dog", "listKind": "DogList"},
                "versions": [version],
                "conversion": {"strategy": "None"},
            },
            "status": {"acceptedNames": {"kind": "", "plural": ""}, "conditions": null, "storedVersions": ["v1"]},
        }),
    );
}

#[test]
fn invalid_names() {
    let label = |field: &str, value: &str| {
        format!("spec.names.{field}|Invalid|Invalid value: \"{value}\": {DNS_1035}")
    };
    bad("/spec/names/singular", json!("1a"), &[&label("singular", "1a")]);
    bad(
        "/spec/names/shortNames",
        json!(["a", "B"]),
        &[&label("shortNames[1]", "B")],
    );
    bad(
        "/spec/names/categories",
        json!(["a.b"]),
        &[&label("categories[0]", "a.b")],
    );
    for (field, value) in [("kind", "1D"), ("listKind", "D_l")] {
        bad(
            &format!("/spec/names/{field}"),
            json!(value),
            &[&format!(
                "spec.names.{field}|Invalid|Invalid value: \"{value}\": may have mixed case, but should otherwise match: {DNS_1035}"
            )],
        );
    }
    bad(
        "/spec/names/listKind",
        json!("Dog"),
        &["spec.names.listKind|Invalid|Invalid value: \"Dog\": kind and listKind may not be the same"],
    );
    bad(
        "/metadata/name",
        json!("cats.example.com"),
        &[
            "metadata.name|Invalid|Invalid value: \"cats.example.com\": must be spec.names.plural+\".\"+spec.group",
        ],
    );
    bad("/spec/scope", json!(""), &["spec.scope|Required|Required value"]);
    bad(
        "/spec/scope",
        json!("All"),
        &[
            "spec.scope|NotSupported|Unsupported value: \"All\": supported values: \"Cluster\", \"Namespaced\"",
        ],
    );
    let name = "metadata.name|Invalid|Invalid value: \"dogs.example.com\": must be spec.names.plural+\".\"+spec.group";
    bad(
        "/spec/group",
        json!(""),
        &[name, "spec.group|Required|Required value"],
    );
    bad(
        "/spec/group",
        json!("example"),
        &[
            name,
            "spec.group|Invalid|Invalid value: \"example\": should be a domain with at least one dot",
        ],
    );
    bad(
        "/spec/group",
        json!("A.b"),
        &[
            name,
            &format!("spec.group|Invalid|Invalid value: \"A.b\": {DNS_SUBDOMAIN}"),
        ],
    );
    bad(
        "/spec/preserveUnknownFields",
        json!(true),
        &[
            "spec.preserveUnknownFields|Invalid|Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ],
    );
}

#[test]
fn invalid_versions() {
    let warning = "spec.versions[0].deprecationWarning|Invalid|Invalid value: ";
    let mut old = crd();
    let at = "/spec/versions/0/deprecationWarning";
    bad(
        at,
        json!("x"),
        &[&format!(
            "{warning}\"x\": can only be set for deprecated versions"
        )],
    );
    old["spec"]["versions"][0]["deprecated"] = true.into();
    let long = "a".repeat(257);
    invalid(
        CRD,
        &old,
        at,
        json!(""),
        &[&format!("{warning}\"\": must not be an empty string")],
    );
    invalid(
        CRD,
        &old,
        at,
        json!(long),
        &[&format!("{warning}\"{long}\": must be <= 256 characters long")],
    );
    invalid(
        CRD,
        &old,
        at,
        json!("a\tb"),
        &[&format!(
            "{warning}\"a\\tb\": must only contain printable UTF-8 characters; non-printable character found at index 1"
        )],
    );
    let mut body = crd();
    body["spec"]["versions"][0]["name"] = "1".into();
    let got = create(resource(CRD), &body).map_or_else(causes, |_| Vec::new());
    assert_eq!(
        got,
        [format!(
            "spec.versions[0].name|Invalid|Invalid value: \"1\": {DNS_1035}"
        )]
    );
    for (name, storage, detail) in [
        (
            "v2",
            true,
            "must have exactly one version marked as storage version",
        ),
        ("v1", false, "must contain unique version names"),
    ] {
        let mut body = crd();
        let mut second = body["spec"]["versions"][0].clone();
        second["storage"] = storage.into();
        second["name"] = name.into();
        body["spec"]["versions"].as_array_mut().unwrap().push(second);
        let got = create(resource(CRD), &body).map_or_else(causes, |_| Vec::new());
        assert_eq!(got.len(), 1, "{got:?}");
        assert!(
            got[0].starts_with("spec.versions|Invalid|Invalid value: ["),
            "{got:?}"
        );
        assert!(got[0].ends_with(detail), "{got:?}");
    }
}

#[test]
fn invalid_columns_and_scale() {
    let (at, path) = (
        "/spec/versions/0/additionalPrinterColumns/0",
        "spec.additionalPrinterColumns[0]",
    );
    let column = |field: &str, value: Value, want: String| {
        bad(&format!("{at}/{field}"), value, &[&format!("{path}.{want}")]);
    };
    column("name", json!(""), "name|Required|Required value".into());
    column(
        "type",
        json!(""),
        format!("type|Required|Required value: {COLUMN_TYPES}"),
    );
    column(
        "type",
        json!("object"),
        format!("type|Invalid|Invalid value: \"object\": {COLUMN_TYPES}"),
    );
    column(
        "format",
        json!("x"),
        "format|Invalid|Invalid value: \"x\": must be one of byte,date,date-time,double,float,int32,int64,password".into(),
    );
    column("jsonPath", json!(""), "JSONPath|Required|Required value".into());
    column(
        "jsonPath",
        json!("a"),
        "JSONPath|Invalid|Invalid value: \"a\": must be a simple json path starting with .".into(),
    );
    let scale = |field: &str, value: &str, want: &str| {
        bad(
            &format!("/spec/versions/0/subresources/scale/{field}"),
            json!(value),
            &[&format!("spec.subresources.scale.{field}|{want}")],
        );
    };
    scale("specReplicasPath", "", "Required|Required value");
    scale("statusReplicasPath", "", "Required|Required value");
    scale(
        "specReplicasPath",
        "spec.n",
        "Invalid|Invalid value: \"spec.n\": must be a simple json path starting with .",
    );
    scale(
        "specReplicasPath",
        ".a",
        "Invalid|Invalid value: \".a\": should be a json path under .spec",
    );
    scale(
        "statusReplicasPath",
        ".spec.a",
        "Invalid|Invalid value: \".spec.a\": should be a json path under .status",
    );
    scale(
        "labelSelectorPath",
        ".a",
        "Invalid|Invalid value: \".a\": should be a json path under either .spec or .status",
    );
}

#[test]
fn invalid_selectable_fields() {
    let select = |paths: &[&str], want: &str| {
        let fields: Vec<Value> = paths.iter().map(|path| json!({"jsonPath": path})).collect();
        bad(
            "/spec/versions/0/selectableFields",
            json!(fields),
            &[&format!("spec.selectableFields{want}")],
        );
    };
    let invalid_path = "is an invalid path: does not refer to a valid field";
    let scalar = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
    select(&[""], "[0].jsonPath|Required|Required value");
    select(
        &[".spec.z"],
        &format!("[0].jsonPath|Invalid|Invalid value: \".spec.z\": {invalid_path}"),
    );
    select(
        &["spec.n"],
        &format!("[0].jsonPath|Invalid|Invalid value: \"spec.n\": {invalid_path}"),
    );
    select(
        &[".spec.n", ".spec.o"],
        &format!("[1].jsonPath|Invalid|Invalid value: \".spec.o\": {scalar}"),
    );
    select(
        &[".spec.f"],
        &format!("[0].jsonPath|Invalid|Invalid value: \".spec.f\": {scalar}"),
    );
    select(
        &[".spec.n", ".spec.n"],
        "[1].jsonPath|Duplicate|Duplicate value: \".spec.n\"",
    );
}

#[test]
fn invalid_conversions() {
    let conversion = |value: Value, want: &[&str]| {
        let want: Vec<String> = want
            .iter()
            .map(|line| format!("spec.conversion.{line}"))
            .collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        bad("/spec/conversion", value, &want);
    };
    let webhook = |config: Value, versions: Value| json!({"strategy": "Webhook", "webhook": {"clientConfig": config, "conversionReviewVersions": versions}});
    let url = || json!({"url": "https://a"});
    conversion(
        json!({"strategy": "Other"}),
        &["strategy|NotSupported|Unsupported value: \"Other\": supported values: \"None\", \"Webhook\""],
    );
    conversion(
        json!({"strategy": "Webhook"}),
        &[
            "webhookClientConfig|Required|Required value: required when strategy is set to Webhook",
            "conversionReviewVersions|Required|Required value",
        ],
    );
    conversion(
        webhook(json!({}), json!(["v1"])),
        &["webhookClientConfig|Required|Required value: exactly one of url or service is required"],
    );
    conversion(
        webhook(json!({"url": "http://a"}), json!(["v1"])),
        &[
            "webhookClientConfig.url|Invalid|Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
        ],
    );
    conversion(
        webhook(url(), json!(["v1", "v1"])),
        &["conversionReviewVersions[1]|Invalid|Invalid value: \"v1\": duplicate version"],
    );
    conversion(
        webhook(url(), json!(["v9"])),
        &[
            "conversionReviewVersions|Invalid|Invalid value: [\"v9\"]: must include at least one of v1, v1beta1",
        ],
    );
    conversion(
        webhook(url(), json!(["v1", "1"])),
        &[&format!(
            "conversionReviewVersions[1]|Invalid|Invalid value: \"1\": {DNS_1035}"
        )],
    );
    let mut none = webhook(url(), json!(["v1"]));
    none["strategy"] = "None".into();
    conversion(
        none,
        &[
            &format!("webhookClientConfig|Forbidden|Forbidden: {NOT_WEBHOOK}"),
            &format!("conversionReviewVersions|Forbidden|Forbidden: {NOT_WEBHOOK}"),
        ],
    );
}

#[test]
fn invalid_structure() {
    bad_schema(
        json!({}),
        &[".type|Required|Required value: must not be empty for specified object fields"],
    );
    bad_schema(
        json!({"type": "array"}),
        &[".items|Required|Required value: must be specified"],
    );
    bad_schema(
        json!({"type": "array", "items": {}}),
        &[".items.type|Required|Required value: must not be empty for specified array items"],
    );
    bad_schema(
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
        &[
            ".additionalProperties|Forbidden|Forbidden: additionalProperties and properties are mutual exclusive",
        ],
    );
    bad_schema(
        json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true}),
        &[
            ".uniqueItems|Forbidden|Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ],
    );
    bad_schema(
        json!({"$ref": "#/a"}),
        &[".$ref|Forbidden|Forbidden: $ref is not supported"],
    );
    bad_schema(
        json!({"type": "string", "id": "a"}),
        &[".id|Forbidden|Forbidden: id is not supported"],
    );
    bad_schema(
        json!({"type": "array", "items": [{"type": "string"}]}),
        &[".items|Forbidden|Forbidden: items must be a schema object and not an array"],
    );
    bad_schema(
        json!({"type": "text"}),
        &[
            ".type|NotSupported|Unsupported value: \"text\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
        ],
    );
    bad_schema(
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false}),
        &[".x-kubernetes-preserve-unknown-fields|Invalid|Invalid value: false: must be true or undefined"],
    );
    bad_schema(
        json!({"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true}),
        &[
            ".x-kubernetes-preserve-unknown-fields|Invalid|Invalid value: true: must be false if x-kubernetes-int-or-string is true",
        ],
    );
    bad_schema(
        json!({"type": "object", "x-kubernetes-embedded-resource": true}),
        &[
            ".properties|Required|Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ],
    );
    bad_schema(
        json!({"x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
        &[".type|Required|Required value: must be object if x-kubernetes-embedded-resource is true"],
    );
    bad_schema(
        json!({"type": "string", "anyOf": [{"type": "string"}]}),
        &[".anyOf[0].type|Forbidden|Forbidden: must be empty to be structural"],
    );
    bad_schema(
        json!({"type": "object", "allOf": [{"properties": {"a": {"minLength": 1}}}]}),
        &[
            ".properties[a]|Required|Required value: because it is defined in spec.validation.openAPIV3Schema.properties[x].allOf[0].properties[a]",
        ],
    );
    let root = "/spec/versions/0/schema/openAPIV3Schema";
    bad(
        &format!("{root}/properties/metadata"),
        json!({"type": "object", "properties": {"labels": {"type": "object"}}}),
        &[
            "spec.validation.openAPIV3Schema.properties[metadata]|Forbidden|Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
        ],
    );
    bad(
        &format!("{root}/properties/metadata"),
        json!({"type": "object", "default": {}}),
        &[
            "spec.validation.openAPIV3Schema.properties[metadata].default|Forbidden|Forbidden: must not be set in top-level metadata",
        ],
    );
    bad(
        &format!("{root}/properties/kind"),
        json!({"type": "string", "default": "Dog"}),
        &[
            "spec.validation.openAPIV3Schema.properties[kind].default|Forbidden|Forbidden: must not be set in top-level kind",
        ],
    );
    bad(
        &format!("{root}/nullable"),
        json!(true),
        &[
            "spec.validation.openAPIV3Schema.nullable|Forbidden|Forbidden: nullable cannot be true at the root",
        ],
    );
}

#[test]
fn invalid_lists_and_rules() {
    let list = |kind: &str, items: Value, keys: Value| json!({"type": "array", "x-kubernetes-list-type": kind, "items": items, "x-kubernetes-list-map-keys": keys});
    let item = || json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}});
    bad_schema(
        list("map", item(), json!([])),
        &[
            ".x-kubernetes-list-map-keys|Required|Required value: must not be empty if x-kubernetes-list-type is map",
        ],
    );
    bad_schema(
        list("map", item(), json!(["b"])),
        &[
            ".x-kubernetes-list-map-keys|Invalid|Invalid value: [\"b\"]: entries must all be names of item properties",
        ],
    );
    bad_schema(
        list("map", item(), json!(["a", "a"])),
        &[
            ".x-kubernetes-list-map-keys|Invalid|Invalid value: [\"a\",\"a\"]: must not contain duplicate entries",
        ],
    );
    bad_schema(
        list("atomic", item(), json!(["a"])),
        &[
            ".x-kubernetes-list-type|Invalid|Invalid value: \"atomic\": must be map if x-kubernetes-list-map-keys is non-empty",
        ],
    );
    bad_schema(
        list(
            "map",
            json!({"type": "object", "properties": {"a": {"type": "string"}}}),
            json!(["a"]),
        ),
        &[
            ".items.properties[a].default|Required|Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ],
    );
    bad_schema(
        list("set", json!({"type": "object"}), json!([])),
        &[
            ".items.x-kubernetes-map-type|Invalid|Invalid value: \"null\": must be atomic as item of a list with x-kubernetes-list-type=set",
        ],
    );
    bad_schema(
        list("bag", json!({"type": "string"}), json!([])),
        &[
            ".x-kubernetes-list-type|NotSupported|Unsupported value: \"bag\": supported values: \"atomic\", \"set\", \"map\"",
        ],
    );
    bad_schema(
        json!({"type": "string", "x-kubernetes-map-type": "atomic"}),
        &[".type|Invalid|Invalid value: \"string\": must be object if x-kubernetes-map-type is specified"],
    );
    let rule = |rule: Value, want: &str| {
        bad_schema(
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "x-kubernetes-validations": [rule]}),
            &[&format!(".x-kubernetes-validations[0].{want}")],
        );
    };
    rule(
        json!({"rule": " "}),
        "rule|Required|Required value: rule is not specified",
    );
    rule(
        json!({"rule": "true", "message": " "}),
        "message|Invalid|Invalid value: \" \": must be non-empty if specified",
    );
    rule(
        json!({"rule": "true", "message": "a\nb"}),
        "message|Invalid|Invalid value: \"a\\nb\": must not contain line breaks",
    );
    rule(
        json!({"rule": "a\n&& b"}),
        "message|Required|Required value: message must be specified if rule contains line breaks",
    );
    rule(
        json!({"rule": "true", "messageExpression": " "}),
        "messageExpression|Required|Required value: messageExpression must be non-empty if specified",
    );
    rule(
        json!({"rule": "true", "reason": "X"}),
        "reason|NotSupported|Unsupported value: \"X\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
    );
    rule(
        json!({"rule": "true", "fieldPath": ".b"}),
        "fieldPath|Invalid|Invalid value: \".b\": must be a valid path",
    );
}

#[test]
fn updates() {
    let mut old = stored(CRD, &crd());
    refused(CRD, &old, json!({"spec": {"scope": "Cluster"}}), &[]);
    refused(
        CRD,
        &old,
        json!({"spec": {"preserveUnknownFields": true}}),
        &[
            "spec.preserveUnknownFields|Invalid|Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ],
    );
    old["status"]["conditions"] = json!([{"type": "Established", "status": "True", "lastTransitionTime": null, "message": "", "reason": ""}]);
    refused(
        CRD,
        &old,
        json!({"spec": {"scope": "Cluster"}}),
        &["spec.scope|Invalid|Invalid value: \"Cluster\": field is immutable"],
    );
    refused(
        CRD,
        &old,
        json!({"spec": {"names": {"kind": "Cat"}}}),
        &["spec.names.kind|Invalid|Invalid value: \"Cat\": field is immutable"],
    );
    let mut version = old["spec"]["versions"][0].clone();
    version["name"] = "v2".into();
    refused(
        CRD,
        &old,
        json!({"spec": {"versions": [version]}}),
        &[
            "status.storedVersions[0]|Invalid|Invalid value: \"v1\": missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions",
        ],
    );
    let changed = update(
        CRD,
        &old,
        json!({"spec": {"scope": "Cluster"}, "status": {"acceptedNames": {"kind": "Dog", "plural": "dogs"}}}),
        Subresource::Status,
    )
    .unwrap_or_else(|status| panic!("{}", status.message));
    assert_eq!(changed["spec"], old["spec"]);
    assert_eq!(changed["status"]["acceptedNames"]["kind"], "Dog");
    refused_part(
        CRD,
        &old,
        json!({"status": {"acceptedNames": {"plural": "1"}}}),
        Subresource::Status,
        &[&format!(
            "status.acceptedNames.plural|Invalid|Invalid value: \"1\": {DNS_1035}"
        )],
    );
}
