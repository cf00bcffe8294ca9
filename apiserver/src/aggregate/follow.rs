//! Follows the stored APIServices: which groups others serve, whether they answer, and what they serve.
//!
//! A server is asked when its APIService, its Service or its endpoints change, and every [`RECHECK`] beside. Every front end
//! asks on its own; what they write is the same. Source: kube-aggregator's `status/remote/remote_available_controller.go`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use corten_api::resource::Subresource;
use corten_api::{ResourceType, meta, registry, time};
use corten_store::{EventKind, Revision, WatchItem};
use futures::StreamExt;
use http::header;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Remote;
use crate::outbound::{Place, connect};
use crate::pki::{CurrentFrontProxy, FrontProxy};
use crate::read::filter::keys;
use crate::write::{Answered, Decision, Env, Payload, Subject, transact, update};
use crate::{ApiServer, Inner};

/// A server that answers well is asked again after so long. Source: upstream's resync of 30 s.
const RECHECK: Duration = Duration::from_secs(30);
/// Wait after a failed check, doubled each time up to [`RECHECK`].
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// Time for one check. Source: upstream's discovery timeout of 5 s.
const CHECK_LIMIT: Duration = Duration::from_secs(5);
/// Longest discovery document that is read, in bytes.
const MAX_DOCUMENT: usize = 4 << 20;
const AVAILABLE: &str = "Available";

fn services() -> &'static ResourceType {
    registry()
        .lookup("apiregistration.k8s.io", "v1", "apiservices")
        .expect("APIServices are built in")
}

fn subject() -> Subject<'static> {
    Subject {
        ty: services(),
        namespace: "",
    }
}

/// Whether an APIService's stored condition says that it is available.
#[must_use]
pub fn is_available(service: &Value) -> bool {
    let conditions = service["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .filter(|condition| condition["type"] == AVAILABLE)
        .any(|condition| condition["status"] == "True")
}

impl ApiServer {
    /// Begins to follow the APIServices.
    pub(crate) fn follow_aggregated(&self) {
        let closing = self.inner().closing.clone();
        tokio::spawn(run(Arc::downgrade(&self.0), closing));
    }
}

/// One APIService of another server.
struct Known {
    remote: Arc<Remote>,
    spec: Value,
    _checking: DropGuard,
}

async fn run(server: Weak<Inner>, closing: CancellationToken) {
    let mut known: HashMap<Bytes, Known> = HashMap::new();
    // What checks find out: the key of the APIService and the resources it serves.
    let (found, mut discovered) = mpsc::channel::<(Bytes, Arc<Vec<Value>>)>(64);
    let Some(inner) = server.upgrade() else { return };
    let mut shown = inner
        .config
        .front_proxy
        .as_ref()
        .map(CurrentFrontProxy::subscribe);
    drop(inner);
    loop {
        let Some(inner) = server.upgrade() else { return };
        let snapshot = inner.store.snapshot();
        let mut gone: HashSet<Bytes> = known.keys().cloned().collect();
        for entry in snapshot.range(keys(services()).range(None)) {
            gone.remove(&entry.key);
            take(
                &inner,
                &mut known,
                &entry.key,
                subject().parse(&entry).ok(),
                &found,
            );
        }
        known.retain(|key, _| !gone.contains(key));
        publish(&inner, &known);
        let watch = inner
            .store
            .watch(keys(services()).range(None), snapshot.revision());
        drop(inner);
        let Ok(mut watch) = watch else {
            tokio::time::sleep(FIRST_RETRY).await;
            continue;
        };
        loop {
            tokio::select! {
                item = watch.next() => match item {
                    Some(Ok(WatchItem::Event(event))) => {
                        let Some(inner) = server.upgrade() else { return };
                        let object = match &event.kind {
                            EventKind::Put { entry, .. } => subject().parse(entry).ok(),
                            EventKind::Delete { .. } => None,
                        };
                        take(&inner, &mut known, &event.key, object, &found);
                        publish(&inner, &known);
                    }
                    Some(Ok(WatchItem::Progress(_))) => {}
                    Some(Err(_)) | None => break,
                },
                Some((key, resources)) = discovered.recv() => {
                    let Some(inner) = server.upgrade() else { return };
                    if let Some(own) = known.get_mut(&key)
                        && own.remote.resources.as_ref() != Some(&resources)
                    {
                        own.remote = Arc::new(Remote { resources: Some(resources), ..(*own.remote).clone() });
                        publish(&inner, &known);
                    }
                }
                // Another certificate is shown from now on: everything is taken over anew, and what is known of it is kept.
                () = shows_another(&mut shown) => {
                    known.values_mut().for_each(|own| own.spec = Value::Null);
                    break;
                }
                () = closing.cancelled() => return,
            }
        }
    }
}

/// Ends when this server shows others another certificate.
async fn shows_another(shown: &mut Option<watch::Receiver<Arc<FrontProxy>>>) {
    if let Some(shown) = shown
        && shown.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Takes an APIService over; `None`: it is gone.
fn take(
    inner: &Inner,
    known: &mut HashMap<Bytes, Known>,
    key: &Bytes,
    object: Option<Value>,
    found: &mpsc::Sender<(Bytes, Arc<Vec<Value>>)>,
) {
    let remote = object
        .as_ref()
        .and_then(|object| Remote::of(object, &inner.config));
    let (Some(object), Some(remote)) = (object, remote) else {
        known.remove(key);
        return;
    };
    if let Some(own) = known.get_mut(key)
        && own.spec == object["spec"]
    {
        let available = is_available(&object);
        own.remote = Arc::new(Remote {
            available,
            ..(*own.remote).clone()
        });
        return;
    }
    let end = CancellationToken::new();
    let spec = object["spec"].clone();
    let resources = known
        .get(key)
        .filter(|own| own.remote.name == remote.name)
        .and_then(|own| own.remote.resources.clone());
    let remote = Arc::new(Remote { resources, ..remote });
    let check = Check {
        server: inner.me.clone(),
        remote: remote.clone(),
        key: key.clone(),
        found: found.clone(),
    };
    tokio::spawn(check.run(end.clone(), inner.closing.clone()));
    known.insert(
        key.clone(),
        Known {
            remote,
            spec,
            _checking: end.drop_guard(),
        },
    );
}

fn publish(inner: &Inner, known: &HashMap<Bytes, Known>) {
    let mut all: Vec<Arc<Remote>> = known.values().map(|known| known.remote.clone()).collect();
    all.sort_by(|a, b| {
        let rank = |remote: &Remote| {
            (
                -remote.group_priority,
                remote.group.clone(),
                -remote.version_priority,
            )
        };
        rank(a).cmp(&rank(b)).then_with(|| a.version.cmp(&b.version))
    });
    inner.remotes.set(all.clone());
    inner.types.set_remote(all);
}

/// Asks one server whether it is there, for as long as its APIService stays as it is.
struct Check {
    server: Weak<Inner>,
    remote: Arc<Remote>,
    key: Bytes,
    found: mpsc::Sender<(Bytes, Arc<Vec<Value>>)>,
}

impl Check {
    async fn run(self, ended: CancellationToken, closing: CancellationToken) {
        let mut retry = FIRST_RETRY;
        loop {
            let Some(inner) = self.server.upgrade() else {
                return;
            };
            let from = inner.store.snapshot().revision();
            let verdict = match tokio::time::timeout(CHECK_LIMIT, self.once(&inner)).await {
                Ok(verdict) => verdict,
                Err(_) => Err(failing(&self.remote, "context deadline exceeded")),
            };
            let good = verdict.is_ok();
            let condition = match verdict {
                Ok(resources) => {
                    // The receiver is gone only when nobody needs the answer.
                    let _ = self.found.send((self.key.clone(), Arc::new(resources))).await;
                    ("True", "Passed", "all checks passed".to_owned())
                }
                Err((reason, message)) => ("False", reason, message),
            };
            if let Err(error) = write(&inner, &self.remote, condition).await
                && !error.is_not_found()
            {
                tracing::warn!(apiservice = self.remote.name, %error, "a condition could not be written");
            }
            let wait = if good { RECHECK } else { retry };
            retry = if good {
                FIRST_RETRY
            } else {
                (retry * 2).min(RECHECK)
            };
            let changed = endpoints_changed(&inner, &self.remote.place, from);
            drop(inner);
            tokio::select! {
                // What failed before says nothing about what is there now.
                () = changed => retry = FIRST_RETRY,
                () = tokio::time::sleep(wait) => {}
                () = ended.cancelled() => return,
                () = closing.cancelled() => return,
            }
        }
    }

    /// What the server serves, as aggregated discovery shows resources.
    async fn once(&self, inner: &Inner) -> Result<Vec<Value>, (&'static str, String)> {
        let Place::Service {
            namespace,
            name,
            port,
        } = &self.remote.place
        else {
            return Err(("ServiceNotFound", "the APIService names no service".into()));
        };
        let snapshot = inner.store.snapshot();
        let read = |plural| {
            let ty = registry().lookup("", "v1", plural).expect("built in");
            let found = (Subject { ty, namespace }).read(&snapshot, name);
            found.ok().map(|found| found.value)
        };
        let (service, endpoints) = (read("services"), read("endpoints"));
        let wrong = unfit((namespace, name, *port), service.as_ref(), endpoints.as_ref());
        let reached = inner
            .config
            .service_addresses
            .contains_key(&format!("{namespace}/{name}"));
        if let Some(wrong) = wrong.filter(|(reason, _)| !reached || *reason == "ServiceNotFound") {
            return Err(wrong);
        }
        let document = self
            .fetch(inner)
            .await
            .map_err(|why| failing(&self.remote, &why))?;
        Ok(resources(&self.remote, &document))
    }

    async fn fetch(&self, inner: &Inner) -> Result<Value, String> {
        let tls = self.remote.tls.clone()?;
        let (wire, refused) = connect(inner, &self.remote.place, tls).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(wire))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a check's connection ended");
            }
        });
        let request = http::Request::get(path(&self.remote))
            .header(header::HOST, self.remote.place.server_name())
            .header(header::ACCEPT, "application/json")
            .header("x-remote-user", "system:kube-aggregator")
            .header("x-remote-group", "system:masters")
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| refused.get().unwrap_or_else(|| error.to_string()))?;
        if !answer.status().is_success() {
            return Err(format!(
                "bad status from {}: {}",
                url(&self.remote),
                answer.status().as_u16()
            ));
        }
        let body = Limited::new(answer.into_body(), MAX_DOCUMENT).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }
}

/// What is wrong with a Service before anybody behind it is asked. `endpoints` are those of its name. Pure.
fn unfit(
    (namespace, name, port): (&str, &str, u16),
    service: Option<&Value>,
    endpoints: Option<&Value>,
) -> Option<(&'static str, String)> {
    let of = format!("service/{name} in {namespace:?}");
    let Some(service) = service else {
        return Some(("ServiceNotFound", format!("{of} is not present")));
    };
    // Others may have endpoints that nothing here knows of.
    if service["spec"]["type"]
        .as_str()
        .is_some_and(|kind| kind != "ClusterIP")
    {
        return None;
    }
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let Some(found) = ports.find(|own| own["port"].as_u64() == Some(port.into())) else {
        return Some((
            "ServicePortError",
            format!("{of} is not listening on port {port}"),
        ));
    };
    let Some(endpoints) = endpoints else {
        return Some((
            "EndpointsNotFound",
            format!("cannot find endpointslices for {of}"),
        ));
    };
    let port_name = found["name"].as_str().unwrap_or_default();
    let mut subsets = endpoints["subsets"].as_array().into_iter().flatten();
    let serves = subsets.any(|subset| {
        let mut ports = subset["ports"].as_array().into_iter().flatten();
        let named = ports.any(|own| own["name"].as_str().unwrap_or_default() == port_name);
        named && subset["addresses"].as_array().is_some_and(|all| !all.is_empty())
    });
    (!serves).then(|| {
        let why = format!("endpointslices for {of} have no addresses with port name {port_name:?}");
        ("MissingEndpoints", why)
    })
}

fn path(remote: &Remote) -> String {
    format!("/apis/{}", remote.group_version())
}

fn url(remote: &Remote) -> String {
    format!("https://{}{}", remote.place.authority(), path(remote))
}

fn failing(remote: &Remote, why: &str) -> (&'static str, String) {
    let url = url(remote);
    (
        "FailedDiscoveryCheck",
        format!("failing or missing response from {url}: {why}"),
    )
}

/// Ends when the Service or its endpoints change; never, where nothing can be watched.
fn endpoints_changed(
    inner: &Inner,
    place: &Place,
    from: Revision,
) -> impl Future<Output = ()> + Send + use<> {
    let mut watches = Vec::new();
    if let Place::Service { namespace, name, .. } = place {
        for plural in ["services", "endpoints"] {
            let ty = registry().lookup("", "v1", plural).expect("built in");
            let key = keys(ty).object(Some(namespace), name);
            watches.extend(inner.store.watch(corten_store::key_range(&key), from));
        }
    }
    async move {
        let mut all = futures::stream::select_all(watches);
        loop {
            match all.next().await {
                Some(Ok(WatchItem::Progress(_))) => {}
                Some(_) => return,
                None => std::future::pending().await,
            }
        }
    }
}

/// An `APIResourceList` as aggregated discovery has it.
fn resources(remote: &Remote, document: &Value) -> Vec<Value> {
    let list = document["resources"].as_array().map_or(&[][..], Vec::as_slice);
    let word = |value: &Value, instead: &str| match value.as_str() {
        Some(text) if !text.is_empty() => text.to_owned(),
        _ => instead.to_owned(),
    };
    let kind = |own: &Value| {
        json!({
            "group": word(&own["group"], &remote.group),
            "version": word(&own["version"], &remote.version),
            "kind": own["kind"],
        })
    };
    let mut out: Vec<Value> = Vec::new();
    for own in list {
        let name = own["name"].as_str().unwrap_or_default();
        if name.contains('/') {
            continue;
        }
        let mut made = json!({
            "resource": name,
            "responseKind": kind(own),
            "scope": if own["namespaced"] == true { "Namespaced" } else { "Cluster" },
            "singularResource": own["singularName"],
            "verbs": own["verbs"],
        });
        for field in ["shortNames", "categories"] {
            if own[field].is_array() {
                made[field] = own[field].clone();
            }
        }
        let below = format!("{name}/");
        let subs: Vec<Value> = list
            .iter()
            .filter_map(|sub| {
                let sub_name = sub["name"].as_str()?.strip_prefix(&below)?;
                Some(json!({ "subresource": sub_name, "responseKind": kind(sub), "verbs": sub["verbs"] }))
            })
            .collect();
        if !subs.is_empty() {
            made["subresources"] = subs.into();
        }
        out.push(made);
    }
    out.sort_by(|a, b| a["resource"].as_str().cmp(&b["resource"].as_str()));
    out
}

/// Writes the condition `Available`, if it is another.
async fn write(
    inner: &Inner,
    remote: &Remote,
    (status, reason, message): (&str, &str, String),
) -> Result<(), corten_api::Status> {
    let mut env = Env::new(Timestamp::now());
    let written = transact(inner, &mut env, |snapshot, env| {
        let current = subject().read(snapshot, &remote.name)?;
        let conditions = current.value["status"]["conditions"].as_array();
        let known = conditions
            .into_iter()
            .flatten()
            .find(|own| own["type"] == AVAILABLE);
        let same =
            |own: &Value| own["status"] == status && own["reason"] == reason && own["message"] == *message;
        if known.is_some_and(same) {
            return Ok(Decision::Nothing(Answered {
                code: http::StatusCode::OK,
                payload: Payload::Value(Value::Null),
                warnings: Vec::new(),
            }));
        }
        let since = match known.filter(|own| own["status"] == status) {
            Some(own) => own["lastTransitionTime"].clone(),
            None => time::format_time(env.now).into(),
        };
        let mut new = current.value.clone();
        new["status"]["conditions"] = json!([{
            "type": AVAILABLE, "status": status, "lastTransitionTime": since, "reason": reason, "message": message,
        }]);
        let name = meta::name(&new).to_owned();
        update::decide(
            &inner.config,
            subject(),
            snapshot,
            &name,
            new,
            Subresource::Status,
            env,
        )
    });
    written.await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ports`: `number[:name]` of the Service; `endpoints`: names of the ports that have addresses.
    #[track_caller]
    fn check(kind: &str, ports: &str, endpoints: Option<&[&str]>, want: &str) {
        let port = |text: &str| {
            let (number, name) = text.split_once(':').unwrap_or((text, ""));
            json!({ "port": number.parse::<u16>().expect("a port"), "name": name })
        };
        let ports: Vec<Value> = ports.split_whitespace().map(port).collect();
        let service = json!({ "spec": { "type": kind, "ports": ports } });
        let subset =
            |name: &&str| json!({ "addresses": [{ "ip": "10.0.0.1" }], "ports": [{ "name": name }] });
        let endpoints =
            endpoints.map(|names| json!({ "subsets": names.iter().map(subset).collect::<Vec<Value>>() }));
        let service = Some(&service).filter(|_| !kind.is_empty());
        let found = unfit(("ns", "s", 443), service, endpoints.as_ref());
        let found = found.map(|(reason, why)| format!("{reason}: {why}"));
        assert_eq!(found.unwrap_or_default(), want);
    }

    #[test]
    fn what_is_wrong_with_a_service_is_told_in_upstreams_words() {
        check(
            "",
            "",
            None,
            "ServiceNotFound: service/s in \"ns\" is not present",
        );
        let port = "ServicePortError: service/s in \"ns\" is not listening on port 443";
        check("ClusterIP", "80", Some(&[""]), port);
        let none = "EndpointsNotFound: cannot find endpointslices for service/s in \"ns\"";
        check("ClusterIP", "443", None, none);
        let missing =
            "MissingEndpoints: endpointslices for service/s in \"ns\" have no addresses with port name ";
        check("ClusterIP", "443", Some(&[]), &format!("{missing}\"\""));
        check(
            "ClusterIP",
            "443:https",
            Some(&["http"]),
            &format!("{missing}\"https\""),
        );
        check("ClusterIP", "80 443:https", Some(&["http", "https"]), "");
        check("NodePort", "80", None, "");
    }
}
