//! PodTemplate. Source: `pkg/apis/core/validation`, `ValidatePodTemplate`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::pod::template;
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::child_or_new;
use crate::meta;
use crate::resource::Kind;
use crate::table::Column;

pub struct PodTemplate;

impl Kind for PodTemplate {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        template::set_defaults(child_or_new(object, "template"));
    }

    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn generation_fields(&self) -> &'static [&'static str] {
        &["template"]
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        template::validate(&At::root(object, "core.v1.PodTemplate").at("template"), errors);
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        template::warnings(&At::root(object, "core.v1.PodTemplate").at("template"))
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Containers"),
                Column::string("Images"),
                Column::string("Pod Labels"),
            ]
        }
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        let template = &object["template"];
        let list = |field: &str| {
            let containers = template["spec"]["containers"].as_array().into_iter().flatten();
            let texts = containers.filter_map(|c| c[field].as_str());
            texts.collect::<Vec<_>>().join(",")
        };
        vec![
            meta::name(object).into(),
            list("name").into(),
            list("image").into(),
            crate::kinds::format_labels(&template["metadata"]["labels"]).into(),
        ]
    }
}
