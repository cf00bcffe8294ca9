//! What the questions of authorization.k8s.io and the requests for tokens must say.

mod common;

use common::{QUALIFIED, known_as, resource};
use corten_api::field::FieldErrors;
use corten_api::kinds::authentication::token_request;
use corten_api::kinds::authorization::review;
use serde_json::{Value, json};

const AUTHORIZATION: &str = "authorization.k8s.io/v1";
const AUTHENTICATION: &str = "authentication.k8s.io/v1";

fn lines(errors: FieldErrors) -> Vec<String> {
    let line = |c: corten_api::status::StatusCause| {
        format!(
            "{}|{}|{}",
            c.field,
            c.reason.trim_start_matches("FieldValue"),
            c.message
        )
    };
    errors.causes().into_iter().map(line).collect()
}

#[track_caller]
fn check(kind: &str, body: Value, want: &[&str]) {
    let review = common::decode(resource((AUTHORIZATION, kind)), &body);
    let mut errors = FieldErrors::default();
    review::validate(kind, &review, &mut errors);
    assert_eq!(lines(errors), want, "{kind} {body}");
}

#[test]
fn known() {
    for kind in [
        "SelfSubjectAccessReview",
        "SelfSubjectRulesReview",
        "SubjectAccessReview",
    ] {
        known_as((AUTHORIZATION, kind), false, &[], &[]);
        assert!(resource((AUTHORIZATION, kind)).verbs.iter().eq(["create"].iter()));
    }
    known_as((AUTHORIZATION, "LocalSubjectAccessReview"), true, &[], &[]);
    for kind in ["TokenReview", "SelfSubjectReview"] {
        known_as((AUTHENTICATION, kind), false, &[], &[]);
        assert!(
            resource((AUTHENTICATION, kind))
                .verbs
                .iter()
                .eq(["create"].iter())
        );
    }
}

#[test]
fn questions() {
    const ONE: &str = "spec.resourceAttributes|Invalid|Invalid value: \"null\": exactly one of nonResourceAttributes or resourceAttributes must be specified";
    const WHO: &str =
        "spec.user|Invalid|Invalid value: \"\": at least one of user or group must be specified";
    check("SelfSubjectAccessReview", json!({"spec": {}}), &[ONE]);
    check("SubjectAccessReview", json!({"spec": {}}), &[ONE, WHO]);
    check(
        "SelfSubjectAccessReview",
        json!({"spec": {"resourceAttributes": {}, "nonResourceAttributes": {"path": "/a"}}}),
        &[
            "spec.nonResourceAttributes|Invalid|Invalid value: {\"path\":\"/a\"}: cannot be specified in combination with resourceAttributes",
        ],
    );
    check(
        "SubjectAccessReview",
        json!({"metadata": {"name": "a"}, "spec": {"user": "u", "resourceAttributes": {}}}),
        &["metadata|Invalid|Invalid value: {\"name\":\"a\"}: must be empty"],
    );
    check(
        "SubjectAccessReview",
        json!({"spec": {"groups": ["g"], "resourceAttributes": {}}}),
        &[],
    );
    check(
        "LocalSubjectAccessReview",
        json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"user": "u", "nonResourceAttributes": {"path": "/a"}}}),
        &[
            "metadata|Invalid|Invalid value: {\"name\":\"a\",\"namespace\":\"n\"}: must be empty except for namespace",
            "spec.nonResourceAttributes|Invalid|Invalid value: {\"path\":\"/a\"}: disallowed on this kind of request",
        ],
    );
    check(
        "LocalSubjectAccessReview",
        json!({"metadata": {"namespace": "n"}, "spec": {"user": "u", "resourceAttributes": {"namespace": "m"}}}),
        &["spec.resourceAttributes.namespace|Invalid|Invalid value: \"m\": must match metadata.namespace"],
    );
}

#[test]
fn selectors() {
    let check = |field: &str, value: Value, want: &[&str]| {
        let body = json!({"spec": {"resourceAttributes": {field: value}}});
        let want: Vec<String> = want
            .iter()
            .map(|w| format!("spec.resourceAttributes.{field}.{w}"))
            .collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        check("SelfSubjectAccessReview", body, &want);
    };
    for field in ["fieldSelector", "labelSelector"] {
        check(field, json!({"rawSelector": "a=b"}), &[]);
        check(
            field,
            json!({}),
            &[&format!(
                "requirements|Required|Required value: when spec.resourceAttributes.{field} is specified, requirements or rawSelector is required"
            )],
        );
        check(
            field,
            json!({"rawSelector": "a=b", "requirements": [{"key": "a", "operator": "In", "values": ["b"]}]}),
            &[
                "rawSelector|Invalid|Invalid value: \"a=b\": may not specified at the same time as requirements",
            ],
        );
        check(
            field,
            json!({"requirements": [{"key": "a", "operator": "In"}, {"key": "a", "operator": "Exists", "values": ["b"]}, {"key": "a", "operator": "New"}]}),
            &[
                "requirements[0].values|Required|Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "requirements[1].values|Forbidden|Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ],
        );
    }
    check(
        "fieldSelector",
        json!({"requirements": [{"key": "", "operator": "Exists"}]}),
        &["requirements[0].key|Required|Required value: must be specified"],
    );
    check(
        "labelSelector",
        json!({"requirements": [{"key": "-", "operator": "Exists"}]}),
        &[&format!(
            "requirements[0].key|Invalid|Invalid value: \"-\": {QUALIFIED}"
        )],
    );
}

#[test]
fn lives_of_tokens() {
    let check = |seconds: Value, want: &[&str]| {
        let mut request = json!({"spec": {"expirationSeconds": seconds}});
        token_request::set_defaults(request.as_object_mut().unwrap());
        let mut errors = FieldErrors::default();
        token_request::validate(&request, &mut errors);
        assert_eq!(lines(errors), want);
    };
    for good in [Value::Null, json!(600), json!(1_i64 << 32)] {
        check(good, &[]);
    }
    check(
        json!(0),
        &["spec.expirationSeconds|Invalid|Invalid value: 0: may not specify a duration less than 10 minutes"],
    );
    check(
        json!((1_i64 << 32) + 1),
        &[
            "spec.expirationSeconds|Invalid|Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds",
        ],
    );
}
