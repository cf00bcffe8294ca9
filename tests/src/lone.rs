//! One server without nodes on a free port of the loopback address.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Kubectl;
use crate::cluster::binary;
use crate::kubectl;
use crate::wait::eventually;

const START_LIMIT: Duration = Duration::from_secs(60);

/// Its folder goes with the value.
pub struct Lone {
    child: Child,
    directory: tempfile::TempDir,
    pub kubectl: Kubectl,
}

impl Lone {
    /// Ready for requests. `level`: how much it says, as `CORTEN_LOG` has it.
    #[track_caller]
    pub fn start(level: &str) -> Lone {
        let directory = tempfile::Builder::new()
            .prefix("corten-lone-")
            .tempdir()
            .expect("a folder");
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let log = std::fs::File::create(directory.path().join("server.log")).expect("a log");
        let loopback = ["--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1"];
        let child = Command::new(binary())
            .arg("server")
            .args(loopback)
            .args(["--port", &port.to_string(), "--peer-port", "0"])
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .env("CORTEN_LOG", level)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let kubeconfig = directory.path().join("data/admin.kubeconfig");
        eventually("the kubeconfig is there", START_LIMIT, || {
            std::fs::metadata(&kubeconfig).map(drop)
        });
        let kubectl = kubectl::all(&kubeconfig).pop().expect("there is always one");
        let lone = Lone {
            child,
            directory,
            kubectl,
        };
        eventually("the server is ready", START_LIMIT, || {
            let finished = lone.kubectl.line("get --raw /readyz");
            if finished.succeeded() {
                Ok(())
            } else {
                Err(format!("{finished}\n{}", lone.log_end()))
            }
        });
        lone
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("data/admin.kubeconfig")
    }

    /// Where its data, its log and whatever a test puts there are.
    pub fn folder(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// The last lines of the log.
    pub fn log_end(&self) -> String {
        let log = std::fs::read(self.directory.path().join("server.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Ends it as a service manager would, and waits until it has ended.
    pub fn stop(&mut self) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: a plain system call about our own child, which is not waited for yet.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let _ = self.child.wait();
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- end of server.log\n{}", self.log_end());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
