//! Well-known operators, installed from the manifests that their projects publish, as their users install them.
//!
//! The manifests come with the projects' Go modules. Without a Go toolchain, or where its module proxy is not reached,
//! nothing is tested and the output says so.

use std::path::Path;

use corten_tests::{Cases, Cluster, Kubectl, golang};
use serde_json::{Value, json};

struct Project {
    module: &'static str,
    manifest: &'static str,
    /// As the project's own guide says.
    install: &'static [&'static str],
    namespace: &'static str,
    /// Its definitions' group.
    group: &'static str,
    /// An object as its users make it, which lacks nothing.
    example: fn() -> Value,
    /// A field of the example, what it must not be, and what is said about that.
    wrong: (&'static str, fn() -> Value, &'static str),
}

const PROJECTS: [Project; 2] = [
    Project {
        module: "github.com/prometheus-operator/prometheus-operator@v0.79.2",
        manifest: "bundle.yaml",
        install: &["create"],
        namespace: "default",
        group: "monitoring.coreos.com",
        example: || {
            json!({
                "apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus",
                "metadata": { "name": "main" },
                "spec": { "replicas": 2, "serviceAccountName": "prometheus", "retention": "10d",
                    "serviceMonitorSelector": { "matchLabels": { "team": "web" } },
                    "resources": { "requests": { "memory": "400Mi" } } },
            })
        },
        wrong: (
            "retention",
            || json!("ten days"),
            "spec.retention: Invalid value: \"ten days\": spec.retention in body should match",
        ),
    },
    Project {
        module: "github.com/argoproj/argo-cd/v2@v2.13.2",
        manifest: "manifests/install.yaml",
        install: &["apply"],
        namespace: "argocd",
        group: "argoproj.io",
        example: || {
            json!({
                "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
                "metadata": { "name": "shop" },
                "spec": { "project": "default",
                    "destination": { "server": "https://kubernetes.default.svc", "namespace": "shop" },
                    "source": { "repoURL": "https://example.com/shop.git", "path": ".", "targetRevision": "HEAD" } },
            })
        },
        wrong: ("project", || json!(7), "spec.project"),
    },
];

#[test]
fn manifests_that_projects_publish() {
    let mut folders = Vec::new();
    for project in &PROJECTS {
        match golang::module(project.module) {
            Ok(folder) => folders.push(folder),
            Err(why) => {
                println!("SKIPPED: {why}");
                return;
            }
        }
    }
    let cluster = Cluster::create_with("operators", 1, 0, &[]);
    let mut cases = Cases::new();
    for (project, folder) in PROJECTS.iter().zip(&folders) {
        let kubectl = cluster.kubectl().namespace(project.namespace);
        let manifest = folder.join(project.manifest);
        cases.case(project.module, || check(project, &kubectl, &manifest));
    }
    cases.finish();
}

fn check(project: &Project, kubectl: &Kubectl, manifest: &Path) {
    let manifest = manifest.to_str().expect("a path that is text");
    if project.namespace != "default" {
        kubectl.ok(&format!("create namespace {}", project.namespace));
    }
    let said = kubectl.run(&[project.install, &["-f", manifest]].concat(), "");
    assert!(said.succeeded() && said.stderr.is_empty(), "{said}");
    assert!(
        said.stdout.lines().all(|line| line.ends_with(" created")),
        "{said}"
    );

    let definitions = definitions(kubectl, project.group);
    assert!(definitions.len() >= 3, "{definitions:?}");
    let wait = ["wait", "--for=condition=Established", "--timeout=30s"];
    let named: Vec<&str> = definitions.iter().map(String::as_str).collect();
    kubectl.run(&[&wait[..], &named].concat(), "").ok();

    let example = (project.example)();
    kubectl.apply(&example);
    let (kind, name) = (text(&example["kind"]), text(&example["metadata"]["name"]));
    let explained = kubectl.ok(&format!(
        "explain {kind}.spec --api-version {}",
        text(&example["apiVersion"])
    ));
    assert!(explained.contains("FIELDS:"), "{explained}");
    let mut bad = example.clone();
    let (field, value, refusal) = &project.wrong;
    bad["spec"][*field] = value();
    let refused = kubectl.run(&["apply", "-f", "-"], &bad.to_string());
    assert!(
        !refused.succeeded() && refused.stderr.contains(refusal),
        "{refused}"
    );
    let found = kubectl.json(&format!("{kind}/{name}"));
    assert_eq!(found["spec"][*field], example["spec"][*field]);

    // Once more, as an upgrade to the same release would do.
    kubectl
        .run(
            &["apply", "--server-side", "--force-conflicts", "-f", manifest],
            "",
        )
        .ok();
    kubectl.run(&["delete", "-f", manifest], "").ok();
    let left = self::definitions(kubectl, project.group);
    assert!(left.is_empty(), "{left:?}");
}

/// The names of a group's definitions, as `crd/NAME`.
fn definitions(kubectl: &Kubectl, group: &str) -> Vec<String> {
    let names = kubectl.ok("get crd -o name");
    let of_group = names.lines().filter(|name| name.ends_with(&format!(".{group}")));
    of_group.map(str::to_owned).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}
