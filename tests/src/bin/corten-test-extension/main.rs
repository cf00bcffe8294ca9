//! A server as authors of extensions write them, for tests: webhooks, and an API group of its own behind the front end.
//!
//! `corten-test-extension FOLDER PORT`. Below FOLDER, read anew for every connection: `serving/tls.crt` and `tls.key`, and
//! `trust/requestheader-client-ca-file`, whose clients are the only ones that may name a user.

mod group;
mod hooks;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::StreamExt;
use group::{Group, Reply};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Whose certificate may name a user. Source: `requestheader-allowed-names`.
const FRONT_PROXY: &str = "front-proxy-client";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().context("which folder?")?);
    let port: u16 = arguments.next().context("which port?")?.parse()?;
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    let group = Arc::new(Group::default());
    loop {
        let (stream, from) = listener.accept().await?;
        let (folder, group) = (folder.clone(), group.clone());
        tokio::spawn(async move {
            if let Err(error) = connection(&folder, group, stream).await {
                println!("{from}: {error:#}");
            }
        });
    }
}

async fn connection(folder: &Path, group: Arc<Group>, stream: TcpStream) -> Result<()> {
    let stream = TlsAcceptor::from(tls(folder)?).accept(stream).await?;
    let shown = stream.get_ref().1.peer_certificates();
    let front_proxy = shown.is_some_and(|chain| is_front_proxy(&chain[0]));
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let group = group.clone();
        async move {
            println!("{} {} front-proxy={front_proxy}", request.method(), request.uri());
            Ok::<_, Infallible>(answer(group, request, front_proxy).await)
        }
    });
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await?;
    Ok(())
}

/// Certificates of clients are optional, for webhooks are called without; one that is shown has to be the front proxy's.
fn tls(folder: &Path) -> Result<Arc<rustls::ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(folder.join("trust/requestheader-client-ca-file"))? {
        roots.add(certificate?)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(folder.join("serving/tls.crt"))?.collect();
    let key = PrivateKeyDer::from_pem_file(folder.join("serving/tls.key"))?;
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain?, key)?;
    Ok(Arc::new(config))
}

/// Its signature has been checked.
fn is_front_proxy(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return false;
    };
    let mut names = parsed.subject().iter_common_name();
    names.any(|name| name.as_str() == Ok(FRONT_PROXY))
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

async fn answer(group: Arc<Group>, request: Request<Incoming>, front_proxy: bool) -> Answer {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let hook: Option<fn(&Value) -> Value> = match path {
        "/healthz" => return json(200, &Value::from("ok")),
        "/mutate" => Some(hooks::mutate),
        "/validate" => Some(hooks::validate),
        "/convert" => Some(corten_tests::gadgets::convert),
        _ => None,
    };
    if let Some(hook) = hook {
        return json(200, &hook(&body));
    }
    let user = match front_proxy {
        true => group::user(&parts.headers),
        false => return json(401, &group::status(401, "Unauthorized", "Unauthorized")),
    };
    let query = parts.uri.query().unwrap_or_default();
    match group.answer(&parts.method, path, query, user, body) {
        Reply::Json(code, value) => json(code, &value),
        Reply::Watch(from) => {
            let lines = group::events(group, from).map(|line| Ok(Frame::data(Bytes::from(line))));
            Response::builder()
                .header("content-type", "application/json")
                .body(BodyExt::boxed_unsync(StreamBody::new(lines)))
                .expect("these are headers")
        }
    }
}

fn json(code: u16, value: &Value) -> Answer {
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(Full::from(value.to_string()).boxed_unsync())
        .expect("these are headers")
}
