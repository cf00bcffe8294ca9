//! PriorityLevelConfiguration. Source: `pkg/apis/flowcontrol`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::suggested;
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{child, child_or_new, default_number, has};
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta};

pub struct PriorityLevelConfiguration;

const TYPE: &str = "flowcontrol.v1.PriorityLevelConfiguration";
const MAX_QUEUES: i64 = 10_000_000;
/// Bits a hash may spend on choosing queues.
const MAX_HASH_BITS: i64 = 60;

fn default_if_absent(object: &mut Map<String, Value>, field: &str, value: i64) {
    if !has(object, field) {
        object.insert(field.into(), value.into());
    }
}

impl Kind for PriorityLevelConfiguration {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        let spec = child_or_new(object, "spec");
        if let Some(exempt) = child(spec, "exempt") {
            default_if_absent(exempt, "nominalConcurrencyShares", 0);
            default_if_absent(exempt, "lendablePercent", 0);
        }
        if let Some(limited) = child(spec, "limited") {
            default_if_absent(limited, "nominalConcurrencyShares", 30);
            default_if_absent(limited, "lendablePercent", 0);
            if let Some(queuing) = child(limited, "limitResponse").and_then(|r| child(r, "queuing")) {
                default_number(queuing, "handSize", 8);
                default_number(queuing, "queues", 64);
                default_number(queuing, "queueLengthLimit", 50);
            }
        }
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert("status".into(), json!({}));
    }

    fn prepare_status_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        super::only_conditions(new, old);
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let at = At::root(object, TYPE);
        let (spec, name) = (at.at("spec"), meta::name(object));
        let kind = spec.str("type");
        if (name == "exempt") != (kind == "Exempt") {
            errors.invalid(
                spec.path("type"),
                kind,
                "type must be 'Exempt' if and only if name is 'exempt'",
            );
        }
        match (kind, spec.opt("exempt"), spec.opt("limited")) {
            ("Exempt", exempt, limited) => {
                if limited.is_some() {
                    errors.forbidden(spec.path("limited"), "must be nil if the type is not Limited");
                }
                if let Some(exempt) = exempt {
                    shares(&exempt, errors);
                    lendable(&exempt, errors);
                }
            }
            ("Limited", exempt, limited) => {
                if exempt.is_some() {
                    errors.forbidden(spec.path("exempt"), "must be nil if the type is Limited");
                }
                match limited {
                    None => errors.required(spec.path("limited"), "must not be empty when type is Limited"),
                    Some(limited) => validate_limited(&limited, errors),
                }
            }
            _ => errors.not_supported(spec.path("type"), kind, &["Exempt", "Limited"]),
        }
        is_fixed(&spec, name, errors);
        super::conditions(&at.at("status"), errors);
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, errors: &mut FieldErrors) {
        super::conditions(&At::root(new, TYPE).at("status"), errors);
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Type"),
                Column::string("NominalConcurrencyShares"),
                Column::string("Queues"),
                Column::string("HandSize"),
                Column::string("QueueLengthLimit"),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let limited = &object["spec"]["limited"];
        let queuing = &limited["limitResponse"]["queuing"];
        let number = |owner: &Value, field: &str| match owner[field].as_i64() {
            Some(number) => Value::from(number),
            None => "<none>".into(),
        };
        vec![
            meta::name(object).into(),
            object["spec"]["type"].as_str().unwrap_or_default().into(),
            number(limited, "nominalConcurrencyShares"),
            number(queuing, "queues"),
            number(queuing, "handSize"),
            number(queuing, "queueLengthLimit"),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }
}

/// Mandatory levels are as they are; of `exempt` the field of that name may change.
fn is_fixed(spec: &At<'_>, name: &str, errors: &mut FieldErrors) {
    let Some(fixed) = suggested::fixed(suggested::priority_levels(), name) else {
        return;
    };
    let (same, except) = if name == "exempt" {
        let without = |spec: &Value| {
            let mut spec = spec.clone();
            if let Some(map) = spec.as_object_mut() {
                map.remove("exempt");
            }
            spec
        };
        (
            without(fixed) == without(spec.value),
            " except the 'spec.exempt' field",
        )
    } else {
        (fixed == spec.value, "")
    };
    if !same {
        errors.invalid(
            spec,
            spec.value.clone(),
            &format!("spec of '{name}'{except} must equal the fixed value"),
        );
    }
}

fn shares(at: &At<'_>, errors: &mut FieldErrors) {
    let value = at.int("nominalConcurrencyShares");
    if value < 0 {
        errors.invalid(
            at.path("nominalConcurrencyShares"),
            value,
            "must be a non-negative integer",
        );
    }
}

fn lendable(at: &At<'_>, errors: &mut FieldErrors) {
    if let Some(percent) = at.opt_int("lendablePercent")
        && !(0..=100).contains(&percent)
    {
        errors.invalid(
            at.path("lendablePercent"),
            percent,
            "must be between 0 and 100, inclusive",
        );
    }
}

fn validate_limited(limited: &At<'_>, errors: &mut FieldErrors) {
    shares(limited, errors);
    let response = limited.at("limitResponse");
    let kind = response.str("type");
    match (kind, response.opt("queuing")) {
        ("Reject", Some(_)) => errors.forbidden(
            response.path("queuing"),
            "must be nil if limited.limitResponse.type is not Limited",
        ),
        ("Queue", None) => errors.required(
            response.path("queuing"),
            "must not be empty if limited.limitResponse.type is Limited",
        ),
        ("Queue", Some(queuing)) => validate_queuing(&queuing, errors),
        ("Reject", None) => {}
        _ => errors.not_supported(response.path("type"), kind, &["Queue", "Reject"]),
    }
    lendable(limited, errors);
    if let Some(percent) = limited.opt_int("borrowingLimitPercent")
        && percent < 0
    {
        errors.invalid(
            limited.path("borrowingLimitPercent"),
            percent,
            "if specified, must be a non-negative integer",
        );
    }
}

fn validate_queuing(at: &At<'_>, errors: &mut FieldErrors) {
    const POSITIVE: &str = "must be positive";
    let (queues, hand) = (at.int("queues"), at.int("handSize"));
    if at.int("queueLengthLimit") <= 0 {
        errors.invalid(at.path("queueLengthLimit"), at.int("queueLengthLimit"), POSITIVE);
    }
    if queues <= 0 {
        errors.invalid(at.path("queues"), queues, POSITIVE);
    } else if queues > MAX_QUEUES {
        errors.invalid(
            at.path("queues"),
            queues,
            &format!("must not be greater than {MAX_QUEUES}"),
        );
    }
    if hand <= 0 {
        errors.invalid(at.path("handSize"), hand, POSITIVE);
    } else if hand > queues {
        errors.invalid(
            at.path("handSize"),
            hand,
            &format!("should not be greater than queues ({queues})"),
        );
    } else if entropy_bits(queues, hand) > MAX_HASH_BITS {
        errors.invalid(
            at.path("handSize"),
            hand,
            &format!(
                "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MAX_HASH_BITS}"
            ),
        );
    }
}

/// Bits needed to deal a hand of `hand` queues from `queues`.
fn entropy_bits(queues: i64, hand: i64) -> i64 {
    ((queues as f64).log2() * hand as f64).ceil() as i64
}
