//! Lifecycle hooks: postStart and preStop.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;

use super::io::Context;
use crate::events;
use crate::pod::action::{Failure, PodEvent};
use crate::pod::containers::find;
use crate::probe::prober::{HttpError, Target, http_get};

/// A hook may hang; a postStart hook has no bound of its own in Kubernetes, this is ours for one HTTP call.
const HTTP_TIMEOUT: Duration = Duration::from_secs(60);

/// # Errors
/// The hook failed: the container is to be killed.
pub async fn post_start(context: &Context, name: &str, id: &str) -> Result<(), Failure> {
    let handler = find(&context.pod, name)
        .and_then(|(container, _)| container.lifecycle.as_ref()?.post_start.clone())
        .unwrap_or_default();
    run(context, name, id, &handler, Duration::ZERO)
        .await
        .map_err(|error| {
            tracing::debug!(error, container = name, "postStart hook");
            Failure::new(events::FAILED_POST_START_HOOK, "PostStartHook failed")
        })
}

/// Runs the hook, at most for the grace period. A failure is told, and the container is stopped all the same.
pub async fn pre_stop(context: &Context, name: &str, id: &str, grace: Duration) {
    let handler =
        find(&context.pod, name).and_then(|(container, _)| container.lifecycle.as_ref()?.pre_stop.clone());
    let Some(handler) = handler else { return };
    let result = match tokio::time::timeout(grace, run(context, name, id, &handler, grace)).await {
        Ok(result) => result,
        Err(_) => Err(format!("hook did not end within {}s", grace.as_secs())),
    };
    if let Err(error) = result {
        tracing::debug!(error, container = name, "preStop hook");
        context.record(&PodEvent::warning(events::FAILED_PRE_STOP_HOOK, "PreStopHook failed").of(name));
    }
}

async fn run(
    context: &Context,
    name: &str,
    id: &str,
    handler: &LifecycleHandler,
    timeout: Duration,
) -> Result<(), String> {
    if let Some(action) = &handler.exec {
        let command = action.command.clone().unwrap_or_default();
        let output = context
            .shared
            .runtime
            .exec_sync(id, &command, timeout)
            .await
            .map_err(|error| error.to_string())?;
        return match output.exit_code {
            0 => Ok(()),
            code => Err(format!(
                "command exited with {code}: {}",
                String::from_utf8_lossy(&output.stderr)
            )),
        };
    }
    if let Some(action) = &handler.http_get {
        let Some((container, _)) = find(&context.pod, name) else {
            return Ok(());
        };
        let target = Target {
            container: &container,
            container_id: id,
            pod_ip: context.ips.first().copied(),
        };
        return match http_get(&target, action, HTTP_TIMEOUT).await {
            Ok(code) if (200..400).contains(&code) => Ok(()),
            Ok(code) => Err(format!("statuscode: {code}")),
            Err(HttpError::Failed(message) | HttpError::Impossible(message)) => Err(message),
        };
    }
    if let Some(action) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(action.seconds.max(0) as u64)).await;
        return Ok(());
    }
    if handler.tcp_socket.is_some() {
        return Err("tcpSocket is not supported as a lifecycle handler".to_owned());
    }
    Ok(())
}
