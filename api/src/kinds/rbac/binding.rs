//! RoleBinding and ClusterRoleBinding. Source: `pkg/apis/rbac/validation`, `pkg/apis/rbac/v1/defaults.go`.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::defaults::{self, child, default, items};
use crate::kinds::common::go_value;
use crate::kinds::common::rules::named;
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta, names};

const GROUP: &str = "rbac.authorization.k8s.io";
const ROLE_REF: &[(&str, &str)] = &[("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name")];

pub struct BindingKind {
    schema: &'static str,
    namespaced: bool,
    /// Kinds a `roleRef` may name.
    roles: &'static [&'static str],
}

pub const ROLE_BINDING: BindingKind = BindingKind {
    schema: "rbac.v1.RoleBinding",
    namespaced: true,
    roles: &["Role", "ClusterRole"],
};
pub const CLUSTER_ROLE_BINDING: BindingKind = BindingKind {
    schema: "rbac.v1.ClusterRoleBinding",
    namespaced: false,
    roles: &["ClusterRole"],
};

impl Kind for BindingKind {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        if let Some(role) = child(object, "roleRef") {
            default(role, "apiGroup", GROUP);
        }
        for subject in items(object, "subjects") {
            if matches!(defaults::str(subject, "kind"), "User" | "Group") {
                default(subject, "apiGroup", GROUP);
            }
        }
    }

    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn create_on_update(&self) -> bool {
        true
    }

    fn name_rule(&self) -> fn(&str) -> Vec<String> {
        names::path_segment
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let at = At::root(object, self.schema);
        let role = at.at("roleRef");
        if role.str("apiGroup") != GROUP {
            errors.not_supported(role.path("apiGroup"), role.str("apiGroup"), &[GROUP]);
        }
        if !self.roles.contains(&role.str("kind")) {
            errors.not_supported(role.path("kind"), role.str("kind"), self.roles);
        }
        match role.str("name") {
            "" => errors.required(role.path("name"), ""),
            name => named(role.path("name"), name, names::path_segment, errors),
        }
        for at in at.items("subjects") {
            subject(&at, self.namespaced, errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        if new["roleRef"] != old["roleRef"] {
            errors.invalid(
                "roleRef",
                go_value::strings(&new["roleRef"], ROLE_REF),
                "cannot change roleRef",
            );
        }
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Role"),
                Column::AGE,
                Column::wide("Users"),
                Column::wide("Groups"),
                Column::wide("ServiceAccounts"),
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let at = At::root(object, self.schema);
        let role = at.at("roleRef");
        let of = |kind: &str| {
            let subjects = at.items("subjects").filter(|s| s.str("kind") == kind);
            let names = subjects.map(|s| match kind {
                "ServiceAccount" => format!("{}/{}", s.str("namespace"), s.str("name")),
                _ => s.str("name").to_string(),
            });
            Value::from(names.collect::<Vec<_>>().join(", "))
        };
        vec![
            meta::name(object).into(),
            format!("{}/{}", role.str("kind"), role.str("name")).into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
            of("User"),
            of("Group"),
            of("ServiceAccount"),
        ]
    }
}

fn subject(at: &At<'_>, namespaced: bool, errors: &mut FieldErrors) {
    let (name, group) = (at.str("name"), at.str("apiGroup"));
    if name.is_empty() {
        errors.required(at.path("name"), "");
    }
    let own_group = |text: &str, errors: &mut FieldErrors| {
        if name.is_empty() {
            errors.invalid(at.path("name"), name, text);
        }
        if group != GROUP {
            errors.not_supported(at.path("apiGroup"), group, &[GROUP]);
        }
    };
    match at.str("kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                named(at.path("name"), name, names::dns_subdomain, errors);
            }
            if !group.is_empty() {
                errors.not_supported(at.path("apiGroup"), group, &[""]);
            }
            if !namespaced && at.str("namespace").is_empty() {
                errors.required(at.path("namespace"), "");
            }
        }
        "User" => own_group("user name cannot be empty", errors),
        "Group" => own_group("group name cannot be empty", errors),
        other => errors.not_supported(at.path("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}
