//! Client libraries at their common operations: kube-rs, and the official Python client.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use corten_tests::manifests::BUSYBOX;
use corten_tests::{Cases, Cluster, command};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
    WatchEvent, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher;
use kube::{Api, Client, Config, Discovery};
use serde_json::json;

/// The release of the Python client that is tried; its package is `kubernetes` on PyPI.
const PYTHON_CLIENT: &str = "kubernetes==37.0.2";
const INSTALL_LIMIT: Duration = Duration::from_secs(300);
const RUN_LIMIT: Duration = Duration::from_secs(180);
const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn client_libraries_work() {
    let cluster = Cluster::with_images("clients", 1);
    let mut cases = Cases::new();
    cases.case("kube-rs", || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(async {
                tokio::time::timeout(RUN_LIMIT, kube_rs(&cluster))
                    .await
                    .expect("in time");
            });
    });
    cases.case("the official Python client", || python(&cluster));
    cases.finish();
}

async fn connect(cluster: &Cluster) -> Client {
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).expect("the kubeconfig reads");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("the kubeconfig has a cluster");
    Client::try_from(config).expect("a client")
}

async fn kube_rs(cluster: &Cluster) {
    let client = connect(cluster).await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some("kube-rs".into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .expect("create a Namespace");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-rs");
    verbs(&maps).await;
    watches(&maps).await;
    discovery_and_dynamic(&client).await;
    namespaces
        .delete("kube-rs", &DeleteParams::default())
        .await
        .expect("delete the Namespace");
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("k".into(), value.into())])),
        ..ConfigMap::default()
    }
}

async fn verbs(maps: &Api<ConfigMap>) {
    let made = maps
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .expect("create");
    let taken = maps
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .expect_err("taken");
    assert!(
        matches!(&taken, kube::Error::Api(status) if status.is_already_exists()),
        "{taken:?}"
    );
    let mut changed = made.clone();
    changed.data = config_map("a", "2").data;
    maps.replace("a", &PostParams::default(), &changed)
        .await
        .expect("replace");
    let stale = maps
        .replace("a", &PostParams::default(), &made)
        .await
        .expect_err("stale");
    assert!(
        matches!(&stale, kube::Error::Api(status) if status.is_conflict()),
        "{stale:?}"
    );
    let applied = maps
        .patch(
            "a",
            &PatchParams::apply("kube-rs").force(),
            &Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"l": "3"}})),
        )
        .await
        .expect("server-side apply");
    let data = applied.data.expect("data");
    assert_eq!((data["k"].as_str(), data["l"].as_str()), ("2", "3"));
    let managers = applied.metadata.managed_fields.expect("managed fields");
    assert!(
        managers
            .iter()
            .any(|m| m.manager.as_deref() == Some("kube-rs") && m.operation.as_deref() == Some("Apply"))
    );
    for patch in [
        Patch::Merge(json!({"data": {"m": "4"}})),
        Patch::Strategic(json!({"data": {"m": "5"}})),
    ] {
        maps.patch("a", &PatchParams::default(), &patch)
            .await
            .expect("patch");
    }
    for n in 0..5 {
        maps.create(&PostParams::default(), &config_map(&format!("page-{n}"), "p"))
            .await
            .expect("create");
    }
    let mut options = ListParams::default().limit(2);
    let mut names = Vec::new();
    loop {
        let page = maps.list(&options).await.expect("a page");
        names.extend(page.items.into_iter().filter_map(|map| map.metadata.name));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => options.continue_token = Some(token),
            None => break,
        }
    }
    assert!(
        names.is_sorted() && names.iter().filter(|n| n.starts_with("page-")).count() == 5,
        "{names:?}"
    );
    let metadata = maps
        .list_metadata(&ListParams::default())
        .await
        .expect("PartialObjectMetadata");
    assert_eq!(metadata.items.len(), names.len());
    maps.delete("a", &DeleteParams::default()).await.expect("delete");
    assert!(maps.get_opt("a").await.expect("get").is_none());
}

async fn watches(maps: &Api<ConfigMap>) {
    let from = maps
        .list(&ListParams::default())
        .await
        .expect("list")
        .metadata
        .resource_version
        .expect("a version");
    let mut stream = maps
        .watch(&WatchParams::default().timeout(60), &from)
        .await
        .expect("watch")
        .boxed();
    for n in 0..10 {
        maps.create(&PostParams::default(), &config_map(&format!("w-{n}"), "w"))
            .await
            .expect("create");
    }
    for n in 0..10 {
        let event = tokio::time::timeout(DEADLINE, stream.try_next())
            .await
            .expect("in time")
            .expect("an event");
        let Some(WatchEvent::Added(map)) = event else {
            panic!("no ADDED but {event:?}");
        };
        assert_eq!(map.metadata.name, Some(format!("w-{n}")));
    }
    for config in [
        watcher::Config::default(),
        watcher::Config::default().streaming_lists(),
    ] {
        let events = watcher::watcher(maps.clone(), config);
        let mut events = std::pin::pin!(events);
        let mut initial = 0;
        loop {
            let event = tokio::time::timeout(DEADLINE, events.try_next())
                .await
                .expect("in time")
                .expect("an event");
            match event {
                Some(watcher::Event::InitApply(_)) => initial += 1,
                Some(watcher::Event::InitDone) => break,
                Some(_) => {}
                None => panic!("the watcher ended"),
            }
        }
        assert!(initial >= 15, "{initial} initial objects");
    }
}

async fn discovery_and_dynamic(client: &Client) {
    let discovery = Discovery::new(client.clone()).run().await.expect("discovery");
    let groups: Vec<&str> = discovery.groups().map(|group| group.name()).collect();
    for group in ["", "apps", "batch", "networking.k8s.io", "storage.k8s.io"] {
        assert!(groups.contains(&group), "no {group:?} in {groups:?}");
    }
    let kind = GroupVersionKind::gvk("batch", "v1", "CronJob");
    let (resource, _) = discovery.resolve_gvk(&kind).expect("CronJobs are served");
    let jobs: Api<DynamicObject> = Api::namespaced_with(client.clone(), "kube-rs", &resource);
    let spec = json!({"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}}}}});
    let object = DynamicObject::new("nightly", &resource).data(json!({"spec": spec}));
    let made = jobs
        .create(&PostParams::default(), &object)
        .await
        .expect("create a CronJob");
    assert_eq!(made.data["spec"]["concurrencyPolicy"], "Allow");
    let unknown = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Nothing"));
    let nothing: Api<DynamicObject> = Api::all_with(client.clone(), &unknown);
    assert!(nothing.list(&ListParams::default()).await.is_err());
}

fn python(cluster: &Cluster) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = tempfile::tempdir().expect("a folder for temporary files");
    let environment = scratch.path().join("python");
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(&environment);
    command::run(&mut make, "", INSTALL_LIMIT).ok();
    let mut install = Command::new(environment.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check", PYTHON_CLIENT]);
    command::run(&mut install, "", INSTALL_LIMIT).ok();
    let mut run = Command::new(environment.join("bin/python"));
    run.arg(here.join("clients/python_client.py"))
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("NS", "python")
        .env("IMAGE", BUSYBOX);
    let said = command::run(&mut run, "", RUN_LIMIT).ok();
    assert!(said.contains("all steps done"), "{said}");
}
