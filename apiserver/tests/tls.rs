//! The front door: certificates, protocols, limits.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_apiserver::pki::{self, Ca, Issued, ServerNames};
use corten_apiserver::{ApiServer, Config};
use corten_store::Store;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

struct World {
    ca: Ca,
    port: u16,
    _shutdown: tokio_util::sync::DropGuard,
}

async fn world() -> World {
    let now = OffsetDateTime::now_utc();
    let ca = Ca::generate(now).expect("ca");
    let names = ServerNames::new("cluster.local", IpAddr::from([10, 96, 0, 1]), []);
    let server = pki::issue_server(&ca, &names, now).expect("server certificate");
    let store = Store::open(corten_store::Config::in_memory())
        .await
        .expect("store");
    let api = ApiServer::new(store, Config::new(IpAddr::from([192, 0, 2, 1]), ca.cert_pem()));
    api.bootstrap().await.expect("bootstrap");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
    let port = listener.local_addr().expect("address").port();
    let tls = pki::server_tls(&ca, &server).expect("tls");
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move { api.serve(listener, tls, stop).await });
    World {
        ca,
        port,
        _shutdown: shutdown.drop_guard(),
    }
}

impl World {
    /// `CODE` and body, or `refused`.
    async fn ask(
        &self,
        client: Option<&Issued>,
        protocol: &str,
        path: &str,
        body: Bytes,
    ) -> (String, String) {
        let refused = |_| ("refused".to_owned(), String::new());
        match self.try_ask(client, protocol, path, body).await {
            Ok(answer) => answer,
            Err(error) => refused(error),
        }
    }

    async fn try_ask(
        &self,
        client: Option<&Issued>,
        protocol: &str,
        path: &str,
        body: Bytes,
    ) -> Result<(String, String), Box<dyn std::error::Error>> {
        let response = self.send(client, protocol, path, body).await?;
        let expected = if protocol == "h2" {
            Version::HTTP_2
        } else {
            Version::HTTP_11
        };
        assert_eq!(response.version(), expected);
        let code = response.status().as_u16().to_string();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((code, String::from_utf8_lossy(&body).into_owned()))
    }

    /// One request on a connection of its own, which lasts as long as the answer.
    async fn send(
        &self,
        client: Option<&Issued>,
        protocol: &str,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Box<dyn std::error::Error>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.cert_pem().as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match client {
            None => builder.with_no_client_auth(),
            Some(issued) => builder.with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(issued.cert_pem.as_bytes())?],
                PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes())?,
            )?,
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let name = ServerName::try_from("kubernetes.default.svc")?;
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        let method = if body.is_empty() { "GET" } else { "POST" };
        let request = Request::builder()
            .method(method)
            .uri(format!("https://kubernetes.default.svc{path}"))
            .header("host", "kubernetes.default.svc")
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        let response = if protocol == "h2" {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await?;
            tokio::spawn(connection);
            sender.send_request(request).await?
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
            tokio::spawn(connection);
            sender.send_request(request).await?
        };
        Ok(response)
    }
}

#[tokio::test]
async fn certificates_decide_who_comes_in() {
    let w = world().await;
    let admin = pki::issue_client(&w.ca, "admin", &["system:masters"]).expect("client");
    let node = pki::issue_client(&w.ca, "system:node:n", &["system:nodes"]).expect("client");
    let jane = pki::issue_client(&w.ca, "jane", &["dev"]).expect("client");
    let other = Ca::generate(OffsetDateTime::now_utc()).expect("ca");
    let stranger = pki::issue_client(&other, "admin", &["system:masters"]).expect("client");
    for protocol in ["h2", "http/1.1"] {
        for (who, path, want) in [
            (None, "/livez", "200"),
            (None, "/api/v1/nodes", "403"),
            (Some(&admin), "/api/v1/nodes", "200"),
            (Some(&node), "/api/v1/services", "200"),
            (Some(&node), "/api/v1/secrets", "403"),
            (Some(&jane), "/api/v1/nodes", "403"),
            (Some(&jane), "/apis", "200"),
            (Some(&stranger), "/livez", "refused"),
        ] {
            let (code, body) = w.ask(who, protocol, path, Bytes::new()).await;
            assert_eq!(code, want, "{protocol} {path} {body}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_gets_its_answer() {
    let w = world().await;
    let admin = pki::issue_client(&w.ca, "admin", &["system:masters"]).expect("client");
    for protocol in ["h2", "http/1.1"] {
        let body = Bytes::from(vec![b'x'; 10 << 20]);
        let (code, text) = w
            .ask(
                Some(&admin),
                protocol,
                "/api/v1/namespaces/default/configmaps",
                body,
            )
            .await;
        assert_eq!(code, "413", "{protocol}");
        assert!(text.contains("RequestEntityTooLarge"), "{text}");
        let path = "/api/v1/namespaces/default/configmaps?fieldValidation=Maybe";
        let (code, _) = w
            .ask(Some(&admin), protocol, path, Bytes::from(vec![b'x'; 1 << 20]))
            .await;
        assert_eq!(code, "422", "an error before the body is read: {protocol}");
        let (code, _) = w.ask(Some(&admin), protocol, "/livez", Bytes::new()).await;
        assert_eq!(code, "200", "the server lives");
    }
}

/// `POST`s what is to be refused, and returns the code.
async fn revoke(w: &World, by: &Issued, what: &str) -> String {
    let body = Bytes::from(what.to_owned());
    w.ask(Some(by), "h2", "/corten/v1/revoked", body).await.0
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_and_its_connections_end() {
    let w = world().await;
    let client = |name: &str| pki::issue_client(&w.ca, name, &["system:masters"]).expect("client");
    let (admin, bob, other) = (client("admin"), client("bob"), client("bob"));
    let code = async |who: &Issued| w.ask(Some(who), "h2", "/api/v1/nodes", Bytes::new()).await.0;
    let der = CertificateDer::from_pem_slice(bob.cert_pem.as_bytes()).expect("PEM");
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).expect("a certificate");
    let serial = parsed.raw_serial_as_string();
    for (protocol, what) in [
        ("h2", format!(r#"{{"serial": "{serial}", "reason": "lost"}}"#)),
        ("http/1.1", r#"{"user": "bob"}"#.to_owned()),
    ] {
        let watched = "/api/v1/configmaps?watch=true";
        let by = if protocol == "h2" { &bob } else { &other };
        let watch = w
            .send(Some(by), protocol, watched, Bytes::new())
            .await
            .expect("a watch");
        let steady = w
            .send(Some(&admin), protocol, watched, Bytes::new())
            .await
            .expect("a watch");
        assert_eq!(revoke(&w, &admin, &what).await, "201", "{protocol}");
        let ended = tokio::time::timeout(Duration::from_secs(5), watch.into_body().collect()).await;
        assert!(ended.expect("it ends").is_err(), "cut, not brought to its end");
        let goes_on = tokio::time::timeout(Duration::from_millis(50), steady.into_body().collect()).await;
        assert!(goes_on.is_err(), "others are not cut");
        assert_eq!(code(by).await, "401", "{protocol}");
        let left = if protocol == "h2" { "200" } else { "401" };
        assert_eq!(code(&other).await, left, "{protocol}");
    }
    let (told, list) = w
        .ask(Some(&admin), "h2", "/corten/v1/revoked", Bytes::new())
        .await;
    assert!(
        told == "200" && list.contains("user:bob") && list.contains("\"by\":\"admin\""),
        "{list}"
    );
    // Who may not change the list, and what cannot be in it.
    let jane = pki::issue_client(&w.ca, "jane", &[]).expect("client");
    assert_eq!(revoke(&w, &jane, r#"{"user": "admin"}"#).await, "403");
    for wrong in [r#"{}"#, r#"{"serial": "x"}"#, r#"{"users": "bob"}"#, "["] {
        assert_eq!(revoke(&w, &admin, wrong).await, "400", "{wrong}");
    }
}
