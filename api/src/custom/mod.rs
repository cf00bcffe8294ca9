//! Custom resources: what a CustomResourceDefinition says about its objects.
//!
//! [`types`] makes the served resource types of a definition; [`Custom`] is what is special about one version. Knows
//! structural schemas; must not know how definitions are stored or when they are established.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::field::{FieldErrors, Reason};
use crate::meta;
use crate::resource::{Kind, ResourceType, SubresourceType};
use crate::schema::decode::parse_json;
use crate::schema::view::View;

pub mod cel;
mod columns;
mod conversion;
mod decode;
mod defaults;
pub mod definition;
mod formats;
pub mod json_path;
mod lists;
mod prune;
pub mod publish;
mod scale;
mod schema;
mod validate;
mod view;

pub use columns::PrinterColumn;
pub use conversion::Conversion;
pub(crate) use decode::{conform, decode};
pub use json_path::JsonPath;
pub use scale::ScalePaths;
pub(crate) use schema::pattern as compile;
pub use schema::{Additional, Schema, Shape};

/// The JSON of a schema; `null` for none. Where the bytes of the definition are kept anyway, a part of them: a tree of the
/// same takes six times as much, and is needed for moments.
pub type Text = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// One served version of a custom resource.
pub struct Custom {
    pub list_kind: String,
    /// The schema as its author wrote it.
    source: Text,
    /// The schema with the root marked as a resource, read when the first object is: most definitions of a cluster have no
    /// objects.
    schema: OnceLock<Box<Schema>>,
    /// Some part of the schema has a default.
    has_defaults: bool,
    /// CEL rules, compiled when the first object is checked.
    rules: OnceLock<Option<Box<cel::Rules>>>,
    columns: Vec<PrinterColumn>,
    selectable: Vec<(String, JsonPath)>,
    status: bool,
    pub scale: Option<ScalePaths>,
    /// The version that objects are stored in.
    pub storage: String,
    /// Set when a webhook converts between the versions; else they differ in their name alone.
    pub conversion: Option<Arc<Conversion>>,
    /// The definition is being deleted: nothing new may be made.
    pub terminating: bool,
    /// The warning that answers on this version carry, when it is deprecated.
    pub deprecation: Option<String>,
}

const STATUS: SubresourceType = SubresourceType::status("");
const SUBRESOURCES: [&[SubresourceType]; 4] = [
    &[],
    &[STATUS],
    &[SubresourceType::SCALE],
    &[STATUS, SubresourceType::SCALE],
];

/// The served types of a definition, in the order of discovery: newest and stablest version first.
///
/// # Errors
/// What is wrong with a schema. Validation of definitions finds the same first.
pub fn types(definition: &Value) -> Result<Vec<ResourceType>, String> {
    types_with(definition, |_| None)
}

/// As [`types`]. `text_of` has the schemas by their versions' places in `spec.versions`, if somebody keeps them.
///
/// # Errors
/// As [`types`].
pub fn types_with(
    definition: &Value,
    text_of: impl Fn(usize) -> Option<Text>,
) -> Result<Vec<ResourceType>, String> {
    let spec = &definition["spec"];
    let names = match &definition["status"]["acceptedNames"] {
        accepted if accepted["plural"].as_str().is_some_and(|p| !p.is_empty()) => accepted,
        _ => &spec["names"],
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let strings =
        |value: &Value| -> Vec<String> { value.as_array().into_iter().flatten().map(text).collect() };
    let versions = spec["versions"].as_array().map_or(&[] as &[Value], Vec::as_slice);
    let storage = versions
        .iter()
        .find(|v| v["storage"] == true)
        .map_or("", |v| v["name"].as_str().unwrap_or_default());
    let conversion = Conversion::of(definition, storage).map(Arc::new);
    let group = text(&spec["group"]);
    let mut made = Vec::new();
    let served = versions.iter().enumerate().filter(|(_, v)| v["served"] == true);
    for (idx, version) in served {
        let name = text(&version["name"]);
        let mut custom = Custom::of_version(version, text_of(idx))?;
        custom.list_kind = text(&names["listKind"]);
        custom.terminating = meta::is_deleting(definition);
        custom.storage = storage.to_owned();
        custom.conversion = conversion.clone();
        if version["deprecated"] == true {
            custom.deprecation = Some(match version["deprecationWarning"].as_str() {
                Some(own) => own.to_owned(),
                None => format!("{group}/{name} {} is deprecated", text(&names["kind"])),
            });
        }
        let subresources = SUBRESOURCES[usize::from(custom.status) + 2 * usize::from(custom.scale.is_some())];
        let mut ty = ResourceType::custom(
            [group.clone(), name, text(&names["kind"]), text(&names["plural"])],
            text(&names["singular"]),
            Arc::new(custom),
        );
        ty.namespaced = spec["scope"] == "Namespaced";
        ty.short_names = strings(&names["shortNames"]).into();
        ty.categories = strings(&names["categories"]).into();
        ty.subresources = subresources;
        made.push(ty);
    }
    made.sort_by(|a, b| definition::compare_versions(&b.version, &a.version));
    Ok(made)
}

impl Custom {
    /// Reads an element of `spec.versions`. `text`: its schema, if somebody keeps it.
    ///
    /// # Errors
    /// What is wrong with its schema.
    fn of_version(version: &Value, text: Option<Text>) -> Result<Custom, String> {
        let source = &version["schema"]["openAPIV3Schema"];
        let schema = Schema::parse(source)?;
        let items = |field: &str| version[field].as_array().into_iter().flatten();
        let mut columns: Vec<PrinterColumn> = items("additionalPrinterColumns")
            .filter_map(PrinterColumn::parse)
            .collect();
        if columns.is_empty() {
            columns.push(PrinterColumn::age());
        }
        let selectable = items("selectableFields")
            .filter_map(|field| {
                let path = field["jsonPath"].as_str()?;
                let parsed = JsonPath::parse(path).ok()?;
                Some((path.trim_start_matches('.').to_owned(), parsed))
            })
            .collect();
        Ok(Custom {
            list_kind: String::new(),
            source: text.unwrap_or_else(|| Arc::new(source.to_string())),
            schema: OnceLock::new(),
            has_defaults: schema.any(&|schema| schema.default.is_some()),
            rules: OnceLock::new(),
            columns,
            selectable,
            status: version["subresources"]["status"].is_object(),
            scale: ScalePaths::parse(&version["subresources"]["scale"]),
            storage: String::new(),
            conversion: None,
            terminating: false,
            deprecation: None,
        })
    }

    /// The schema as its author wrote it.
    fn source(&self) -> Value {
        let text: &[u8] = (*self.source).as_ref();
        parse_json(text).expect("the definition was read")
    }

    fn schema(&self) -> &Schema {
        self.schema.get_or_init(|| {
            let own = Schema::parse(&self.source()).expect("it was read when the type was made");
            Box::new(Schema {
                embedded: true,
                ..own
            })
        })
    }

    /// The schema as those see it who walk objects by one.
    pub fn view(&self) -> View<'_> {
        View::dynamic(self.schema())
    }

    /// Fields an object of this type may not have are dropped; their paths come back sorted.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        prune::prune(object, self.schema())
    }

    /// What validation says beyond metadata. Values that `old` had as well are left alone, as upstream ratchets.
    fn check(&self, object: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
        validate::validate(self.schema(), object, old, "", errors);
        if let Some(scale) = &self.scale {
            scale.validate(object, errors);
        }
        validate::embedded(self.schema(), object, errors);
        lists::validate(self.schema(), object, errors);
        self.check_rules(object, old, errors);
    }

    fn rules(&self) -> Option<&cel::Rules> {
        self.rules
            .get_or_init(|| cel::Rules::compile(&self.source()))
            .as_deref()
    }

    /// CEL rules, unless the object is not what they take it for.
    fn check_rules(&self, object: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
        let Some(rules) = self.rules() else { return };
        let blocks = [
            Reason::NotSupported,
            Reason::Required,
            Reason::TooLong,
            Reason::TooMany,
            Reason::TypeInvalid,
        ];
        if errors.errors.iter().any(|error| blocks.contains(&error.reason)) {
            errors.invalid("<nil>", Value::Null, "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation");
            return;
        }
        rules.validate(object, old, errors);
    }
}

/// Checks the default of a schema, which is a value that the schema takes as it is; it must have no unknown fields either.
pub(crate) fn check_default(source: &Value, path: &str, errors: &mut FieldErrors) {
    let (value, Ok(schema)) = (&source["default"], Schema::parse(source)) else {
        return; // told already
    };
    let mut pruned = value.clone();
    let plain = Schema {
        embedded: false,
        ..schema
    };
    if !prune::prune(&mut pruned, &plain).is_empty() {
        errors.invalid(path, value.clone(), "must not have unknown fields");
    }
    defaults::fill(&mut pruned, &plain);
    let before = errors.len();
    validate::validate(&plain, &pruned, None, path, errors);
    if errors.len() == before
        && let Some(rules) = cel::Rules::of_part(source)
    {
        rules.validate_at(path, &pruned, None, errors);
    }
}

impl std::fmt::Debug for Custom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Custom")
            .field("list_kind", &self.list_kind)
            .finish_non_exhaustive()
    }
}

impl Kind for Custom {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        let mut value = Value::Object(std::mem::take(object));
        defaults::drop_nulls(&mut value, self.schema());
        defaults::fill(&mut value, self.schema());
        if let Value::Object(map) = value {
            *object = map;
        }
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        if self.status {
            object.remove("status");
        }
    }

    fn prepare_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        if self.status {
            crate::resource::keep(new, old, "status");
        }
    }

    fn prepare_status_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        let status = new.remove("status");
        let given = new.remove("metadata").unwrap_or_default();
        *new = old.clone();
        match status {
            Some(status) => new.insert("status".into(), status),
            None => new.remove("status"),
        };
        if let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in ["managedFields", "resourceVersion"] {
                match given.get(field) {
                    Some(value) => metadata.insert(field.into(), value.clone()),
                    None => metadata.remove(field),
                };
            }
        }
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        self.check(object, None, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        self.check(new, Some(old), errors);
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        if let (Some(schema), Some(status)) = (self.schema().properties.get("status"), new.get("status")) {
            validate::validate(schema, status, old.get("status"), "status", errors);
        }
        if let Some(scale) = &self.scale {
            scale.validate(new, errors);
        }
        lists::validate(self.schema(), new, errors);
        self.check_rules(new, Some(old), errors);
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn raises_generation(&self, new: &Map<String, Value>, old: &Map<String, Value>) -> bool {
        let wanted = |key: &str| {
            !(matches!(key, "apiVersion" | "kind" | "metadata") || self.status && key == "status")
        };
        let differs = |a: &Map<String, Value>, b: &Map<String, Value>| {
            a.iter()
                .any(|(key, value)| wanted(key) && b.get(key) != Some(value))
        };
        differs(new, old) || differs(old, new)
    }

    fn column_definitions(&self) -> Value {
        let name = json!({"name": "Name", "type": "string", "format": "name", "priority": 0,
            "description": publish::describe("name")});
        std::iter::once(name)
            .chain(self.columns.iter().map(PrinterColumn::definition))
            .collect()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        std::iter::once(meta::name(object).into())
            .chain(self.columns.iter().map(|column| column.cell(object, now)))
            .collect()
    }

    fn own_selectable_names(&self) -> Vec<&str> {
        self.selectable.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn selectable(&self, object: &Value, field: &str) -> String {
        let path = self.selectable.iter().find(|(name, _)| name == field);
        let found = path.and_then(|(_, path)| path.find(object).into_iter().next());
        match found {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
            _ => String::new(),
        }
    }

    fn unknown_selectable(&self, field: &str) -> String {
        format!("field label not supported: {field}")
    }

    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    fn deprecation(&self) -> Option<String> {
        self.deprecation.clone()
    }

    fn open_api(&self) -> Option<Value> {
        Some(self.source()).filter(Value::is_object)
    }

    /// Defaults that came after an object was stored show when it is read.
    fn converts(&self) -> bool {
        self.has_defaults
    }

    fn from_stored(&self, object: &mut Map<String, Value>) {
        self.set_defaults(object);
    }
}
