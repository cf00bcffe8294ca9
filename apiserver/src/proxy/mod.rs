//! `pods/proxy` and `services/proxy`: a client's HTTP request, made to a port of a Pod.
//!
//! Decides which Pod and port are meant; bytes travel through the tunnel to the Pod's node, as a port-forward does. No
//! address in an object is ever dialled. Source: Kubernetes `registry/core/{pod,service}` `ResourceLocation` and
//! apimachinery's `util/proxy`.

mod exchange;
pub use exchange::OF_A_CONNECTION;
mod html;
mod rewrite;

use corten_api::{ResourceType, Status, meta, registry};
use corten_store::Snapshot;
use http::request::Parts;
use http::{Response, StatusCode, header};
use rand::Rng;
use serde_json::Value;

use crate::body::{Body, RequestBody};
use crate::read::point::{self, Point};
use crate::respond::Answer;
use crate::route::{self, Target};
use crate::streaming::forward::Port;
use crate::write::Subject;
use crate::{ApiServer, Inner};

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub tls: bool,
    /// The Pod's address and port, as the request names them to whoever answers it.
    pub host: String,
    pub port: Port,
}

/// `[scheme:]name[:port]`.
#[derive(Debug, PartialEq, Eq)]
struct Asked<'a> {
    tls: bool,
    name: &'a str,
    port: &'a str,
}

/// # Errors
/// `NotFound`; `BadRequest` for a name that cannot be read; `ServiceUnavailable` without an endpoint.
pub async fn serve(
    server: &ApiServer,
    ty: &ResourceType,
    target: &Target,
    parts: Parts,
    body: RequestBody,
) -> Result<Answer, Status> {
    let name = target.name.as_deref().unwrap_or_default();
    let namespace = target.namespace.as_deref().unwrap_or_default();
    let path = parts.uri.path();
    let Some(end) = route::proxied(path) else {
        return Err(Status::no_such_resource());
    };
    let (prefix, rest) = path.split_at(end);
    if rest.is_empty() && !crate::streaming::asks_for(&parts.headers, "websocket") {
        return Ok(with_slash(&parts));
    }
    let subject = Subject { ty, namespace };
    let inner = server.inner();
    let snapshot = point::snapshot(&inner.store, &Point::Newest, "").await?;
    let location = match &*ty.plural {
        "pods" => of_pod(subject, &snapshot, name)?,
        "services" => {
            let seed: u32 = rand::rng().random();
            of_service(subject, &snapshot, name, seed as usize)?
        }
        _ => {
            return Err(Status::service_unavailable(format!(
                "error trying to reach service: node {name:?} runs the node agent, which serves no kubelet API"
            )));
        }
    };
    let (prefix, rest) = (prefix.to_owned(), rest.to_owned());
    exchange::exchange(&inner.tunnels, location, &prefix, &rest, parts, body).await
}

/// A ready Pod behind a port of a Service, for calls this server makes itself.
///
/// # Errors
/// Why there is none.
pub async fn locate(inner: &Inner, namespace: &str, name: &str, port: u16) -> Result<Location, String> {
    let services = Subject {
        ty: built_in("services"),
        namespace,
    };
    let snapshot = inner.store.snapshot();
    let seed: u32 = rand::rng().random();
    let id = format!("https:{name}:{port}");
    of_service(services, &snapshot, &id, seed as usize).map_err(|status| match status.is_not_found() {
        true => format!("service {name:?} not found"),
        // Who calls a Service names it without scheme and port.
        false => status.message.replace(&id, name),
    })
}

/// A path that ends where the prefix ends is told to end with a slash, so that relative links work.
fn with_slash(parts: &Parts) -> Answer {
    let query = parts
        .uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let location = format!("{}/{query}", parts.uri.path());
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = location.parse() {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Source: apimachinery's `SplitSchemeNamePort`.
fn asked(id: &str) -> Option<Asked<'_>> {
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => return None,
    };
    let tls = match scheme {
        "" | "http" => false,
        "https" => true,
        _ => return None,
    };
    (!name.is_empty()).then_some(Asked { tls, name, port })
}

fn of_pod(subject: Subject<'_>, snapshot: &Snapshot, id: &str) -> Result<Location, Status> {
    let invalid = || Status::bad_request(format!("invalid pod request {id:?}"));
    let asked = asked(id).ok_or_else(invalid)?;
    let pod = subject.read(snapshot, asked.name)?.value;
    let number = match asked.port {
        "" => first_port(&pod).unwrap_or(if asked.tls { 443 } else { 80 }),
        port => port.parse().map_err(|_| invalid())?,
    };
    at(&pod, asked.tls, number)
}

/// The first port any container names.
fn first_port(pod: &Value) -> Option<u16> {
    let containers = pod["spec"]["containers"].as_array()?;
    let mut ports = containers
        .iter()
        .filter_map(|c| c["ports"][0]["containerPort"].as_u64());
    ports.next().and_then(|port| u16::try_from(port).ok())
}

fn at(pod: &Value, tls: bool, number: u16) -> Result<Location, Status> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ip = text(&pod["status"]["podIP"]);
    let node = text(&pod["spec"]["nodeName"]);
    if ip.is_empty() || node.is_empty() {
        return Err(Status::bad_request("address not allowed"));
    }
    let ip = if ip.contains(':') { format!("[{ip}]") } else { ip };
    Ok(Location {
        tls,
        host: format!("{ip}:{number}"),
        port: Port {
            node,
            namespace: meta::namespace(pod).to_owned(),
            pod: meta::name(pod).to_owned(),
            pod_uid: meta::uid(pod).to_owned(),
            number,
        },
    })
}

fn built_in(plural: &str) -> &'static ResourceType {
    registry()
        .lookup("", "v1", plural)
        .expect("Pods and Endpoints are built in")
}

/// `seed` picks among the endpoints.
fn of_service(subject: Subject<'_>, snapshot: &Snapshot, id: &str, seed: usize) -> Result<Location, Status> {
    let asked = asked(id).ok_or_else(|| Status::bad_request(format!("invalid service request {id:?}")))?;
    let mut port = asked.port.to_owned();
    if let Ok(number) = port.parse::<i64>() {
        let service = subject.read(snapshot, asked.name)?.value;
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let found = ports.into_iter().find(|p| p["port"].as_i64() == Some(number));
        let found = found.ok_or_else(|| {
            Status::service_unavailable(format!(
                "no service port {number} found for service {:?}",
                asked.name
            ))
        })?;
        port = found["name"].as_str().unwrap_or_default().to_owned();
    }
    let of = |plural| Subject {
        ty: built_in(plural),
        namespace: subject.namespace,
    };
    let endpoints = of("endpoints").read(snapshot, asked.name)?.value;
    let none =
        |what: &str| Status::service_unavailable(format!("no endpoints available for service {what:?}"));
    let subsets = endpoints["subsets"].as_array().map_or(&[][..], Vec::as_slice);
    if subsets.is_empty() {
        return Err(none(asked.name));
    }
    for subset in turned(subsets, seed) {
        let ports = subset["ports"].as_array().into_iter().flatten();
        let number = ports
            .into_iter()
            .find(|p| p["name"].as_str().unwrap_or_default() == port)
            .and_then(|p| u16::try_from(p["port"].as_u64()?).ok());
        let addresses = subset["addresses"].as_array().map_or(&[][..], Vec::as_slice);
        let Some(number) = number else { continue };
        for address in turned(addresses, seed) {
            // Only what is a Pod is reached: whatever else an object may name, nobody dials it.
            if address["targetRef"]["kind"] != "Pod" {
                continue;
            }
            let name = address["targetRef"]["name"].as_str().unwrap_or_default();
            let Ok(pod) = of("pods").read(snapshot, name) else {
                continue;
            };
            if pod.value["status"]["podIP"] == address["ip"]
                && let Ok(location) = at(&pod.value, asked.tls, number)
            {
                return Ok(location);
            }
        }
    }
    Err(none(id))
}

/// All of a list, from a place the seed picks.
fn turned(list: &[Value], seed: usize) -> impl Iterator<Item = &Value> {
    let start = seed.checked_rem(list.len()).unwrap_or(0);
    list[start..].iter().chain(&list[..start])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_schemes_and_ports() {
        let of = |tls, name, port| Some(Asked { tls, name, port });
        for (id, want) in [
            ("a", of(false, "a", "")),
            ("a:80", of(false, "a", "80")),
            ("a:web", of(false, "a", "web")),
            ("http:a:80", of(false, "a", "80")),
            ("https:a:", of(true, "a", "")),
            (":a:80", of(false, "a", "80")),
            ("ftp:a:80", None),
            ("a:b:c:d", None),
            (":80", None),
            ("", None),
        ] {
            assert_eq!(asked(id), want, "{id}");
        }
    }
}
