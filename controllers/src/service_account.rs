//! Every Namespace has a default ServiceAccount and the cluster's root certificate.
//!
//! Both are made together with the Namespace; this puts them back when someone deletes or changes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_client::{ApiClient, Cache, Change, Controller, ObjectExt, ObjectKey, Requeue, Selection, Writes};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::watch;

use crate::context::{Context, Doing, SyncError};

const WORKERS: usize = 5;
const DEFAULT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";
/// The key of the certificate within its ConfigMap.
const CA_KEY: &str = "ca.crt";

struct Ctx {
    api: ApiClient,
    /// Publishes the certificate, with an identity of its own.
    publisher: ApiClient,
    namespaces: Cache<Namespace>,
    accounts: Cache<ServiceAccount>,
    maps: Cache<ConfigMap>,
    root_ca: watch::Receiver<Arc<str>>,
}

pub async fn run(context: Context, root_ca: watch::Receiver<Arc<str>>) {
    let mut changed = root_ca.clone();
    let ctx = Arc::new(Ctx {
        api: context.api.clone(),
        publisher: context.of("root-ca-cert-publisher").api,
        namespaces: context.cache(),
        accounts: context
            .informers
            .informer(Selection::fields(format!("metadata.name={DEFAULT}"))),
        maps: context
            .informers
            .informer(Selection::fields(format!("metadata.name={ROOT_CA}"))),
        root_ca,
    });
    let controller = Controller::new("serviceaccount").workers(WORKERS);
    let (queue, namespaces) = (controller.handle(), ctx.namespaces.clone());
    let republish = async {
        while changed.changed().await.is_ok() {
            for namespace in namespaces.list() {
                queue.add(namespace.key());
            }
        }
        // Nobody changes it any more.
        std::future::pending::<()>().await
    };
    let run = controller
        .watch(&ctx.namespaces, |change| match change {
            Change::Applied { new, .. } if !new.is_terminating() => vec![new.key()],
            _ => vec![],
        })
        .watch(&ctx.accounts, |change| match change {
            Change::Deleted(old) => vec![ObjectKey::cluster(old.namespace())],
            _ => vec![],
        })
        .watch(&ctx.maps, |change| match change {
            Change::Deleted(object)
            | Change::Applied {
                old: Some(_),
                new: object,
            } => {
                vec![ObjectKey::cluster(object.namespace())]
            }
            _ => vec![],
        })
        .run(context.shutdown.clone(), move |key, writes| {
            let ctx = ctx.clone();
            async move { sync(&ctx, &key, &writes).await }
        });
    tokio::select! {
        () = run => {}
        () = republish => {}
    }
}

async fn sync(ctx: &Ctx, key: &ObjectKey, writes: &Writes) -> Result<Requeue, SyncError> {
    if ctx
        .namespaces
        .get(key)
        .is_none_or(|namespace| namespace.is_terminating())
    {
        return Ok(None);
    }
    if ctx.accounts.get(&ObjectKey::new(&key.name, DEFAULT)).is_none() {
        let account = ServiceAccount {
            metadata: metadata(key, DEFAULT),
            ..Default::default()
        };
        match ctx.api.create(&account).await {
            Ok(written) => writes.wrote(&ctx.accounts, written.revision),
            Err(error) if error.is_already_exists() || error.is_namespace_terminating() => {}
            Err(source) => {
                return Err(SyncError::Api {
                    doing: format!("create the default ServiceAccount of {key}"),
                    source,
                });
            }
        }
    }
    let root_ca = ctx.root_ca.borrow().clone();
    let current = ctx.maps.get(&ObjectKey::new(&key.name, ROOT_CA));
    let Some(wanted) = repaired(current.as_deref(), key, &root_ca) else {
        return Ok(None);
    };
    let doing = || format!("restore {ROOT_CA} of {key}");
    let written = match &current {
        None => match ctx.publisher.create(&wanted).await {
            Err(error) if error.is_already_exists() || error.is_namespace_terminating() => return Ok(None),
            result => result.doing(doing)?,
        },
        Some(_) => ctx.publisher.replace(&wanted).await.doing(doing)?,
    };
    writes.wrote(&ctx.maps, written.revision);
    Ok(None)
}

/// The ConfigMap as it should be; `None` if it is so, or if there is no certificate to publish.
fn repaired(current: Option<&ConfigMap>, namespace: &ObjectKey, root_ca: &str) -> Option<ConfigMap> {
    if root_ca.is_empty() {
        return None;
    }
    let data = BTreeMap::from([(CA_KEY.to_owned(), root_ca.to_owned())]);
    match current {
        Some(current) if current.data.as_ref() == Some(&data) => None,
        Some(current) => Some(ConfigMap {
            data: Some(data),
            ..current.clone()
        }),
        None => Some(ConfigMap {
            metadata: metadata(namespace, ROOT_CA),
            data: Some(data),
            ..Default::default()
        }),
    }
}

fn metadata(namespace: &ObjectKey, name: &str) -> ObjectMeta {
    ObjectMeta {
        namespace: Some(namespace.name.clone()),
        name: Some(name.to_owned()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `current` and the result read as the certificate, `-` for none.
    #[track_caller]
    fn check(current: &str, root_ca: &str, wanted: &str) {
        let key = ObjectKey::cluster("a");
        let current = (current != "-").then(|| ConfigMap {
            data: Some([(CA_KEY.to_owned(), current.to_owned())].into()),
            ..Default::default()
        });
        let repaired = repaired(current.as_ref(), &key, root_ca);
        let text = repaired
            .and_then(|map| map.data?.remove(CA_KEY))
            .unwrap_or("-".into());
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_missing_or_changed_certificate_is_restored() {
        check("-", "pem", "pem");
        check("other", "pem", "pem");
        check("pem", "pem", "-");
        check("-", "", "-");
    }
}
