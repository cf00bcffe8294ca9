//! A small HTTPS server that answers reviews as a test says, with a certificate of its own.

use std::convert::Infallible;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};

/// Runs until the process ends.
pub struct Webhook {
    /// `https://127.0.0.1:PORT/`
    pub url: String,
    /// For `caBundle`.
    pub bundle: String,
}

impl Webhook {
    /// `answer`: from the request's body to the answer's.
    pub fn start(answer: fn(&Value) -> Value) -> Webhook {
        let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows them")
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .expect("key and certificate belong together");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket for tokio");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(serve(listener, Arc::new(tls), answer));
        });
        Webhook {
            url: format!("https://127.0.0.1:{port}/"),
            bundle: base64::engine::general_purpose::STANDARD.encode(own.cert.pem()),
        }
    }

    pub fn client_config(&self) -> Value {
        json!({ "url": self.url, "caBundle": self.bundle })
    }
}

async fn serve(listener: std::net::TcpListener, tls: Arc<rustls::ServerConfig>, answer: fn(&Value) -> Value) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("it is not blocking");
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = hyper::service::service_fn(move |request: http::Request<Incoming>| async move {
                let body = request.into_body().collect().await.map(|body| body.to_bytes());
                let body = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
                let body = Bytes::from(answer(&body).to_string());
                Ok::<_, Infallible>(http::Response::new(Full::new(body)))
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await; // the server may close it
        });
    }
}
