//! ClusterRoles that say so have the rules of the ClusterRoles they select.
//!
//! [`plan`] decides; this file fetches and applies. Source: Kubernetes `pkg/controller/clusterroleaggregation`.

use std::sync::Arc;

use corten_api::selector::LabelSelector;
use corten_client::{ApiClient, Cache, Controller, ObjectExt, ObjectKey, Patch, Requeue, Writes};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::json;

use crate::context::{Context, Doing, SyncError};

const WORKERS: usize = 2;

struct Ctx {
    api: ApiClient,
    roles: Cache<ClusterRole>,
}

pub async fn run(context: Context) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        roles: context.cache(),
    });
    let roles = ctx.roles.clone();
    Controller::new("clusterrole_aggregation")
        .workers(WORKERS)
        // Any role may be selected by any other.
        .watch(&ctx.roles, move |_| {
            let all = roles.list();
            let aggregated = all.iter().filter(|role| role.aggregation_rule.is_some());
            aggregated.map(|role| role.key()).collect()
        })
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        })
        .await;
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(role) = ctx.roles.get(key) else {
        return Ok(None);
    };
    let Some(rules) = plan(&role, &ctx.roles.list())? else {
        return Ok(None);
    };
    let patch = Patch::Merge(json!({
        "metadata": { "uid": role.uid(), "resourceVersion": role.metadata.resource_version },
        "rules": rules,
    }));
    let written = ctx.api.patch::<ClusterRole>(key, &patch).await;
    let written = written.doing(|| format!("aggregate the rules of ClusterRole {key}"))?;
    writes.wrote(&ctx.roles, written.revision);
    Ok(None)
}

/// The rules `role` should have; `None` if it has them, or if it is not aggregated. Each rule once, in the order of the
/// selectors and then of the roles' names.
///
/// # Errors
/// A selector that cannot be read.
pub fn plan(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Result<Option<Vec<PolicyRule>>, SyncError> {
    let Some(aggregation) = &role.aggregation_rule else {
        return Ok(None);
    };
    let mut others: Vec<&Arc<ClusterRole>> = all.iter().filter(|other| other.key() != role.key()).collect();
    others.sort_by_key(|other| other.metadata.name.clone());
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in aggregation.cluster_role_selectors.iter().flatten() {
        let selector = LabelSelector::from_api(selector).map_err(SyncError::Invalid)?;
        let labels = |other: &ClusterRole| other.metadata.labels.clone().unwrap_or_default();
        for other in others.iter().filter(|other| selector.matches(&labels(other))) {
            for rule in other.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    let same = role.rules.as_deref().unwrap_or_default() == rules;
    Ok((!same).then_some(rules))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str, labels: &[&str], selects: Option<&[&str]>, verbs: &[&str]) -> Arc<ClusterRole> {
        let labels: serde_json::Map<_, _> = labels
            .iter()
            .map(|label| ((*label).to_owned(), json!("true")))
            .collect();
        let selectors = selects.map(|all| {
            let all = all.iter().map(|label| json!({"matchLabels": {*label: "true"}}));
            json!({"clusterRoleSelectors": all.collect::<Vec<_>>()})
        });
        let rules: Vec<_> = verbs
            .iter()
            .map(|verb| json!({"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}))
            .collect();
        let value = json!({
            "metadata": {"name": name, "labels": labels}, "aggregationRule": selectors, "rules": rules,
        });
        Arc::new(serde_json::from_value(value).expect("a role"))
    }

    /// `want`: the verbs of the rules that have to be written.
    #[track_caller]
    fn check(role: &ClusterRole, all: &[Arc<ClusterRole>], want: Option<&[&str]>) {
        let rules = plan(role, all).expect("a plan");
        let verbs = rules.map(|rules| rules.into_iter().flat_map(|rule| rule.verbs).collect::<Vec<_>>());
        let want = want.map(|verbs| verbs.iter().map(|verb| (*verb).to_owned()).collect::<Vec<_>>());
        assert_eq!(verbs, want);
    }

    #[test]
    fn rules_of_selected_roles_each_once() {
        let all = [
            role("z", &["view"], None, &["get", "list"]),
            role("a", &["view", "edit"], None, &["list", "watch"]),
            role("other", &["x"], None, &["delete"]),
        ];
        check(
            &role("r", &[], Some(&["view"]), &[]),
            &all,
            Some(&["list", "watch", "get"]),
        );
        check(
            &role("r", &[], Some(&["edit", "view"]), &["list", "watch", "get"]),
            &all,
            None,
        );
        check(
            &role("r", &[], Some(&["view"]), &["stale"]),
            &all,
            Some(&["list", "watch", "get"]),
        );
        check(&role("r", &[], Some(&["nobody"]), &["stale"]), &all, Some(&[]));
        check(&role("r", &[], None, &["own"]), &all, None);
    }

    #[test]
    fn a_role_does_not_select_itself() {
        let own = role("r", &["view"], Some(&["view"]), &["get"]);
        check(
            &own,
            &[own.clone(), role("a", &["view"], None, &["list"])],
            Some(&["list"]),
        );
    }
}
