//! Before a deleted Pod's process is told to stop, its endpoint leaves every node's rules: no connection is sent to a
//! process that no longer listens.
//!
//! The EndpointSlices of the Pod's namespace are watched for this moment only, and only for a Pod that a Service
//! selects. There is no word from the other nodes, so once the slices are right they get a moment to follow.

use std::time::Duration;

use corten_client::reflect::{Form, reflect};
use corten_client::{Cache, KubeKind, Selection};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::io::Context;
use crate::pod::containers::spec;

/// The whole wait; the grace period of the containers begins after it.
const LIMIT: Duration = Duration::from_secs(1);
/// What a node takes to bring its rules in line with a changed slice.
const SETTLE: Duration = Duration::from_millis(100);

pub async fn wait(context: &Context) {
    let namespace = context.pod.metadata.namespace.as_deref().unwrap_or_default();
    let services = context.shared.services.list_namespace(namespace);
    if spec(&context.pod).host_network == Some(true)
        || !services.iter().any(|service| selects(service, &context.pod))
    {
        return;
    }
    let drained = tokio::time::timeout(LIMIT, left_all_slices(context, namespace)).await;
    match drained {
        Ok(()) => tokio::time::sleep(SETTLE).await,
        Err(_) => tracing::debug!(
            uid = context.uid(),
            "endpoints still name the Pod; it is stopped all the same"
        ),
    }
}

async fn left_all_slices(context: &Context, namespace: &str) {
    let slices = Cache::<EndpointSlice>::new();
    let mut changes = slices.subscribe();
    let mut feed = slices.feed();
    let stop = tokio_util::sync::CancellationToken::new();
    let _stopped_with_the_wait = stop.clone().drop_guard();
    let api = context.shared.api.clone();
    let selection = Selection::namespace(namespace);
    tokio::spawn(async move {
        reflect(
            api,
            EndpointSlice::target(),
            selection,
            Form::Full,
            &mut feed,
            stop,
        )
        .await;
    });
    slices.wait_synced().await;
    while slices.list().iter().any(|slice| serves(slice, context.uid())) {
        if changes.recv().await.is_none() {
            return;
        }
    }
}

fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let labels = pod.metadata.labels.as_ref();
    selector.is_some_and(|selector| {
        !selector.is_empty()
            && selector
                .iter()
                .all(|(name, value)| labels.and_then(|labels| labels.get(name)) == Some(value))
    })
}

/// A condition that is not given counts as ready. Source: EndpointConditions.
fn serves(slice: &EndpointSlice, uid: &str) -> bool {
    slice.endpoints.iter().flatten().any(|endpoint| {
        let target = endpoint
            .target_ref
            .as_ref()
            .and_then(|target| target.uid.as_deref());
        let ready = endpoint
            .conditions
            .as_ref()
            .and_then(|conditions| conditions.ready);
        target == Some(uid) && ready != Some(false)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(endpoint: Value, wanted: bool) {
        let slice: EndpointSlice =
            serde_json::from_value(json!({"metadata": {}, "addressType": "IPv4", "endpoints": [endpoint]}))
                .expect("a slice");
        assert_eq!(serves(&slice, "u"), wanted);
    }

    #[test]
    fn only_ready_endpoints_of_this_pod_count() {
        let of = |uid: &str, conditions: Value| json!({"addresses": ["10.0.0.1"], "targetRef": {"uid": uid}, "conditions": conditions});
        check(of("u", json!({})), true);
        check(of("u", json!({"ready": true})), true);
        check(
            of("u", json!({"ready": false, "serving": true, "terminating": true})),
            false,
        );
        check(of("other", json!({"ready": true})), false);
    }
}
