//! The store next to etcd, on the same disk, in the same run. etcd is the binary of that name in the path; ours is this
//! program once more, as `serve`. Three sides are measured:
//!
//! - `etcd`: gRPC calls over eight connections;
//! - `corten`: the same client and the same calls, answered by a front end in the store's process;
//! - `front`: the clients sit behind a front end in the load's process, as on every server that does not lead. Its
//!   proposals and read indexes travel on the peers' connection, the store's own wire protocol.
//!
//! `cargo run --release -p corten-store --example bench_etcd -- [folder] [seconds] [members] [sides] [clients]`; sides are
//! the names above with commas in between, and with a number of clients only that one is measured, and nothing else.

mod member;
mod rpc;
mod system;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corten_store::{Config, Op, Store, Txn};
use rpc::{Call, Client};
use system::{Raw, cpu, fdatasync, file_system, resident, written};

/// The allocator of the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE: usize = 1024;
const CLIENTS: [usize; 4] = [1, 64, 256, 1000];
/// Connections the clients share.
const CONNECTIONS: usize = 8;
const RANGE: usize = 10_000;
const OBJECTS: usize = 1_000_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let address = |n: usize| args[n].parse().expect("an address");
    match args.first().map(String::as_str) {
        Some("serve") => {
            let first = args.get(4).map(|_| address(4));
            runtime.block_on(serve(Path::new(&args[1]), address(2), address(3), first));
        }
        Some("objects") => runtime.block_on(objects(Path::new(&args[1]))),
        Some("reopen") => runtime.block_on(reopen(Path::new(&args[1]))),
        _ => {
            let folder = PathBuf::from(args.first().map_or("bench-etcd", String::as_str));
            let seconds = args.get(1).map_or(5, |text| text.parse().expect("seconds"));
            let members = args.get(2).map_or(1, |text| text.parse().expect("members"));
            let sides = args.get(3).map_or("etcd,corten,front", String::as_str);
            let only = args.get(4).map(|text| text.parse().expect("clients"));
            let sides = sides.split(',').collect();
            runtime.block_on(compare(
                &folder,
                Duration::from_secs(seconds),
                members,
                sides,
                only,
            ));
        }
    }
}

async fn compare(folder: &Path, time: Duration, members: u16, sides: Vec<&str>, only: Option<usize>) {
    std::fs::create_dir_all(folder).expect("a folder");
    println!(
        "{} on {}, members: {members}",
        folder.display(),
        file_system(folder)
    );
    let raw = fdatasync(folder, VALUE);
    println!(
        "raw write + fdatasync of {VALUE} bytes: p50 {:.0?} p99 {:.0?}",
        raw.0, raw.1
    );
    if members == 1 && only.is_none() {
        commit(folder, time).await;
    }
    let mut rates = Vec::new();
    for name in &sides {
        let dir = folder.join(name);
        let _ = std::fs::remove_dir_all(&dir);
        let cluster = Cluster::start(name, &dir, members).await;
        rates.push(measure(name, &cluster, time, raw.0, only).await);
        drop(cluster);
        let _ = std::fs::remove_dir_all(&dir);
    }
    let etcd = sides.iter().position(|name| *name == "etcd");
    for (side, name) in sides.iter().enumerate() {
        let Some(etcd) = etcd.filter(|etcd| *etcd != side) else {
            continue;
        };
        let ratios = rates[side].iter().zip(&rates[etcd]);
        let ratios = ratios.map(|((what, ours), (_, theirs))| format!("{what} {:.2}", ours / theirs));
        println!("{name} / etcd: {}", ratios.collect::<Vec<_>>().join(", "));
    }
    let _ = std::fs::remove_dir_all(folder);
}

/// All figures of one side; its rates.
async fn measure(
    name: &str,
    cluster: &Cluster,
    time: Duration,
    raw: Duration,
    only: Option<usize>,
) -> Vec<(String, f64)> {
    let me = std::process::id();
    let mut found = Vec::new();
    let counts = only.map_or_else(|| CLIENTS.to_vec(), |only| vec![only]);
    for count in counts {
        let before = (cluster.written(), cluster.cpu(), cpu(me), cluster.fsyncs().await);
        let puts = load(&cluster.side, count, time, |client, n| Call::Put {
            key: format!("/registry/pods/namespace-{client}/pod-{}", n % 500).into(),
            value: vec![n as u8; VALUE].into(),
        })
        .await;
        let number = puts.count as f64;
        let bytes = (cluster.written() - before.0) as f64 / (number * VALUE as f64);
        let busy = (cluster.cpu() - before.1) / number * 1e6;
        let own = (cpu(me) - before.2) / number * 1e6;
        let writes = number / (cluster.fsyncs().await - before.3);
        println!(
            "{name:>6} {count:>4} clients: {puts}, CPU each: servers {busy:.1} us, clients {own:.1} us; \
             {bytes:.2} bytes written per payload byte, {writes:.1} writes per fsync of the first member"
        );
        if count == 1 {
            let ratio = puts.p50.as_secs_f64() / raw.as_secs_f64();
            println!("{name:>6} one client's p50 is {ratio:.2} x that of raw fdatasync");
        }
        found.push((format!("{count} clients"), puts.rate));
    }
    if only.is_some() {
        return found;
    }
    for n in 0..RANGE {
        let (key, value) = (format!("/range/{n:05}").into(), vec![7; 128].into());
        cluster
            .side
            .call(n, &Call::Put { key, value })
            .await
            .expect("put");
    }
    let read = |busy: (f64, f64), read: &Found| {
        let each = |after: f64, before: f64| (after - before) / read.count as f64 * 1e6;
        let (servers, clients) = (each(cluster.cpu(), busy.0), each(cpu(me), busy.1));
        format!("{read}, CPU each: servers {servers:.1} us, clients {clients:.1} us")
    };
    let busy = (cluster.cpu(), cpu(me));
    let gets = load(&cluster.side, 64, time, |_, n| {
        Call::get(&format!("/range/{:05}", n % RANGE as u64))
    })
    .await;
    println!("{name:>6}   64 clients, linearizable get: {}", read(busy, &gets));
    let busy = (cluster.cpu(), cpu(me));
    let ranges = load(&cluster.side, 4, time, |_, _| Call::range("/range/")).await;
    println!(
        "{name:>6}    4 clients, linearizable range of {RANGE}: {}",
        read(busy, &ranges)
    );
    let resident: Vec<u64> = cluster
        .servers
        .iter()
        .map(|server| resident(server.0.id()) >> 20)
        .collect();
    println!("{name:>6} resident, MiB: {resident:?}");
    found.extend([("get".into(), gets.rate), ("range".into(), ranges.rate)]);
    found
}

/// One client of a store in its own process: what a commit costs besides its fsync. The disk is measured in turn with it,
/// as its speed changes; the client is one thread, as what measures the disk is.
async fn commit(folder: &Path, time: Duration) {
    const ROUNDS: u32 = 40;
    let dir = folder.join("commit");
    let store = Store::open(Config::new(&dir)).await.expect("open");
    let mut disk = Raw::new(folder, VALUE);
    let (mut taken, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        while begun.elapsed() < time / ROUNDS {
            let n = taken.len();
            let key = format!("/registry/pods/namespace-0/pod-{}", n % 500).into();
            let value = vec![n as u8; VALUE].into();
            let asked = Instant::now();
            rpc::put(&store, key, value).await.expect("an answer");
            taken.push(asked.elapsed());
        }
        raw.extend((0..200).map(|_| disk.once()));
    }
    store.close().await;
    let (puts, raw) = (Found::of(taken, time), Found::of(raw, time));
    let ratio = puts.p50.as_secs_f64() / raw.p50.as_secs_f64();
    println!(
        "commit, one client in the store's process: {puts}; in turn with it, raw fdatasync: p50 {:.0?} p99 {:.0?}; \
         p50 is {ratio:.2} x as long",
        raw.p50, raw.p99
    );
    let _ = std::fs::remove_dir_all(dir);
}

/// Ends with this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How the clients reach the servers.
enum Side {
    Rpc(Vec<Client>),
    Front(Store),
}

impl Side {
    /// Bytes of the answer.
    async fn call(&self, number: usize, call: &Call) -> Result<usize, rpc::Error> {
        let store = match self {
            Side::Rpc(clients) => return clients[number % clients.len()].call(call).await,
            Side::Front(store) => store,
        };
        match call {
            Call::Put { key, value } => {
                rpc::put(store, key.clone(), value.clone()).await?;
                Ok(0)
            }
            Call::Range { key, end } => {
                store.read_barrier().await?;
                let state = store.snapshot();
                let mut bytes = 0;
                if end.is_empty() {
                    let entry = state.get(key);
                    bytes += entry.map_or(0, |entry| entry.key.len() + entry.value.len());
                } else {
                    for entry in state.range(key.clone()..end.clone()) {
                        bytes += entry.key.len() + entry.value.len();
                    }
                }
                Ok(bytes)
            }
        }
    }
}

struct Cluster {
    servers: Vec<Server>,
    side: std::sync::Arc<Side>,
    /// The first server's address for clients.
    first: SocketAddr,
    etcd: bool,
}

impl Cluster {
    async fn start(name: &str, dir: &Path, members: u16) -> Cluster {
        let etcd = name == "etcd";
        let base: u16 = if etcd { 23_790 } else { 23_890 };
        let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let addresses: Vec<(SocketAddr, SocketAddr)> = (0..members)
            .map(|n| (local(base + 2 * n), local(base + 2 * n + 1)))
            .collect();
        let mut servers = Vec::new();
        for n in 0..addresses.len() {
            servers.push(start(etcd, &dir.join(n.to_string()), n, &addresses));
            if !etcd {
                // Whoever joins asks the first one.
                connect(addresses[n].0, 1).await;
            }
        }
        let side = if name == "front" {
            Side::Front(member::join(None, local(base + 20), addresses[0].1).await)
        } else {
            let mut clients = Vec::new();
            for (client, _) in &addresses {
                clients.push(connect(*client, CONNECTIONS.div_ceil(addresses.len())).await);
            }
            // Neighbours are connections to different servers.
            let longest = clients.iter().map(Vec::len).max().unwrap_or(0);
            let mixed = (0..longest).flat_map(|n| clients.iter().filter_map(move |of| of.get(n).cloned()));
            Side::Rpc(mixed.collect())
        };
        Cluster {
            servers,
            side: side.into(),
            first: addresses[0].0,
            etcd,
        }
    }

    fn sum<T: std::iter::Sum>(&self, of: impl Fn(u32) -> T) -> T {
        self.servers.iter().map(|server| of(server.0.id())).sum()
    }

    fn cpu(&self) -> f64 {
        self.sum(cpu)
    }

    fn written(&self) -> u64 {
        self.sum(written)
    }

    /// Of the first server's log, so far.
    async fn fsyncs(&self) -> f64 {
        let asked = if self.etcd {
            rpc::etcd_fsyncs(self.first).await
        } else {
            let client = Client::connect(self.first).await;
            match client {
                Ok(client) => client.fsyncs().await,
                Err(error) => Err(error),
            }
        };
        asked.unwrap_or(f64::NAN)
    }
}

/// The server number `n` of those at `addresses`, each for clients and for peers.
fn start(etcd: bool, dir: &Path, n: usize, addresses: &[(SocketAddr, SocketAddr)]) -> Server {
    let (client, peer) = addresses[n];
    let mut command = if etcd {
        let url = |address: SocketAddr| format!("http://{address}");
        let cluster: Vec<String> = addresses
            .iter()
            .enumerate()
            .map(|(n, (_, peer))| format!("m{n}={}", url(*peer)))
            .collect();
        let mut command = Command::new("etcd");
        command
            .arg("--data-dir")
            .arg(dir)
            .arg("--name")
            .arg(format!("m{n}"));
        let flags = [
            ("--listen-client-urls", url(client)),
            ("--advertise-client-urls", url(client)),
            ("--listen-peer-urls", url(peer)),
            ("--initial-advertise-peer-urls", url(peer)),
            ("--initial-cluster", cluster.join(",")),
            ("--quota-backend-bytes", "8589934592".into()),
        ];
        for (flag, value) in flags {
            command.arg(flag).arg(value);
        }
        command
    } else {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .arg("serve")
            .arg(dir)
            .args([client.to_string(), peer.to_string()]);
        if n > 0 {
            command.arg(addresses[0].1.to_string());
        }
        command
    };
    let silent = command.stdout(Stdio::null()).stderr(Stdio::null());
    Server(silent.spawn().expect("the server starts"))
}

async fn serve(dir: &Path, address: SocketAddr, peer: SocketAddr, first: Option<SocketAddr>) {
    let store = match first {
        Some(first) => member::join(Some(dir), peer, first).await,
        None => member::found(dir, peer).await,
    };
    let listener = tokio::net::TcpListener::bind(address).await.expect("listen");
    rpc::serve(listener, store).await;
}

async fn connect(address: SocketAddr, count: usize) -> Vec<Client> {
    let begun = Instant::now();
    let mut clients = Vec::new();
    while clients.len() < count {
        match Client::connect(address).await {
            Ok(client) if client.call(&Call::get("/")).await.is_ok() => clients.push(client),
            _ if begun.elapsed() > Duration::from_secs(30) => panic!("no server at {address}"),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    clients
}

struct Found {
    count: u64,
    rate: f64,
    p50: Duration,
    p99: Duration,
}

impl Found {
    fn of(mut taken: Vec<Duration>, time: Duration) -> Found {
        taken.sort_unstable();
        let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize];
        Found {
            count: taken.len() as u64,
            rate: taken.len() as f64 / time.as_secs_f64(),
            p50: at(0.5),
            p99: at(0.99),
        }
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0}/s p50 {:.0?} p99 {:.0?}", self.rate, self.p50, self.p99)
    }
}

async fn load(
    side: &std::sync::Arc<Side>,
    count: usize,
    time: Duration,
    call: impl Fn(u64, u64) -> Call + Copy + Send + 'static,
) -> Found {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let side = side.clone();
            tokio::spawn(async move {
                let mut taken = Vec::new();
                while begun.elapsed() < time {
                    let asked = Instant::now();
                    let call = call(number as u64, taken.len() as u64);
                    side.call(number, &call).await.expect("an answer");
                    taken.push(asked.elapsed());
                }
                taken
            })
        })
        .collect();
    let mut taken = Vec::new();
    for task in tasks {
        taken.extend(task.await.expect("a client"));
    }
    Found::of(taken, begun.elapsed())
}

/// A million objects of 1 KiB: memory, disk, and how long until a restart serves.
async fn objects(dir: &Path) {
    let _ = std::fs::remove_dir_all(dir);
    let store = Store::open(Config::new(dir)).await.expect("open");
    let begun = Instant::now();
    for first in (0..OBJECTS).step_by(500) {
        let puts = (first..first + 500).map(|n| {
            let (key, value) = (
                Bytes::from(format!("/registry/pods/default/pod-{n:07}")),
                vec![n as u8; VALUE].into(),
            );
            let store = store.clone();
            async move {
                let txn = Txn::new(vec![], vec![Op::Put { key, value }]);
                while store.txn(txn.clone()).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        });
        futures::future::join_all(puts).await;
    }
    let me = std::process::id();
    println!(
        "{OBJECTS} objects of {VALUE} bytes written in {:.1?}",
        begun.elapsed()
    );
    println!("resident: {} MiB", resident(me) >> 20);
    let status = store.status();
    println!(
        "log {} MiB, image {} MiB",
        status.log_bytes >> 20,
        status.image_bytes >> 20
    );
    store.close().await;
    drop(store);
    // In a process of its own: what this one's allocator keeps of the old state would be counted again.
    let me = std::env::current_exe().expect("this program");
    let again = Command::new(me).arg("reopen").arg(dir).status();
    assert!(
        again.is_ok_and(|status| status.success()),
        "the store opens again"
    );
    let _ = std::fs::remove_dir_all(dir);
}

/// What a restart costs.
async fn reopen(dir: &Path) {
    let begun = Instant::now();
    let store = Store::open(Config::new(dir)).await.expect("open");
    println!(
        "restart to serving with {} objects: {:.1?}",
        store.status().keys,
        begun.elapsed()
    );
    println!("resident after it: {} MiB", resident(std::process::id()) >> 20);
    store.close().await;
}
