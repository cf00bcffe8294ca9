//! Logs, exec, attach and port-forward, all the way: stock kubectl, TLS, tunnel, containerd, container.
//!
//! kubectl 1.27 speaks SPDY, kubectl 1.33 WebSocket. No agent runs here but its tunnel, so that
//! the streams are tried by themselves. Needs root, containerd, runc, busybox, util-linux, and those two versions of kubectl.

#[path = "../../nodeagent/tests/bed/mod.rs"]
mod bed;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use corten_apiserver::pki::{Pki, ServerNames, issue_client, write_kubeconfig};
use corten_apiserver::{ApiServer, Config};
use corten_nodeagent::runtime::{NamespaceMode, Runtime as _};
use corten_nodeagent::tunnel::{ContainerRef, HandlerError, LogOptions, NodeHandlers};
use corten_store::Store;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use bed::{Bed, LIMIT, container};

const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"default"},
"spec":{"nodeName":"n1","automountServiceAccountToken":false,
"containers":[{"name":"app","image":"bed:1","stdin":true,"command":["sh"]}]}}"#;

/// The Pod's runtime side, as the agent would find it.
struct OnePod {
    container: String,
    sandbox: String,
}

#[async_trait]
impl NodeHandlers for OnePod {
    async fn container_id(&self, wanted: &ContainerRef) -> Result<String, HandlerError> {
        match (wanted.uid.is_empty(), wanted.container.as_str()) {
            (false, "app") => Ok(self.container.clone()),
            _ => Err(HandlerError::NotFound(format!(
                "no container {}",
                wanted.container
            ))),
        }
    }

    async fn sandbox_id(&self, _wanted: &ContainerRef) -> Result<String, HandlerError> {
        Ok(self.sandbox.clone())
    }

    async fn logs(
        &self,
        _wanted: &ContainerRef,
        options: &LogOptions,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, HandlerError> {
        if options.previous {
            return Err(HandlerError::BadRequest(
                "previous terminated container \"app\" not found".into(),
            ));
        }
        // With follow, a second line comes later and the first must not wait for it.
        let first = futures::stream::iter([Ok(Bytes::from_static(b"first\n"))]);
        let later = futures::stream::once(async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            Ok(Bytes::from_static(b"second\n"))
        });
        Ok(if options.follow {
            first.chain(later).boxed()
        } else {
            first.boxed()
        })
    }
}

/// Serves a real API on a fresh store, and writes kubeconfigs for an administrator and for the node.
async fn serve(dir: &Path, stop: CancellationToken) -> (PathBuf, PathBuf) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let names = ServerNames::new("cluster.local", [10, 96, 0, 1].into(), [address.ip()]);
    let pki = Pki::open(&dir.join("pki"), &names, time::OffsetDateTime::now_utc()).unwrap();
    let url = format!("https://{address}");
    let (admin, node) = (dir.join("admin.kubeconfig"), dir.join("node.kubeconfig"));
    write_kubeconfig(&admin, "bed", &url, pki.ca.cert_pem(), &pki.admin).unwrap();
    let issued = issue_client(&pki.ca, "system:node:n1", &["system:nodes"]).unwrap();
    write_kubeconfig(&node, "bed", &url, pki.ca.cert_pem(), &issued).unwrap();
    let store = Store::open(corten_store::Config::new(dir.join("store")))
        .await
        .unwrap();
    let server = ApiServer::new(store, Config::new(address.ip(), pki.ca.cert_pem()));
    server.bootstrap().await.unwrap();
    tokio::spawn(async move { server.serve(listener, pki.server_tls().unwrap(), stop).await });
    (admin, node)
}

fn kubectl(version: &str, config: &Path, arguments: &[&str]) -> Command {
    let binary = format!("/usr/lib/google-cloud-sdk/bin/kubectl.{version}");
    assert!(Path::new(&binary).exists(), "{binary} is missing");
    let mut command = Command::new(binary);
    command
        .arg("--kubeconfig")
        .arg(config)
        .args(arguments)
        .env("HOME", config.parent().unwrap());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// `timeout` hands SIGTERM on to kubectl.
async fn end(mut child: tokio::process::Child) {
    let pid = i32::try_from(child.id().expect("it runs")).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
    child.wait().await.unwrap();
}

/// Runs kubectl with `input` and compares exit code and output; `expected` is part of stdout or of stderr.
async fn check(version: &str, config: &Path, arguments: &[&str], input: &[u8], code: i32, expected: &str) {
    let run = async {
        let mut child = kubectl(version, config, arguments).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        tokio::spawn(async move {
            let _ = stdin.write_all(&input).await; // a command may end before it has read all
        });
        child.wait_with_output().await.unwrap()
    };
    let what = format!("kubectl {version} {arguments:?}");
    let output = run.await;
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(code), "{what}: {told}");
    assert!(told.contains(expected), "{what}: {told}");
}

#[test]
fn kubectl_streams() {
    Bed::run("stream", async |bed, containerd| {
        let runtime = containerd.runtime();
        runtime.import_image(&bed.image_tar()).await.unwrap();
        let sandbox = bed.sandbox("web", NamespaceMode::Pod);
        let id = runtime.run_sandbox(&sandbox).await.unwrap();
        // Echoes its stdin in upper case words, and every connection to port 7000.
        let script = "nc -ll -p 7000 -e cat & while read line; do echo got $line; done; sleep 1000";
        let mut spec = container("app", 0, &["sh", "-c", script]);
        spec.stdin = true;
        let app = runtime.create_container(&id, &sandbox, &spec).await.unwrap();
        runtime.start_container(&app).await.unwrap();

        let stop = CancellationToken::new();
        let (admin, node) = serve(&bed.dir, stop.clone()).await;
        check(
            "1.27",
            &admin,
            &["create", "-f", "-"],
            POD.as_bytes(),
            0,
            "pod/web created",
        )
        .await;
        let running = [
            "patch",
            "pod",
            "web",
            "--subresource=status",
            "-p",
            r#"{"status":{"phase":"Running"}}"#,
        ];
        check("1.27", &admin, &running, b"", 0, "pod/web patched").await;
        check(
            "1.33",
            &admin,
            &["logs", "web"],
            b"",
            1,
            "error dialing backend: node \"n1\" has no tunnel",
        )
        .await;
        let parts = corten_client::connect::of_node(&node).await.unwrap();
        let remote = corten_client::remote::Remote::new("n1", parts.server, Vec::new(), parts.tls);
        let handlers = Arc::new(OnePod {
            container: app.clone(),
            sandbox: id.clone(),
        });
        let (runtime_of_tunnel, stopped) = (runtime.clone(), stop.clone());
        let tunnel = tokio::spawn(async move {
            corten_nodeagent::tunnel::run("n1", &remote, handlers, runtime_of_tunnel, stopped).await;
        });
        // The tunnel is open within milliseconds.
        let deadline = tokio::time::Instant::now() + LIMIT;
        while !kubectl("1.27", &admin, &["logs", "web"])
            .output()
            .await
            .unwrap()
            .status
            .success()
        {
            assert!(tokio::time::Instant::now() < deadline, "no tunnel");
        }
        for version in ["1.27", "1.33"] {
            logs_and_exec(version, &admin).await;
            attach(version, &admin).await;
            port_forward(version, &admin).await;
        }
        stop.cancel();
        tunnel.await.unwrap();
        runtime.remove_sandbox(&id).await.unwrap();
        containerd.stop().await;
    });
}

async fn logs_and_exec(version: &str, admin: &Path) {
    let check = async |arguments: &[&str], input: &[u8], code: i32, expected: &str| {
        check(version, admin, arguments, input, code, expected).await;
    };
    check(&["logs", "web"], b"", 0, "first\n").await;
    check(&["logs", "-f", "web"], b"", 0, "first\nsecond\n").await;
    check(
        &["logs", "-p", "web"],
        b"",
        1,
        "(BadRequest): previous terminated container \"app\" not found",
    )
    .await;

    check(&["exec", "web", "--", "echo", "a  b"], b"", 0, "a  b\n").await;
    check(
        &["exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 3"],
        b"",
        3,
        "out\nerr\n",
    )
    .await;
    // The end of stdin is passed on, or this would wait for ever.
    check(&["exec", "-i", "web", "--", "cat"], b"hello", 0, "hello").await;
    let big = vec![b'x'; 8 << 20];
    check(&["exec", "-i", "web", "--", "wc", "-c"], &big, 0, "8388608").await;
    // Both ways at once, more than any buffer holds: input and output must not wait for each other.
    let line = format!("{}\n", "y".repeat(1023)).repeat(4 << 10);
    check(&["exec", "-i", "web", "--", "cat"], line.as_bytes(), 0, &line).await;
    check(
        &["exec", "web", "--", "none"],
        b"",
        1,
        "executable file not found",
    )
    .await;

    // kubectl 1.33 would hide a WebSocket that fails by going back to SPDY.
    let talk = kubectl(version, admin, &["exec", "web", "-v=4", "--", "true"])
        .output()
        .await
        .unwrap();
    assert!(
        !String::from_utf8_lossy(&talk.stderr).contains("fallback"),
        "{talk:?}"
    );

    let script = format!(
        "stty rows 33 cols 77; /usr/lib/google-cloud-sdk/bin/kubectl.{version} --kubeconfig {} exec -it web -- sh -c 'sleep 0.3; stty size'",
        admin.display()
    );
    let terminal = Command::new("script")
        .args(["-qec", &script, "/dev/null"])
        .stdin(Stdio::null())
        .output();
    let terminal = tokio::time::timeout(LIMIT, terminal)
        .await
        .expect("it ends")
        .unwrap();
    let told = String::from_utf8_lossy(&terminal.stdout).into_owned();
    assert!(told.contains("33 77"), "kubectl {version} exec -it: {told}");
}

async fn attach(version: &str, admin: &Path) {
    let mut child = kubectl(version, admin, &["attach", "-i", "web"]).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut told = String::new();
    let talk = async {
        stdin.write_all(b"ping\n").await.unwrap();
        while !told.contains("got ping\n") {
            let mut buffer = [0; 1024];
            let size = output.read(&mut buffer).await.unwrap();
            assert!(size > 0, "kubectl {version} attach ended: {told}");
            told.push_str(&String::from_utf8_lossy(&buffer[..size]));
        }
    };
    tokio::time::timeout(LIMIT, talk)
        .await
        .unwrap_or_else(|_| panic!("kubectl {version} attach: no answer"));
    end(child).await;
}

async fn port_forward(version: &str, admin: &Path) {
    let mut child = kubectl(version, admin, &["port-forward", "web", ":7000"])
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    let talk = async {
        // Forwarding from 127.0.0.1:PORT -> 7000
        let mut told = String::new();
        while !told.contains(" -> 7000") {
            let mut buffer = [0; 1024];
            let size = output.read(&mut buffer).await.unwrap();
            assert!(size > 0, "kubectl {version} port-forward ended");
            told.push_str(&String::from_utf8_lossy(&buffer[..size]));
        }
        let port: u16 = told
            .split("127.0.0.1:")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        // Two connections side by side, each with more than one window of bytes.
        let echo = async |byte: u8| {
            let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let (mut reader, mut writer) = stream.into_split();
            let sent = vec![byte; 1 << 20];
            let copy = sent.clone();
            let writing = tokio::spawn(async move {
                writer.write_all(&copy).await.unwrap();
                writer
            });
            let mut back = vec![0; sent.len()];
            reader.read_exact(&mut back).await.unwrap();
            assert!(back == sent, "kubectl {version} port-forward changed bytes");
            drop(writing.await.unwrap());
        };
        tokio::join!(echo(b'a'), echo(b'b'));
        echo(b'c').await;
    };
    tokio::time::timeout(LIMIT, talk)
        .await
        .unwrap_or_else(|_| panic!("kubectl {version} port-forward: no answer"));
    end(child).await;
}
