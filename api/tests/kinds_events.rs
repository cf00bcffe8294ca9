//! Events under both their names: rules, updates, columns, and the way from one form to the other and back.

mod common;

use common::*;
use corten_api::FieldValidation;
use serde_json::{Value, json};

const CORE: Name = ("v1", "Event");
const EVENT: Name = ("events.k8s.io/v1", "Event");
const TIME: &str = "2026-01-01T00:00:00.000000Z";

fn event() -> Value {
    json!({
        "metadata": {"name": "a"}, "eventTime": TIME, "type": "Normal", "reason": "R", "action": "A",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "other"}, "note": "n",
        "reportingController": "example.com/c", "reportingInstance": "i",
    })
}

#[test]
fn names() {
    known_as(EVENT, true, &["ev"], &[]);
    assert_eq!(resource(EVENT).storage(), resource(CORE).storage());
    assert!(resource(EVENT).create_on_update() && resource(CORE).create_on_update());
    assert!(resource(EVENT).selectable_names().contains(&"regarding.name"));
}

#[test]
fn defaults() {
    golden(
        EVENT,
        event(),
        json!({
            "metadata": {"name": "a"}, "eventTime": TIME, "type": "Normal", "reason": "R", "action": "A",
            "regarding": {"kind": "Pod", "name": "p", "namespace": "other"}, "note": "n",
            "reportingController": "example.com/c", "reportingInstance": "i",
            "deprecatedFirstTimestamp": null, "deprecatedLastTimestamp": null, "deprecatedSource": {},
        }),
    );
    golden(
        CORE,
        json!({"metadata": {"name": "A.b"}, "involvedObject": {"namespace": "default"}}),
        json!({
            "metadata": {"name": "A.b"}, "involvedObject": {"namespace": "default"},
            "eventTime": null, "firstTimestamp": null, "lastTimestamp": null,
            "reportingComponent": "", "reportingInstance": "", "source": {},
        }),
    );
}

#[test]
fn invalid_events() {
    let base = event();
    #[track_caller]
    fn check(base: &Value, pointer: &str, value: Value, want: &[&str]) {
        invalid(EVENT, base, pointer, value, want);
    }
    check(&base, "/metadata/name", json!("a"), &[]);
    check(
        &base,
        "/metadata/name",
        json!("A"),
        &[&format!(
            "metadata.name|Invalid|Invalid value: \"A\": {DNS_SUBDOMAIN}"
        )],
    );
    check(
        &base,
        "/reportingController",
        json!("-"),
        &[&format!(
            "reportingController|Invalid|Invalid value: \"-\": {QUALIFIED}"
        )],
    );
    check(
        &base,
        "/reportingController",
        Value::Null,
        &[
            "reportingController|Required|Required value",
            "reportingController|Invalid|Invalid value: \"\": name part must be non-empty",
            &format!("reportingController|Invalid|Invalid value: \"\": {QUALIFIED}"),
        ],
    );
    for field in ["reportingInstance", "action", "reason"] {
        check(
            &base,
            &format!("/{field}"),
            json!(""),
            &[&format!("{field}|Required|Required value")],
        );
        check(
            &base,
            &format!("/{field}"),
            json!("x".repeat(129)),
            &[&format!(
                "{field}|Invalid|Invalid value: \"\": can have at most 128 characters"
            )],
        );
    }
    check(
        &base,
        "/note",
        json!("x".repeat(1025)),
        &["message|Invalid|Invalid value: \"\": can have at most 1024 characters"],
    );
    check(
        &base,
        "/type",
        json!("Odd"),
        &["type|Invalid|Invalid value: \"\": has invalid value: Odd"],
    );
    check(
        &base,
        "/eventTime",
        Value::Null,
        &[
            "involvedObject.namespace|Invalid|Invalid value: \"other\": does not match event.namespace",
            "eventTime|Required|Required value",
        ],
    );
    check(
        &base,
        "/series",
        json!({"count": 1, "lastObservedTime": null}),
        &[
            "series.count|Invalid|Invalid value: \"\": should be at least 2",
            "series.lastObservedTime|Required|Required value",
        ],
    );
    for (field, value, shown) in [
        (
            "deprecatedFirstTimestamp",
            json!("2026-01-01T00:00:00Z"),
            "firstTimestamp",
        ),
        (
            "deprecatedLastTimestamp",
            json!("2026-01-01T00:00:00Z"),
            "lastTimestamp",
        ),
        ("deprecatedCount", json!(1), "count"),
        ("deprecatedSource", json!({"host": "h"}), "source"),
    ] {
        check(
            &base,
            &format!("/{field}"),
            value,
            &[&format!("{shown}|Invalid|Invalid value: \"\": needs to be unset")],
        );
    }
}

#[test]
fn core_events() {
    let base = json!({"metadata": {"name": "a"}, "involvedObject": {"namespace": "default"}});
    invalid(
        CORE,
        &base,
        "/involvedObject/namespace",
        json!("x"),
        &["involvedObject.namespace|Invalid|Invalid value: \"x\": does not match event.namespace"],
    );
    invalid(CORE, &base, "/involvedObject", json!({}), &[]);
    invalid(
        CORE,
        &base,
        "/eventTime",
        json!(TIME),
        &[
            "reportingComponent|Required|Required value",
            "reportingComponent|Invalid|Invalid value: \"\": name part must be non-empty",
            &format!("reportingComponent|Invalid|Invalid value: \"\": {QUALIFIED}"),
            "reportingInstance|Required|Required value",
            "action|Required|Required value",
            "reason|Required|Required value",
        ],
    );
    let old = stored(CORE, &base);
    refused(CORE, &old, json!({"message": "m", "count": 2}), &[]);
}

#[test]
fn only_the_series_of_an_event_changes() {
    let old = stored(EVENT, &event());
    refused(
        EVENT,
        &old,
        json!({"series": {"count": 2, "lastObservedTime": TIME}}),
        &[],
    );
    refused(
        EVENT,
        &old,
        json!({"series": {"count": 1, "lastObservedTime": TIME}}),
        &["series.count|Invalid|Invalid value: \"\": should be at least 2"],
    );
    refused(
        EVENT,
        &old,
        json!({"reason": "S", "note": "m", "regarding": {"name": "q"}, "related": {"kind": "Node"}, "deprecatedCount": 3, "deprecatedSource": {"component": "c"}, "reportingInstance": "j", "eventTime": "2026-01-01T00:00:01.000000Z"}),
        &[
            "involvedObject|Invalid|Invalid value: {\"Kind\":\"Pod\",\"Namespace\":\"other\",\"Name\":\"q\",\"UID\":\"\",\"APIVersion\":\"\",\"ResourceVersion\":\"\",\"FieldPath\":\"\"}: field is immutable",
            "reason|Invalid|Invalid value: \"S\": field is immutable",
            "message|Invalid|Invalid value: \"m\": field is immutable",
            "source|Invalid|Invalid value: {\"Component\":\"c\",\"Host\":\"\"}: field is immutable",
            "count|Invalid|Invalid value: 3: field is immutable",
            "reason|Invalid|Invalid value: \"S\": field is immutable",
            "eventTime|Invalid|Invalid value: \"2026-01-01T00:00:01.000000Z\": field is immutable",
            "related|Invalid|Invalid value: {\"Kind\":\"Node\",\"Namespace\":\"\",\"Name\":\"\",\"UID\":\"\",\"APIVersion\":\"\",\"ResourceVersion\":\"\",\"FieldPath\":\"\"}: field is immutable",
            "reportingInstance|Invalid|Invalid value: \"j\": field is immutable",
        ],
    );
}

/// Decodes an event in one form, goes to the other and back; compares both forms.
#[track_caller]
fn converts(here: Value, there: Value) {
    let decoded = |name: Name, body: &Value| {
        let mut object = decode(resource(name), body);
        for field in ["apiVersion", "kind"] {
            object.as_object_mut().unwrap().remove(field);
        }
        object
    };
    let (here, there) = (decoded(EVENT, &here), decoded(CORE, &there));
    let mut stored = here.clone();
    resource(EVENT).to_stored(&mut stored);
    stored
        .as_object_mut()
        .unwrap()
        .retain(|k, _| !matches!(&**k, "apiVersion" | "kind"));
    assert_eq!(stored, there);
    resource(EVENT).from_stored(&mut stored);
    stored
        .as_object_mut()
        .unwrap()
        .retain(|k, _| !matches!(&**k, "apiVersion" | "kind"));
    assert_eq!(stored, here);
}

#[test]
fn both_forms() {
    converts(json!({}), json!({}));
    converts(
        json!({
            "metadata": {"name": "a", "labels": {"a": "b"}}, "eventTime": TIME,
            "regarding": {"kind": "Pod", "fieldPath": "spec"}, "related": {"kind": "Node"},
            "note": "n", "reason": "r", "action": "a", "type": "Normal",
            "reportingController": "c", "reportingInstance": "i",
            "series": {"count": 3, "lastObservedTime": TIME},
            "deprecatedSource": {"component": "x", "host": "h"}, "deprecatedCount": 4,
            "deprecatedFirstTimestamp": "2026-01-01T00:00:00Z", "deprecatedLastTimestamp": "2026-01-01T00:00:01Z",
        }),
        json!({
            "metadata": {"name": "a", "labels": {"a": "b"}}, "eventTime": TIME,
            "involvedObject": {"kind": "Pod", "fieldPath": "spec"}, "related": {"kind": "Node"},
            "message": "n", "reason": "r", "action": "a", "type": "Normal",
            "reportingComponent": "c", "reportingInstance": "i",
            "series": {"count": 3, "lastObservedTime": TIME},
            "source": {"component": "x", "host": "h"}, "count": 4,
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:01Z",
        }),
    );
    converts(
        json!({"series": {"count": 0, "lastObservedTime": null}}),
        json!({"series": {}}),
    );
    // What conversion makes is in canonical form.
    let stored_event = decode(resource(CORE), &json!({"involvedObject": {"kind": "Pod"}}));
    let mut shown = stored_event;
    resource(EVENT).from_stored(&mut shown);
    shown["apiVersion"] = json!("events.k8s.io/v1");
    let again = resource(EVENT).conform(&shown, FieldValidation::Strict);
    assert_eq!(again.map(|d| d.value).map_err(|e| e.text), Ok(shown));
}

#[test]
fn shown() {
    let mut object = event();
    object["metadata"] = aged("a");
    object["series"] = json!({"count": 3, "lastObservedTime": "2026-01-01T00:59:00.000000Z"});
    let want = [
        "Last Seen=60s",
        "Type=Normal",
        "Reason=R",
        "Object=pod/p",
        "+Subobject=",
        "+Source=example.com/c, i",
        "Message=n",
        "+First Seen=60m",
        "+Count=3",
        "+Name=a",
    ];
    columns(EVENT, object.clone(), &want);
    let mut stored = decode(resource(EVENT), &object);
    resource(EVENT).to_stored(&mut stored);
    stored["apiVersion"] = json!("v1");
    columns(CORE, stored, &want);
    let fields = resource(EVENT).selectable_fields(&decode(resource(EVENT), &object));
    for (field, value) in [
        ("regarding.kind", "Pod"),
        ("regarding.name", "p"),
        ("reportingController", "example.com/c"),
        ("type", "Normal"),
        ("source", "example.com/c"),
    ] {
        assert!(
            fields.iter().any(|(f, v)| *f == field && v == value),
            "{field}: {fields:?}"
        );
    }
}
