//! A small HTTPS server that answers as a test says: webhooks, and whatever else this server calls.

#![allow(dead_code)] // each test binary uses its part

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use bytes::Bytes;
use corten_apiserver::pki::{self, Ca, ServerNames};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

pub enum Reply {
    Json(u16, Value),
    Text(u16, String),
    /// Nothing for ever.
    Hang,
    /// The connection ends.
    Die,
    Redirect(String),
    /// A body without end.
    Endless,
}

type Handler = Arc<dyn Fn(&str, &Value) -> Reply + Send + Sync>;

pub struct Https {
    pub port: u16,
    /// For `caBundle`.
    pub bundle: String,
    /// Path and body of each request, in the order they came.
    pub calls: Arc<Mutex<Vec<(String, Value)>>>,
    /// Connections that were accepted.
    pub connections: Arc<Mutex<usize>>,
}

impl Https {
    pub async fn start(handler: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Https {
        let now = OffsetDateTime::now_utc();
        let ca = Ca::generate(now).expect("ca");
        let names = ServerNames::new("cluster.local", IpAddr::from([10, 96, 0, 1]), []);
        let server = pki::issue_server(&ca, &names, now).expect("server certificate");
        let tls = pki::server_tls(&ca, &server).expect("tls");
        // Every loopback address, for a test that calls it by one that its certificate has not.
        let listener = TcpListener::bind("0.0.0.0:0").await.expect("listener");
        let port = listener.local_addr().expect("address").port();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let (handler, noted, counted): (Handler, _, _) =
            (Arc::new(handler), calls.clone(), connections.clone());
        tokio::spawn(async move {
            let acceptor = tokio_rustls::TlsAcceptor::from(tls);
            while let Ok((stream, _)) = listener.accept().await {
                *counted.lock().expect("lock") += 1;
                let (acceptor, handler, noted) = (acceptor.clone(), handler.clone(), noted.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |request| answer(request, handler.clone(), noted.clone()));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await; // a test may end it
                });
            }
        });
        Https {
            port,
            bundle: base64::engine::general_purpose::STANDARD.encode(ca.cert_pem()),
            calls,
            connections,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    pub fn client_config(&self, path: &str) -> Value {
        json!({ "url": self.url(path), "caBundle": self.bundle })
    }

    /// The requests so far, and none from then on.
    pub fn take(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.calls.lock().expect("lock"))
    }
}

async fn answer(
    request: Request<Incoming>,
    handler: Handler,
    noted: Arc<Mutex<Vec<(String, Value)>>>,
) -> Result<Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>, std::io::Error> {
    let path = request.uri().path().to_owned();
    let bytes = request
        .into_body()
        .collect()
        .await
        .map_err(std::io::Error::other)?
        .to_bytes();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    noted.lock().expect("lock").push((path.clone(), body.clone()));
    let of = |code: u16, text: String| {
        Response::builder()
            .status(code)
            .body(Full::from(text).boxed())
            .map_err(std::io::Error::other)
    };
    match handler(&path, &body) {
        Reply::Json(code, value) => of(code, value.to_string()),
        Reply::Text(code, text) => of(code, text),
        Reply::Hang => std::future::pending().await,
        Reply::Die => Err(std::io::Error::other("the test wants it so")),
        Reply::Redirect(to) => Response::builder()
            .status(307)
            .header("location", to)
            .body(Full::default().boxed())
            .map_err(std::io::Error::other),
        Reply::Endless => {
            let chunk = Bytes::from(vec![b'a'; 1 << 20]);
            let stream = futures::stream::repeat_with(move || Ok(http_body::Frame::data(chunk.clone())));
            let body = http_body_util::StreamBody::new(stream);
            Ok(Response::new(BodyExt::boxed(body)))
        }
    }
}

/// Accepts connections and never says a word. Returns the port.
pub async fn silent() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.flush().await; // keeps the connection
            held.push(stream);
        }
    });
    port
}
