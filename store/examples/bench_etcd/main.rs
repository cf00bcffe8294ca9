//! The store next to etcd: the same client, the same gRPC calls, the same disk, one after the other. etcd is the binary
//! of that name in the path; ours is this program once more, as `serve`, with a front end that speaks etcd's `Put` and
//! `Range`, each a durable transaction and a linearizable read.
//!
//! `cargo run --release -p corten-store --example bench_etcd -- [folder] [seconds]`

mod rpc;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corten_store::{Config, Op, Store, Txn};
use rpc::{Call, Client};

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
    match args.first().map(String::as_str) {
        Some("serve") => runtime.block_on(serve(Path::new(&args[1]), args[2].parse().expect("an address"))),
        Some("objects") => runtime.block_on(objects(Path::new(&args[1]))),
        Some("reopen") => runtime.block_on(reopen(Path::new(&args[1]))),
        _ => {
            let folder = PathBuf::from(args.first().map_or("bench-etcd", String::as_str));
            let seconds = args.get(1).map_or(5, |text| text.parse().expect("seconds"));
            runtime.block_on(compare(&folder, Duration::from_secs(seconds)));
        }
    }
}

async fn compare(folder: &Path, time: Duration) {
    std::fs::create_dir_all(folder).expect("a folder");
    println!("{} on {}", folder.display(), file_system(folder));
    let raw = fdatasync(folder);
    println!(
        "raw write + fdatasync of {VALUE} bytes: p50 {:.0?} p99 {:.0?}",
        raw.0, raw.1
    );
    let mut rates = Vec::new();
    for (name, port) in [("etcd", 23_790), ("corten", 23_890)] {
        let dir = folder.join(name);
        let _ = std::fs::remove_dir_all(&dir);
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        let server = Server(start(name, &dir, address));
        let clients = connect(address).await;
        let mut found = Vec::new();
        for count in CLIENTS {
            let (before, busy) = (written(server.0.id()), cpu(server.0.id()));
            let puts = load(&clients, count, time, |client, n| Call::Put {
                key: format!("/registry/pods/namespace-{client}/pod-{}", n % 500).into(),
                value: vec![n as u8; VALUE].into(),
            })
            .await;
            let bytes = (written(server.0.id()) - before) as f64 / (puts.count * VALUE as u64) as f64;
            let busy = (cpu(server.0.id()) - busy) / puts.count as f64 * 1e6;
            println!(
                "{name:>6} {count:>4} clients: {puts}, {busy:.1} us of the server's CPU each, {bytes:.2} bytes written \
                 per payload byte"
            );
            if count == 1 {
                let ratio = puts.p50.as_secs_f64() / raw.0.as_secs_f64();
                println!("{name:>6} one client's p50 is {ratio:.2} x that of raw fdatasync");
            }
            found.push(puts.rate);
        }
        for n in 0..RANGE {
            let (key, value) = (format!("/range/{n:05}").into(), vec![7; 128].into());
            clients[n % CONNECTIONS]
                .call(&Call::Put { key, value })
                .await
                .expect("put");
        }
        let busy = cpu(server.0.id());
        let gets = load(&clients, 64, time, |_, n| {
            Call::get(&format!("/range/{:05}", n % RANGE as u64))
        })
        .await;
        let each = |busy: f64, count: u64| (cpu(server.0.id()) - busy) / count as f64 * 1e6;
        let used = each(busy, gets.count);
        println!("{name:>6}   64 clients, linearizable get: {gets}, {used:.1} us of CPU each");
        let busy = cpu(server.0.id());
        let ranges = load(&clients, 4, time, |_, _| Call::range("/range/")).await;
        let used = each(busy, ranges.count);
        println!("{name:>6}    4 clients, linearizable range of {RANGE}: {ranges}, {used:.0} us of CPU each");
        println!("{name:>6} resident: {} MiB", resident(server.0.id()) >> 20);
        found.extend([gets.rate, ranges.rate]);
        rates.push(found);
        drop(server);
    }
    let names = [
        "1 client",
        "64 clients",
        "256 clients",
        "1,000 clients",
        "get",
        "range",
    ];
    for (n, name) in names.iter().enumerate() {
        println!("corten / etcd, {name}: {:.2}", rates[1][n] / rates[0][n]);
    }
    let _ = std::fs::remove_dir_all(folder);
}

/// Ends with this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(name: &str, dir: &Path, address: SocketAddr) -> Child {
    let mut command = if name == "etcd" {
        let url = format!("http://{address}");
        let peer = format!("http://127.0.0.1:{}", address.port() + 1);
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(dir);
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ]);
        command.args([
            "--initial-cluster",
            &format!("default={peer}"),
            "--quota-backend-bytes",
            "8589934592",
        ]);
        command
    } else {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg("serve").arg(dir).arg(address.to_string());
        command
    };
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("start {name}: {error}"))
}

async fn serve(dir: &Path, address: SocketAddr) {
    let store = Store::open(Config::new(dir)).await.expect("open");
    let listener = tokio::net::TcpListener::bind(address).await.expect("listen");
    rpc::serve(listener, store).await;
}

async fn connect(address: SocketAddr) -> Vec<Client> {
    let begun = Instant::now();
    let mut clients = Vec::new();
    while clients.len() < CONNECTIONS {
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

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.0}/s p50 {:.0?} p99 {:.0?}", self.rate, self.p50, self.p99)
    }
}

async fn load(
    clients: &[Client],
    count: usize,
    time: Duration,
    call: impl Fn(u64, u64) -> Call + Copy + Send + 'static,
) -> Found {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..count)
        .map(|number| {
            let client = clients[number % clients.len()].clone();
            tokio::spawn(async move {
                let mut taken = Vec::new();
                while begun.elapsed() < time {
                    let asked = Instant::now();
                    let call = call(number as u64, taken.len() as u64);
                    client.call(&call).await.expect("an answer");
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
    let seconds = begun.elapsed().as_secs_f64();
    taken.sort_unstable();
    let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize];
    Found {
        count: taken.len() as u64,
        rate: taken.len() as f64 / seconds,
        p50: at(0.5),
        p99: at(0.99),
    }
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

/// User and system time of a process so far, in seconds.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The command's name stands in parentheses and may hold spaces; fields 14 and 15 follow it.
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = after.split(' ').skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// p50 and p99 of the disk's own.
fn fdatasync(folder: &Path) -> (Duration, Duration) {
    use std::io::Write;
    let path = folder.join("raw");
    let mut file = std::fs::File::create(&path).expect("a file");
    file.write_all(&vec![0; 8 << 20]).expect("write");
    file.sync_all().expect("sync");
    std::io::Seek::rewind(&mut file).expect("rewind");
    let mut taken: Vec<Duration> = (0..2000)
        .map(|_| {
            let begun = Instant::now();
            file.write_all(&[1; VALUE]).expect("write");
            file.sync_data().expect("sync");
            begun.elapsed()
        })
        .collect();
    taken.sort_unstable();
    let _ = std::fs::remove_file(path);
    (taken[1000], taken[1980])
}

/// Bytes a process has had written to disk (or into the page cache, on tmpfs none).
fn written(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

fn file_system(folder: &Path) -> String {
    let output = Command::new("stat").args(["-f", "-c", "%T"]).arg(folder).output();
    output.map_or_else(
        |_| "?".into(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
