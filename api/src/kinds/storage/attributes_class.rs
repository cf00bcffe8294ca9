//! VolumeAttributesClass. Source: `pkg/apis/storage/validation`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::parameters;
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta};

pub struct VolumeAttributesClass;

const TYPE: &str = "storage.v1.VolumeAttributesClass";
const DEFAULT_ANNOTATION: &str = "volumeattributesclass.alpha.kubernetes.io/is-default-class";

impl Kind for VolumeAttributesClass {
    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let at = At::root(object, TYPE);
        parameters::driver(&at, "driverName", errors);
        parameters::parameters(&at, true, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        parameters::unchanged(&At::root(new, TYPE), &At::root(old, TYPE), "driverName", errors);
    }

    fn columns(&self) -> &'static [Column] {
        const { &[Column::NAME, Column::string("DriverName"), Column::AGE] }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            parameters::shown_name(object, &[DEFAULT_ANNOTATION]).into(),
            object["driverName"].as_str().unwrap_or_default().into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
        ]
    }
}
