//! The registry of resources: identity, verbs and, type-erased, what each kind means.
//!
//! Knows how the life of any object runs (create, update, status update); what is special about a kind
//! is behind [`Kind`].

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::field::FieldErrors;
use crate::status::Qualified;
use crate::table::Column;
use crate::{Status, kinds, meta};

mod body;
mod handle;
mod ownership;
mod prepare;
mod versions;

pub use body::Misfit;
pub(crate) use handle::Behaviour;
pub use handle::{Names, TypeRef};
pub use ownership::{By, configuration, settle_times};
pub use prepare::CreateContext;

/// What to do about fields a kind does not have (`fieldValidation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    Ignore,
    /// The default: drop them and answer with a warning for each.
    #[default]
    Warn,
    Strict,
}

impl FieldValidation {
    /// The query parameter; empty means `Warn`.
    ///
    /// # Errors
    /// 400 for an unknown word.
    pub fn parse(text: &str) -> Result<Self, Status> {
        match text {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => Err(Status::bad_request(format!(
                "invalid fieldValidation parameter: fieldValidation: Unsupported value: \"{other}\": supported values: \"Ignore\", \"Strict\", \"Warn\""
            ))),
        }
    }
}

/// A decoded object in canonical form.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    pub value: Value,
    /// Texts for `Warning` headers, in the order found.
    pub warnings: Vec<String>,
}

/// Which part of an object an update may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subresource {
    /// The object itself: everything but `status`.
    Main,
    /// `/status`.
    Status,
    /// A Pod's `/resize`: only resources of containers.
    Resize,
    /// A Pod's `/ephemeralcontainers`.
    EphemeralContainers,
    /// A Namespace's `/finalize`: only `spec.finalizers`.
    Finalize,
    /// A CertificateSigningRequest's `/approval`: only `status.conditions`.
    Approval,
}

/// Who makes an object, for the kinds that write it down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requester {
    pub name: String,
    /// Empty for users without one.
    pub uid: String,
    pub groups: Vec<String>,
    /// What the authenticator knows beyond that, by key.
    pub extra: std::collections::BTreeMap<String, Vec<String>>,
}

/// A subresource as discovery lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubresourceType {
    pub name: &'static str,
    /// Group and version of its body; both empty: those of the resource.
    pub group: &'static str,
    pub version: &'static str,
    /// Empty: that of the resource. See [`ResourceType::body_of`].
    pub kind: &'static str,
    pub verbs: &'static [&'static str],
}

/// Everything special about one kind. All methods are pure; the defaults suit a kind without spec or status.
pub trait Kind: Send + Sync {
    /// Fills in what Kubernetes fills in at decoding. Must be idempotent.
    fn set_defaults(&self, _object: &mut Map<String, Value>) {}

    /// Fields a create must not set (`status`), and what the kind fills in once.
    fn prepare_create(&self, _object: &mut Map<String, Value>) {}

    /// Main update: takes over from `old` what this path must not change. The default keeps `status`.
    fn prepare_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        keep(new, old, "status");
    }

    /// Status update: takes over everything but the status. The default also keeps the labels.
    fn prepare_status_update(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        keep(new, old, "spec");
    }

    /// A Namespace's `/finalize`: only the finalizers of the spec may change.
    fn prepare_finalize(&self, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        self.prepare_update(new, old);
    }

    /// Writes down who made the object; runs after [`Kind::prepare_create`], which clears what a client wrote.
    fn stamp_create(&self, _object: &mut Map<String, Value>, _requester: &Requester) {}

    /// Writes down when parts of the object changed; runs on the decoded object, before what this path must
    /// not change is taken over from `old`.
    fn stamp_update(
        &self,
        _part: Subresource,
        _new: &mut Map<String, Value>,
        _old: &Map<String, Value>,
        _now: Timestamp,
    ) {
    }

    /// The other parts that are written like the whole object (`Resize`, `EphemeralContainers`, `Approval`):
    /// takes over from `old` all but that part.
    fn prepare_part(&self, _part: Subresource, new: &mut Map<String, Value>, old: &Map<String, Value>) {
        self.prepare_update(new, old);
    }

    /// Checks what an update of such a part may change; `validate` has run on `new`.
    fn validate_part(&self, _part: Subresource, new: &Value, old: &Value, errors: &mut FieldErrors) {
        self.validate_update(new, old, errors);
    }

    /// Checks what only a create may not have; `validate` has run.
    fn validate_create(&self, _object: &Value, _errors: &mut FieldErrors) {}

    /// True when an update without `resourceVersion` may overwrite whatever is stored.
    fn unconditional_update(&self) -> bool {
        true
    }

    /// True when an update of a name that does not exist makes the object.
    fn create_on_update(&self) -> bool {
        false
    }

    /// Checks an object on its own.
    fn validate(&self, _object: &Value, _errors: &mut FieldErrors) {}

    /// Checks what may not change; `validate` has run on `new`.
    fn validate_update(&self, _new: &Value, _old: &Value, _errors: &mut FieldErrors) {}

    /// Checks a status update. `old` is the stored object.
    fn validate_status_update(&self, _new: &Value, _old: &Value, _errors: &mut FieldErrors) {}

    /// Top-level fields whose change raises `metadata.generation`; empty for kinds without generation.
    fn generation_fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// True when objects count the changes of their wanted state in `metadata.generation`.
    fn has_generation(&self) -> bool {
        !self.generation_fields().is_empty()
    }

    /// True when this update raises `metadata.generation`.
    fn raises_generation(&self, new: &Map<String, Value>, old: &Map<String, Value>) -> bool {
        self.generation_fields()
            .iter()
            .any(|f| new.get(*f) != old.get(*f))
    }

    /// The rule for names; most kinds take a DNS subdomain.
    fn name_rule(&self) -> fn(&str) -> Vec<String> {
        crate::names::dns_subdomain
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column {
                    name: "Created At",
                    kind: "date",
                    format: "",
                    priority: 0,
                },
            ]
        }
    }

    /// The columns as a Table carries them.
    fn column_definitions(&self) -> Value {
        self.columns().iter().map(Column::definition).collect()
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Vec<Value> {
        vec![
            meta::name(object).into(),
            object["metadata"]["creationTimestamp"].clone(),
        ]
    }

    /// Fields a field selector may name, beside `metadata.name` and `metadata.namespace`.
    fn selectable_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// The same for kinds whose names are known at run time only.
    fn own_selectable_names(&self) -> Vec<&str> {
        self.selectable_names().to_vec()
    }

    /// The value of a selectable field.
    fn selectable(&self, _object: &Value, _field: &str) -> String {
        String::new()
    }

    /// The text when a field selector names another field.
    fn unknown_selectable(&self, field: &str) -> String {
        if self.own_selectable_names().is_empty() {
            format!(
                "\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            )
        } else {
            format!("field label not supported: {field}")
        }
    }

    /// What every answer about this kind warns of: `v1 X is deprecated in v1.33+; use Y`.
    fn deprecation(&self) -> Option<String> {
        None
    }

    /// Warnings for the client about a valid object (deprecated or doubtful fields).
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Warnings about a new object; by default those of any write.
    fn warnings_on_create(&self, object: &Value) -> Vec<String> {
        self.warnings(object)
    }

    /// Warnings about an update of the object itself; by default those of any write.
    fn warnings_on_update(&self, new: &Value, _old: &Value) -> Vec<String> {
        self.warnings(new)
    }

    /// The kind's schema as its definition has it (OpenAPI v3), for kinds the table of facts does not know.
    fn open_api(&self) -> Option<Value> {
        None
    }

    /// True when this version's form differs from the stored one; then the two methods below are used.
    fn converts(&self) -> bool {
        false
    }

    /// From the stored version's canonical form to this version's. Must lose nothing that
    /// [`Kind::to_stored`] cannot bring back.
    #[allow(clippy::wrong_self_convention, reason = "the kind converts, not the object")]
    fn from_stored(&self, _object: &mut Map<String, Value>) {}

    /// From this version's canonical form to the stored version's.
    fn to_stored(&self, _object: &mut Map<String, Value>) {}
}

/// Copies one top-level field from `old`, removing it when `old` lacks it.
pub fn keep(new: &mut Map<String, Value>, old: &Map<String, Value>, field: &str) {
    match old.get(field) {
        Some(value) => new.insert(field.into(), value.clone()),
        None => new.remove(field),
    };
}

/// One resource of the API: built in, or made from a CustomResourceDefinition. Shared as a [`TypeRef`].
#[derive(Clone)]
pub struct ResourceType {
    /// Empty for the core group.
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub plural: Cow<'static, str>,
    pub singular: Cow<'static, str>,
    pub short_names: Names,
    pub categories: Names,
    pub namespaced: bool,
    /// Discovery verbs: create, delete, deletecollection, get, list, patch, update, watch.
    pub verbs: &'static [&'static str],
    pub subresources: &'static [SubresourceType],
    /// Name of the type in the facts table; empty for custom resources.
    pub schema: &'static str,
    /// Where its objects are stored when that is not under its own group and plural.
    stored_as: Option<(&'static str, &'static str)>,
    pub(crate) behaviour: Behaviour,
}

/// Verbs of discovery, all of them.
pub(crate) const ALL: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
pub(crate) const CREATE: &[&str] = &["create"];
pub(crate) const READ_WRITE: &[&str] = &["get", "patch", "update"];

/// How the tables of the groups are written: a namespaced resource with all verbs, and what differs.
impl ResourceType {
    /// `identity` is group, version, kind, plural; `schema` the type's name in the facts table.
    pub(crate) const fn new(
        identity: [&'static str; 4],
        singular: &'static str,
        schema: &'static str,
        behaviour: &'static dyn Kind,
    ) -> Self {
        let [group, version, kind, plural] = identity;
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            kind: Cow::Borrowed(kind),
            plural: Cow::Borrowed(plural),
            singular: Cow::Borrowed(singular),
            short_names: Names::Static(&[]),
            categories: Names::Static(&[]),
            namespaced: true,
            verbs: ALL,
            subresources: &[],
            schema,
            stored_as: None,
            behaviour: Behaviour::Static(behaviour),
        }
    }

    /// A namespaced type made at run time, with all verbs.
    pub fn custom(
        [group, version, kind, plural]: [String; 4],
        singular: String,
        custom: std::sync::Arc<crate::custom::Custom>,
    ) -> Self {
        Self {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            plural: plural.into(),
            singular: singular.into(),
            short_names: Names::Static(&[]),
            categories: Names::Static(&[]),
            namespaced: true,
            verbs: ALL,
            subresources: &[],
            schema: "",
            stored_as: None,
            behaviour: Behaviour::Custom(custom),
        }
    }

    pub(crate) const fn cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }

    pub(crate) const fn short(mut self, names: &'static [&'static str]) -> Self {
        // Assigning would drop the old value, which a `const fn` cannot.
        std::mem::forget(std::mem::replace(&mut self.short_names, Names::Static(names)));
        self
    }

    pub(crate) const fn categories(mut self, names: &'static [&'static str]) -> Self {
        std::mem::forget(std::mem::replace(&mut self.categories, Names::Static(names)));
        self
    }

    pub(crate) const fn verbs(mut self, verbs: &'static [&'static str]) -> Self {
        self.verbs = verbs;
        self
    }

    pub(crate) const fn subresources(mut self, subresources: &'static [SubresourceType]) -> Self {
        self.subresources = subresources;
        self
    }

    /// Objects are those of another resource, converted by [`Kind::from_stored`] and [`Kind::to_stored`].
    pub(crate) const fn stored_as(mut self, group: &'static str, plural: &'static str) -> Self {
        self.stored_as = Some((group, plural));
        self
    }
}

impl SubresourceType {
    /// A subresource whose body is of the resource's own group and version.
    pub(crate) const fn new(
        name: &'static str,
        kind: &'static str,
        verbs: &'static [&'static str],
    ) -> SubresourceType {
        SubresourceType {
            name,
            group: "",
            version: "",
            kind,
            verbs,
        }
    }

    /// `status` with the body of the resource itself.
    pub(crate) const fn status(kind: &'static str) -> SubresourceType {
        Self::new("status", kind, READ_WRITE)
    }

    pub(crate) const SCALE: SubresourceType = SubresourceType {
        name: "scale",
        group: "autoscaling",
        version: "v1",
        kind: "Scale",
        verbs: READ_WRITE,
    };
}

impl std::fmt::Debug for ResourceType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ResourceType({}/{} {})", self.group, self.version, self.plural)
    }
}

impl ResourceType {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        match &*self.group {
            "" => self.version.to_string(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `PodList`.
    pub fn list_kind(&self) -> String {
        match self.as_custom() {
            Some(custom) => custom.list_kind.clone(),
            None => format!("{}List", self.kind),
        }
    }

    /// What a custom resource's definition says; `None` for a built-in type.
    pub fn as_custom(&self) -> Option<&crate::custom::Custom> {
        match &self.behaviour {
            Behaviour::Custom(custom) => Some(custom),
            Behaviour::Static(_) => None,
        }
    }

    /// Group and plural under which objects are stored; differs from `group` and `plural` where one object
    /// is served through several groups.
    pub fn storage(&self) -> (&str, &str) {
        self.stored_as.unwrap_or((&self.group, &self.plural))
    }

    /// Group, version and kind of the body of one of its subresources.
    pub fn body_of(&self, sub: &SubresourceType) -> (&str, &str, &str) {
        let (group, version) = match sub.version {
            "" => (&*self.group, &*self.version),
            version => (sub.group, version),
        };
        let kind = match sub.kind {
            "" => &*self.kind,
            kind => kind,
        };
        (group, version, kind)
    }

    /// `pods`, `deployments.apps`: how errors name the resource.
    pub fn qualified(&self) -> Qualified<'_> {
        Qualified::new(&self.group, &self.plural)
    }

    /// `Pod`, `Deployment.apps`: how `Invalid` errors name the kind.
    pub fn qualified_kind(&self) -> Qualified<'_> {
        Qualified::new(&self.group, &self.kind)
    }

    pub fn supports(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    pub fn subresource(&self, name: &str) -> Option<&'static SubresourceType> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Fills in defaults. Idempotent.
    pub fn set_defaults(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            self.behaviour.set_defaults(map);
        }
    }

    /// True when an update without `resourceVersion` may overwrite whatever is stored; else it is
    /// answered `metadata.resourceVersion: Invalid value: 0: must be specified for an update`.
    pub fn unconditional_update(&self) -> bool {
        self.behaviour.unconditional_update()
    }

    /// True when an update of a name that does not exist makes the object.
    pub fn create_on_update(&self) -> bool {
        self.behaviour.create_on_update()
    }

    /// Writes down who made the object, where the kind does so. Runs after [`ResourceType::prepare_create`].
    pub fn stamp_create(&self, object: &mut Value, requester: &Requester) {
        if let Some(map) = object.as_object_mut() {
            self.behaviour.stamp_create(map, requester);
        }
    }

    /// Writes down when parts of the object changed, where the kind does so. Runs before
    /// [`ResourceType::prepare_update`], on the decoded object.
    pub fn stamp_update(&self, new: &mut Value, old: &Value, part: Subresource, now: Timestamp) {
        if let (Some(new), Some(old)) = (new.as_object_mut(), old.as_object()) {
            self.behaviour.stamp_update(part, new, old, now);
        }
    }

    /// What every answer about a deprecated kind warns of.
    pub fn deprecation(&self) -> Option<String> {
        self.behaviour.deprecation()
    }

    /// Warnings for the client about a valid update of the object itself.
    pub fn warnings_on_update(&self, new: &Value, old: &Value) -> Vec<String> {
        self.behaviour.warnings_on_update(new, old)
    }

    /// Warnings for the client about a valid new object.
    pub fn warnings_on_create(&self, object: &Value) -> Vec<String> {
        self.behaviour.warnings_on_create(object)
    }

    /// Warnings for the client about a valid object.
    pub fn warnings(&self, object: &Value) -> Vec<String> {
        self.behaviour.warnings(object)
    }

    /// The columns of a built-in kind.
    pub fn columns(&self) -> &'static [Column] {
        self.behaviour.columns()
    }

    /// The columns as a Table carries them.
    pub fn column_definitions(&self) -> Value {
        self.behaviour.column_definitions()
    }

    /// One table row's cells, as many as there are columns.
    pub fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        self.behaviour.cells(object, now)
    }

    /// Names of the selectable fields, `metadata.name` and `metadata.namespace` included.
    pub fn selectable_names(&self) -> Vec<&str> {
        let mut names = vec!["metadata.name"];
        if self.namespaced {
            names.push("metadata.namespace");
        }
        names.extend(self.behaviour.own_selectable_names());
        names
    }

    /// The selectable fields and their values, for a stored object's head.
    pub fn selectable_fields(&self, object: &Value) -> Vec<(&str, String)> {
        let value = |name: &str| match name {
            "metadata.name" => meta::name(object).to_string(),
            "metadata.namespace" => meta::namespace(object).to_string(),
            other => self.behaviour.selectable(object, other),
        };
        self.selectable_names()
            .into_iter()
            .map(|n| (n, value(n)))
            .collect()
    }

    /// Refuses a field selector that names a field this kind does not offer.
    ///
    /// # Errors
    /// 400 with upstream's text.
    pub fn check_field_selector(&self, selector: &crate::selector::FieldSelector) -> Result<(), Status> {
        let names = self.selectable_names();
        for requirement in &selector.requirements {
            let field = requirement.field.as_str();
            if !names.contains(&field) && field != "metadata.namespace" {
                return Err(Status::bad_request(self.behaviour.unknown_selectable(field)));
            }
        }
        Ok(())
    }
}

/// All built-in resources of this API.
pub struct Registry {
    resources: &'static [ResourceType],
    by_plural: HashMap<(&'static str, &'static str, &'static str), &'static ResourceType>,
    by_kind: HashMap<(&'static str, &'static str, &'static str), &'static ResourceType>,
}

impl Registry {
    pub fn lookup(&self, group: &str, version: &str, plural: &str) -> Option<&'static ResourceType> {
        self.by_plural.get(&(group, version, plural)).copied()
    }

    pub fn lookup_kind(&self, group: &str, version: &str, kind: &str) -> Option<&'static ResourceType> {
        self.by_kind.get(&(group, version, kind)).copied()
    }

    /// Finds a kind by an object's `apiVersion` (`v1`, `apps/v1`) and `kind`.
    pub fn for_api_version(&self, api_version: &str, kind: &str) -> Option<&'static ResourceType> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.lookup_kind(group, version, kind)
    }

    /// All resources, core group first, in discovery order.
    pub fn all(&self) -> &'static [ResourceType] {
        self.resources
    }

    /// Groups with their versions, the core group (`""`) first.
    pub fn groups(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let mut groups: Vec<(&'static str, Vec<&'static str>)> = Vec::new();
        for resource in self.resources {
            match groups.iter_mut().find(|(g, _)| *g == resource.group) {
                Some((_, versions)) if versions.contains(&&*resource.version) => {}
                Some((_, versions)) => versions.push(&resource.version),
                None => groups.push((&resource.group, vec![&resource.version])),
            }
        }
        groups
    }
}

/// The built-in resources. An API server's own set may hold custom ones beside them.
pub fn registry() -> &'static Registry {
    static REGISTRY: LazyLock<Registry> = LazyLock::new(|| Registry {
        resources: &kinds::RESOURCES,
        by_plural: kinds::RESOURCES
            .iter()
            .map(|r| ((&*r.group, &*r.version, &*r.plural), r))
            .collect(),
        by_kind: kinds::RESOURCES
            .iter()
            .map(|r| ((&*r.group, &*r.version, &*r.kind), r))
            .collect(),
    });
    &REGISTRY
}
