//! The ConfigMaps and Secrets that Pods of this node use: each under its own watch, for as long as a Pod uses it.
//!
//! A node may read only what its Pods refer to, so there is no watch over all of them. A change is told to the users at
//! once; nothing polls.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use corten_client::reflect::{Form, reflect};
use corten_client::{ApiClient, Cache, KubeKind, ObjectKey, Selection};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, VolumeProjection};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::pod::containers::{every, spec};

/// How long a start waits for the first answer about an object.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// Names of the objects a Pod refers to, all in its own namespace. Pure.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct References {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
}

pub fn references(pod: &Pod) -> References {
    let mut found = References::default();
    for (container, _) in every(pod) {
        of_container(&container, &mut found);
    }
    for volume in spec(pod).volumes.iter().flatten() {
        found
            .config_maps
            .extend(volume.config_map.iter().map(|source| source.name.clone()));
        found.secrets.extend(
            volume
                .secret
                .iter()
                .filter_map(|source| source.secret_name.clone()),
        );
        let parts = volume
            .projected
            .iter()
            .flat_map(|source| source.sources.iter().flatten());
        for VolumeProjection {
            config_map, secret, ..
        } in parts
        {
            found
                .config_maps
                .extend(config_map.iter().map(|source| source.name.clone()));
            found
                .secrets
                .extend(secret.iter().map(|source| source.name.clone()));
        }
    }
    let pulls = spec(pod).image_pull_secrets.iter().flatten();
    found.secrets.extend(
        pulls
            .map(|reference| reference.name.clone())
            .filter(|name| !name.is_empty()),
    );
    found
}

fn of_container(container: &Container, found: &mut References) {
    for source in container.env_from.iter().flatten() {
        found
            .config_maps
            .extend(source.config_map_ref.iter().map(|source| source.name.clone()));
        found
            .secrets
            .extend(source.secret_ref.iter().map(|source| source.name.clone()));
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|variable| variable.value_from.as_ref())
    {
        found
            .config_maps
            .extend(source.config_map_key_ref.iter().map(|key| key.name.clone()));
        found
            .secrets
            .extend(source.secret_key_ref.iter().map(|key| key.name.clone()));
    }
}

/// Called with the uids of the Pods whose object changed.
pub type OnChange = Arc<dyn Fn(Vec<String>) + Send + Sync>;

#[derive(Clone)]
pub struct ObjectCache {
    config_maps: Watches<ConfigMap>,
    secrets: Watches<Secret>,
}

impl ObjectCache {
    pub fn new(api: ApiClient, on_change: OnChange, shutdown: CancellationToken) -> ObjectCache {
        ObjectCache {
            config_maps: Watches::new(api.clone(), on_change.clone(), shutdown.clone()),
            secrets: Watches::new(api, on_change, shutdown),
        }
    }

    /// What exists of the Pod's objects now. Notes the Pod as their user until [`release`](Self::release).
    ///
    /// # Errors
    /// The API server has not answered yet; worded as the kubelet words it.
    pub async fn get(&self, pod: &Pod) -> Result<Found, String> {
        let wanted = references(pod);
        let (config_maps, secrets) = tokio::join!(
            self.config_maps.get(pod, &wanted.config_maps, "configmap"),
            self.secrets.get(pod, &wanted.secrets, "secret")
        );
        Ok(Found {
            config_maps: config_maps?,
            secrets: secrets?,
        })
    }

    pub fn release(&self, uid: &str) {
        self.config_maps.release(uid);
        self.secrets.release(uid);
    }
}

pub struct Found {
    pub config_maps: BTreeMap<String, Arc<ConfigMap>>,
    pub secrets: BTreeMap<String, Arc<Secret>>,
}

struct Watched<K> {
    cache: Cache<K>,
    users: Arc<Mutex<BTreeSet<String>>>,
    stop: CancellationToken,
}

struct Watches<K> {
    api: ApiClient,
    on_change: OnChange,
    shutdown: CancellationToken,
    watched: Arc<Mutex<HashMap<ObjectKey, Watched<K>>>>,
}

impl<K> Clone for Watches<K> {
    fn clone(&self) -> Watches<K> {
        Watches {
            api: self.api.clone(),
            on_change: self.on_change.clone(),
            shutdown: self.shutdown.clone(),
            watched: self.watched.clone(),
        }
    }
}

impl<K: KubeKind> Watches<K> {
    fn new(api: ApiClient, on_change: OnChange, shutdown: CancellationToken) -> Watches<K> {
        Watches {
            api,
            on_change,
            shutdown,
            watched: Arc::default(),
        }
    }

    async fn get(
        &self,
        pod: &Pod,
        names: &BTreeSet<String>,
        what: &str,
    ) -> Result<BTreeMap<String, Arc<K>>, String> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let caches: Vec<_> = names
            .iter()
            .map(|name| {
                let key = ObjectKey::new(namespace, name.as_str());
                let cache = self.acquire(&key, uid);
                (name, key, cache)
            })
            .collect();
        let mut found = BTreeMap::new();
        for (name, key, cache) in caches {
            if tokio::time::timeout(FIRST_ANSWER, cache.wait_synced())
                .await
                .is_err()
            {
                return Err(format!(
                    "failed to sync {what} cache: timed out waiting for the condition"
                ));
            }
            if let Some(object) = cache.get(&key) {
                found.insert(name.clone(), object);
            }
        }
        Ok(found)
    }

    fn acquire(&self, key: &ObjectKey, uid: &str) -> Cache<K> {
        let mut watched = self.watched.lock();
        let entry = watched.entry(key.clone()).or_insert_with(|| self.start(key));
        entry.users.lock().insert(uid.to_owned());
        entry.cache.clone()
    }

    fn start(&self, key: &ObjectKey) -> Watched<K> {
        let cache = Cache::<K>::new();
        let users: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let stop = self.shutdown.child_token();
        let (told, on_change) = (users.clone(), self.on_change.clone());
        cache.on_change(move |_| on_change(told.lock().iter().cloned().collect()));
        let mut feed = cache.feed();
        let selection = Selection {
            namespace: key.namespace.clone(),
            fields: format!("metadata.name={}", key.name),
            ..Selection::default()
        };
        let (api, token) = (self.api.clone(), stop.clone());
        tokio::spawn(async move { reflect(api, K::target(), selection, Form::Full, &mut feed, token).await });
        Watched { cache, users, stop }
    }

    fn release(&self, uid: &str) {
        self.watched.lock().retain(|_, entry| {
            let mut users = entry.users.lock();
            users.remove(uid);
            if users.is_empty() {
                entry.stop.cancel();
            }
            !users.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(pod_spec: Value, config_maps: &[&str], secrets: &[&str]) {
        let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": pod_spec})).expect("a Pod");
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(
            references(&pod),
            References {
                config_maps: set(config_maps),
                secrets: set(secrets)
            }
        );
    }

    #[test]
    fn every_place_that_names_an_object() {
        let container = json!({"name": "c",
            "envFrom": [{"configMapRef": {"name": "m1"}}, {"secretRef": {"name": "s1"}}],
            "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m2", "key": "k"}}},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}}]});
        check(
            json!({"initContainers": [container], "containers": [], "imagePullSecrets": [{"name": "s3"}], "volumes": [
                {"name": "a", "configMap": {"name": "m3"}},
                {"name": "b", "secret": {"secretName": "s4"}},
                {"name": "c", "projected": {"sources": [{"configMap": {"name": "m4"}}, {"secret": {"name": "s5"}}]}}]}),
            &["m1", "m2", "m3", "m4"],
            &["s1", "s2", "s3", "s4", "s5"],
        );
    }
}
