//! ComponentStatus: deprecated and read-only. Source: `pkg/printers`.

use jiff::Timestamp;
use serde_json::Value;

use crate::meta;
use crate::resource::Kind;
use crate::table::Column;

pub struct ComponentStatus;

impl Kind for ComponentStatus {
    fn deprecation(&self) -> Option<String> {
        Some("v1 ComponentStatus is deprecated in v1.19+".into())
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Status"),
                Column::string("Message"),
                Column::string("Error"),
            ]
        }
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        let conditions = object["conditions"].as_array().into_iter().flatten();
        let healthy = conditions.filter(|c| c["type"] == "Healthy").take(1);
        let text = |value: &Value| -> Value { value.as_str().unwrap_or_default().into() };
        let mut cells = vec![meta::name(object).into(), "Unknown".into(), "".into(), "".into()];
        for condition in healthy {
            cells[1] = if condition["status"] == "True" {
                "Healthy".into()
            } else {
                "Unhealthy".into()
            };
            cells[2] = text(&condition["message"]);
            cells[3] = text(&condition["error"]);
        }
        cells
    }
}
