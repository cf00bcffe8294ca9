//! Requests that leave HTTP: logs, exec, attach, port-forward and the tunnels of node agents.
//!
//! Decides which Pod, container and node are meant. How bytes travel is `streaming`'s and `tunnel`'s room.

use corten_api::status::Qualified;
use corten_api::{ResourceType, Status, meta};
use http::StatusCode;
use http::request::Parts;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::query::Query;
use crate::read::point::{self, Point};
use crate::respond::{self, Answer};
use crate::route::{Target, Verb};
use crate::service::method_not_allowed;
use crate::streaming::{self, Operation, StreamTarget};
use crate::write::admission::{self, Attributes, Effects, RequestOptions};
use crate::write::{Answered, Decision, Env, Payload, Subject, transact};
use crate::{ApiServer, User, tunnel};

fn operation(sub: &str) -> Option<Operation> {
    match sub {
        "log" => Some(Operation::Log),
        "exec" => Some(Operation::Exec),
        "attach" => Some(Operation::Attach),
        "portforward" => Some(Operation::PortForward),
        _ => None,
    }
}

/// Whether `sub` of `ty` is served by the node's agent.
#[must_use]
pub fn is_stream(ty: &ResourceType, sub: &str) -> bool {
    ty.group.is_empty() && ty.plural == "pods" && operation(sub).is_some()
}

/// Lets admission judge a connection: an object of its options, made of the query. Reading logs is none.
///
/// # Errors
/// What a plug-in, policy or webhook refuses.
pub async fn admit(
    server: &ApiServer,
    user: &User,
    ty: &ResourceType,
    target: &Target,
    query: &Query,
) -> Result<(), Status> {
    let sub = target.subresource.as_deref().unwrap_or_default();
    let Some(known) = ty.subresource(sub).filter(|_| sub != "log") else {
        return Ok(());
    };
    let (group, version, kind) = ty.body_of(known);
    let api_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let mut object = json!({ "apiVersion": api_version, "kind": kind });
    for flag in ["stdin", "stdout", "stderr", "tty"] {
        if query.is_true(flag) {
            object[flag] = true.into();
        }
    }
    for text in ["container", "path"] {
        if let Some(value) = query.get(text).filter(|value| !value.is_empty()) {
            object[text] = value.into();
        }
    }
    let command: Vec<&str> = query.all("command").collect();
    if !command.is_empty() {
        object["command"] = json!(command);
    }
    let ports: Vec<i64> = query.all("ports").filter_map(|port| port.parse().ok()).collect();
    if !ports.is_empty() {
        object["ports"] = json!(ports);
    }
    let subject = Subject {
        ty,
        namespace: target.namespace.as_deref().unwrap_or_default(),
    };
    let name = target.name.as_deref().unwrap_or_default();
    let mut env = Env::new(Timestamp::now()).by(user, RequestOptions::None, false);
    let admitted = transact(server.inner(), &mut env, |snapshot, env| {
        let (asker, mut effects) = (env.asker.clone(), Effects::default());
        let attributes = Attributes {
            subresource: sub,
            ..asker.attributes(subject, admission::Operation::Connect, name)
        };
        let mut object = object.clone();
        if let Some(question) = admission::mutate(&attributes, snapshot, &mut object, env)? {
            return Ok(Decision::Ask(question));
        }
        if let Some(question) = admission::validate(&attributes, snapshot, &object, &mut effects, env)? {
            return Ok(Decision::Ask(question));
        }
        let answer = Answered {
            code: StatusCode::OK,
            payload: Payload::Value(Value::Null),
            warnings: Vec::new(),
        };
        Ok(Decision::Nothing(answer).with(effects, env))
    });
    admitted.await.map(|_| ())
}

/// # Errors
/// `NotFound`, `BadRequest` for a container that is not there, and what the node says.
pub async fn stream(
    server: &ApiServer,
    ty: &ResourceType,
    target: &Target,
    parts: Parts,
    query: &Query,
) -> Result<Answer, Status> {
    let operation = target
        .subresource
        .as_deref()
        .and_then(operation)
        .ok_or_else(Status::no_such_resource)?;
    let expected = if operation == Operation::Log {
        Verb::Get
    } else {
        Verb::Create
    };
    if target.verb != expected {
        return Ok(method_not_allowed());
    }
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let name = target.name.as_deref().unwrap_or_default();
    let inner = server.inner();
    let snapshot = point::snapshot(&inner.store, &Point::Newest, "").await?;
    let pod = Subject { ty, namespace }.read(&snapshot, name)?.value;
    let Some(stream) = stream_target(&pod, operation, query.get("container").unwrap_or_default())? else {
        return Ok(respond::text(StatusCode::OK, ""));
    };
    streaming::handle(&inner.tunnels, parts, stream).await
}

/// Where a stream of a Pod goes; `None`: logs of a Pod without a node, which are empty. Source: Kubernetes
/// `registry/core/pod.LogLocation` and `streamLocation`.
fn stream_target(pod: &Value, operation: Operation, container: &str) -> Result<Option<StreamTarget>, Status> {
    let container = match operation {
        Operation::PortForward => String::new(),
        _ => choose_container(pod, container)?,
    };
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if node.is_empty() {
        return match operation {
            Operation::Log => Ok(None),
            _ => Err(Status::bad_request(format!(
                "pod {} does not have a host assigned",
                meta::name(pod)
            ))),
        };
    }
    Ok(Some(StreamTarget {
        node: node.to_owned(),
        namespace: meta::namespace(pod).to_owned(),
        pod: meta::name(pod).to_owned(),
        pod_uid: meta::uid(pod).to_owned(),
        container,
        operation,
    }))
}

fn choose_container(pod: &Value, asked: &str) -> Result<String, Status> {
    let names = |field: &str| -> Vec<&str> {
        let list = pod["spec"][field].as_array().into_iter().flatten();
        list.filter_map(|container| container["name"].as_str()).collect()
    };
    let (own, init, debug) = (
        names("containers"),
        names("initContainers"),
        names("ephemeralContainers"),
    );
    let name = meta::name(pod);
    if asked.is_empty() {
        if let ([only], [], []) = (own.as_slice(), init.as_slice(), debug.as_slice()) {
            return Ok((*only).to_owned());
        }
        let mut text = format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            own.join(" ")
        );
        for (kind, names) in [("init", init), ("ephemeral", debug)] {
            if !names.is_empty() {
                text += &format!(" or one of the {kind} containers: [{}]", names.join(" "));
            }
        }
        return Err(Status::bad_request(text));
    }
    if own.iter().chain(&init).chain(&debug).any(|known| *known == asked) {
        return Ok(asked.to_owned());
    }
    Err(Status::bad_request(format!(
        "container {asked} is not valid for pod {name}"
    )))
}

/// `issuer`: of the certificate that the agent showed, DER.
///
/// # Errors
/// `Forbidden` for anyone but the node itself; `BadRequest` without the upgrade.
pub fn tunnel(
    server: &ApiServer,
    user: &User,
    node: &str,
    parts: Parts,
    issuer: Option<Vec<u8>>,
) -> Result<Answer, Status> {
    if !tunnel::may_serve(user, node) {
        let why = format!("User {:?} cannot serve the tunnel of node {node:?}", user.name);
        return Err(Status::forbidden(Qualified::new("", "nodes"), node, why));
    }
    server.inner().tunnels.accept(node, parts, issuer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `want`: the container, `empty`, or part of the error.
    #[track_caller]
    fn check(spec: Value, operation: Operation, container: &str, want: &str) {
        let pod = json!({"metadata": {"name": "p", "namespace": "a", "uid": "u"}, "spec": spec});
        let got = match stream_target(&pod, operation, container) {
            Ok(None) => "empty".to_owned(),
            Ok(Some(target)) => target.container,
            Err(status) => status.message,
        };
        assert_eq!(got, want);
    }

    #[test]
    fn containers_are_chosen_as_upstream_does() {
        let one = json!({"nodeName": "n", "containers": [{"name": "a"}]});
        let two = json!({"nodeName": "n", "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]});
        check(one.clone(), Operation::Exec, "", "a");
        check(
            one.clone(),
            Operation::Log,
            "x",
            "container x is not valid for pod p",
        );
        check(two.clone(), Operation::Log, "i", "i");
        check(
            two,
            Operation::Attach,
            "",
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]",
        );
        check(one, Operation::PortForward, "", "");
        let unbound = json!({"containers": [{"name": "a"}]});
        check(unbound.clone(), Operation::Log, "", "empty");
        check(
            unbound,
            Operation::Exec,
            "",
            "pod p does not have a host assigned",
        );
    }
}
