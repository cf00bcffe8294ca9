//! Makes a container's image present, by its pull policy.

use std::time::{Duration, Instant};

use base64::Engine;
use k8s_openapi::api::core::v1::{Container, Secret};
use serde_json::Value;

use super::io::Context;
use crate::events;
use crate::pod::action::{Failure, ImageReady, PodEvent};
use crate::pod::containers::{find, spec};
use crate::runtime::import::reference::normalise;
use crate::runtime::{Image, RegistryAuth};

/// # Errors
/// With the reasons that `kubectl` shows: `ErrImagePull`, `ErrImageNeverPull`, `InvalidImageName`, `ImageInspectError`.
pub async fn ensure(context: &Context, name: &str) -> Result<ImageReady, Failure> {
    let warn =
        |reason: &'static str, message: &str| context.record(&PodEvent::warning(reason, message).of(name));
    let fail = |reason: &str, message: String| {
        warn(events::FAILED, &format!("Error: {reason}"));
        Failure::new(reason, message)
    };
    let Some((container, _)) = find(&context.pod, name) else {
        return Err(Failure::new(
            events::INVALID_IMAGE_NAME,
            format!("container {name} is not in the Pod's spec"),
        ));
    };
    let image = container.image.as_deref().unwrap_or_default();
    let full = normalise(image).map_err(|error| {
        let message = format!(
            "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: {error}"
        );
        warn("InspectFailed", &message);
        fail(events::INVALID_IMAGE_NAME, message)
    })?;
    let runtime = &context.shared.runtime;
    let present = runtime.image_status(&full).await.map_err(|error| {
        let message = format!("Failed to inspect image {image:?}: {error}");
        warn("InspectFailed", &message);
        fail(events::IMAGE_INSPECT_ERROR, message)
    })?;
    let policy = policy(&container, image);
    if let Some(present) = present.filter(|_| policy != "Always") {
        let message =
            format!("Container image {image:?} already present on machine and can be accessed by the pod");
        context.record(&PodEvent::normal(events::PULLED, message).of(name));
        return Ok(ready(present));
    }
    if policy == "Never" {
        let message = format!("Container image {image:?} is not present with pull policy of Never");
        warn(events::ERR_IMAGE_NEVER_PULL, &message);
        return Err(fail(events::ERR_IMAGE_NEVER_PULL, message));
    }
    let waited = Instant::now();
    let _permit = context.shared.pulls.acquire().await;
    let begun = Instant::now();
    context.record(&PodEvent::normal(events::PULLING, format!("Pulling image {image:?}")).of(name));
    let auth = auth(context, &full).await;
    let pulled = match runtime.pull_image(&full, auth.as_ref()).await {
        Ok(_) => runtime.image_status(&full).await,
        Err(error) => Err(error),
    };
    match pulled {
        Ok(Some(found)) => {
            let message = format!(
                "Successfully pulled image {image:?} in {} ({} including waiting). Image size: {} bytes.",
                seconds(begun.elapsed()),
                seconds(waited.elapsed()),
                found.size_bytes
            );
            context.record(&PodEvent::normal(events::PULLED, message).of(name));
            Ok(ready(found))
        }
        other => {
            let cause = match other {
                Err(error) => error.to_string(),
                _ => "the image is not there after the pull".to_owned(),
            };
            let message = format!("failed to pull image {image:?}: {cause}");
            warn(
                events::FAILED,
                &format!("Failed to pull image {image:?}: {cause}"),
            );
            Err(fail(events::ERR_IMAGE_PULL, message))
        }
    }
}

/// The API fills the policy in; without it, Always for `latest` and no tag, else IfNotPresent.
fn policy<'a>(container: &'a Container, image: &str) -> &'a str {
    match container.image_pull_policy.as_deref() {
        Some(policy) if !policy.is_empty() => policy,
        _ => {
            let name = image.rsplit('/').next().unwrap_or(image);
            let latest = !image.contains('@') && (!name.contains(':') || name.ends_with(":latest"));
            if latest { "Always" } else { "IfNotPresent" }
        }
    }
}

fn ready(image: Image) -> ImageReady {
    ImageReady {
        id: image.id,
        uid: image.uid,
        username: image.username,
    }
}

/// As Go prints a duration of this size: `1.234s`, `56ms`.
fn seconds(duration: Duration) -> String {
    if duration >= Duration::from_secs(1) {
        format!("{}s", (duration.as_millis() as f64) / 1000.0)
    } else {
        format!("{}ms", duration.as_millis())
    }
}

async fn auth(context: &Context, image: &str) -> Option<RegistryAuth> {
    let names: Vec<_> = spec(&context.pod)
        .image_pull_secrets
        .iter()
        .flatten()
        .map(|name| &name.name)
        .collect();
    if names.is_empty() {
        return None;
    }
    let objects = context.objects().await.ok()?;
    let host = image.split('/').next().unwrap_or_default();
    names
        .iter()
        .filter_map(|name| objects.secrets.get(*name))
        .find_map(|secret| credentials(secret, host))
}

/// The entry for a registry in a `kubernetes.io/dockerconfigjson` (or the older `dockercfg`) Secret. Pure.
fn credentials(secret: &Secret, host: &str) -> Option<RegistryAuth> {
    let data = secret.data.as_ref()?;
    let parse = |key: &str| serde_json::from_slice::<Value>(&data.get(key)?.0).ok();
    let auths = match parse(".dockerconfigjson") {
        Some(config) => config.get("auths").cloned()?,
        None => parse(".dockercfg")?,
    };
    let bare = |name: &str| {
        let name = name.trim_start_matches("https://").trim_start_matches("http://");
        let name = name.split('/').next().unwrap_or_default();
        if name == "index.docker.io" {
            "docker.io".to_owned()
        } else {
            name.to_owned()
        }
    };
    let entry = auths.as_object()?.iter().find(|(name, _)| bare(name) == host)?.1;
    let text = |key: &str| {
        entry
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let mut auth = RegistryAuth {
        username: text("username"),
        password: text("password"),
        identity_token: text("identitytoken"),
        server_address: host.to_owned(),
        ..RegistryAuth::default()
    };
    let joined = base64::engine::general_purpose::STANDARD
        .decode(text("auth"))
        .ok();
    let joined = joined.and_then(|bytes| String::from_utf8(bytes).ok());
    if let (true, Some((user, password))) = (
        auth.username.is_empty(),
        joined.as_deref().and_then(|joined| joined.split_once(':')),
    ) {
        auth.username = user.to_owned();
        auth.password = password.to_owned();
    }
    Some(auth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(config: Value, host: &str, wanted: Option<(&str, &str)>) {
        let data = base64::engine::general_purpose::STANDARD.encode(config.to_string());
        let secret: Secret =
            serde_json::from_value(json!({"metadata": {}, "data": {".dockerconfigjson": data}}))
                .expect("a Secret");
        let seen = credentials(&secret, host).map(|auth| (auth.username, auth.password));
        assert_eq!(
            seen,
            wanted.map(|(user, password)| (user.to_owned(), password.to_owned()))
        );
    }

    #[test]
    fn pull_secrets() {
        let config = json!({"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"},
            "registry.example": {"username": "a", "password": "b"}}});
        check(config.clone(), "docker.io", Some(("u", "p")));
        check(config.clone(), "registry.example", Some(("a", "b")));
        check(config, "other.example", None);
    }
}
