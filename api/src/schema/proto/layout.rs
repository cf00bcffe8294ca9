//! Where the fields of a type sit in its protobuf message: numbers, nested structs, forms of their own.
//!
//! Source: the `generated.proto` files of `k8s.io/api` and `k8s.io/apimachinery`. Knows names and numbers only.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use crate::schema::{Kind, Type, schema};

/// How a value is laid out where its type alone does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    /// A list inside a message of its own, `items = 1` (`ExtraValue`, `Verbs`).
    Wrapped,
    /// `JSONSchemaPropsOrArray`: `schema = 1`, `jSONSchemas = 2`.
    SchemaOrArray,
    /// `JSONSchemaPropsOrBool`: `allows = 1`, `schema = 2`.
    SchemaOrBool,
    /// `JSONSchemaPropsOrStringArray`: `schema = 1`, `property = 2`.
    SchemaOrStrings,
}

/// One place of a message.
#[derive(Debug)]
pub(super) enum Slot {
    /// A field of the type, by its index.
    Field(usize),
    /// A struct that JSON flattens into this one.
    Nested(Vec<(u32, Slot)>),
}

/// The message of a type.
#[derive(Debug)]
pub(super) struct Layout {
    /// Ascending by number.
    pub slots: Vec<(u32, Slot)>,
    /// Number and form of each field of the type, wherever it is nested; number 0: it has no place in protobuf.
    pub fields: Vec<(u32, Form)>,
    /// The message with nothing set, as Go writes it.
    pub zero: OnceLock<Vec<u8>>,
}

/// The layout of a type of the table.
pub(super) fn layout(entry: &'static Type) -> &'static Layout {
    static LAYOUTS: LazyLock<Vec<OnceLock<Layout>>> =
        LazyLock::new(|| schema().types().iter().map(|_| OnceLock::new()).collect());
    let idx = schema().index(entry.name).expect("an entry is of the table");
    LAYOUTS[idx as usize].get_or_init(|| build(entry))
}

/// The type of a kind; the meta kinds (`Status`, `DeleteOptions`) are found under every version.
pub(super) fn type_of(api_version: &str, kind: &str) -> Option<&'static Type> {
    type Kinds = HashMap<(&'static str, &'static str), Vec<(&'static str, &'static Type)>>;
    static KINDS: LazyLock<Kinds> = LazyLock::new(|| {
        let mut kinds = Kinds::new();
        for entry in schema().types() {
            for (group, version, kind) in &entry.gvks {
                kinds.entry((version, kind)).or_default().push((group, entry));
            }
        }
        kinds
    });
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let known = KINDS
        .get(&(version, kind))
        .and_then(|same| same.iter().find(|(own, _)| *own == group));
    known
        .map(|(_, entry)| *entry)
        .or_else(|| schema().find(&format!("meta.v1.{kind}")))
}

type Members = &'static [(u32, &'static str)];

const PROBE_HANDLER: Members = &[(1, "exec"), (2, "httpGet"), (3, "tcpSocket"), (4, "grpc")];
const VOLUME_SOURCE: Members = &[
    (1, "hostPath"),
    (2, "emptyDir"),
    (3, "gcePersistentDisk"),
    (4, "awsElasticBlockStore"),
    (5, "gitRepo"),
    (6, "secret"),
    (7, "nfs"),
    (8, "iscsi"),
    (9, "glusterfs"),
    (10, "persistentVolumeClaim"),
    (11, "rbd"),
    (12, "flexVolume"),
    (13, "cinder"),
    (14, "cephfs"),
    (15, "flocker"),
    (16, "downwardAPI"),
    (17, "fc"),
    (18, "azureFile"),
    (19, "configMap"),
    (20, "vsphereVolume"),
    (21, "quobyte"),
    (22, "azureDisk"),
    (23, "photonPersistentDisk"),
    (24, "portworxVolume"),
    (25, "scaleIO"),
    (26, "projected"),
    (27, "storageos"),
    (28, "csi"),
    (29, "ephemeral"),
    (30, "image"),
];
const PERSISTENT_VOLUME_SOURCE: Members = &[
    (1, "gcePersistentDisk"),
    (2, "awsElasticBlockStore"),
    (3, "hostPath"),
    (4, "glusterfs"),
    (5, "nfs"),
    (6, "rbd"),
    (7, "iscsi"),
    (8, "cinder"),
    (9, "cephfs"),
    (10, "fc"),
    (11, "flocker"),
    (12, "flexVolume"),
    (13, "azureFile"),
    (14, "vsphereVolume"),
    (15, "quobyte"),
    (16, "azureDisk"),
    (17, "photonPersistentDisk"),
    (18, "portworxVolume"),
    (19, "scaleIO"),
    (20, "local"),
    (21, "storageos"),
    (22, "csi"),
];
const RULE: Members = &[
    (1, "apiGroups"),
    (2, "apiVersions"),
    (3, "resources"),
    (4, "scope"),
];

/// The members of a flattened struct: from a table, or as the type of that name (or one like it) has them.
fn members(owner: &Type, name: &str) -> Vec<(u32, &'static str)> {
    let table = match name {
        "ProbeHandler" => PROBE_HANDLER,
        "VolumeSource" => VOLUME_SOURCE,
        "PersistentVolumeSource" => PERSISTENT_VOLUME_SOURCE,
        "IngressRuleValue" => &[(1, "http")],
        "DeviceConfiguration" => &[(1, "opaque")],
        "RuleWithOperations" => &[(1, "operations")],
        "Rule" => RULE,
        name => {
            let package = owner.name.rsplit_once('.').map_or("", |(package, _)| package);
            let like = match name {
                "EphemeralContainerCommon" => "core.v1.Container".to_owned(),
                name => format!("{package}.{name}"),
            };
            let like = schema().find(&like).expect("a flattened struct is known");
            return like
                .fields
                .iter()
                .map(|field| (field.number, field.name))
                .collect();
        }
    };
    table.to_vec()
}

fn build(entry: &'static Type) -> Layout {
    let mut fields: Vec<(u32, Form)> = entry
        .fields
        .iter()
        .map(|field| (field.number, form(entry, field.name, field.kind)))
        .collect();
    let mut slots: Vec<(u32, Slot)> = Vec::new();
    for (idx, field) in entry.fields.iter().enumerate() {
        if field.number > 0 {
            slots.push((field.number, Slot::Field(idx)));
        }
    }
    let mut nest = |name: &str| {
        let mut inner = Vec::new();
        for (number, member) in members(entry, name) {
            if let Some(idx) = entry.index_of(member).filter(|_| number > 0) {
                fields[idx].0 = number;
                inner.push((number, Slot::Field(idx)));
            }
        }
        inner.sort_by_key(|(number, _)| *number);
        inner
    };
    let named = |name: &str| entry.inlined.iter().any(|(_, own)| *own == name);
    for (number, name) in &entry.inlined {
        match *name {
            "Rule" if named("RuleWithOperations") => {} // nested below
            "RuleWithOperations" => {
                let mut inner = nest(name);
                inner.push((2, Slot::Nested(nest("Rule"))));
                slots.push((*number, Slot::Nested(inner)));
            }
            name => slots.push((*number, Slot::Nested(nest(name)))),
        }
    }
    // Older versions name only the outer struct.
    slots.sort_by_key(|(number, _)| *number);
    Layout {
        slots,
        fields,
        zero: OnceLock::new(),
    }
}

fn form(entry: &Type, name: &str, kind: Kind) -> Form {
    match (entry.name, name, kind) {
        (_, _, Kind::Map(Kind::List(_))) | ("meta.v1.APIResource", "verbs", _) => Form::Wrapped,
        ("apiextensions.v1.JSONSchemaProps", "items", _) => Form::SchemaOrArray,
        ("apiextensions.v1.JSONSchemaProps", "additionalItems" | "additionalProperties", _) => {
            Form::SchemaOrBool
        }
        ("apiextensions.v1.JSONSchemaProps", "dependencies", _) => Form::SchemaOrStrings,
        _ => Form::Plain,
    }
}
