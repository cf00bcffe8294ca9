//! How many Pods the owners of some Pods want, taken together.
//!
//! Known kinds are looked up in caches; any other is asked for its `scale` subresource.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use corten_client::discovery::discover;
use corten_client::{ApiClient, ApiError, Cache, Controller, KubeKind, ObjectExt, ObjectKey, Target};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use parking_lot::Mutex;
use serde_json::Value;

use crate::context::{Context, SyncError};

/// Kinds remembered with their place on the server; beyond it the oldest answers are forgotten all at once.
const MAX_KNOWN: usize = 256;

/// What owners want.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Total {
    pub total: i32,
    /// Some Pod has no controller.
    pub unmanaged: bool,
}

pub struct Scales {
    sets: Cache<ReplicaSet>,
    deployments: Cache<Deployment>,
    stateful: Cache<StatefulSet>,
    controllers: Cache<ReplicationController>,
    /// Where other kinds live, by `apiVersion` and kind.
    places: Mutex<HashMap<(String, String), Target>>,
}

impl Scales {
    pub fn new(context: &Context) -> Scales {
        Scales {
            sets: context.cache(),
            deployments: context.cache(),
            stateful: context.cache(),
            controllers: context.cache(),
            places: Mutex::default(),
        }
    }

    /// No sync before the caches are complete: an owner not yet seen would look gone.
    pub fn needed_by(&self, controller: Controller) -> Controller {
        controller
            .needs(&self.sets)
            .needs(&self.deployments)
            .needs(&self.stateful)
            .needs(&self.controllers)
    }

    /// The sum of what each owner wants, each counted once.
    ///
    /// # Errors
    /// A Pod whose controller has no scale.
    pub async fn of_owners(&self, api: &ApiClient, pods: &[Arc<Pod>]) -> Result<Total, SyncError> {
        let mut sum = Total::default();
        let mut asked = HashSet::new();
        let mut counted = HashSet::new();
        for pod in pods {
            let Some(owner) = pod.controller() else {
                sum.unmanaged = true;
                continue;
            };
            if !asked.insert(owner.uid.clone()) {
                continue;
            }
            let found = match self.cached(pod.namespace(), owner) {
                Some(found) => found,
                None => self.asked(api, pod.namespace(), owner).await?,
            };
            let (uid, replicas) = found.ok_or_else(|| {
                SyncError::Invalid(format!("found no controllers for pod {:?}", pod.name()))
            })?;
            // The ReplicaSets of one Deployment all stand for the Deployment.
            if counted.insert(uid) {
                sum.total = sum.total.saturating_add(replicas);
            }
        }
        Ok(sum)
    }

    /// Uid and replicas of an owner of a cached kind; `Some(None)`: it is not there.
    #[allow(
        clippy::option_option,
        reason = "outside: is the kind cached; inside: is the object there"
    )]
    fn cached(&self, namespace: &str, owner: &OwnerReference) -> Option<Option<(String, i32)>> {
        let key = ObjectKey::new(namespace, owner.name.as_str());
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        match (group, owner.kind.as_str()) {
            ("apps", "ReplicaSet") => Some(self.set(namespace, &key, &owner.uid)),
            ("apps", "StatefulSet") => Some(wanted(&self.stateful, &key, &owner.uid, |set| {
                set.spec.as_ref()?.replicas
            })),
            ("", "ReplicationController") => Some(wanted(&self.controllers, &key, &owner.uid, |rc| {
                rc.spec.as_ref()?.replicas
            })),
            _ => None,
        }
    }

    /// A ReplicaSet of a Deployment wants what the Deployment wants.
    fn set(&self, namespace: &str, key: &ObjectKey, uid: &str) -> Option<(String, i32)> {
        let set = self.sets.get(key).filter(|set| set.uid() == uid)?;
        match set.controller().filter(|owner| owner.kind == "Deployment") {
            Some(owner) => {
                let key = ObjectKey::new(namespace, owner.name.as_str());
                wanted(&self.deployments, &key, &owner.uid, |deployment| {
                    deployment.spec.as_ref()?.replicas
                })
            }
            None => Some((uid.to_owned(), set.spec.as_ref()?.replicas.unwrap_or(1))),
        }
    }

    async fn asked(
        &self,
        api: &ApiClient,
        namespace: &str,
        owner: &OwnerReference,
    ) -> Result<Option<(String, i32)>, SyncError> {
        let failed = |source| SyncError::Api {
            doing: format!("read the scale of {} {}", owner.kind, owner.name),
            source,
        };
        let Some(target) = self.place(api, owner).await.map_err(failed)? else {
            return Ok(None);
        };
        let path = target.object_path(&ObjectKey::new(namespace, owner.name.as_str())) + "/scale";
        match api.get_path::<Value>(&path).await {
            Ok(scale) if scale["metadata"]["uid"] == owner.uid => {
                let replicas = scale["spec"]["replicas"].as_i64().unwrap_or_default();
                Ok(Some((
                    owner.uid.clone(),
                    i32::try_from(replicas).unwrap_or(i32::MAX),
                )))
            }
            Ok(_) => Ok(None),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    async fn place(&self, api: &ApiClient, owner: &OwnerReference) -> Result<Option<Target>, ApiError> {
        let kind = (owner.api_version.clone(), owner.kind.clone());
        if let Some(known) = self.places.lock().get(&kind) {
            return Ok(Some(known.clone()));
        }
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let found = discover(api)
            .await?
            .kinds
            .into_iter()
            .map(|known| known.target)
            .find(|target| target.group == group && target.kind == owner.kind);
        if let Some(target) = &found {
            let mut places = self.places.lock();
            if places.len() >= MAX_KNOWN {
                places.clear();
            }
            places.insert(kind, target.clone());
        }
        Ok(found)
    }
}

/// Uid and replicas of this very object; absent replicas mean 1.
fn wanted<K: KubeKind>(
    cache: &Cache<K>,
    key: &ObjectKey,
    uid: &str,
    replicas: impl Fn(&K) -> Option<i32>,
) -> Option<(String, i32)> {
    let object = cache.get(key).filter(|object| object.uid() == uid)?;
    Some((uid.to_owned(), replicas(&object).unwrap_or(1)))
}
