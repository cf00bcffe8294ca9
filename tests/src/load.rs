//! HTTP requests from outside the cluster: single ones, and a constant load that counts what fails.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A request that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(5);

/// One GET of `/` over a connection of its own: the body of a 200.
pub fn get(address: &str) -> Result<String, String> {
    let address: SocketAddr = address.parse().map_err(|error| format!("{address}: {error}"))?;
    let failed = |step: &'static str| move |error: std::io::Error| format!("{step} {address}: {error}");
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).map_err(failed("connect to"))?;
    stream.set_read_timeout(Some(LIMIT)).map_err(failed("set up"))?;
    stream
        .write_all(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n")
        .map_err(failed("write to"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed("read from"))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| format!("{address}: answer cut: {answer:?}"))?;
    if head.lines().next().is_some_and(|line| line.contains(" 200 ")) {
        Ok(body.trim().to_owned())
    } else {
        Err(format!("{address}: {head}"))
    }
}

/// What a load saw.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How often each body was answered.
    pub answers: BTreeMap<String, u64>,
    /// When, since the load began, and why.
    pub failures: Vec<(Duration, String)>,
    /// The longest answered request.
    pub slowest: Duration,
}

impl Report {
    pub fn total(&self) -> u64 {
        self.answers.values().sum()
    }
}

/// Clients that each ask one address after the other until stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<Report>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// `addresses` are `ip:port`; every client begins at another one. `pause` lies between a client's requests.
    pub fn start(addresses: &[String], clients: usize, pause: Duration) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let report = Arc::new(Mutex::new(Report::default()));
        let began = Instant::now();
        let clients = (0..clients)
            .map(|first| {
                let (stop, report, addresses) = (Arc::clone(&stop), Arc::clone(&report), addresses.to_vec());
                thread::spawn(move || {
                    for address in addresses.iter().cycle().skip(first) {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let asked = Instant::now();
                        let answer = get(address);
                        let mut report = report.lock().expect("no client panics with the report");
                        match answer {
                            Ok(body) => {
                                *report.answers.entry(body).or_default() += 1;
                                report.slowest = report.slowest.max(asked.elapsed());
                            }
                            Err(reason) => report.failures.push((asked - began, reason)),
                        }
                        drop(report);
                        thread::sleep(pause);
                    }
                })
            })
            .collect();
        Load {
            stop,
            report,
            clients,
        }
    }

    pub fn so_far(&self) -> Report {
        self.report
            .lock()
            .expect("no client panics with the report")
            .clone()
    }

    pub fn stop(mut self) -> Report {
        self.end();
        self.so_far()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            // A client that panicked shows in the report's lock.
            let _ = client.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}
