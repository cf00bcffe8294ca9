//! Server-side tables (`meta.k8s.io/v1` Table): what `kubectl get` prints.
//!
//! Knows the table's wire form; a kind's columns and cells come from the kind.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{Status, meta, resource::ResourceType};

/// One column. `priority` 0 shows always, 1 only with `-o wide`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: &'static str,
    /// `name` for the column that names the object, else empty.
    pub format: &'static str,
    pub priority: i32,
}

impl Column {
    /// The Name column.
    pub const NAME: Self = Self {
        name: "Name",
        kind: "string",
        format: "name",
        priority: 0,
    };
    /// The Age column.
    pub const AGE: Self = Self::string("Age");

    pub const fn string(name: &'static str) -> Self {
        Self {
            name,
            kind: "string",
            format: "",
            priority: 0,
        }
    }

    pub const fn integer(name: &'static str) -> Self {
        Self {
            name,
            kind: "integer",
            format: "",
            priority: 0,
        }
    }

    /// The column as a Table carries it.
    pub fn definition(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.kind,
            "format": self.format,
            "description": description(self),
            "priority": self.priority,
        })
    }

    pub const fn boolean(name: &'static str) -> Self {
        Self {
            name,
            kind: "boolean",
            format: "",
            priority: 0,
        }
    }

    /// Shown only with `-o wide`.
    pub const fn wide(name: &'static str) -> Self {
        Self {
            name,
            kind: "string",
            format: "",
            priority: 1,
        }
    }
}

/// How much of each object a row carries (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IncludeObject {
    None,
    #[default]
    Metadata,
    Object,
}

impl IncludeObject {
    /// The query parameter; empty means `Metadata`.
    pub fn parse(text: &str) -> Result<Self, Status> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(Status::bad_request(format!(
                "unrecognized includeObject value: \"{other}\""
            ))),
        }
    }
}

/// Column definitions as the wire has them.
pub fn column_definitions(resource: &ResourceType) -> Value {
    resource.column_definitions()
}

fn description(column: &Column) -> String {
    match column.name {
        "Name" => "Name of the object, unique within its namespace and resource".into(),
        "Age" => "Time since the object was created".into(),
        name => format!("{name} of the object"),
    }
}

/// One row.
pub fn row(resource: &ResourceType, object: &Value, include: IncludeObject, now: Timestamp) -> Value {
    let mut row = Map::new();
    row.insert("cells".into(), Value::Array(resource.cells(object, now)));
    match include {
        IncludeObject::None => {}
        IncludeObject::Metadata => {
            row.insert("object".into(), meta::partial(object));
        }
        IncludeObject::Object => {
            row.insert("object".into(), object.clone());
        }
    }
    Value::Object(row)
}

/// A whole table. `list_metadata` is the `metadata` of the list (resourceVersion, continue, ...);
/// `headers` is false for all but the first event of a watch and for `includeObject` pages that follow.
pub fn table<'a>(
    resource: &ResourceType,
    objects: impl IntoIterator<Item = &'a Value>,
    list_metadata: Value,
    include: IncludeObject,
    headers: bool,
    now: Timestamp,
) -> Value {
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|o| row(resource, o, include, now))
        .collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata,
        "columnDefinitions": if headers { column_definitions(resource) } else { Value::Null },
        "rows": rows,
    })
}
