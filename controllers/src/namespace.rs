//! Namespace deletion: everything in the Namespace goes, then the Namespace itself.
//!
//! [`conditions`] decides what is reported; this file deletes, counts what is left, and finalizes. Pods go before
//! everything else. Source of the rules: the Namespace controller, Kubernetes 1.36.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_client::discovery::Discovered;
use corten_client::{
    ApiClient, Cache, Change, Controller, DeleteOptions, ObjectExt, ObjectKey, PartialObject, Patch,
    Propagation, Requeue, Selection, Subresource, Target, Writes,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use serde_json::json;

use crate::context::{Context, Doing, SyncError, time};
use crate::monitors::{Monitors, Unknown};

/// Source: kube-controller-manager `--concurrent-namespace-syncs`.
const WORKERS: usize = 10;
/// Source: core/v1 `FinalizerKubernetes`.
const FINALIZER: &str = "kubernetes";

struct Ctx {
    api: ApiClient,
    namespaces: Cache<Namespace>,
    monitors: Monitors,
}

/// What is left in a Namespace after a round of deletion.
#[derive(Debug, Default, PartialEq)]
struct Left {
    /// Groups whose kinds could not be looked at.
    unknown: Option<Unknown>,
    /// Objects by kind, as `plural.group`.
    objects: BTreeMap<String, usize>,
    /// Objects by finalizer.
    finalizers: BTreeMap<String, usize>,
    /// What could not be deleted or counted.
    failures: Vec<String>,
}

pub async fn run(context: Context, monitors: Monitors) {
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        namespaces: context.cache(),
        monitors,
    });
    let controller = Controller::new("namespace")
        .workers(WORKERS)
        .watch(&ctx.namespaces, |change| match change {
            Change::Applied { new, .. } if new.is_terminating() => vec![new.key()],
            _ => vec![],
        });
    // Whatever goes may have been the last thing its Namespace waited for. These caches are not waited for: one of a kind
    // that cannot be listed now must not keep other Namespaces.
    for monitor in ctx
        .monitors
        .watched
        .iter()
        .filter(|monitor| monitor.target.namespaced)
    {
        let (queue, namespaces) = (controller.handle(), ctx.namespaces.clone());
        monitor.cache.on_change(move |change| {
            let Change::Deleted(object) = change else {
                return;
            };
            let key = ObjectKey::cluster(object.namespace());
            let found = namespaces.get(&key);
            if found.is_some_and(|namespace| namespace.is_terminating()) {
                queue.add(key);
            }
        });
    }
    // A group that is known again may have been what a Namespace waited for.
    let (queue, namespaces, mut unknown) = (
        controller.handle(),
        ctx.namespaces.clone(),
        ctx.monitors.unknown.clone(),
    );
    let look_again = async move {
        while unknown.changed().await.is_ok() {
            let all = namespaces.list();
            let terminating = all.iter().filter(|namespace| namespace.is_terminating());
            terminating.for_each(|namespace| queue.add(namespace.key()));
        }
        std::future::pending::<()>().await;
    };
    let running = controller.run(context.shutdown.clone(), move |key, writes| {
        let ctx = ctx.clone();
        async move { sync(&ctx, &key, &writes).await }
    });
    tokio::select! {
        () = running => {}
        () = look_again => {}
    }
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    let Some(namespace) = ctx
        .namespaces
        .get(key)
        .filter(|namespace| namespace.is_terminating())
    else {
        return Ok(None);
    };
    if !finalizers(&namespace).any(|finalizer| finalizer == FINALIZER) {
        return Ok(None);
    }
    let left = empty(ctx, &key.name).await;
    let now = Timestamp::now();
    let wanted = conditions(&namespace, &left, now);
    let current = namespace
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    if wanted != current {
        let patch = Patch::Merge(json!({
            "metadata": { "uid": namespace.uid() },
            "status": { "conditions": wanted },
        }));
        let written = ctx.api.patch_status::<Namespace>(key, &patch).await;
        let written = written.doing(|| format!("report the status of namespace {key}"))?;
        writes.wrote(&ctx.namespaces, written.revision);
    }
    if !left.failures.is_empty() {
        return Err(SyncError::Invalid(format!(
            "empty namespace {key}: {}",
            left.failures.join("; ")
        )));
    }
    if let Some(unknown) = left.unknown {
        // It comes back when more is known: see `run`.
        tracing::debug!(
            namespace = key.name,
            why = unknown.why,
            "a namespace cannot be finalized yet"
        );
        return Ok(None);
    }
    if left.objects.is_empty() {
        finalize(ctx, key, namespace.uid(), writes).await?;
    }
    Ok(None)
}

/// One round: Pods, and only once none is left everything else.
async fn empty(ctx: &Ctx, namespace: &str) -> Left {
    let mut left = Left {
        unknown: ctx.monitors.unknown.borrow().clone(),
        ..Left::default()
    };
    let namespaced = || {
        ctx.monitors
            .kinds
            .iter()
            .filter(|kind| kind.target.namespaced && kind.can("list"))
    };
    for kind in namespaced().filter(|kind| is_pods(&kind.target)) {
        empty_kind(ctx, kind, namespace, &mut left).await;
    }
    if left.objects.is_empty() && left.failures.is_empty() {
        for kind in namespaced().filter(|kind| !is_pods(&kind.target)) {
            empty_kind(ctx, kind, namespace, &mut left).await;
        }
    }
    left
}

fn is_pods(target: &Target) -> bool {
    target.group.is_empty() && target.plural == "pods"
}

async fn empty_kind(ctx: &Ctx, kind: &Discovered, namespace: &str, left: &mut Left) {
    if let Err(error) = try_empty_kind(ctx, kind, namespace, left).await {
        left.failures.push(corten_client::runner::chain(&error));
    }
}

async fn try_empty_kind(
    ctx: &Ctx,
    kind: &Discovered,
    namespace: &str,
    left: &mut Left,
) -> Result<(), SyncError> {
    let target = &kind.target;
    let selection = Selection::namespace(namespace);
    let list = || async {
        let objects = ctx.api.list_target::<PartialObject>(target, &selection).await;
        objects.doing(|| format!("list {target} in {namespace}"))
    };
    let mut objects = list().await?;
    if objects.iter().any(|object| !object.is_terminating()) {
        let options = DeleteOptions {
            propagation: Some(Propagation::Background),
            ..Default::default()
        };
        if kind.can("deletecollection") {
            let deleted = ctx.api.delete_collection(target, &selection, &options).await;
            deleted.doing(|| format!("delete all {target} in {namespace}"))?;
        } else {
            delete_each(ctx, target, &objects, &options).await?;
        }
        objects = list().await?;
    }
    if objects.is_empty() {
        return Ok(());
    }
    let name = format!("{}.{}", target.plural, target.group);
    left.objects.insert(name, objects.len());
    for finalizer in objects
        .iter()
        .flat_map(|object| object.metadata.finalizers.iter().flatten())
    {
        *left.finalizers.entry(finalizer.clone()).or_default() += 1;
    }
    Ok(())
}

/// For kinds that cannot be deleted all at once.
async fn delete_each(
    ctx: &Ctx,
    target: &Target,
    objects: &[PartialObject],
    options: &DeleteOptions,
) -> Result<(), SyncError> {
    for object in objects.iter().filter(|object| !object.is_terminating()) {
        let key = object.key();
        match ctx.api.delete_target(target, &key, options).await {
            Err(error) if !error.is_not_found() => {
                return Err(SyncError::Api {
                    doing: format!("delete {target} {key}"),
                    source: error,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

async fn finalize(ctx: &Ctx, key: &ObjectKey, uid: &str, writes: &Writes) -> Result<(), SyncError> {
    let live = ctx
        .api
        .get::<Namespace>(key)
        .await
        .doing(|| format!("read namespace {key}"))?;
    let Some(mut live) = live.filter(|live| live.uid() == uid) else {
        return Ok(());
    };
    let remaining = finalizers(&live)
        .filter(|finalizer| *finalizer != FINALIZER)
        .map(str::to_owned)
        .collect();
    live.spec.get_or_insert_default().finalizers = Some(remaining);
    match ctx.api.replace_part(&live, Subresource::Finalize).await {
        Ok(written) => writes.wrote(&ctx.namespaces, written.revision),
        Err(error) if error.is_not_found() => {}
        Err(source) => {
            return Err(SyncError::Api {
                doing: format!("finalize namespace {key}"),
                source,
            });
        }
    }
    Ok(())
}

fn finalizers(namespace: &Namespace) -> impl Iterator<Item = &str> {
    let spec = namespace.spec.as_ref();
    spec.into_iter()
        .flat_map(|spec| spec.finalizers.iter().flatten())
        .map(String::as_str)
}

/// The five conditions of a Namespace being deleted; one whose status did not change keeps its time.
fn conditions(namespace: &Namespace, left: &Left, now: Timestamp) -> Vec<NamespaceCondition> {
    let current = namespace
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let list = |counts: &BTreeMap<String, usize>, text: fn(&str, usize) -> String| {
        let parts: Vec<String> = counts.iter().map(|(name, count)| text(name, *count)).collect();
        parts.join(", ")
    };
    let undiscovered = left.unknown.as_ref().map(|unknown| {
        let message = format!(
            "Discovery failed for some groups, {} failing: {}",
            unknown.groups, unknown.why
        );
        ("DiscoveryFailed", message)
    });
    let failed = (!left.failures.is_empty()).then(|| {
        let message = format!(
            "Failed to delete all resource types, {} remaining: {}",
            left.failures.len(),
            left.failures.join(", ")
        );
        ("ContentDeletionFailed", message)
    });
    let remaining = (!left.objects.is_empty()).then(|| {
        let objects = list(&left.objects, |name, count| {
            format!("{name} has {count} resource instances")
        });
        (
            "SomeResourcesRemain",
            format!("Some resources are remaining: {objects}"),
        )
    });
    let held = (!left.finalizers.is_empty()).then(|| {
        let finalizers = list(&left.finalizers, |name, count| {
            format!("{name} in {count} resource instances")
        });
        (
            "SomeFinalizersRemain",
            format!("Some content in the namespace has finalizers remaining: {finalizers}"),
        )
    });
    let wanted = [
        (
            "NamespaceDeletionDiscoveryFailure",
            undiscovered,
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            failed,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            remaining,
            "ContentRemoved",
            "All content successfully removed",
        ),
        (
            "NamespaceFinalizersRemaining",
            held,
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ];
    let build = |(kind, trouble, reason, message): (&str, Option<(&str, String)>, &str, &str)| {
        let status = if trouble.is_some() { "True" } else { "False" };
        let (reason, message) = trouble.unwrap_or((reason, message.to_owned()));
        let before = current
            .iter()
            .find(|condition| condition.type_ == kind && condition.status == status);
        NamespaceCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: before
                .and_then(|before| before.last_transition_time.clone())
                .or_else(|| Some(time(now))),
        }
    };
    wanted.into_iter().map(build).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::NamespaceStatus;

    /// Counts are `name=number`; the conditions that are `True` read `reason: message`.
    #[track_caller]
    fn check(objects: &str, finalizers: &str, failures: &[&str], wanted: &str) {
        let counts = |text: &str| {
            let pairs = text
                .split_whitespace()
                .map(|word| word.split_once('=').expect("name=number"));
            pairs
                .map(|(name, count)| (name.to_owned(), count.parse().expect("a number")))
                .collect()
        };
        check_left(
            Left {
                unknown: None,
                objects: counts(objects),
                finalizers: counts(finalizers),
                failures: failures.iter().map(|text| (*text).to_owned()).collect(),
            },
            wanted,
        );
    }

    #[track_caller]
    fn check_left(left: Left, wanted: &str) {
        let now = Timestamp::from_second(1_000).expect("a time");
        let mut namespace = Namespace::default();
        let made = conditions(&namespace, &left, now);
        namespace.status = Some(NamespaceStatus {
            conditions: Some(made.clone()),
            ..Default::default()
        });
        let later = Timestamp::from_second(2_000).expect("a time");
        assert_eq!(
            conditions(&namespace, &left, later),
            made,
            "nothing changed, nothing written"
        );
        let text: Vec<String> = made
            .iter()
            .filter(|condition| condition.status == "True")
            .map(|condition| {
                format!(
                    "{}: {}",
                    condition.reason.clone().unwrap(),
                    condition.message.clone().unwrap()
                )
            })
            .collect();
        assert_eq!((made.len(), text.join("; ").as_str()), (5, wanted));
    }

    #[test]
    fn an_empty_namespace_reports_no_trouble() {
        check("", "", &[], "");
    }

    #[test]
    fn groups_that_nobody_knows_are_named() {
        let why =
            "unable to retrieve the complete list of server APIs: a/v1: stale GroupVersion discovery: a/v1";
        let unknown = Unknown {
            groups: 1,
            why: why.into(),
        };
        let left = Left {
            unknown: Some(unknown),
            ..Left::default()
        };
        check_left(
            left,
            &format!("DiscoveryFailed: Discovery failed for some groups, 1 failing: {why}"),
        );
    }

    #[test]
    fn what_remains_is_counted() {
        check(
            "pods.=2 leases.coordination.k8s.io=1",
            "",
            &[],
            "SomeResourcesRemain: Some resources are remaining: \
             leases.coordination.k8s.io has 1 resource instances, pods. has 2 resource instances",
        );
    }

    #[test]
    fn finalizers_and_failures_are_named() {
        check(
            "",
            "x.dev/hold=3",
            &["list pods"],
            "ContentDeletionFailed: Failed to delete all resource types, 1 remaining: list pods; \
             SomeFinalizersRemain: Some content in the namespace has finalizers remaining: \
             x.dev/hold in 3 resource instances",
        );
    }
}
