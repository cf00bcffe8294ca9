//! A Secret's value is nowhere it has no business to be: not on disk, not in a backup, not in a log, however much the
//! server says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use corten_tests::cluster::binary;
use corten_tests::servers::Servers;
use corten_tests::{Cluster, Kubectl, Lone, command, kubectl};
use serde_json::{Value, json};

/// Looked for as it is, and in the forms of base64 that a value of a Secret takes.
const CANARY: &str = "canary-7f3a9c51e8d24b06-in-the-mine";
const LIMIT: Duration = Duration::from_secs(60);

/// Every file below a folder, but kubectl's own cache.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, found),
            _ => found.push(path),
        }
    }
}

fn forms(text: &str) -> Vec<String> {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
    let mut forms = vec![text.to_owned()];
    // Its place in what is encoded decides between three forms; the ends depend on what is beside it.
    for shift in 0..3 {
        let shifted = format!("{}{text}", "x".repeat(shift));
        let encoded = engine.encode(shifted);
        forms.push(encoded[4..encoded.len() - 4].to_owned());
    }
    forms
}

/// The files that hold the text in any form, of how many.
fn holding(folder: &Path, text: &str) -> (usize, Vec<PathBuf>) {
    let mut all = Vec::new();
    files(folder, &mut all);
    let forms = forms(text);
    let holds = |path: &PathBuf| {
        // A file may go meanwhile.
        let bytes = std::fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        forms.iter().any(|form| text.contains(form.as_str()))
    };
    let count = all.len();
    (count, all.into_iter().filter(holds).collect())
}

/// In a ConfigMap: where it is not found, nothing was looked at.
const MARKER: &str = "marker-2e8b60d4a97f135c-for-all-to-see";

fn secret(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": { "key": CANARY } })
}

#[test]
fn a_secret_is_nowhere_on_any_of_three_servers() {
    let policy = tempfile::NamedTempFile::new().expect("a file");
    // As Kubernetes' own clusters are set up: everything with its contents, but what may hold something secret.
    let rules = json!({ "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [
        { "level": "Metadata", "resources": [{ "group": "", "resources": ["secrets", "serviceaccounts/token"] },
            { "group": "authentication.k8s.io", "resources": ["tokenreviews"] }] },
        { "level": "RequestResponse" },
    ] });
    std::fs::write(policy.path(), rules.to_string()).expect("write");
    let audit = tempfile::tempdir().expect("a folder");
    let log = audit.path().join("audit.log");
    let flags = [
        format!("--server-arg=--audit-policy-file={}", policy.path().display()),
        format!("--server-arg=--audit-log-path={}", log.display()),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let cluster = Cluster::create_saying(Some("debug"), "canary", 3, 0, &flags);
    let servers = Servers::of(&cluster).expect("credentials");
    let config = |name: &str| cluster.host_dir(name).join("admin.kubeconfig");
    let by = |name: &str| -> Kubectl { kubectl::all(&config(name)).pop().expect("a kubectl") };

    // Written through the leader and through followers, read, changed, refused, deleted.
    // Without what kubectl checks itself: the server is what is looked at.
    let (create, apply) = (
        ["create", "--validate=false", "-f", "-"],
        ["apply", "--validate=false", "-f", "-"],
    );
    for name in &servers.names {
        let (kubectl, own) = (by(name), format!("of-{name}"));
        kubectl.run(&create, &secret(&own).to_string()).ok();
        kubectl
            .run(&apply, &secret(&format!("applied-by-{name}")).to_string())
            .ok();
        kubectl.run(&apply, &json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": own }, "data": { "marker": MARKER } }).to_string()).ok();
        kubectl.ok(&format!(
            r#"patch secret {own} -p {{"stringData":{{"more":"{CANARY}-2"}}}}"#
        ));
        let mut bad = secret("Not A Name");
        kubectl.run(&create, &bad.to_string()).refused();
        bad["metadata"]["name"] = "fine".into();
        bad["type"] = json!({ CANARY: CANARY });
        kubectl.run(&create, &bad.to_string()).refused();
        kubectl.ok("get secrets -A -o json");
        kubectl.ok(&format!("delete secret applied-by-{name}"));
    }
    // One starts with an empty disk: the others send it everything.
    let (first, last) = (&servers.names[0], &servers.names[2]);
    cluster.fault("stop", last);
    let own = config(first).display().to_string();
    cluster
        .corten(&["member", "remove", last, "--kubeconfig", &own], LIMIT)
        .ok();
    std::fs::remove_dir_all(cluster.host_dir(last)).expect("remove the data");
    cluster.fault("start", last);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime
        .block_on(servers.healthy(3, LIMIT))
        .expect("three servers");
    let read = by(last).json(&format!("secret of-{first}"));
    assert!(
        read["data"]["key"].is_string(),
        "it has the key to read it: {read}"
    );
    let backups = cluster.dir().join("backups");
    std::fs::create_dir(&backups).expect("a folder");
    let place = backups.display().to_string();
    cluster
        .corten(&["backup", "save", &place, "--kubeconfig", &own], LIMIT)
        .ok();
    // State images are written out.
    servers.names.iter().for_each(|name| cluster.fault("stop", name));

    let mut looked_at = 0;
    for folder in [cluster.dir(), audit.path().to_owned()] {
        let (count, found) = holding(&folder, CANARY);
        assert!(found.is_empty(), "{found:?}");
        looked_at += count;
    }
    println!("no canary in {looked_at} files");
    let seen = holding(&cluster.dir(), MARKER).1;
    for folder in servers
        .names
        .iter()
        .map(|name| cluster.host_dir(name))
        .chain([backups])
    {
        let seen = seen.iter().any(|path| path.starts_with(&folder));
        assert!(seen, "what is no secret is found below {}", folder.display());
    }
    assert!(
        !holding(audit.path(), MARKER).1.is_empty(),
        "the audit log has contents"
    );
    for name in &servers.names {
        let log = std::fs::read_to_string(cluster.dir().join(format!("{name}.log"))).expect("a log");
        assert!(log.contains("DEBUG"), "{name} says much");
    }
}

#[test]
fn a_secret_is_nowhere_on_disk_nor_in_logs_nor_in_backups() {
    let mut server = Lone::start("trace");
    let kubectl = server.kubectl.clone();
    // Written, read, listed, patched, refused, deleted: every way a value takes through the server.
    let create = ["create", "-f", "-"];
    kubectl.run(&create, &secret("kept").to_string()).ok();
    kubectl.run(&create, &secret("gone").to_string()).ok();
    kubectl.apply(&json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "seen" }, "data": { "marker": "a-value-that-may-be-seen" } }));
    assert!(kubectl.ok("get secret kept -o yaml").contains("kind: Secret"));
    kubectl.ok("get secrets -A -o json");
    kubectl.ok(&format!(
        r#"patch secret kept -p {{"stringData":{{"more":"{CANARY}-2"}}}}"#
    ));
    let mut bad = secret("Not A Name");
    assert!(!kubectl.run(&create, &bad.to_string()).succeeded());
    bad["metadata"]["name"] = "fine".into();
    bad["stringData"] = json!({ "key": { CANARY: 1 } });
    assert!(!kubectl.run(&create, &bad.to_string()).succeeded());
    kubectl.ok("delete secret gone");
    let backups = server.folder().join("backups");
    std::fs::create_dir(&backups).expect("a folder");
    let kubeconfig = server.kubeconfig();
    let mut save = Command::new(binary());
    save.args(["backup", "save"])
        .arg(&backups)
        .arg("--kubeconfig")
        .arg(&kubeconfig);
    command::run(&mut save, "", LIMIT).ok();
    for stopped in [false, true] {
        if stopped {
            server.stop(); // the state image is written out
        }
        let (count, found) = holding(&server.folder(), CANARY);
        assert!(count > 10, "only {count} files");
        // The server cannot know that a Secret's key, which it must name in its error, was meant to be a value.
        assert!(found.is_empty(), "{found:?}");
    }
    // The search itself finds what is there.
    std::fs::write(server.folder().join("planted"), format!("xx{CANARY}")).expect("a file");
    assert_eq!(
        holding(&server.folder(), CANARY).1,
        [server.folder().join("planted")]
    );
    let log = std::fs::read_to_string(server.folder().join("server.log")).expect("a log");
    assert!(
        log.contains("TRACE"),
        "the log says all it can: {}",
        server.log_end()
    );
}
