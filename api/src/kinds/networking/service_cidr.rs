//! ServiceCIDR. Source: `pkg/apis/networking/validation`, `pkg/registry/networking/servicecidr`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::go_value::{self, Raw};
use crate::kinds::common::ip;
use crate::kinds::common::rules::IMMUTABLE;
use crate::kinds::common::status;
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta};

pub struct ServiceCIDR;

const TYPE: &str = "networking.v1.ServiceCIDR";

impl Kind for ServiceCIDR {
    // Unlike other kinds, the status is not taken from the old object.
    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn prepare_status_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        status::only_status(new, old);
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        cidrs(object, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let list = |object| {
            let spec = At::root(object, TYPE).at("spec");
            spec.strings("cidrs").collect::<Vec<_>>()
        };
        let (wanted, stored) = (list(new), list(old));
        let spec = At::root(new, TYPE).at("spec");
        let same = |count: usize, errors: &mut FieldErrors| {
            for (idx, cidr) in wanted.iter().enumerate().take(count) {
                if *cidr != stored[idx] {
                    errors.invalid(spec.path("cidrs").index(idx), *cidr, IMMUTABLE);
                }
            }
        };
        match (stored.len(), wanted.len()) {
            (before, after) if before == after => same(before, errors),
            // A second family may be added.
            (1, 2) => {
                same(1, errors);
                cidrs(new, errors);
            }
            _ => errors.invalid(spec.path("cidrs"), go_value::list(spec.get("cidrs")), IMMUTABLE),
        }
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("CIDRs"), Column::AGE] }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = At::root(object, TYPE).at("spec");
        vec![
            meta::name(object).into(),
            spec.strings("cidrs").collect::<Vec<_>>().join(",").into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }
}

fn cidrs(object: &Value, errors: &mut FieldErrors) {
    let spec = At::root(object, TYPE).at("spec");
    match spec.count("cidrs") {
        0 => errors.required(spec.path("cidrs"), "at least one CIDR required"),
        1 | 2 => {
            for cidr in spec.items("cidrs") {
                ip::canonical_cidr(&cidr, cidr.text(), errors);
            }
            let families: Vec<bool> = spec
                .strings("cidrs")
                .filter_map(ip::lenient_cidr)
                .map(|net| net.addr().is_ipv4())
                .collect();
            if families.len() == 2 && families[0] == families[1] {
                errors.invalid(
                    spec.path("cidrs"),
                    go_value::list(spec.get("cidrs")),
                    "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
                );
            }
        }
        _ => errors.invalid(
            spec.path("cidrs"),
            Raw(format!("{{\"CIDRs\":{}}}", spec.get("cidrs"))),
            "may only hold up to 2 values",
        ),
    }
}
