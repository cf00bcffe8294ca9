//! Starts one container: configuration, files, create, start.

use std::fs;
use std::io;

use k8s_openapi::api::core::v1::Container;

use super::io::{Context, blocking};
use crate::events;
use crate::pod::action::{Failure, ImageReady, PodEvent};
use crate::pod::containers::{find, is_running, target_of};
use crate::runtime::{ContainerSpec, Mount, SandboxSpec};
use crate::spec::container::{Prepared, container as container_spec};
use crate::spec::dns;
use crate::spec::env::environment;
use crate::spec::sandbox::sandbox;
use crate::volume::mount;

pub async fn container(
    context: &Context,
    name: &str,
    attempt: u32,
    sandbox_id: &str,
    image: &ImageReady,
) -> Result<(), Failure> {
    let shared = &context.shared;
    let fail = |reason: &str, message: String| {
        context.record(&PodEvent::warning(events::FAILED, format!("Error: {message}")).of(name));
        Failure::new(reason, message)
    };
    let _permit = shared.starts.acquire().await;
    let Some((spec, _)) = find(&context.pod, name) else {
        return Err(fail(
            events::CREATE_CONTAINER_CONFIG_ERROR,
            format!("container {name} is not in the Pod's spec"),
        ));
    };
    let target = target(context, name, sandbox_id)
        .await
        .map_err(|message| fail(events::CREATE_CONTAINER_CONFIG_ERROR, message))?;
    let config = config(context, &spec, attempt, image, target)
        .await
        .map_err(|message| fail(events::CREATE_CONTAINER_CONFIG_ERROR, message))?;
    let sandbox = SandboxSpec {
        attempt: 0,
        ..sandbox(&context.pod, 0, &shared.place)
    };
    let id = shared
        .runtime
        .create_container(sandbox_id, &sandbox, &config)
        .await
        .map_err(|error| fail(events::CREATE_CONTAINER_ERROR, error.to_string()))?;
    shared.owners.learn_one(context.uid(), &id);
    context.record(&PodEvent::normal(events::CREATED, "Container created").of(name));
    shared
        .runtime
        .start_container(&id)
        .await
        .map_err(|error| fail(events::RUN_CONTAINER_ERROR, error.to_string()))?;
    context.record(&PodEvent::normal(events::STARTED, "Container started").of(name));
    Ok(())
}

/// The running container whose processes the ephemeral container `name` asks to see.
async fn target(context: &Context, name: &str, sandbox_id: &str) -> Result<Option<String>, String> {
    let Some(wanted) = target_of(&context.pod, name) else {
        return Ok(None);
    };
    let sandbox = context.shared.runtime.sandbox(sandbox_id).await;
    let containers = sandbox
        .map_err(|error| error.to_string())?
        .map(|sandbox| sandbox.containers);
    let mut containers = containers.into_iter().flatten();
    match containers.find(|found| found.name == wanted && is_running(found)) {
        Some(found) => Ok(Some(found.id)),
        None => Err(format!("unable to find target container {wanted}")),
    }
}

/// Everything the runtime needs, with the files it refers to made.
async fn config(
    context: &Context,
    container: &Container,
    attempt: u32,
    image: &ImageReady,
    target: Option<String>,
) -> Result<ContainerSpec, String> {
    let shared = &context.shared;
    shared.services.wait_synced().await;
    let objects = context.objects().await?;
    let env = environment(&context.pod, container, &objects, &context.field_runtime())
        .map_err(|error| error.to_string())?;
    let directory = context.directory();
    let termination_log = directory.termination_log(&container.name, attempt);
    let ips: Vec<String> = context.ips.iter().map(ToString::to_string).collect();
    let hosts_text = dns::hosts(&context.pod, &ips, &shared.place.dns.domain, &shared.hosts);
    let logs =
        crate::spec::sandbox::log_directory(&shared.place, &crate::spec::sandbox::pod_ref(&context.pod))
            .join(&container.name);
    let (pod, of, variables, last_words) = (
        context.pod.clone(),
        container.clone(),
        env.clone(),
        termination_log.clone(),
    );
    let mounts = blocking(move || {
        fs::create_dir_all(&logs)?;
        if let Some(parent) = last_words.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::File::create(&last_words)?;
        // Any user in the container may write its last words.
        fs::set_permissions(&last_words, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
        let mut mounts = mount::mounts(&directory, &pod, &of, &variables).map_err(io::Error::other)?;
        let own_hosts = mounts.iter().any(|mount| mount.container_path == "/etc/hosts");
        if !own_hosts {
            let path = directory.hosts();
            write_if_changed(&path, &hosts_text)?;
            mounts.push(Mount {
                container_path: "/etc/hosts".to_owned(),
                host_path: path,
                ..Mount::default()
            });
        }
        Ok(mounts)
    })
    .await
    .map_err(|error| error.to_string())?;
    let prepared = Prepared {
        attempt,
        image: image.clone(),
        env,
        mounts,
        termination_log,
        node_memory: shared.node_memory,
        defaults: shared.place.defaults.clone(),
        target,
    };
    container_spec(&context.pod, container, prepared).map_err(|error| error.to_string())
}

/// Containers of the Pod that run already have the file mounted: it is written in place, and only when it differs.
fn write_if_changed(path: &std::path::Path, text: &str) -> io::Result<()> {
    match fs::read_to_string(path) {
        Ok(old) if old == text => Ok(()),
        _ => fs::write(path, text),
    }
}
