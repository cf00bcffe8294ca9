//! A client that sends and accepts only protobuf: it can create, get, list, watch, patch and delete.

mod common;

use bytes::Bytes;
use common::{CONFIG_MAPS, DEPLOYMENTS, PODS, World, config_map, deployment, pod};
use corten_api::schema::proto;
use futures::StreamExt;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

const PROTOBUF: &str = proto::MEDIA_TYPE;

/// An answer in protobuf, as JSON; `None` for an empty body.
struct Got {
    code: u16,
    content_type: String,
    bytes: Bytes,
}

impl Got {
    #[track_caller]
    fn object(&self) -> Value {
        assert_eq!(
            self.content_type,
            PROTOBUF,
            "{}",
            String::from_utf8_lossy(&self.bytes)
        );
        proto::to_json(&self.bytes).expect("protobuf")
    }
}

async fn ask(world: &World, method: &str, path: &str, content_type: &str, body: Vec<u8>) -> Got {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("accept", PROTOBUF)
        .header("content-type", content_type)
        .body(Full::new(Bytes::from(body)))
        .expect("request");
    let (parts, body) = world.send(request).await.into_parts();
    Got {
        code: parts.status.as_u16(),
        content_type: parts.headers["content-type"].to_str().expect("text").to_owned(),
        bytes: body.collect().await.expect("body").to_bytes(),
    }
}

async fn send(world: &World, method: &str, path: &str, object: &Value) -> Got {
    let body = proto::from_json(object.to_string().as_bytes()).expect("the kind has a protobuf form");
    ask(world, method, path, PROTOBUF, body).await
}

async fn get(world: &World, path: &str) -> Got {
    ask(world, "GET", path, "", Vec::new()).await
}

fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect()
}

/// Frames of a watch, one by one.
struct Frames {
    body: std::pin::Pin<
        Box<dyn futures::Stream<Item = Result<Bytes, corten_apiserver::body::BoxError>> + Send>,
    >,
    buffer: Vec<u8>,
}

impl Frames {
    async fn open(world: &World, path: &str) -> Frames {
        let request = Request::get(path).header("accept", "application/vnd.kubernetes.protobuf;stream=watch");
        let response = world.send(request.body(Full::default()).expect("request")).await;
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.headers()["content-type"],
            "application/vnd.kubernetes.protobuf;stream=watch"
        );
        Frames {
            body: response.into_body().into_stream(),
            buffer: Vec::new(),
        }
    }

    /// Type and object of the next event.
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((head, rest)) = self.buffer.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*head) as usize;
                if rest.len() >= length {
                    let frame = rest[..length].to_vec();
                    self.buffer.drain(..4 + length);
                    return event(&frame);
                }
            }
            let chunk = tokio::time::timeout(std::time::Duration::from_secs(10), self.body.next());
            let chunk = chunk.await.expect("an event in time").expect("the watch goes on");
            self.buffer.extend_from_slice(&chunk.expect("chunk"));
        }
    }
}

/// `WatchEvent { type = 1, object = 2 { raw = 1 } }`; all lengths but the type's are varints.
fn event(frame: &[u8]) -> (String, Value) {
    assert_eq!(frame[0], 0x0a);
    let kind = String::from_utf8(frame[2..2 + usize::from(frame[1])].to_vec()).expect("text");
    let at = frame
        .windows(4)
        .position(|bytes| bytes == proto::MAGIC)
        .expect("an object");
    (kind, proto::to_json(&frame[at..]).expect("protobuf"))
}

#[tokio::test]
async fn objects_of_several_kinds_live_their_lives() {
    let world = World::new().await;
    for (path, object) in [
        (CONFIG_MAPS, config_map("a")),
        (PODS, pod("a")),
        (DEPLOYMENTS, deployment("a")),
    ] {
        let before = get(&world, path).await.object();
        let from = before["metadata"]["resourceVersion"]
            .as_str()
            .expect("a list has one");
        let query = format!("watch=1&fieldSelector=metadata.name%3Da&resourceVersion={from}");
        let mut watch = Frames::open(&world, &format!("{path}?{query}")).await;
        let one = format!("{path}/a");
        let created = send(&world, "POST", path, &object).await;
        assert_eq!(created.code, 201, "{path}");
        let created = created.object();
        assert_eq!(created["kind"], object["kind"]);
        assert!(
            created["metadata"]["uid"]
                .as_str()
                .is_some_and(|uid| !uid.is_empty())
        );

        let got = get(&world, &one).await.object();
        assert_eq!(
            got["metadata"]["resourceVersion"],
            created["metadata"]["resourceVersion"]
        );
        let as_json = world.get(&one).await.json();
        let same = proto::from_json(as_json.to_string().as_bytes()).expect("the same object");
        assert_eq!(
            proto::to_json(&same),
            Ok(got.clone()),
            "JSON and protobuf say the same"
        );

        let patch = json!({"metadata": {"labels": {"patched": "yes"}}})
            .to_string()
            .into_bytes();
        let patched = ask(
            &world,
            "PATCH",
            &one,
            "application/strategic-merge-patch+json",
            patch,
        )
        .await;
        assert_eq!(patched.code, 200);
        let mut patched = patched.object();
        assert_eq!(patched["metadata"]["labels"]["patched"], "yes");

        patched["metadata"]["labels"]["put"] = "yes".into();
        let put = send(&world, "PUT", &one, &patched).await;
        assert_eq!(put.code, 200);
        assert_eq!(put.object()["metadata"]["labels"]["put"], "yes");

        let list = get(&world, path).await.object();
        assert!(list["kind"].as_str().is_some_and(|kind| kind.ends_with("List")));
        assert!(names(&list).contains(&"a"));

        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": "another"}});
        assert_eq!(send(&world, "DELETE", &one, &options).await.code, 409);
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
        assert_eq!(send(&world, "DELETE", &one, &options).await.code, 200);

        for want in ["ADDED", "MODIFIED", "MODIFIED", "DELETED"] {
            let (kind, object) = watch.next().await;
            assert_eq!(
                (kind.as_str(), &object["metadata"]["name"]),
                (want, &json!("a")),
                "{path}"
            );
        }
        let gone = get(&world, &one).await;
        assert_eq!(gone.code, 404);
        assert_eq!(gone.object()["reason"], "NotFound");
    }
}

#[tokio::test]
async fn long_lists_and_pages() {
    let world = World::new().await;
    // Enough for a list that is read twice and sent in parts.
    let text = "x".repeat(4096);
    for idx in 0..200 {
        let mut object = config_map(&format!("c{idx:03}"));
        object["data"] = json!({"text": text});
        assert_eq!(world.post(CONFIG_MAPS, &object).await.code, 201);
    }
    let list = get(&world, CONFIG_MAPS).await.object();
    let json = world.get(CONFIG_MAPS).await.json();
    assert_eq!(names(&list), names(&json));
    assert!(names(&list).len() >= 200);
    assert_eq!(
        list["metadata"]["resourceVersion"],
        json["metadata"]["resourceVersion"]
    );

    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let page = get(&world, &format!("{CONFIG_MAPS}?limit=70&continue={token}"))
            .await
            .object();
        all.extend(names(&page).into_iter().map(str::to_owned));
        token = page["metadata"]["continue"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(all, names(&json));
}

#[tokio::test]
async fn metadata_alone() {
    let world = World::new().await;
    world.post(CONFIG_MAPS, &config_map("a")).await;
    let accept = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let request = Request::get(CONFIG_MAPS).header("accept", &accept);
    let response = world.send(request.body(Full::default()).expect("request")).await;
    let bytes = response.into_body().collect().await.expect("body").to_bytes();
    let list = proto::to_json(&bytes).expect("protobuf");
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert!(names(&list).contains(&"a"));
    let accept = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
    let request = Request::get(format!("{CONFIG_MAPS}/a")).header("accept", &accept);
    let response = world.send(request.body(Full::default()).expect("request")).await;
    let bytes = response.into_body().collect().await.expect("body").to_bytes();
    let object = proto::to_json(&bytes).expect("protobuf");
    assert_eq!(
        (&object["kind"], &object["metadata"]["name"]),
        (&json!("PartialObjectMetadata"), &json!("a"))
    );
    assert_eq!(object.get("data"), None);
}

#[tokio::test]
async fn subresources_and_documents() {
    let world = World::new().await;
    send(&world, "POST", DEPLOYMENTS, &deployment("d")).await;
    let path = format!("{DEPLOYMENTS}/d/scale");
    let mut scale = get(&world, &path).await.object();
    assert_eq!(
        (&scale["kind"], &scale["spec"]["replicas"]),
        (&json!("Scale"), &json!(2))
    );
    scale["spec"]["replicas"] = 5.into();
    assert_eq!(
        send(&world, "PUT", &path, &scale).await.object()["spec"]["replicas"],
        5
    );

    send(&world, "POST", PODS, &pod("p")).await;
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(
        send(&world, "POST", &format!("{PODS}/p/binding"), &binding)
            .await
            .code,
        201
    );
    assert_eq!(
        get(&world, &format!("{PODS}/p")).await.object()["spec"]["nodeName"],
        "n"
    );
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"},
        "deleteOptions": {"gracePeriodSeconds": 0}});
    let evicted = send(&world, "POST", &format!("{PODS}/p/eviction"), &eviction).await;
    assert_eq!(
        (evicted.code, &evicted.object()["status"]),
        (201, &json!("Success"))
    );

    let versions = get(&world, "/api").await.object();
    assert_eq!(versions["versions"], json!(["v1"]));
    let resources = get(&world, "/apis/apps/v1").await.object();
    let deployments = resources["resources"]
        .as_array()
        .and_then(|all| all.iter().find(|resource| resource["name"] == "deployments"));
    assert!(deployments.is_some_and(|own| own["verbs"].as_array().is_some_and(|verbs| verbs.len() == 8)));
    assert_eq!(get(&world, "/apis").await.object()["kind"], "APIGroupList");
}

/// Answers to a request that names only media types: code and message.
async fn refused(world: &World, method: &str, path: &str, accept: &str, content_type: &str) -> (u16, String) {
    let headers = [("accept", accept), ("content-type", content_type)];
    let got = world.ask(method, path, &headers, "{}").await;
    (
        got.code,
        got.json()["message"].as_str().unwrap_or_default().to_owned(),
    )
}

#[tokio::test]
async fn what_is_not_served_is_refused_in_upstreams_words() {
    let world = World::new().await;
    let types = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    let table = "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1";
    for accept in ["application/cbor", "text/html", table] {
        assert_eq!(
            refused(&world, "GET", PODS, accept, "application/json").await,
            (
                406,
                format!("only the following media types are accepted: {types}")
            ),
            "{accept}"
        );
    }
    let streams = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
    let path = format!("{PODS}?watch=1");
    let want = (
        406,
        format!("only the following media types are accepted: {streams}"),
    );
    assert_eq!(
        refused(&world, "GET", &path, "application/cbor", "application/json").await,
        want
    );
    // YAML has no frames; the refusal itself is YAML.
    let got = world
        .ask("GET", &path, &[("accept", "application/yaml")], "")
        .await;
    assert_eq!(got.code, 406);
    assert!(got.text.contains(&want.1), "{}", got.text);
    for content_type in ["application/cbor", "text/plain", "application/x-yaml"] {
        assert_eq!(
            refused(&world, "POST", PODS, "application/json", content_type).await,
            (
                415,
                format!(
                    "the body of the request was in an unknown format - accepted media types include: {types}"
                )
            )
        );
    }
    let got = ask(&world, "POST", PODS, PROTOBUF, b"{}".to_vec()).await;
    assert_eq!(got.code, 400);
    assert_eq!(got.object()["kind"], "Status");
}
