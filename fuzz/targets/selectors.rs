//! Label and field selectors: what is printed is read as the same selector.
#![no_main]

use corten_api::selector::{FieldSelector, LabelSelector};
use corten_fuzz::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(labels) = bounded(text.len(), 512, || LabelSelector::parse(text)) {
        let printed = labels.to_string();
        let again = LabelSelector::parse(&printed).expect("what is printed can be read");
        assert_eq!(again.to_string(), printed, "{text:?}");
        let empty = serde_json::Map::new();
        assert_eq!(labels.matches(&empty), again.matches(&empty), "{text:?}");
    }
    if let Ok(fields) = bounded(text.len(), 512, || FieldSelector::parse(text)) {
        let printed = fields.to_string();
        let again = FieldSelector::parse(&printed).expect("what is printed can be read");
        assert_eq!(again.to_string(), printed, "{text:?}");
        assert_eq!(
            fields.matches(|_| Some("a")),
            again.matches(|_| Some("a")),
            "{text:?}"
        );
    }
});
