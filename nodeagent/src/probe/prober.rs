//! Carries one probe out. Dials the Pod's own address only; an address in the spec never decides where the node
//! connects to, except on the host network, where the Pod's address is the node's.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use super::ProbeResult;
use crate::runtime::{Runtime, RuntimeError};

/// Of an answer's body. Source: kubelet's HTTP prober.
const BODY_LIMIT: usize = 10 << 10;
const USER_AGENT: &str = concat!("kube-probe/", "1.36");

/// What a probe needs to know of its container.
pub struct Target<'a> {
    pub container: &'a Container,
    pub container_id: &'a str,
    pub pod_ip: Option<IpAddr>,
}

pub async fn probe(runtime: &Arc<dyn Runtime>, target: &Target<'_>, probe: &Probe) -> ProbeResult {
    let timeout = Duration::from_secs(probe.timeout_seconds.unwrap_or(1).max(1) as u64);
    if let Some(action) = &probe.exec {
        return exec(runtime, target, action, timeout).await;
    }
    if let Some(action) = &probe.http_get {
        return match http_get(target, action, timeout).await {
            Ok(code) if (200..400).contains(&code) => ProbeResult::Success,
            Ok(code) => ProbeResult::Failure(format!("HTTP probe failed with statuscode: {code}")),
            Err(HttpError::Failed(message)) => ProbeResult::Failure(message),
            Err(HttpError::Impossible(message)) => ProbeResult::Error(message),
        };
    }
    if let Some(action) = &probe.tcp_socket {
        let address = match address(target, &action.port) {
            Ok(address) => address,
            Err(message) => return ProbeResult::Error(message),
        };
        return match dial(address, timeout).await {
            Ok(_) => ProbeResult::Success,
            Err(message) => ProbeResult::Failure(message),
        };
    }
    if probe.grpc.is_some() {
        return ProbeResult::Error("grpc probes are not supported by this node".to_owned());
    }
    ProbeResult::Error(format!(
        "missing probe handler for container {}",
        target.container.name
    ))
}

async fn exec(
    runtime: &Arc<dyn Runtime>,
    target: &Target<'_>,
    action: &ExecAction,
    timeout: Duration,
) -> ProbeResult {
    let command = action.command.clone().unwrap_or_default();
    match runtime.exec_sync(target.container_id, &command, timeout).await {
        Ok(output) if output.exit_code == 0 => ProbeResult::Success,
        Ok(output) => {
            let mut text = output.stdout;
            text.extend_from_slice(&output.stderr);
            text.truncate(BODY_LIMIT);
            ProbeResult::Failure(String::from_utf8_lossy(&text).into_owned())
        }
        Err(RuntimeError::DeadlineExceeded(_)) => ProbeResult::Failure(format!(
            "command timed out: {:?} timed out after {}s",
            command.join(" "),
            timeout.as_secs()
        )),
        Err(error) => ProbeResult::Error(error.to_string()),
    }
}

pub enum HttpError {
    /// The other side did not answer, or not properly.
    Failed(String),
    /// The request cannot even be made.
    Impossible(String),
}

/// Sends the request; the answer's code. Certificates are not checked, as in Kubernetes.
///
/// # Errors
/// See [`HttpError`]; texts are those of Go's client.
pub async fn http_get(
    target: &Target<'_>,
    action: &HTTPGetAction,
    timeout: Duration,
) -> Result<u16, HttpError> {
    let address = address(target, &action.port).map_err(HttpError::Impossible)?;
    let tls = action
        .scheme
        .as_deref()
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    let scheme = if tls { "https" } else { "http" };
    let path = action
        .path
        .as_deref()
        .filter(|path| !path.is_empty())
        .unwrap_or("/");
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let url = format!("{scheme}://{address}{path}");
    let failed = |text: String| HttpError::Failed(format!("Get \"{url}\": {text}"));
    let too_late =
        || failed("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned());
    let request =
        request(action, address, &path).map_err(|error| HttpError::Impossible(error.to_string()))?;
    let exchange = async {
        let stream = dial(address, timeout).await.map_err(failed)?;
        if tls {
            let connector = tokio_rustls::TlsConnector::from(crate::probe::prober::tls::any_certificate());
            let name = rustls::pki_types::ServerName::IpAddress(address.ip().into());
            let stream = connector
                .connect(name, stream)
                .await
                .map_err(|error| failed(error.to_string()))?;
            send(TokioIo::new(stream), request).await.map_err(failed)
        } else {
            send(TokioIo::new(stream), request).await.map_err(failed)
        }
    };
    match tokio::time::timeout(timeout, exchange).await {
        Ok(result) => result,
        Err(_) => Err(too_late()),
    }
}

fn request(
    action: &HTTPGetAction,
    address: SocketAddr,
    path: &str,
) -> Result<http::Request<Empty<Bytes>>, http::Error> {
    let mut headers: BTreeMap<String, String> = action
        .http_headers
        .iter()
        .flatten()
        .map(|header| (header.name.to_lowercase(), header.value.clone()))
        .collect();
    let host = headers
        .remove("host")
        .or_else(|| action.host.clone().filter(|host| !host.is_empty()))
        .unwrap_or_else(|| address.to_string());
    headers
        .entry("user-agent".to_owned())
        .or_insert_with(|| USER_AGENT.to_owned());
    headers
        .entry("accept".to_owned())
        .or_insert_with(|| "*/*".to_owned());
    let mut builder = http::Request::get(path)
        .header("host", host)
        .header("connection", "close");
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    builder.body(Empty::new())
}

async fn send<I>(io: I, request: http::Request<Empty<Bytes>>) -> Result<u16, String>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
        .await
        .map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    let result = match answer {
        Ok(answer) => {
            let code = answer.status().as_u16();
            // The server is let finish its answer, up to the limit.
            let _ = Limited::new(answer.into_body(), BODY_LIMIT).collect().await;
            Ok(code)
        }
        Err(error) => Err(error.to_string()),
    };
    connection.abort();
    result
}

async fn dial(address: SocketAddr, timeout: Duration) -> Result<TcpStream, String> {
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("dial tcp {address}: connect: {}", plain(&error))),
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
    }
}

/// The kernel's words without Rust's ` (os error N)`, small letters first, as Go prints them.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

fn address(target: &Target<'_>, port: &IntOrString) -> Result<SocketAddr, String> {
    let ip = target
        .pod_ip
        .ok_or_else(|| "the Pod has no address yet".to_owned())?;
    Ok(SocketAddr::new(ip, port_number(target.container, port)?))
}

/// A number, or the name of one of the container's ports.
fn port_number(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => match text.parse() {
            Ok(number) => number,
            Err(_) => {
                let named = container
                    .ports
                    .iter()
                    .flatten()
                    .find(|port| port.name.as_deref() == Some(text.as_str()));
                named
                    .map(|port| port.container_port)
                    .ok_or_else(|| format!("couldn't find port: {text}"))?
            }
        },
    };
    u16::try_from(number)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("invalid port number: {number}"))
}

/// TLS that accepts every certificate: a probe asks whether the server answers, not who it is.
mod tls {
    use std::sync::{Arc, OnceLock};

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, ring};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

    pub fn any_certificate() -> Arc<ClientConfig> {
        static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        CONFIG
            .get_or_init(|| {
                let provider = Arc::new(ring::default_provider());
                let config = ClientConfig::builder_with_provider(provider.clone())
                    .with_safe_default_protocol_versions()
                    .expect("ring supports the default protocol versions")
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(Any(provider)))
                    .with_no_client_auth();
                Arc::new(config)
            })
            .clone()
    }

    #[derive(Debug)]
    struct Any(Arc<CryptoProvider>);

    impl ServerCertVerifier for Any {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            rustls::crypto::verify_tls12_signature(
                message,
                certificate,
                signature,
                &self.0.signature_verification_algorithms,
            )
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            rustls::crypto::verify_tls13_signature(
                message,
                certificate,
                signature,
                &self.0.signature_verification_algorithms,
            )
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::fake::FakeRuntime;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A server that answers every connection with `answer`; returns its port.
    async fn server(answer: &'static str) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 1024];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    #[track_caller]
    fn check(result: ProbeResult, wanted: Result<(), &str>) {
        match (&result, wanted) {
            (ProbeResult::Success, Ok(())) => {}
            (ProbeResult::Failure(text) | ProbeResult::Error(text), Err(part)) if text.contains(part) => {}
            _ => panic!("{result:?}, wanted {wanted:?}"),
        }
    }

    async fn run(spec: Value) -> ProbeResult {
        let runtime: Arc<dyn Runtime> = Arc::new(FakeRuntime::new());
        let container: Container =
            serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 1}]}))
                .expect("a container");
        let target = Target {
            container: &container,
            container_id: "id",
            pod_ip: Some([127, 0, 0, 1].into()),
        };
        let spec: Probe = serde_json::from_value(spec).expect("a probe");
        probe(&runtime, &target, &spec).await
    }

    #[tokio::test]
    async fn http_and_tcp() {
        let good = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let bad = server("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").await;
        check(run(json!({"httpGet": {"port": good}})).await, Ok(()));
        check(
            run(json!({"httpGet": {"port": bad}})).await,
            Err("HTTP probe failed with statuscode: 500"),
        );
        check(run(json!({"tcpSocket": {"port": good}})).await, Ok(()));
        check(
            run(json!({"tcpSocket": {"port": "web"}})).await,
            Err("dial tcp 127.0.0.1:1: connect: connection refused"),
        );
        check(
            run(json!({"httpGet": {"port": "none"}})).await,
            Err("couldn't find port: none"),
        );
        check(
            run(json!({"grpc": {"port": 1}})).await,
            Err("grpc probes are not supported"),
        );
    }
}
