//! Server-side apply: applying the same configuration again changes nothing, neither the object nor who owns its fields.
#![no_main]

use corten_api::FieldValidation;
use corten_api::apply::track::{Reset, Versions, Writer, apply};
use corten_api::schema::decode::parse_json;
use corten_api::schema::view::View;
use corten_fuzz::{bounded, deployment};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// One version, and no other.
struct Only<'a>(&'a str, View<'a>);

impl Versions for Only<'_> {
    fn convert(&self, object: &Value, from: &str, to: &str) -> Option<Value> {
        (from == self.0 && to == self.0).then(|| object.clone())
    }

    fn view(&self, api_version: &str) -> Option<View<'_>> {
        (api_version == self.0).then_some(self.1)
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(config) = parse_json(data) else { return };
    if !config.is_object() {
        return;
    }
    let (kind, live) = deployment();
    let zero = kind
        .decode(b"{}", FieldValidation::Ignore)
        .expect("an empty object")
        .value;
    let api_version = kind.api_version();
    let versions = Only(&api_version, kind.view());
    let reset = Reset::default();
    let writer = Writer {
        view: kind.view(),
        api_version: &api_version,
        versions: &versions,
        name: "fuzz",
        subresource: "",
        now: "2026-01-01T00:00:00Z",
        reset: &reset,
    };
    let once = bounded(data.len() + 1024, 32 * 1024, || {
        apply(&writer, &live, &zero, Vec::new(), &config, true)
    });
    let Ok((object, managers)) = once else { return };
    let Ok(object) = kind.conform(&object, FieldValidation::Strict) else {
        return;
    };
    let twice = apply(&writer, &object.value, &zero, managers.clone(), &config, true);
    let (again, same_managers) = twice.expect("what was applied can be applied again");
    let again = kind.conform(&again, FieldValidation::Strict);
    assert_eq!(
        again.map(|own| own.value).map_err(|misfit| misfit.text),
        Ok(object.value)
    );
    assert_eq!(same_managers, managers);
});
