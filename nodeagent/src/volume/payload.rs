//! The files of configMap, secret, downwardAPI and projected volumes. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapProjection, DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Secret,
    SecretProjection, ServiceAccountTokenProjection, Volume,
};

use crate::pod::containers::{self, spec};
use crate::spec::fields::{self, Runtime};
use crate::spec::{Objects, TokenSpec};

/// Default permission bits of files. Source: `defaultMode` of every such volume.
const DEFAULT_MODE: i32 = 0o644;
/// Of a token that belongs to a user or a group.
const PRIVATE_MODE: u32 = 0o600;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// The user it belongs to; `None`: root.
    pub owner: Option<u32>,
}

/// Relative path to file.
pub type Payload = BTreeMap<String, File>;

/// `None` for volumes that hold no objects' data (emptyDir, hostPath).
///
/// # Errors
/// What is missing, worded as the kubelet words it.
pub fn payload(
    pod: &Pod,
    volume: &Volume,
    objects: &Objects,
    runtime: &Runtime,
) -> Option<Result<Payload, String>> {
    if let Some(source) = &volume.config_map {
        let projection = ConfigMapProjection {
            items: source.items.clone(),
            name: source.name.clone(),
            optional: source.optional,
        };
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        return Some(config_map(&projection, mode, objects));
    }
    if let Some(source) = &volume.secret {
        let projection = SecretProjection {
            items: source.items.clone(),
            name: source.secret_name.clone().unwrap_or_default(),
            optional: source.optional,
        };
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        return Some(secret(&projection, mode, objects));
    }
    if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        return Some(downward(
            pod,
            source.items.as_deref().unwrap_or_default(),
            mode,
            runtime,
        ));
    }
    volume
        .projected
        .as_ref()
        .map(|source| projected(pod, source, objects, runtime))
}

fn projected(
    pod: &Pod,
    source: &ProjectedVolumeSource,
    objects: &Objects,
    runtime: &Runtime,
) -> Result<Payload, String> {
    let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    let mut all = Payload::new();
    for part in source.sources.iter().flatten() {
        if let Some(part) = &part.config_map {
            all.extend(config_map(part, mode, objects)?);
        } else if let Some(part) = &part.secret {
            all.extend(secret(part, mode, objects)?);
        } else if let Some(part) = &part.downward_api {
            all.extend(downward(
                pod,
                part.items.as_deref().unwrap_or_default(),
                mode,
                runtime,
            )?);
        } else if let Some(part) = &part.service_account_token {
            all.extend(token(pod, part, mode, objects)?);
        } else if part.cluster_trust_bundle.is_some() {
            return Err("clusterTrustBundle projections are not supported by this node".to_owned());
        } else if part.pod_certificate.is_some() {
            return Err("podCertificate projections are not supported by this node".to_owned());
        }
    }
    Ok(all)
}

/// A token is its user's alone where there is one user; where there is a group, the group's too.
/// Source: kubelet `pkg/volume/projected`, `pkg/volume/util.FsUserFrom`.
fn token(
    pod: &Pod,
    source: &ServiceAccountTokenProjection,
    mode: i32,
    objects: &Objects,
) -> Result<Payload, String> {
    let text = match objects.tokens.get(&TokenSpec::of(source)) {
        Some(Ok(text)) => text,
        Some(Err(why)) => return Err(format!("failed to fetch token: {why}")),
        None => return Err("failed to fetch token: it was not asked for".to_owned()),
    };
    let owner = user(pod);
    let has_group = spec(pod)
        .security_context
        .as_ref()
        .is_some_and(|security| security.fs_group.is_some());
    let private = owner.is_some() || has_group;
    let file = File {
        data: text.as_bytes().to_vec(),
        mode: if private {
            PRIVATE_MODE
        } else {
            mode as u32 & 0o777
        },
        owner,
    };
    Ok([(checked(&source.path)?, file)].into())
}

/// The one user that all containers run as, if the Pod says so.
fn user(pod: &Pod) -> Option<u32> {
    let of_pod = spec(pod)
        .security_context
        .as_ref()
        .and_then(|security| security.run_as_user);
    let mut users = containers::all(pod).map(|(container, _)| {
        let own = container.security_context.as_ref();
        own.and_then(|security| security.run_as_user).or(of_pod)
    });
    let first = users.next()??;
    if users.all(|user| user == Some(first)) {
        u32::try_from(first).ok()
    } else {
        None
    }
}

fn config_map(source: &ConfigMapProjection, mode: i32, objects: &Objects) -> Result<Payload, String> {
    let data = objects
        .config_maps
        .get(&source.name)
        .map(|map| config_map_data(map));
    let wanted = Wanted {
        name: &source.name,
        items: source.items.as_deref(),
        optional: source.optional,
    };
    select(data, &wanted, mode, ("configmap", "config"))
}

fn secret(source: &SecretProjection, mode: i32, objects: &Objects) -> Result<Payload, String> {
    let data = objects
        .secrets
        .get(&source.name)
        .map(|secret| secret_data(secret));
    let wanted = Wanted {
        name: &source.name,
        items: source.items.as_deref(),
        optional: source.optional,
    };
    select(data, &wanted, mode, ("secret", "secret"))
}

struct Wanted<'a> {
    name: &'a str,
    items: Option<&'a [KeyToPath]>,
    optional: Option<bool>,
}

fn config_map_data(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let texts = map
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let bytes = map
        .binary_data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.0.clone()));
    texts.chain(bytes).collect()
}

fn secret_data(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.0.clone()))
        .collect()
}

/// Without `items` every key is a file; with them only those, at their paths and modes.
/// `words`: what messages call the object and its keys.
fn select(
    data: Option<BTreeMap<String, Vec<u8>>>,
    wanted: &Wanted<'_>,
    mode: i32,
    words: (&str, &str),
) -> Result<Payload, String> {
    let optional = wanted.optional == Some(true);
    let Some(data) = data else {
        return if optional {
            Ok(Payload::new())
        } else {
            Err(format!("{} {:?} not found", words.0, wanted.name))
        };
    };
    let file = |data: &[u8], mode: i32| File {
        data: data.to_vec(),
        mode: mode as u32 & 0o777,
        owner: None,
    };
    let Some(items) = wanted.items.filter(|items| !items.is_empty()) else {
        return data
            .iter()
            .map(|(key, value)| Ok((checked(key)?, file(value, mode))))
            .collect();
    };
    let mut made = Payload::new();
    for item in items {
        match data.get(&item.key) {
            Some(value) => {
                made.insert(checked(&item.path)?, file(value, item.mode.unwrap_or(mode)));
            }
            None if optional => {}
            None => return Err(format!("references non-existent {} key: {}", words.1, item.key)),
        }
    }
    Ok(made)
}

fn downward(
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    mode: i32,
    runtime: &Runtime,
) -> Result<Payload, String> {
    let mut made = Payload::new();
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => fields::field(pod, &field.field_path, runtime),
            (None, Some(selector)) => fields::resource(pod, selector, "", runtime),
            (None, None) => Ok(String::new()),
        };
        let data = text.map_err(|error| error.to_string())?.into_bytes();
        made.insert(
            checked(&item.path)?,
            File {
                data,
                mode: item.mode.unwrap_or(mode) as u32 & 0o777,
                owner: None,
            },
        );
    }
    Ok(made)
}

/// The API has validated paths already; a file outside the volume must be impossible whatever was stored.
fn checked(path: &str) -> Result<String, String> {
    let bad = path.is_empty()
        || path.starts_with('/')
        || path.starts_with("..")
        || path
            .split('/')
            .any(|part| part.is_empty() || part == "." || part == "..");
    if bad {
        Err(format!("invalid path {path:?}"))
    } else {
        Ok(path.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    /// `wanted`: `path:mode=data` separated by spaces, or the error.
    #[track_caller]
    fn check(volume: Value, wanted: Result<&str, &str>) {
        let mut volume = volume;
        volume["name"] = json!("v");
        let volume: Volume = serde_json::from_value(volume).expect("a volume");
        let map = json!({"metadata": {}, "data": {"a": "1", "b": "2"}, "binaryData": {"c": "Mw=="}});
        let secret = json!({"metadata": {}, "data": {"k": "dg=="}});
        let objects = Objects {
            config_maps: [(
                "m".to_owned(),
                Arc::new(serde_json::from_value(map).expect("a ConfigMap")),
            )]
            .into(),
            secrets: [(
                "s".to_owned(),
                Arc::new(serde_json::from_value(secret).expect("a Secret")),
            )]
            .into(),
            services: vec![],
            tokens: [
                (token_spec("", 3600), Ok("t1".into())),
                (token_spec("vault", 600), Err("no".to_owned())),
            ]
            .into(),
        };
        let pod =
            json!({"metadata": {"name": "p", "labels": {"x": "y", "q": "a\"b"}}, "spec": {"containers": []}});
        let pod: Pod = serde_json::from_value(pod).expect("a Pod");
        let made = payload(&pod, &volume, &objects, &Runtime::default()).expect("files");
        let show = |(path, file): (&String, &File)| {
            format!("{path}:{:o}={}", file.mode, String::from_utf8_lossy(&file.data))
        };
        let made = made.map(|made| made.iter().map(show).collect::<Vec<_>>().join(" "));
        assert_eq!(made, wanted.map(str::to_owned).map_err(str::to_owned));
    }

    #[test]
    fn config_maps() {
        check(json!({"configMap": {"name": "m"}}), Ok("a:644=1 b:644=2 c:644=3"));
        let items = json!([{"key": "a", "path": "d/x", "mode": 256}]);
        check(
            json!({"configMap": {"name": "m", "items": items}}),
            Ok("d/x:400=1"),
        );
        check(
            json!({"configMap": {"name": "no"}}),
            Err("configmap \"no\" not found"),
        );
        check(json!({"configMap": {"name": "no", "optional": true}}), Ok(""));
        let items = json!([{"key": "z", "path": "z"}]);
        check(
            json!({"configMap": {"name": "m", "items": items}}),
            Err("references non-existent config key: z"),
        );
        let items = json!([{"key": "a", "path": "../z"}]);
        check(
            json!({"configMap": {"name": "m", "items": items}}),
            Err("invalid path \"../z\""),
        );
    }

    #[test]
    fn secrets_and_projections() {
        check(
            json!({"secret": {"secretName": "s", "defaultMode": 256}}),
            Ok("k:400=v"),
        );
        let labels = json!([{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]);
        let sources = json!([{"secret": {"name": "s"}}, {"downwardAPI": {"items": labels}}]);
        check(
            json!({"projected": {"sources": sources}}),
            Ok("k:644=v labels:644=q=\"a\\\"b\"\nx=\"y\""),
        );
        let bundle = json!([{"clusterTrustBundle": {"path": "b"}}]);
        let message = "clusterTrustBundle projections are not supported by this node";
        check(json!({"projected": {"sources": bundle}}), Err(message));
    }

    fn token_spec(audience: &str, life: i64) -> TokenSpec {
        TokenSpec {
            audience: audience.to_owned(),
            life,
        }
    }

    #[test]
    fn tokens() {
        let token = json!([{"serviceAccountToken": {"path": "d/token"}}]);
        check(json!({"projected": {"sources": token}}), Ok("d/token:644=t1"));
        let token =
            json!([{"serviceAccountToken": {"path": "t", "audience": "vault", "expirationSeconds": 600}}]);
        check(
            json!({"projected": {"sources": token}}),
            Err("failed to fetch token: no"),
        );
    }

    #[test]
    fn a_token_is_its_users() {
        let check = |spec: Value, wanted: (u32, Option<u32>)| {
            let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("a Pod");
            let source = ServiceAccountTokenProjection {
                path: "t".into(),
                ..Default::default()
            };
            let objects = Objects {
                tokens: [(TokenSpec::of(&source), Ok("x".into()))].into(),
                ..Objects::default()
            };
            let made = token(&pod, &source, 0o644, &objects).expect("a file");
            assert_eq!((made["t"].mode, made["t"].owner), wanted);
        };
        let of = |user: i64| json!({"name": "c", "securityContext": {"runAsUser": user}});
        check(json!({"containers": [{"name": "c"}]}), (0o644, None));
        check(json!({"containers": [of(7), of(7)]}), (0o600, Some(7)));
        check(json!({"containers": [of(7), of(8)]}), (0o644, None));
        check(
            json!({"containers": [of(7), {"name": "d"}], "securityContext": {"runAsUser": 7}}),
            (0o600, Some(7)),
        );
        check(
            json!({"containers": [of(7), {"name": "d"}], "securityContext": {"fsGroup": 9}}),
            (0o600, None),
        );
    }
}
