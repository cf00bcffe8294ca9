//! The group `who.example.com/v1alpha1`: each of its objects, a Visit, says who made it. Kept in memory.
//!
//! Knows requests whose user is known. Its revision is the number of its events.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::Stream;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::sync::watch;

const PATH: &str = "/apis/who.example.com/v1alpha1";
const GROUP_VERSION: &str = "who.example.com/v1alpha1";

#[derive(Default)]
pub struct Group {
    state: Mutex<State>,
    /// How many events there are.
    count: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    /// By namespace and name.
    visits: BTreeMap<(String, String), Value>,
    events: Vec<Value>,
}

pub enum Reply {
    Json(u16, Value),
    Watch(Start),
}

/// Where a watch begins.
pub struct Start {
    namespace: String,
    /// What it starts with: nothing, or everything there is.
    first: Vec<Value>,
    next: usize,
}

pub fn status(code: u16, reason: &str, message: &str) -> Value {
    let word = if code < 400 { "Success" } else { "Failure" };
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": word, "message": message, "reason": reason, "code": code })
}

/// Whom the front proxy's headers name. Source: Kubernetes, "Configure the aggregation layer".
pub fn user(headers: &HeaderMap) -> Value {
    const EXTRA: &str = "x-remote-extra-";
    let all = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    };
    let extra = headers.keys().filter_map(|name| {
        let key = percent_decode_str(name.as_str().strip_prefix(EXTRA)?).decode_utf8_lossy();
        Some((key.into_owned(), Value::from(all(name.as_str()))))
    });
    json!({ "name": all("x-remote-user").join(","), "uid": all("x-remote-uid").join(","),
        "groups": all("x-remote-group"), "extra": extra.collect::<serde_json::Map<_, _>>() })
}

impl Group {
    pub fn answer(&self, method: &Method, path: &str, query: &str, user: Value, body: Value) -> Reply {
        let own = path.strip_prefix(PATH).map(|rest| rest.trim_start_matches('/'));
        let parts: Vec<&str> = own.map(|rest| rest.split('/').collect()).unwrap_or_default();
        let mut state = self.state.lock().expect("nobody panics with it");
        let known = state.events.len();
        let reply = match (method.as_str(), parts.as_slice()) {
            ("GET", [""]) => Reply::Json(200, resources()),
            ("GET", []) if path == format!("/openapi/v3{PATH}") => Reply::Json(200, openapi()),
            ("GET", ["visits"]) => state.list("", query),
            ("GET", ["namespaces", namespace, "visits"]) => state.list(namespace, query),
            ("POST", ["namespaces", namespace, "visits"]) => state.create(namespace, user, body),
            ("GET", ["namespaces", namespace, "visits", name]) => match state.find(namespace, name) {
                Some(found) => Reply::Json(200, found),
                None => missing(name),
            },
            ("DELETE", ["namespaces", namespace, "visits", name]) => match state.remove(namespace, name) {
                true => Reply::Json(200, status(200, "", "")),
                false => missing(name),
            },
            ("DELETE", ["namespaces", namespace, "visits"]) => {
                let names: Vec<String> = state.names(namespace);
                for name in &names {
                    state.remove(namespace, name);
                }
                Reply::Json(200, status(200, "", ""))
            }
            _ => Reply::Json(
                404,
                status(
                    404,
                    "NotFound",
                    "the server could not find the requested resource",
                ),
            ),
        };
        if state.events.len() > known {
            self.count.send_replace(state.events.len());
        }
        reply
    }
}

fn missing(name: &str) -> Reply {
    let mut status = status(
        404,
        "NotFound",
        &format!("visits.who.example.com {name:?} not found"),
    );
    status["details"] = json!({ "name": name, "group": "who.example.com", "kind": "visits" });
    Reply::Json(404, status)
}

impl State {
    fn names(&self, namespace: &str) -> Vec<String> {
        let own = self.visits.keys().filter(|(own, _)| own == namespace);
        own.map(|(_, name)| name.clone()).collect()
    }

    fn find(&self, namespace: &str, name: &str) -> Option<Value> {
        self.visits.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// A list, or a watch where the query asks for one.
    fn list(&self, namespace: &str, query: &str) -> Reply {
        let own = self
            .visits
            .iter()
            .filter(|((own, _), _)| namespace.is_empty() || own == namespace);
        let items: Vec<Value> = own.map(|(_, visit)| visit.clone()).collect();
        let asked = |name: &str| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        };
        if !matches!(asked("watch"), Some("true" | "1")) {
            let metadata = json!({ "resourceVersion": self.events.len().to_string() });
            let list = json!({ "kind": "VisitList", "apiVersion": GROUP_VERSION, "metadata": metadata, "items": items });
            return Reply::Json(200, list);
        }
        let from: usize = asked("resourceVersion")
            .unwrap_or_default()
            .parse()
            .unwrap_or_default();
        if from > self.events.len() {
            return Reply::Json(410, status(410, "Expired", "this server has begun anew"));
        }
        let added = |visit: Value| json!({ "type": "ADDED", "object": visit });
        let (first, next) = match from {
            0 => (items.into_iter().map(added).collect(), self.events.len()),
            from => (Vec::new(), from),
        };
        Reply::Watch(Start {
            namespace: namespace.to_owned(),
            first,
            next,
        })
    }

    fn create(&mut self, namespace: &str, user: Value, mut visit: Value) -> Reply {
        let Some(name) = visit["metadata"]["name"].as_str().map(str::to_owned) else {
            return Reply::Json(422, status(422, "Invalid", "a visit has a name"));
        };
        if self.find(namespace, &name).is_some() {
            let text = format!("visits.who.example.com {name:?} already exists");
            return Reply::Json(409, status(409, "AlreadyExists", &text));
        }
        let metadata = &mut visit["metadata"];
        metadata["namespace"] = namespace.into();
        metadata["uid"] = format!("{:032x}", rand::random::<u128>()).into();
        metadata["creationTimestamp"] = format!("{:.0}", jiff::Timestamp::now()).into();
        metadata["resourceVersion"] = (self.events.len() + 1).to_string().into();
        visit["status"] = json!({ "user": user });
        self.events
            .push(json!({ "type": "ADDED", "object": visit.clone() }));
        self.visits.insert((namespace.to_owned(), name), visit.clone());
        Reply::Json(201, visit)
    }

    fn remove(&mut self, namespace: &str, name: &str) -> bool {
        let Some(mut visit) = self.visits.remove(&(namespace.to_owned(), name.to_owned())) else {
            return false;
        };
        visit["metadata"]["resourceVersion"] = (self.events.len() + 1).to_string().into();
        self.events.push(json!({ "type": "DELETED", "object": visit }));
        true
    }
}

/// The lines of a watch, without end.
pub fn events(group: Arc<Group>, from: Start) -> impl Stream<Item = String> + Send {
    let count = group.count.subscribe();
    futures::stream::unfold((group, from, count), |(group, mut from, mut count)| async move {
        loop {
            let mut fresh = std::mem::take(&mut from.first);
            {
                let state = group.state.lock().expect("nobody panics with it");
                let own = |event: &&Value| {
                    from.namespace.is_empty() || event["object"]["metadata"]["namespace"] == *from.namespace
                };
                fresh.extend(state.events[from.next..].iter().filter(own).cloned());
                from.next = state.events.len();
            }
            if !fresh.is_empty() {
                let lines: String = fresh.iter().map(|event| format!("{event}\n")).collect();
                return Some((lines, (group, from, count)));
            }
            count.changed().await.ok()?;
        }
    })
}

fn resources() -> Value {
    let verbs = ["create", "delete", "deletecollection", "get", "list", "watch"];
    let visits = json!({ "name": "visits", "singularName": "visit", "namespaced": true, "kind": "Visit", "verbs": verbs, "shortNames": ["vi"] });
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": [visits] })
}

fn openapi() -> Value {
    let kind = json!({ "group": "who.example.com", "version": "v1alpha1", "kind": "Visit" });
    let schema = json!({
        "type": "object", "description": "Who came by.", "x-kubernetes-group-version-kind": [kind],
        "properties": {
            "apiVersion": { "type": "string" }, "kind": { "type": "string" }, "metadata": { "type": "object" },
            "spec": { "type": "object", "description": "Why somebody came.", "properties": {
                "reason": { "type": "string", "description": "In the visitor's own words." } } },
            "status": { "type": "object", "description": "Who it was." },
        },
    });
    let operation = |action: &str| json!({ "responses": { "200": { "description": "OK" } }, "x-kubernetes-action": action, "x-kubernetes-group-version-kind": kind });
    let collection = json!({ "get": operation("list"), "post": operation("post") });
    json!({
        "openapi": "3.0.0", "info": { "title": "Visits", "version": "v1alpha1" },
        "paths": {
            format!("{PATH}/visits"): { "get": operation("list") },
            format!("{PATH}/namespaces/{{namespace}}/visits"): collection,
            format!("{PATH}/namespaces/{{namespace}}/visits/{{name}}"): { "get": operation("get"), "delete": operation("delete") },
        },
        "components": { "schemas": { "com.example.who.v1alpha1.Visit": schema } },
    })
}
