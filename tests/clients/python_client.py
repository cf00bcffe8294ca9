"""The official Python client at its common operations, against the cluster of $KUBECONFIG, in namespace $NS.

Ends with exit code 0 when everything held, and names each step as it is done."""

import os
import threading
import time

import yaml
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import stream

NS = os.environ["NS"]
LIMIT = 60


def step(name):
    print("step", name, flush=True)


def refused(code, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except ApiException as error:
        assert error.status == code, f"wanted {code}, got {error.status}: {error.body}"
        return error
    raise AssertionError(f"wanted {code}, but the call succeeded")


def until(what, holds):
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if holds():
            return
        time.sleep(0.2)
    raise AssertionError(f"not within {LIMIT} s: {what}")


config.load_kube_config()
api = client.ApiClient()
core, apps, batch = client.CoreV1Api(), client.AppsV1Api(), client.BatchV1Api()

step("version, groups and resources")
assert client.VersionApi().get_code().minor.startswith("36")
groups = {group.name for group in client.ApisApi().get_api_versions().groups}
assert {"apps", "batch", "autoscaling", "networking.k8s.io", "resource.k8s.io"} <= groups, groups
assert any(r.name == "pods" for r in core.get_api_resources().resources)

step("namespaces")
core.create_namespace({"metadata": {"name": NS}})
until("the default ServiceAccount", lambda: core.list_namespaced_service_account(NS).items)

step("a ConfigMap through every verb")
body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="a", labels={"set": "x"}), data={"k": "1"})
made = core.create_namespaced_config_map(NS, body)
assert made.metadata.uid and made.metadata.creation_timestamp
refused(409, core.create_namespaced_config_map, NS, body)
read = core.read_namespaced_config_map("a", NS)
read.data["k"] = "2"
written = core.replace_namespaced_config_map("a", NS, read)
assert int(written.metadata.resource_version) > int(made.metadata.resource_version)
error = refused(409, core.replace_namespaced_config_map, "a", NS, made)
assert "the object has been modified" in error.body
assert core.patch_namespaced_config_map("a", NS, {"data": {"l": "3"}}).data == {"k": "2", "l": "3"}
patched = core.patch_namespaced_config_map("a", NS, [{"op": "remove", "path": "/data/l"}])
assert patched.data == {"k": "2"}
refused(404, core.read_namespaced_config_map, "none", NS)
invalid = refused(422, core.create_namespaced_config_map, NS, {"metadata": {"name": "Bad_Name"}})
assert "metadata.name" in invalid.body
dry = core.create_namespaced_config_map(NS, {"metadata": {"name": "dry"}}, dry_run="All")
assert dry.metadata.name == "dry"
refused(404, core.read_namespaced_config_map, "dry", NS)

step("lists: selectors, pages, all namespaces")
for n in range(5):
    core.create_namespaced_config_map(NS, {"metadata": {"name": f"page-{n}", "labels": {"set": "pages"}}})
names, token = [], None
while True:
    page = core.list_namespaced_config_map(NS, label_selector="set=pages", limit=2, _continue=token)
    names += [item.metadata.name for item in page.items]
    token = page.metadata._continue
    if not token:
        break
assert names == [f"page-{n}" for n in range(5)], names
assert len(core.list_config_map_for_all_namespaces(field_selector="metadata.name=page-3").items) == 1

step("watch, and resume")
seen, w = [], watch.Watch()


def write():
    for n in range(20):
        core.create_namespaced_config_map(NS, {"metadata": {"name": f"w-{n}", "labels": {"set": "watch"}}})
        core.delete_namespaced_config_map(f"w-{n}", NS)


start = core.list_namespaced_config_map(NS, label_selector="set=watch").metadata.resource_version
writer = threading.Thread(target=write)
writer.start()
for event in w.stream(
    core.list_namespaced_config_map, NS, label_selector="set=watch", resource_version=start, timeout_seconds=LIMIT
):
    seen.append((event["type"], event["object"].metadata.name))
    if len(seen) == 40:
        w.stop()
writer.join()
assert seen == [(t, f"w-{n}") for n in range(20) for t in ("ADDED", "DELETED")], seen

step("a Deployment runs, its Pod logs, exec, scale")
container = {
    "name": "shell",
    "image": os.environ["IMAGE"],
    "command": ["sh", "-c", "echo started; exec sleep 1000"],
}
apps.create_namespaced_deployment(
    NS,
    {
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
            },
        },
    },
)
until("the Deployment is available", lambda: apps.read_namespaced_deployment_status("web", NS).status.available_replicas)
pod = core.list_namespaced_pod(NS, label_selector="app=web").items[0].metadata.name
until("its log", lambda: "started" in core.read_namespaced_pod_log(pod, NS))
said = stream(core.connect_get_namespaced_pod_exec, pod, NS, command=["echo", "inside"], stdout=True, stderr=True, stdin=False, tty=False)
assert said == "inside\n", said
shell = stream(
    core.connect_get_namespaced_pod_exec, pod, NS, command=["sh"], stdin=True, stdout=True, stderr=True, tty=False, _preload_content=False
)
shell.write_stdin("echo $((40 + 2)); exit 3\n")
shell.run_forever(timeout=20)
ended = (shell.is_open(), shell.read_stdout(), shell.returncode)
assert ended == (False, "42\n", 3), ended
scale = apps.read_namespaced_deployment_scale("web", NS)
scale.spec.replicas = 0
# A count of zero is left out, as upstream does.
assert not apps.replace_namespaced_deployment_scale("web", NS, scale).spec.replicas
until("no Pods", lambda: not core.list_namespaced_pod(NS, label_selector="app=web").items)

step("objects of other groups, from a file of several")
documents = """
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec: {schedule: "0 3 * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: a}]}}}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: none}
spec: {podSelector: {}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}
"""
utils.create_from_yaml(api, yaml_objects=list(yaml.safe_load_all(documents)), namespace=NS)
assert batch.read_namespaced_cron_job("nightly", NS).spec.concurrency_policy == "Allow"
assert client.AutoscalingV1Api().read_namespaced_horizontal_pod_autoscaler("web", NS).spec.max_replicas == 3
access = client.AuthorizationV1Api().create_self_subject_access_review(
    {"spec": {"resourceAttributes": {"verb": "create", "resource": "pods", "namespace": NS}}}
)
assert access.status.allowed

step("the dynamic client: server-side apply, custom resources")
group = f"{NS}.example.com"
client.ApiextensionsV1Api().create_custom_resource_definition(
    {
        "metadata": {"name": f"things.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                }
            ],
        },
    }
)
custom = client.CustomObjectsApi()
until("the new kind is served", lambda: group in {g.name for g in client.ApisApi().get_api_versions().groups})
thing = {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "one"}, "spec": {"size": 1}}
custom.create_namespaced_custom_object(group, "v1", NS, "things", thing)
changed = custom.patch_namespaced_custom_object(group, "v1", NS, "things", "one", {"spec": {"size": 2}})
assert changed["spec"] == {"size": 2}
dynamic_client = dynamic.DynamicClient(api)
config_maps = dynamic_client.resources.get(api_version="v1", kind="ConfigMap")
manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ssa", "namespace": NS}, "data": {"k": "1"}}
applied = dynamic_client.server_side_apply(config_maps, body=manifest, name="ssa", namespace=NS, field_manager="python")
assert applied.metadata.managedFields[0].manager == "python"
things = dynamic_client.resources.get(api_version=f"{group}/v1", kind="Thing")
assert things.get(name="one", namespace=NS).spec.size == 2

step("deletion: options, collections")
core.delete_collection_namespaced_config_map(NS, label_selector="set=pages")
assert not core.list_namespaced_config_map(NS, label_selector="set=pages").items
refused(409, core.delete_namespaced_config_map, "a", NS, body=client.V1DeleteOptions(preconditions={"uid": "other"}))
gone = core.delete_namespaced_config_map("a", NS)
assert (gone["status"] if isinstance(gone, dict) else gone.status) == "Success", gone
client.ApiextensionsV1Api().delete_custom_resource_definition(f"things.{group}")
core.delete_namespace(NS)
until("the namespace is gone", lambda: NS not in {n.metadata.name for n in core.list_namespace().items})
print("all steps done")
