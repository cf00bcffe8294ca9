//! Role and ClusterRole. Source: `pkg/apis/rbac/validation`.

use serde_json::{Map, Value};

use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::go_value::{self, Raw};
use crate::kinds::common::selector;
use crate::names;
use crate::resource::Kind;

pub struct RoleKind {
    schema: &'static str,
    namespaced: bool,
}

pub const ROLE: RoleKind = RoleKind {
    schema: "rbac.v1.Role",
    namespaced: true,
};
pub const CLUSTER_ROLE: RoleKind = RoleKind {
    schema: "rbac.v1.ClusterRole",
    namespaced: false,
};

impl Kind for RoleKind {
    fn prepare_update(&self, _new: &mut Map<String, Value>, _old: &Map<String, Value>) {}

    fn create_on_update(&self) -> bool {
        true
    }

    fn name_rule(&self) -> fn(&str) -> Vec<String> {
        names::path_segment
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let at = At::root(object, self.schema);
        for rule in at.items("rules") {
            policy_rule(&rule, self.namespaced, errors);
        }
        if self.namespaced {
            return;
        }
        if let Some(aggregation) = at.opt("aggregationRule") {
            if aggregation.count("clusterRoleSelectors") == 0 {
                errors.required(
                    aggregation.path("clusterRoleSelectors"),
                    "at least one clusterRoleSelector required if aggregationRule is non-nil",
                );
            }
            for at in aggregation.items("clusterRoleSelectors") {
                let found = errors.len();
                selector::label_selector(&at, errors);
                if errors.len() > found {
                    errors.invalid(&at, Raw("\"null\"".into()), "invalid label selector.");
                }
            }
        }
    }
}

fn policy_rule(at: &At<'_>, namespaced: bool, errors: &mut FieldErrors) {
    if at.count("verbs") == 0 {
        errors.required(at.path("verbs"), "verbs must contain at least one value");
    }
    let [groups, resources, names] = ["apiGroups", "resources", "resourceNames"].map(|f| at.count(f));
    if at.count("nonResourceURLs") > 0 {
        let mut refuse = |text: &str| {
            let shown = go_value::list(at.get("nonResourceURLs"));
            errors.invalid(at.path("nonResourceURLs"), shown, text);
        };
        if namespaced {
            refuse("namespaced rules cannot apply to non-resource URLs");
        }
        if groups + resources + names > 0 {
            refuse("rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    if groups == 0 {
        errors.required(
            at.path("apiGroups"),
            "resource rules must supply at least one api group",
        );
    }
    if resources == 0 {
        errors.required(
            at.path("resources"),
            "resource rules must supply at least one resource",
        );
    }
}
