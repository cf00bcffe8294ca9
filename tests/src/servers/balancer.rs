//! A load balancer in front of several servers, for clients that know one address.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::Servers;
use super::client::PORT;
use crate::{Cluster, Kubectl, kubectl};

/// What an external load balancer does at its simplest: each connection goes to the next server that takes it.
pub struct Balancer {
    address: String,
    stop: Arc<AtomicBool>,
}

impl Balancer {
    /// In front of the API of all servers.
    ///
    /// # Panics
    /// There is no free port.
    #[must_use]
    pub fn start(servers: &Servers) -> Balancer {
        let servers: Vec<String> = servers
            .addresses
            .iter()
            .map(|address| format!("{address}:{PORT}"))
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, turn) = (stop.clone(), AtomicUsize::new(0));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let first = turn.fetch_add(1, Ordering::Relaxed);
                let server = (0..200).find_map(|n| {
                    if n >= servers.len() {
                        thread::sleep(Duration::from_millis(10));
                    }
                    let to = servers[(first + n) % servers.len()].parse().expect("an address");
                    TcpStream::connect_timeout(&to, Duration::from_millis(300)).ok()
                });
                if let Some(server) = server {
                    join(client, server);
                }
            }
        });
        Balancer { address, stop }
    }

    /// The newest kubectl, with the administrator's credentials, through this.
    ///
    /// # Panics
    /// The cluster has no kubeconfig, or there is no kubectl.
    #[must_use]
    pub fn kubectl(&self, cluster: &Cluster) -> Kubectl {
        let config = std::fs::read(cluster.kubeconfig()).expect("a kubeconfig");
        let mut config: Value = serde_json::from_slice(&config).expect("JSON");
        config["clusters"][0]["cluster"]["server"] = format!("https://{}", self.address).into();
        let path = cluster.dir().join("balanced.kubeconfig");
        std::fs::write(&path, config.to_string()).expect("write");
        kubectl::all(&path).pop().expect("a kubectl")
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address); // wakes the listener
    }
}

fn join(client: TcpStream, server: TcpStream) {
    let pairs = [
        (client.try_clone(), server.try_clone()),
        (server.try_clone(), client.try_clone()),
    ];
    for (from, to) in pairs {
        let (mut from, mut to) = (from.expect("a socket"), to.expect("a socket"));
        thread::spawn(move || {
            let mut buffer = [0; 16 << 10];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        });
    }
}
