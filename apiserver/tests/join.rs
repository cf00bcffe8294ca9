//! Tokens to join with: who bears one, and the paths that are served before anyone is known.

mod common;

use std::net::IpAddr;
use std::sync::Arc;

use common::{Got, World};
use corten_api::Status;
use corten_apiserver::Config;
use corten_apiserver::join::{Cluster, Member, ServerRequest, ServerShare};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";
const TOKEN: &str = "abcdef.0123456789abcdef";

#[derive(Debug)]
struct Fake;

impl Cluster for Fake {
    fn admit(&self, request: ServerRequest) -> BoxFuture<'_, Result<ServerShare, Status>> {
        async move {
            Ok(ServerShare {
                cluster_id: "c".into(),
                files: [("ca.crt".to_owned(), "PEM".to_owned())].into(),
                service_cidr: "10.96.0.0/16".parse().expect("a range"),
                cluster_cidr: "10.244.0.0/16".parse().expect("a range"),
                members: vec![Member {
                    id: request.member + 1,
                    peer: request.peer,
                }],
            })
        }
        .boxed()
    }
}

/// With the token [`TOKEN`] of these data beside its two parts.
async fn world(data: Value) -> World {
    let mut config = Config::new(IpAddr::from([192, 0, 2, 1]), "test CA");
    config.cluster = Some(Arc::new(Fake));
    let world = World::with(config).await;
    let mut secret = json!({
        "metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token",
        "stringData": {"token-id": "abcdef", "token-secret": "0123456789abcdef"},
    });
    for (key, value) in data.as_object().expect("an object") {
        secret["stringData"][key] = value.clone();
    }
    assert_eq!(world.post(SECRETS, &secret).await.code, 201);
    world
}

async fn ask(world: &World, token: &str, method: &str, path: &str, body: &Value) -> Got {
    let header = format!("Bearer {token}");
    let headers = [
        ("authorization", header.as_str()),
        ("content-type", "application/json"),
    ];
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    world.by_credentials().ask(method, path, &headers, body).await
}

#[tokio::test]
async fn a_bootstrap_token_is_an_identity() {
    let world = world(json!({
        "usage-bootstrap-authentication": "true", "auth-extra-groups": "system:bootstrappers:workers",
    }))
    .await;
    let me = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let got = ask(&world, TOKEN, "POST", me, &json!({})).await;
    assert_eq!(
        got.json()["status"]["userInfo"],
        json!({"username": "system:bootstrap:abcdef", "groups":
            ["system:bootstrappers", "system:bootstrappers:workers", "system:authenticated"]})
    );
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    assert_eq!(ask(&world, TOKEN, "GET", requests, &Value::Null).await.code, 200);
    assert_eq!(ask(&world, TOKEN, "GET", SECRETS, &Value::Null).await.code, 403);
    let wrong = "abcdef.0123456789abcdee";
    assert_eq!(ask(&world, wrong, "GET", requests, &Value::Null).await.code, 401);
    let review = |token: &str| json!({"spec": {"token": token}});
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let got = world.post(path, &review(TOKEN)).await.json();
    assert_eq!(
        got["status"]["user"]["username"], "system:bootstrap:abcdef",
        "{got}"
    );
    let got = world.post(path, &review(wrong)).await.json();
    assert_eq!(got["status"]["error"], "invalid bearer token", "{got}");
    // A token that is deleted is worth nothing from then on.
    let secret = format!("{SECRETS}/bootstrap-token-abcdef");
    assert_eq!(world.delete(&secret, &json!({})).await.code, 200);
    assert_eq!(ask(&world, TOKEN, "GET", requests, &Value::Null).await.code, 401);
}

#[tokio::test]
async fn the_ca_is_there_for_everyone() {
    let world = world(json!({})).await;
    let got = world.by_credentials().get("/corten/v1/ca").await;
    assert_eq!((got.code, got.text.as_str()), (200, "test CA"));
    assert_eq!(
        world
            .by_credentials()
            .post("/corten/v1/ca", &json!({}))
            .await
            .code,
        403
    );
}

#[tokio::test]
async fn a_token_says_what_is_wrong_with_it() {
    let good = world(json!({"usage-bootstrap-authentication": "true"})).await;
    let path = "/corten/v1/token";
    let got = ask(&good, TOKEN, "GET", path, &Value::Null).await;
    assert_eq!(got.json(), json!({"usages": ["usage-bootstrap-authentication"]}));
    let refused = |got: Got| {
        (
            got.code,
            got.json()["message"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let unknown = (401, "the token is not known to this cluster".to_owned());
    for token in ["abcdef.0123456789abcdee", "bbbbbb.0123456789abcdef", "nonsense"] {
        assert_eq!(
            refused(ask(&good, token, "GET", path, &Value::Null).await),
            unknown,
            "{token}"
        );
    }
    let none = good.by_credentials().get(path).await;
    assert_eq!(refused(none), (401, "a bootstrap token is required".to_owned()));
    let old =
        world(json!({"usage-bootstrap-authentication": "true", "expiration": "2020-01-02T03:04:05Z"})).await;
    assert_eq!(
        refused(ask(&old, TOKEN, "GET", path, &Value::Null).await),
        (
            401,
            "the token abcdef has expired at 2020-01-02T03:04:05Z".to_owned()
        )
    );
}

#[tokio::test]
async fn servers_join_with_a_token_of_their_own() {
    let request =
        json!({"member": "18446744073709551000", "peer": "192.0.2.7:6444", "api": "192.0.2.7:6443"});
    let path = "/corten/v1/servers";
    let of_nodes = world(json!({"usage-bootstrap-authentication": "true"})).await;
    let got = ask(&of_nodes, TOKEN, "POST", path, &request).await;
    assert_eq!(got.code, 403, "{}", got.text);
    assert_eq!(
        got.json()["message"],
        "forbidden: the token abcdef is not for servers"
    );
    let of_servers = world(json!({"usage-bootstrap-server": "true"})).await;
    let got = ask(&of_servers, TOKEN, "POST", path, &request).await;
    assert_eq!(got.code, 200, "{}", got.text);
    let share: ServerShare = serde_json::from_str(&got.text).expect("a share");
    assert_eq!(share.members[0].id, 18_446_744_073_709_551_001);
    assert_eq!(share.files["ca.crt"], "PEM");
    // It is good for that alone.
    assert_eq!(
        ask(&of_servers, TOKEN, "GET", "/api", &Value::Null).await.code,
        401
    );
    let got = ask(&of_servers, TOKEN, "POST", path, &json!({"member": 1})).await;
    assert_eq!(got.code, 400, "{}", got.text);
}
