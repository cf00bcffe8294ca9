//! CertificateSigningRequest. Source: `pkg/apis/certificates`, `pkg/registry/certificates/certificates`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{conditions, request, signer};
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child, child_or_new};
use crate::resource::{Kind, Requester, Subresource, keep};
use crate::table::Column;
use crate::{humanize, meta};

pub struct CertificateSigningRequest;

const TYPE: &str = "certificates.v1.CertificateSigningRequest";
/// The signer of requests from before signers had names.
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
/// Seconds a certificate lives at least.
const MIN_EXPIRATION: i64 = 600;
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

impl Kind for CertificateSigningRequest {
    fn prepare_create(&self, object: &mut Map<String, Value>) {
        let spec = child_or_new(object, "spec");
        for field in ["username", "uid", "groups", "extra"] {
            spec.remove(field);
        }
        object.insert("status".into(), json!({}));
    }

    fn stamp_create(&self, object: &mut Map<String, Value>, requester: &Requester) {
        let spec = child_or_new(object, "spec");
        for (field, text) in [("username", &requester.name), ("uid", &requester.uid)] {
            if !text.is_empty() {
                spec.insert(field.into(), text.as_str().into());
            }
        }
        if !requester.groups.is_empty() {
            spec.insert("groups".into(), json!(requester.groups));
        }
        if !requester.extra.is_empty() {
            spec.insert("extra".into(), json!(requester.extra));
        }
    }

    fn stamp_update(
        &self,
        part: Subresource,
        new: &mut Map<String, Value>,
        old: &Map<String, Value>,
        now: Timestamp,
    ) {
        if !matches!(part, Subresource::Status | Subresource::Approval) {
            return;
        }
        let before: &[Value] = old
            .get("status")
            .and_then(|status| status["conditions"].as_array())
            .map_or(&[], Vec::as_slice);
        let Some(list) = child(new, "status").and_then(|s| s.get_mut("conditions")?.as_array_mut()) else {
            return;
        };
        if part == Subresource::Status {
            conditions::preserve_approvals(list, before);
        }
        conditions::stamp(list, before, now);
    }

    fn prepare_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        keep(new, old, "spec");
        keep(new, old, "status");
    }

    fn prepare_part(&self, _part: Subresource, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        keep(new, old, "spec");
        let sent = child(new, "status").and_then(|s| s.remove("conditions"));
        keep(new, old, "status");
        let status = child_or_new(new, "status");
        match sent {
            Some(sent) => status.insert("conditions".into(), sent),
            None => status.remove("conditions"),
        };
    }

    // Any name will do; that it can be part of a URL is checked for all kinds.
    fn name_rule(&self) -> fn(&str) -> Vec<String> {
        |_| Vec::new()
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        validate(object, None, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        validate(new, Some(old), errors);
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        validate(new, Some(old), errors);
        conditions::validate_update(new, old, false, errors);
        let (wanted, stored) = (certificate(new), certificate(old));
        if wanted != stored && !stored.is_empty() {
            errors.forbidden(
                "status.certificate",
                "updates may not modify existing certificate content",
            );
        }
    }

    fn validate_part(&self, _part: Subresource, new: &Value, old: &Value, errors: &mut FieldErrors) {
        validate(new, Some(old), errors);
        conditions::validate_update(new, old, true, errors);
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::AGE,
                Column::string("SignerName"),
                Column::string("Requestor"),
                Column::string("RequestedDuration"),
                Column::string("Condition"),
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = At::root(object, TYPE).at("spec");
        let signer = match spec.str("signerName") {
            "" => "<none>",
            name => name,
        };
        let duration = spec
            .opt_int("expirationSeconds")
            .map_or("<none>".into(), humanize::duration);
        vec![
            meta::name(object).into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
            signer.into(),
            spec.str("username").into(),
            duration.into(),
            condition(object).into(),
        ]
    }

    fn selectable_names(&self) -> &'static [&'static str] {
        &["spec.signerName"]
    }

    fn selectable(&self, object: &Value, _field: &str) -> String {
        object["spec"]["signerName"].as_str().unwrap_or_default().into()
    }
}

fn certificate(object: &Value) -> &str {
    object["status"]["certificate"].as_str().unwrap_or_default()
}

/// Checks a whole request. Faults that the stored object already has are tolerated.
fn validate(object: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(object, TYPE);
    let spec = at.at("spec");
    if let Err(why) = request::check(spec.str("request")) {
        errors.invalid(spec.path("request"), spec.get("request").clone(), &why);
    }
    usages(&spec, old, errors);
    let signer = spec.str("signerName");
    let was_legacy = old.is_some_and(|old| old["spec"]["signerName"] == LEGACY_SIGNER);
    if signer == LEGACY_SIGNER && !was_legacy {
        errors.invalid(
            spec.path("signerName"),
            signer,
            "the legacy signerName is not allowed via this API version",
        );
    } else {
        signer::name(spec.path("signerName"), signer, errors);
    }
    if let Some(seconds) = spec.opt_int("expirationSeconds")
        && seconds < MIN_EXPIRATION
    {
        errors.invalid(
            spec.path("expirationSeconds"),
            seconds,
            "may not specify a duration less than 600 seconds (10 minutes)",
        );
    }
    conditions::validate(&at.at("status"), old, errors);
    let tolerated = old.is_some_and(|old| {
        certificate(old) == certificate(object) || request::check_certificates(certificate(old)).is_err()
    });
    if !tolerated && let Err(why) = request::check_certificates(certificate(object)) {
        errors.invalid("status.certificate", "<certificate data>", &why);
    }
}

fn usages(spec: &At<'_>, old: Option<&Value>, errors: &mut FieldErrors) {
    let had: Vec<&str> = old
        .and_then(|old| old["spec"]["usages"].as_array())
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let distinct: BTreeSet<&str> = had.iter().copied().collect();
    if spec.count("usages") == 0 {
        errors.required(spec.path("usages"), "");
    }
    if had.iter().all(|usage| USAGES.contains(usage)) {
        for usage in spec.items("usages") {
            if !USAGES.contains(&usage.text()) {
                errors.not_supported(&usage, usage.text(), &USAGES);
            }
        }
    }
    if distinct.len() == had.len() {
        let mut seen = BTreeSet::new();
        for usage in spec.items("usages") {
            if !seen.insert(usage.text()) {
                errors.duplicate(&usage, usage.text());
            }
        }
    }
}

/// `Approved,Issued`: how far the request is.
fn condition(object: &Value) -> String {
    let has = |kind: &str| conditions::of(object).iter().any(|c| c["type"] == kind);
    let mut text = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_string();
    if has("Failed") {
        text.push_str(",Failed");
    }
    if !certificate(object).is_empty() {
        text.push_str(",Issued");
    }
    text
}
