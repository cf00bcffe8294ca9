//! One request and its answer, over a connection to a Pod's port.
//!
//! Knows HTTP. Must not know Pods or how the connection came to be.

use std::sync::Arc;

use bytes::Bytes;
use corten_api::Status;
use futures::{StreamExt, TryStreamExt};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Location;
use super::html;
use super::rewrite::Base;
use crate::body::{Body, BoxError, RequestBody};
use crate::respond::{self, Answer};
use crate::streaming::forward;
use crate::tunnel::Registry;

/// Longest HTML document whose links are rewritten, in bytes; a longer one leaves as it came.
const MAX_HTML_BYTES: usize = 8 << 20;
/// Headers that are about one connection.
pub const OF_A_CONNECTION: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Sends the request for `rest` on. `prefix` is the path by which the client came.
///
/// # Errors
/// The node cannot be reached. What goes wrong behind it is a plain 503, as upstream answers.
pub async fn exchange(
    tunnels: &Registry,
    location: Location,
    prefix: &str,
    rest: &str,
    parts: Parts,
    body: RequestBody,
) -> Result<Answer, Status> {
    let client = host_of(&parts);
    let io = forward::open(tunnels, &location.port).await?;
    let refused = io.refused();
    let answer = converse(io, &location, prefix, rest, parts, body).await;
    match answer {
        Ok((response, upgrade)) => {
            let base = Base {
                prefix,
                upstream: &location.host,
                client: &client,
            };
            finish(response, upgrade, base).await
        }
        Err(error) => {
            let why = refused.get().unwrap_or_else(|| error.to_string());
            let text = format!("error trying to reach service: {why}");
            Ok(respond::text(StatusCode::SERVICE_UNAVAILABLE, text))
        }
    }
}

type Upgrade = Option<hyper::upgrade::OnUpgrade>;

async fn converse(
    io: forward::Connection,
    location: &Location,
    prefix: &str,
    rest: &str,
    parts: Parts,
    body: RequestBody,
) -> Result<(Response<Incoming>, Upgrade), BoxError> {
    let io: Box<dyn Connection> = if location.tls {
        let config = rustls::ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(
                rustls::crypto::ring::default_provider(),
            )))
            .with_no_client_auth();
        let name = location
            .host
            .rsplit_once(':')
            .map_or(&*location.host, |(host, _)| host);
        let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned())?;
        Box::new(
            tokio_rustls::TlsConnector::from(Arc::new(config))
                .connect(name, io)
                .await?,
        )
    } else {
        Box::new(io)
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a proxied connection ended");
        }
    });
    let (request, upgrade) = onward(location, prefix, rest, parts, body)?;
    Ok((sender.send_request(request).await?, upgrade))
}

/// The request as the Pod gets it, and the client's side of an upgrade if it asked for one.
fn onward(
    location: &Location,
    prefix: &str,
    rest: &str,
    mut parts: Parts,
    body: RequestBody,
) -> Result<(Request<RequestBody>, Upgrade), BoxError> {
    let mut path = rest.to_owned();
    if let Some(query) = parts.uri.query() {
        path.push('?');
        path.push_str(query);
    }
    let client = host_of(&parts);
    let mut headers = std::mem::take(&mut parts.headers);
    let asked = headers
        .get(header::UPGRADE)
        .cloned()
        .filter(|_| crate::streaming::asks_for(&headers, "websocket"));
    for name in &OF_A_CONNECTION {
        headers.remove(name);
    }
    // Credentials were for us, and bodies must be readable for the rewriting of links.
    headers.remove(header::AUTHORIZATION);
    headers.remove(header::ACCEPT_ENCODING);
    let impersonating: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in impersonating {
        headers.remove(name);
    }
    headers.insert(header::HOST, HeaderValue::from_str(&location.host)?);
    let forwarded = [
        ("x-forwarded-uri", format!("{prefix}{rest}")),
        ("x-forwarded-host", client),
        ("x-forwarded-proto", "https".to_owned()),
    ];
    for (name, value) in forwarded {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(&value)?);
    }
    let mut upgrade = None;
    if let Some(protocol) = asked {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    let is_upgrade = headers.contains_key(header::UPGRADE);
    let method = parts.method.clone();
    if is_upgrade {
        upgrade = Some(hyper::upgrade::on(Request::from_parts(parts, ())));
    }
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = Uri::try_from(if path.is_empty() { "/" } else { &path })?;
    *request.headers_mut() = headers;
    Ok((request, upgrade))
}

fn host_of(parts: &Parts) -> String {
    let named = parts
        .headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    authority.or(named).unwrap_or_default().to_owned()
}

async fn finish(
    mut response: Response<Incoming>,
    upgrade: Upgrade,
    base: Base<'_>,
) -> Result<Answer, Status> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(client) = upgrade
    {
        let server = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            if let (Ok(client), Ok(server)) = (client.await, server.await) {
                let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
                    tracing::debug!(%error, "a proxied upgrade ended");
                }
            }
        });
        return Ok(response.map(|_| Body::empty()));
    }
    let (mut parts, body) = response.into_parts();
    for name in &OF_A_CONNECTION {
        parts.headers.remove(name);
    }
    without_cors(&mut parts.headers);
    let location = parts.headers.get(header::LOCATION).and_then(|l| l.to_str().ok());
    if let Some(location) = location.map(|location| base.link(location)) {
        if let Ok(value) = HeaderValue::from_str(&location) {
            parts.headers.insert(header::LOCATION, value);
        }
        return Ok(Response::from_parts(parts, stream(body)));
    }
    let kind = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let is_html = kind.is_some_and(|kind| {
        kind.split(';')
            .next()
            .is_some_and(|kind| kind.trim() == "text/html")
    });
    if !is_html || parts.headers.contains_key(header::CONTENT_ENCODING) {
        return Ok(Response::from_parts(parts, stream(body)));
    }
    let body = linked(body, base).await;
    if let Some(bytes) = body.as_bytes() {
        parts
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    }
    Ok(Response::from_parts(parts, body))
}

/// A proxied server has no say in who may read our answers.
fn without_cors(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("access-control-"))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

fn stream(body: Incoming) -> Body {
    Body::stream(
        body.into_data_stream()
            .map_err(|error| Box::new(error) as BoxError),
    )
}

/// The document with its links rewritten; one that is too long or breaks off leaves as it came.
async fn linked(body: Incoming, base: Base<'_>) -> Body {
    let mut chunks = body.into_data_stream();
    let mut gathered: Vec<u8> = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let (broken, chunk) = match chunk {
            Ok(chunk) => (None, chunk),
            Err(error) => (Some(Box::new(error) as BoxError), Bytes::new()),
        };
        gathered.extend_from_slice(&chunk);
        if broken.is_some() || gathered.len() > MAX_HTML_BYTES {
            let first = futures::stream::iter([Ok(Bytes::from(gathered))]);
            let broken = futures::stream::iter(broken.map(Err));
            let rest = chunks.map_err(|error| Box::new(error) as BoxError);
            return Body::stream(first.chain(broken).chain(rest));
        }
    }
    match String::from_utf8(gathered) {
        Ok(document) => Body::from(html::rewrite(&document, |link| base.link(link))),
        Err(other) => Body::from(other.into_bytes()),
    }
}

/// Pods have certificates of their own making; who may proxy trusts the cluster. Source: kube-apiserver's proxy
/// transport, `InsecureSkipVerify`.
#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
