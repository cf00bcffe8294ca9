//! A `corten server` on the loopback address, without hosts and nodes: for what only concerns its data folder.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::api::Api;
use crate::{cluster, wait};

/// A server of an unoptimised build on a busy machine is there within.
const START: Duration = Duration::from_secs(30);

pub struct Bare {
    child: Child,
    port: u16,
    dir: PathBuf,
    options: Vec<String>,
}

impl Bare {
    /// Starts a server on `dir`, with more options if need be, and waits until it is ready.
    #[track_caller]
    pub fn start(dir: &Path, options: &[&str]) -> Bare {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let bare = Bare {
            child: spawn(dir, port, &options),
            port,
            dir: dir.to_owned(),
            options,
        };
        bare.ready();
        bare
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    pub fn api(&self) -> Api {
        Api::of_kubeconfig(&self.kubeconfig()).expect("the server has written it")
    }

    /// The process dies without a word, and comes back.
    #[track_caller]
    pub fn kill_and_start(&mut self) {
        self.kill();
        self.child = spawn(&self.dir, self.port, &self.options);
        self.ready();
    }

    pub fn kill(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    #[track_caller]
    fn ready(&self) {
        wait::eventually("the server is ready", START, || {
            let api = Api::of_kubeconfig(&self.kubeconfig()).map_err(|error| error.to_string())?;
            let answer = api
                .connect()
                .and_then(|mut connection| connection.send("GET", "/readyz", "application/json", b""));
            match answer {
                Ok(answer) if answer.code == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(dir: &Path, port: u16, options: &[String]) -> Child {
    Command::new(cluster::binary())
        .args([
            "server",
            "--bind-address",
            "127.0.0.1",
            "--advertise-address",
            "127.0.0.1",
        ])
        .args(["--peer-port", "0", "--port", &port.to_string()])
        .arg("--data-dir")
        .arg(dir)
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the server")
}
