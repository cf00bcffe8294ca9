//! Device classes, claims, their templates and slices as a 1.36 server treats them.

mod claims;
#[path = "../common/mod.rs"]
mod common;
mod slices;

use common::{
    DNS_LABEL, DNS_SUBDOMAIN, Name, QUALIFIED, aged, columns, golden, invalid, known_as, refused,
    refused_part, resource, stored, update,
};
use corten_api::resource::Subresource;
use corten_api::selector::FieldSelector;
use serde_json::{Value, json};

const API: &str = "resource.k8s.io/v1";
const CLASS: Name<'static> = (API, "DeviceClass");
const CLAIM: Name<'static> = (API, "ResourceClaim");
const TEMPLATE: Name<'static> = (API, "ResourceClaimTemplate");
const SLICE: Name<'static> = (API, "ResourceSlice");

const REFERENCE: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
const C_IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";

fn claim() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {"devices": {
        "requests": [
            {"name": "r", "exactly": {"deviceClassName": "c"}},
            {"name": "s", "firstAvailable": [{"name": "x", "deviceClassName": "c"}]},
        ],
        "constraints": [{"requests": ["r"], "matchAttribute": "d.io/m"}],
        "config": [{"requests": ["s/x"], "opaque": {"driver": "d.io", "parameters": {"a": 1}}}],
    }}})
}

fn class() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {
        "selectors": [{"cel": {"expression": "true"}}],
        "config": [{"opaque": {"driver": "d.io", "parameters": {}}}],
        "extendedResourceName": "a.io/gpu",
    }})
}

fn template() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {"metadata": {"labels": {"a": "b"}}, "spec": claim()["spec"]}})
}

fn slice() -> Value {
    json!({"metadata": {"name": "a"}, "spec": {
        "driver": "d.io", "nodeName": "n",
        "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
        "devices": [{
            "name": "d", "attributes": {"m": {"string": "x"}}, "capacity": {"mem": {"value": "1Gi"}},
        }],
    }})
}

fn shareable() -> Value {
    let mut slice = slice();
    slice["spec"]["devices"][0]["allowMultipleAllocations"] = true.into();
    slice["spec"]["devices"][0]["capacity"] = json!({"mem": {"value": "10", "requestPolicy": {}}});
    slice
}

#[test]
fn defaults() {
    let full_spec = {
        let mut spec = claim()["spec"].clone();
        spec["devices"]["requests"][0]["exactly"] =
            json!({"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1});
        spec["devices"]["requests"][1]["firstAvailable"][0] =
            json!({"name": "x", "deviceClassName": "c", "allocationMode": "ExactCount", "count": 1});
        spec
    };
    golden(
        CLAIM,
        claim(),
        json!({"metadata": {"name": "a"}, "spec": full_spec, "status": {}}),
    );
    golden(
        TEMPLATE,
        template(),
        json!({"metadata": {"name": "a"}, "spec": {"metadata": {"labels": {"a": "b"}}, "spec": full_spec}}),
    );
    golden(
        CLAIM,
        json!({"metadata": {"name": "a"}, "spec": {"devices": {"requests": [
            {"name": "r", "exactly": {"deviceClassName": "c", "allocationMode": "All", "tolerations": [{"key": "k"}]}},
        ]}}}),
        json!({"metadata": {"name": "a"}, "status": {}, "spec": {"devices": {"requests": [
            {"name": "r", "exactly": {"deviceClassName": "c", "allocationMode": "All", "tolerations": [{"key": "k", "operator": "Equal"}]}},
        ]}}}),
    );
    let mut want = class();
    want["metadata"]["generation"] = 1.into();
    golden(CLASS, class(), want);
    let mut want = slice();
    want["metadata"]["generation"] = 1.into();
    golden(SLICE, slice(), want);
    let mut tainted = slice();
    tainted["spec"]["devices"][0]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]);
    let mut want = tainted.clone();
    want["metadata"]["generation"] = 1.into();
    want["spec"]["devices"][0]["taints"][0]["timeAdded"] = "2026-01-01T00:00:00Z".into();
    golden(SLICE, tainted, want);
}

#[test]
fn known() {
    known_as(CLASS, false, &[], &[]);
    known_as(CLAIM, true, &[], &["status"]);
    known_as(TEMPLATE, true, &[], &[]);
    known_as(SLICE, false, &[], &[]);
    let names = resource(SLICE).selectable_names();
    assert_eq!(names, ["metadata.name", "spec.nodeName", "spec.driver"]);
    let unknown = FieldSelector::parse("spec.pool=a").unwrap();
    assert_eq!(
        resource(SLICE)
            .check_field_selector(&unknown)
            .unwrap_err()
            .message,
        "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: spec.pool"
    );
}

fn allocation() -> Value {
    json!({"devices": {"results": [{"request": "r", "driver": "d.io", "pool": "p", "device": "d"}]}})
}

#[test]
fn updates() {
    let old = stored(CLAIM, &claim());
    let causes = |name, old: &Value, patch: Value| {
        common::causes(update(name, old, patch, Subresource::Main).unwrap_err())
    };
    for (name, body) in [(CLAIM, claim()), (TEMPLATE, template())] {
        let old = stored(name, &body);
        let pointer = if name == CLAIM { "devices" } else { "spec" };
        let got = causes(name, &old, json!({"spec": {pointer: null}}));
        assert!(
            got[0].starts_with("spec|Invalid|") && got[0].ends_with("field is immutable"),
            "{got:?}"
        );
    }
    // The status path keeps spec and labels; an allocation stays what it is until it goes.
    let patch = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"devices": null}, "status": {"allocation": allocation()}});
    let allocated = update(CLAIM, &old, patch, Subresource::Status).unwrap();
    assert_eq!(
        (&allocated["spec"], &allocated["metadata"]["labels"]),
        (&old["spec"], &Value::Null)
    );
    let other = json!({"status": {"allocation": {"devices": {"results": [{"request": "r", "driver": "d.io", "pool": "p", "device": "e"}]}}}});
    let got = common::causes(update(CLAIM, &allocated, other, Subresource::Status).unwrap_err());
    assert!(
        got[0].starts_with("status.allocation|Invalid|") && got[0].ends_with("field is immutable"),
        "{got:?}"
    );
    let device =
        json!({"status": {"devices": [{"driver": "d.io", "pool": "p", "device": "d", "conditions": []}]}});
    let reported = update(CLAIM, &allocated, device, Subresource::Status).unwrap();
    let gone = update(
        CLAIM,
        &reported,
        json!({"status": {"allocation": null}}),
        Subresource::Status,
    )
    .unwrap();
    assert_eq!(gone["status"], json!({}));

    let old = stored(SLICE, &slice());
    refused(
        SLICE,
        &old,
        json!({"spec": {"driver": "e.io", "nodeName": "m", "pool": {"name": "q"}}}),
        &[
            "spec.pool.name|Invalid|Invalid value: \"q\": field is immutable",
            "spec.driver|Invalid|Invalid value: \"e.io\": field is immutable",
            "spec.nodeName|Invalid|Invalid value: \"m\": field is immutable",
        ],
    );
    let patch =
        json!({"spec": {"devices": [{"name": "d", "taints": [{"key": "k", "effect": "NoExecute"}]}]}});
    let new = update(SLICE, &old, patch, Subresource::Main).unwrap();
    assert_eq!(new["metadata"]["generation"], 2);
    assert_eq!(
        new["spec"]["devices"][0]["taints"][0]["timeAdded"],
        "2026-01-01T01:00:00Z"
    );
    let old = stored(CLASS, &class());
    let new = update(
        CLASS,
        &old,
        json!({"spec": {"selectors": null}}),
        Subresource::Main,
    )
    .unwrap();
    assert_eq!(new["metadata"]["generation"], 2);
}

#[test]
fn shown() {
    for (name, body) in [(CLASS, class()), (TEMPLATE, template())] {
        let mut object = body;
        object["metadata"] = aged("a");
        columns(name, object, &["Name=a", "Age=5m"]);
    }
    let mut object = claim();
    object["metadata"] = aged("a");
    columns(CLAIM, object.clone(), &["Name=a", "State=pending", "Age=5m"]);
    object["status"] =
        json!({"allocation": allocation(), "reservedFor": [{"resource": "pods", "name": "p", "uid": "1"}]});
    columns(
        CLAIM,
        object.clone(),
        &["Name=a", "State=allocated,reserved", "Age=5m"],
    );
    object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    object["status"] = json!({});
    columns(CLAIM, object, &["Name=a", "State=deleted", "Age=5m"]);
    let mut object = slice();
    object["metadata"] = aged("a");
    columns(
        SLICE,
        object,
        &["Name=a", "Node=n", "Driver=d.io", "Pool=p", "Age=5m"],
    );
}
