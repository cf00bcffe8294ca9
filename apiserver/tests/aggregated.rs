//! An API server of somebody else behind this front end: found, asked with the user's identity, shown in discovery, and a
//! plain error when it is gone.

mod common;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use bytes::Bytes;
use common::{Got, World};
use corten_apiserver::pki::{Ca, FrontProxy, Issued, ServerNames, issue_server};
use corten_apiserver::{Config, User};
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::net::TcpListener;

const GROUP: &str = "/apis/wardle.example.com/v1";
const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const NAME: &str = "v1.wardle.example.com";

#[track_caller]
fn check(got: &Got, want: &str) -> Value {
    let (code, part) = want.split_once(' ').unwrap_or((want, ""));
    assert_eq!(got.code.to_string(), code, "{}", got.text);
    assert!(got.text.contains(part), "{part:?} is not in {}", got.text);
    serde_json::from_str(&got.text).unwrap_or_default()
}

type Answer = Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>;

/// Serves `flunders`; each answer says who asked.
async fn answer(request: Request<Incoming>, sick: Arc<AtomicBool>) -> Result<Answer, http::Error> {
    let full = |code: u16, value: Value| {
        let body = Full::from(value.to_string()).boxed();
        Response::builder()
            .status(code)
            .header("content-type", "application/json")
            .body(body)
    };
    if sick.load(Ordering::Relaxed) {
        return full(500, json!({}));
    }
    let all = |name: &str| -> Vec<String> {
        let values = request.headers().get_all(name).iter();
        values
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    };
    let who = json!({ "user": all("x-remote-user"), "groups": all("x-remote-group"),
        "scopes": all("x-remote-extra-scopes"), "authorization": all("authorization") });
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let method = request.method().to_string();
    if path == GROUP {
        return full(
            200,
            json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1", "resources": [
                { "name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get", "list", "watch"], "shortNames": ["fl"] },
                { "name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["get"] },
            ] }),
        );
    }
    if path.starts_with("/openapi/v3/") {
        return full(200, json!({ "openapi": "3.0.0", "info": { "title": "wardle" } }));
    }
    if query.contains("watch=true") {
        let events = futures::stream::iter(0..3).then(|i| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let event = json!({ "type": "ADDED", "object": { "kind": "Flunder", "metadata": { "name": format!("f{i}") } } });
            Ok(Frame::data(Bytes::from(format!("{event}\n"))))
        });
        return Response::builder().body(BodyExt::boxed(StreamBody::new(Box::pin(events))));
    }
    let body = request
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let seen = json!({ "kind": "Flunder", "method": method, "path": path, "query": query, "who": who,
        "body": String::from_utf8_lossy(&body) });
    full(if method == "POST" { 201 } else { 200 }, seen)
}

/// Starts the server; only who shows a certificate of `front` is let in.
async fn aggregated(front: &FrontProxy, own: &Issued, sick: Arc<AtomicBool>) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(front.ca_pem.as_bytes()).expect("pem"))
        .expect("a root");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .expect("verifier");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(own.cert_pem.as_bytes()).expect("pem")],
            PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).expect("pem"),
        )
        .expect("tls");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, sick) = (acceptor.clone(), sick.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let service = service_fn(move |request| answer(request, sick.clone()));
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await; // a test may end it
            });
        }
    });
    address
}

/// Waits until the APIService's condition is `status`, and the front end acts by it.
async fn until(w: &World, status: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let service = check(&w.get(&format!("{SERVICES}/{NAME}")).await, "200");
        let condition = &service["status"]["conditions"][0];
        let serves = w.get(GROUP).await.code == 200;
        if condition["status"] == status && serves == (status == "True") {
            return condition.clone();
        }
        assert!(Instant::now() < deadline, "{service}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_group_of_another_server_is_served_through_the_front_end() {
    let now = OffsetDateTime::now_utc();
    let front = FrontProxy::generate(now).expect("front proxy");
    let ca = Ca::generate(now).expect("ca");
    let mut names = ServerNames::new("cluster.local", IpAddr::from([10, 96, 0, 9]), []);
    names.dns.push("wardle.default.svc".into());
    let own = issue_server(&ca, &names, now).expect("certificate");
    let sick = Arc::new(AtomicBool::new(false));
    let address = aggregated(&front, &own, sick.clone()).await;
    let mut config = Config::new(IpAddr::from([192, 0, 2, 1]), "test CA");
    config.front_proxy = Some(front.clone().into());
    config.service_addresses.insert("default/wardle".into(), address);
    let w = World::with(config).await;

    let known = check(
        &w.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")
            .await,
        "200",
    );
    assert_eq!(known["data"]["requestheader-client-ca-file"], front.ca_pem);
    assert_eq!(
        known["data"]["requestheader-allowed-names"],
        "[\"front-proxy-client\"]"
    );

    let bundle = base64::engine::general_purpose::STANDARD.encode(ca.cert_pem());
    let service = json!({ "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": { "name": NAME },
        "spec": { "group": "wardle.example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15,
            "caBundle": bundle, "service": { "namespace": "default", "name": "wardle" } } });
    check(&w.post(SERVICES, &service).await, "201");
    let condition = until(&w, "False").await;
    assert_eq!(condition["reason"], "ServiceNotFound");
    let down = w.get(GROUP).await;
    check(&down, "503 service unavailable");
    let service = json!({ "metadata": { "name": "wardle" }, "spec": { "ports": [{ "port": 443 }] } });
    check(
        &w.post("/api/v1/namespaces/default/services", &service).await,
        "201",
    );
    let condition = until(&w, "True").await;
    assert_eq!(
        (&condition["reason"], &condition["message"]),
        (&json!("Passed"), &json!("all checks passed"))
    );

    // The user of the request, and nothing that a client claims to be.
    let mut user = User::new("jane", &["system:masters"]);
    user.extra.insert("scopes".into(), vec!["view".into()]);
    let jane = w.by(user);
    let got = jane
        .ask(
            "GET",
            &format!("{GROUP}/namespaces/default/flunders/a?x=1"),
            &[
                ("x-remote-user", "admin"),
                ("x-remote-group", "root"),
                ("authorization", "Basic eA=="),
            ],
            "",
        )
        .await;
    let seen = check(&got, "200");
    assert_eq!(
        seen["who"],
        json!({ "user": ["jane"], "groups": ["system:masters", "system:authenticated"], "scopes": ["view"], "authorization": [] })
    );
    assert_eq!(
        (&seen["path"], &seen["query"]),
        (
            &json!(format!("{GROUP}/namespaces/default/flunders/a")),
            &json!("x=1")
        )
    );
    let posted = check(
        &w.post(
            &format!("{GROUP}/namespaces/default/flunders"),
            &json!({ "a": 1 }),
        )
        .await,
        "201",
    );
    assert_eq!(
        (&posted["method"], &posted["body"]),
        (&json!("POST"), &json!("{\"a\":1}"))
    );
    let nobody = w.by(User::new("nobody", &[]));
    check(
        &nobody.get(&format!("{GROUP}/namespaces/default/flunders")).await,
        "403 cannot list resource",
    );
    let mut events = w.watch(&format!("{GROUP}/flunders?watch=true")).await;
    for i in 0..3 {
        assert_eq!(events.next_line().await, format!("ADDED f{i}"));
    }

    // Discovery, old and new, and the index of OpenAPI.
    let groups = check(&w.get("/apis").await, "200");
    assert!(
        groups["groups"]
            .as_array()
            .is_some_and(|all| all.iter().any(|g| g["name"] == "wardle.example.com"))
    );
    check(
        &w.get("/apis/wardle.example.com").await,
        "200 wardle.example.com/v1",
    );
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let all = w.ask("GET", "/apis", &[("accept", accept)], "").await.json();
        let group = all["items"]
            .as_array()
            .and_then(|all| all.iter().find(|g| g["metadata"]["name"] == "wardle.example.com"))
            .cloned();
        let resource = group
            .map(|group| group["versions"][0]["resources"][0].clone())
            .unwrap_or_default();
        if resource["resource"] == "flunders" {
            assert_eq!(resource["subresources"][0]["subresource"], "status");
            assert_eq!(resource["responseKind"]["group"], "wardle.example.com");
            break;
        }
        assert!(Instant::now() < deadline, "{all}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    check(&w.get("/openapi/v3").await, "200 apis/wardle.example.com/v1");
    check(
        &w.get("/openapi/v3/apis/wardle.example.com/v1").await,
        "200 wardle",
    );

    // What fails is noticed with the next change of the Service, and good again after another.
    sick.store(true, Ordering::Relaxed);
    let touch = |n: &str| json!({ "metadata": { "labels": { "n": n } } });
    let at = "/api/v1/namespaces/default/services/wardle";
    check(&w.patch(at, "merge", &touch("1")).await, "200");
    let condition = until(&w, "False").await;
    assert_eq!(condition["reason"], "FailedDiscoveryCheck");
    sick.store(false, Ordering::Relaxed);
    check(&w.patch(at, "merge", &touch("2")).await, "200");
    until(&w, "True").await;
    check(&w.delete(&format!("{SERVICES}/{NAME}"), &json!({})).await, "200");
    let deadline = Instant::now() + Duration::from_secs(10);
    while w.get(GROUP).await.code != 404 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
