//! `metadata.managedFields`: who manages which fields, since when, through which version and subresource.

use serde_json::{Map, Value};

use super::set::Set;
use crate::cursor::At;
use crate::field::{FieldErrors, quoted};

/// More entries of updates than this are folded into [`ANCIENT`], the oldest first.
pub const MAX_UPDATERS: usize = 10;
/// The manager of entries that were folded together.
pub const ANCIENT: &str = "ancient-changes";
/// The manager of what was there before the first apply.
pub const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// Bytes of a manager's name.
pub const MAX_NAME: usize = 128;
/// Bytes of a subresource's name in an entry.
pub const MAX_SUBRESOURCE: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Manager {
    pub name: String,
    pub operation: Operation,
    /// The version whose paths `fields` has.
    pub api_version: String,
    /// Empty for the main resource.
    pub subresource: String,
    /// RFC 3339 with seconds.
    pub time: Option<String>,
    pub fields: Set,
}

impl Manager {
    /// Whether both are entries of the same manager. An applier is the same in all versions.
    pub fn is(&self, other: &Self) -> bool {
        self.name == other.name
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// As conflicts name it: `"kubectl" with subresource "scale" using apps/v1`.
    pub fn shown(&self) -> String {
        let mut out = quoted(&self.name);
        if !self.subresource.is_empty() {
            out.push_str(&format!(" with subresource {}", quoted(&self.subresource)));
        }
        if self.operation == Operation::Update {
            out.push_str(&format!(" using {}", self.api_version));
        }
        out
    }

    /// Order of conflicts and of entries of the same age.
    pub fn order(&self) -> (&str, Operation, &str, &str) {
        (&self.name, self.operation, &self.api_version, &self.subresource)
    }
}

/// Reads the entries of an object's `managedFields` (`null` or a list).
///
/// # Errors
/// The text of the first entry that makes no sense.
pub fn decode(list: &Value) -> Result<Vec<Manager>, String> {
    let mut managers: Vec<Manager> = Vec::new();
    for (place, entry) in list.as_array().into_iter().flatten().enumerate() {
        let text = |name: &str| entry[name].as_str().unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".into()),
        };
        if text("apiVersion").is_empty() {
            return Err("apiVersion must not be empty".into());
        }
        match text("fieldsType") {
            "FieldsV1" => {}
            "" => return Err(format!("missing fieldsType in managed fields entry {place}")),
            other => {
                return Err(format!(
                    "invalid fieldsType {} in managed fields entry {place}",
                    quoted(other)
                ));
            }
        }
        let fields = match &entry["fieldsV1"] {
            Value::Null => Set::default(),
            fields => Set::from_fields(fields).map_err(|e| format!("error decoding set: {e}"))?,
        };
        let manager = Manager {
            name: text("manager").into(),
            operation,
            api_version: text("apiVersion").into(),
            subresource: text("subresource").into(),
            time: entry["time"].as_str().map(str::to_string),
            fields,
        };
        // The last entry of a manager wins.
        match managers.iter_mut().find(|known| known.is(&manager)) {
            Some(known) => *known = manager,
            None => managers.push(manager),
        }
    }
    Ok(managers)
}

/// True when a client asks to forget all managers: an empty list, or one empty entry.
pub fn is_reset(list: &Value) -> bool {
    match list.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([one]) => one
            .as_object()
            .is_some_and(|entry| entry.values().all(Value::is_null)),
        _ => false,
    }
}

/// The list as it is stored, in upstream's order; `null` when nobody manages anything.
pub fn encode(mut managers: Vec<Manager>) -> Value {
    if managers.is_empty() {
        return Value::Null;
    }
    managers.sort_by(|a, b| {
        let age = |m: &Manager| (m.operation, m.time.clone());
        age(a).cmp(&age(b)).then_with(|| a.order().cmp(&b.order()))
    });
    managers.into_iter().map(entry).collect()
}

fn entry(manager: Manager) -> Value {
    let mut entry = Map::new();
    let mut put = |name: &str, text: String| {
        if !text.is_empty() {
            entry.insert(name.into(), text.into());
        }
    };
    put("manager", manager.name);
    put("operation", manager.operation.as_str().into());
    put("apiVersion", manager.api_version);
    put("time", manager.time.unwrap_or_default());
    put("fieldsType", "FieldsV1".into());
    put("subresource", manager.subresource);
    entry.insert("fieldsV1".into(), manager.fields.to_fields());
    Value::Object(entry)
}

/// Folds the oldest updates into one entry a version, until [`MAX_UPDATERS`] are left.
pub fn cap(managers: &mut Vec<Manager>) {
    let updates = |managers: &[Manager]| {
        managers
            .iter()
            .filter(|m| m.operation == Operation::Update)
            .count()
    };
    let mut left = updates(managers);
    if left <= MAX_UPDATERS {
        return;
    }
    let mut order: Vec<Manager> = managers
        .iter()
        .filter(|m| m.operation == Operation::Update)
        .cloned()
        .collect();
    order.sort_by(|a, b| a.time.cmp(&b.time).then_with(|| a.order().cmp(&b.order())));
    let mut first: Vec<Manager> = Vec::new();
    for old in order {
        if left <= MAX_UPDATERS {
            return;
        }
        let Some(oldest) = first.iter().find(|f| f.api_version == old.api_version).cloned() else {
            first.push(old);
            continue;
        };
        let bucket = Manager {
            name: ANCIENT.into(),
            operation: Operation::Update,
            api_version: old.api_version.clone(),
            subresource: String::new(),
            time: old.time.clone(),
            fields: Set::default(),
        };
        if !managers.iter().any(|m| m.is(&bucket))
            && let Some(known) = managers.iter_mut().find(|m| m.is(&oldest))
        {
            known.name = ANCIENT.into();
            known.subresource.clear();
        }
        if old.is(&bucket) {
            continue;
        }
        if let Some(known) = managers.iter_mut().find(|m| m.is(&bucket)) {
            known.fields = known.fields.union(&old.fields);
            known.time = old.time.clone();
        }
        managers.retain(|m| !m.is(&old));
        left -= 1;
    }
}

/// Checks entries a client gave. Source: `ValidateManagedFields` of upstream's `meta/v1/validation`.
pub fn validate(metadata: &At<'_>, errors: &mut FieldErrors) {
    for entry in metadata.items("managedFields") {
        let operation = entry.str("operation");
        if !matches!(operation, "Apply" | "Update") {
            errors.invalid(entry.path("operation"), operation, "must be `Apply` or `Update`");
        }
        let fields_type = entry.str("fieldsType");
        if !matches!(fields_type, "" | "FieldsV1") {
            errors.invalid(entry.path("fieldsType"), fields_type, "must be `FieldsV1`");
        }
        validate_name(entry.path("manager"), entry.str("manager"), errors);
        if entry.str("subresource").len() > MAX_SUBRESOURCE {
            errors.too_long(entry.path("subresource"), MAX_SUBRESOURCE);
        }
    }
}

/// Checks a `fieldManager`. Empty means that none was given.
pub fn validate_name(field: impl std::fmt::Display, name: &str, errors: &mut FieldErrors) {
    let field = field.to_string();
    if name.len() > MAX_NAME {
        errors.too_long(&field, MAX_NAME);
    }
    for (at, c) in name.char_indices().filter(|(_, c)| !is_printable(*c)) {
        let text = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        errors.invalid(&field, name, &text);
    }
}

/// The manager a client is known by when it names none: its user agent up to the first slash.
pub fn from_user_agent(agent: &str) -> String {
    let mut name = String::new();
    for c in agent.split('/').next().unwrap_or_default().chars() {
        if !is_printable(c) {
            continue;
        }
        if name.len() + c.len_utf8() > MAX_NAME {
            break;
        }
        name.push(c);
    }
    name
}

/// Go's notion as far as names of programs go: no control characters, and of white space only the blank.
fn is_printable(c: char) -> bool {
    c == ' '
        || !(c.is_control()
            || c.is_whitespace()
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{feff}' | '\u{e000}'..='\u{f8ff}'))
}

/// `list` with the times of `old`, when nothing but times differs.
pub fn with_times_of(list: &Value, old: &Value) -> Option<Value> {
    let (new_entries, old_entries) = (list.as_array()?, old.as_array()?);
    let timeless = |entry: &Value| -> Vec<(String, Value)> {
        entry
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| *name != "time")
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    let same = new_entries.len() == old_entries.len()
        && new_entries
            .iter()
            .zip(old_entries)
            .all(|(a, b)| timeless(a) == timeless(b));
    (same && list != old).then(|| old.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn updater(name: &str, second: usize, field: &str) -> Manager {
        Manager {
            name: name.into(),
            operation: Operation::Update,
            api_version: "v1".into(),
            subresource: String::new(),
            time: Some(format!("2026-01-01T00:00:{second:02}Z")),
            fields: Set::of(&["data", field]),
        }
    }

    #[test]
    fn the_oldest_updates_are_folded() {
        let mut managers: Vec<Manager> = (0..12)
            .map(|n| updater(&format!("m{n}"), n, &format!("f{n}")))
            .collect();
        cap(&mut managers);
        assert_eq!(managers.len(), MAX_UPDATERS);
        let ancient = managers.iter().find(|m| m.name == ANCIENT).expect("a bucket");
        assert_eq!(ancient.fields.paths(), [".data.f0", ".data.f1", ".data.f2"]);
        assert_eq!(ancient.time.as_deref(), Some("2026-01-01T00:00:02Z"));
        managers.push(updater("m12", 12, "f12"));
        cap(&mut managers);
        assert_eq!(managers.len(), MAX_UPDATERS);
        let ancient = managers.iter().find(|m| m.name == ANCIENT).expect("a bucket");
        assert_eq!(ancient.fields.len(), 4);
    }

    #[test]
    fn entries_go_round_in_order() {
        let mut managers = vec![updater("b", 2, "x"), updater("a", 2, "y"), updater("c", 1, "z")];
        managers.push(Manager {
            operation: Operation::Apply,
            ..updater("z", 9, "w")
        });
        let list = encode(managers.clone());
        let names: Vec<&str> = list
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|e| e["manager"].as_str())
            .collect();
        assert_eq!(names, ["z", "c", "a", "b"]);
        assert_eq!(encode(decode(&list).expect("good entries")), list);
        assert_eq!(
            list[0],
            json!({"manager": "z", "operation": "Apply", "apiVersion": "v1", "time": "2026-01-01T00:00:09Z",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:w": {}}}})
        );
    }

    #[test]
    fn resets_and_bad_entries() {
        assert!(is_reset(&json!([])) && is_reset(&json!([{}])));
        assert!(!is_reset(&Value::Null) && !is_reset(&json!([{"manager": "a"}])));
        for (entry, want) in [
            (json!({}), "operation must be `Apply` or `Update`"),
            (json!({"operation": "Update"}), "apiVersion must not be empty"),
            (
                json!({"operation": "Update", "apiVersion": "v1"}),
                "missing fieldsType in managed fields entry 0",
            ),
            (
                json!({"operation": "Update", "apiVersion": "v1", "fieldsType": "X"}),
                "invalid fieldsType \"X\" in managed fields entry 0",
            ),
        ] {
            assert_eq!(decode(&json!([entry])), Err(want.to_string()));
        }
    }

    #[test]
    fn names_of_clients() {
        assert_eq!(
            from_user_agent("kubectl/v1.33.0 (linux/amd64) kubernetes/abc"),
            "kubectl"
        );
        assert_eq!(from_user_agent("a\u{7}b"), "ab");
        assert_eq!(from_user_agent(&"x".repeat(200)).len(), MAX_NAME);
        let mut errors = FieldErrors::default();
        validate_name("fieldManager", "a\nb", &mut errors);
        assert_eq!(
            errors.aggregate(),
            "fieldManager: Invalid value: \"a\\nb\": invalid character U+000A (at position 1)"
        );
    }
}
