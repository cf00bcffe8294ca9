//! Who am I, what may I do, and tokens of ServiceAccounts: what `kubectl auth whoami`, `auth can-i` and
//! `create token` rely on.

mod common;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::{PODS, World, pod};
use corten_apiserver::User;
use corten_apiserver::tokens::DEFAULT_ISSUER;
use serde_json::{Value, json};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const AUTHENTICATION: &str = "/apis/authentication.k8s.io/v1";
const AUTHORIZATION: &str = "/apis/authorization.k8s.io/v1";

fn jane() -> User {
    User::new("jane", &["dev"])
}

/// A world with the ServiceAccount `robot` and its uid.
async fn with_robot() -> (World, String) {
    let world = World::new().await;
    let made = world
        .post(ACCOUNTS, &json!({"metadata": {"name": "robot"}}))
        .await;
    assert_eq!(made.code, 201, "{}", made.text);
    let uid = made.json()["metadata"]["uid"].as_str().unwrap().to_owned();
    (world, uid)
}

async fn token(world: &World, spec: Value) -> common::Got {
    world
        .post(&format!("{ACCOUNTS}/robot/token"), &json!({"spec": spec}))
        .await
}

fn text_of(got: &common::Got) -> String {
    assert_eq!(got.code, 201, "{}", got.text);
    got.json()["status"]["token"]
        .as_str()
        .expect("a token")
        .to_owned()
}

fn claims_of(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("claims");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

async fn bearer(world: &World, token: &str, path: &str) -> common::Got {
    let header = format!("Bearer {token}");
    world
        .by_credentials()
        .ask("GET", path, &[("authorization", &header)], "")
        .await
}

async fn review(world: &World, spec: Value) -> Value {
    let got = world
        .post(&format!("{AUTHENTICATION}/tokenreviews"), &json!({"spec": spec}))
        .await;
    assert_eq!(got.code, 201, "{}", got.text);
    got.json()["status"].clone()
}

#[tokio::test]
async fn whoami() {
    let world = World::new().await.by(jane());
    let got = world
        .post(&format!("{AUTHENTICATION}/selfsubjectreviews"), &json!({}))
        .await;
    let object = got.json();
    assert_eq!(got.code, 201, "{object}");
    assert!(object["metadata"]["creationTimestamp"].is_string(), "{object}");
    assert_eq!(object["kind"], "SelfSubjectReview");
    assert_eq!(
        object["status"]["userInfo"],
        json!({"username": "jane", "groups": ["dev", "system:authenticated"]})
    );
}

#[track_caller]
fn allowed(got: &common::Got, want: bool) {
    assert_eq!(got.code, 201, "{}", got.text);
    assert_eq!(got.json()["status"]["allowed"], want, "{}", got.text);
}

#[tokio::test]
async fn can_i() {
    let world = World::new().await;
    let own = format!("{AUTHORIZATION}/selfsubjectaccessreviews");
    let pods =
        json!({"spec": {"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}}});
    let version = json!({"spec": {"nonResourceAttributes": {"verb": "get", "path": "/version"}}});
    allowed(&world.post(&own, &pods).await, true);
    let jane = world.by(jane());
    allowed(&jane.post(&own, &pods).await, false);
    allowed(&jane.post(&own, &version).await, true);
    // Only who may ask about others may ask about others.
    let any = format!("{AUTHORIZATION}/subjectaccessreviews");
    assert_eq!(jane.post(&any, &pods).await.code, 403);
    let mut of_joe = pods.clone();
    of_joe["spec"]["user"] = "joe".into();
    allowed(&world.post(&any, &of_joe).await, false);
    of_joe["spec"]["groups"] = json!(["system:masters"]);
    allowed(&world.post(&any, &of_joe).await, true);
    let local = format!("{AUTHORIZATION}/namespaces/default/localsubjectaccessreviews");
    let got = world.post(&local, &of_joe).await;
    allowed(&got, true);
    assert_eq!(got.json()["metadata"]["namespace"], "default");
}

#[tokio::test]
async fn can_i_list() {
    let world = World::new().await;
    let path = format!("{AUTHORIZATION}/selfsubjectrulesreviews");
    let got = world
        .post(&path, &json!({"spec": {"namespace": "default"}}))
        .await;
    let status = &got.json()["status"];
    assert_eq!(
        status["resourceRules"][0],
        json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})
    );
    assert_eq!(
        status["nonResourceRules"][0],
        json!({"verbs": ["*"], "nonResourceURLs": ["*"]})
    );
    let got = world
        .by(jane())
        .post(&path, &json!({"spec": {"namespace": "default"}}))
        .await;
    let public = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
    assert_eq!(
        got.json()["status"],
        json!({
            "resourceRules": [
                {"verbs": ["create"], "apiGroups": ["authorization.k8s.io"],
                 "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]},
                {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]},
            ],
            "nonResourceRules": [
                {"verbs": ["get"], "nonResourceURLs": [
                    "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz",
                    "/version", "/version/",
                ]},
                {"verbs": ["get"], "nonResourceURLs": public},
            ],
            "incomplete": false,
        })
    );
    let got = world.post(&path, &json!({"spec": {}})).await;
    assert_eq!(
        (got.code, got.json()["message"].clone()),
        (400, "no namespace on request".into())
    );
}

#[tokio::test]
async fn reviews_that_ask_nothing_are_refused() {
    let world = World::new().await;
    let cases = [
        (
            "subjectaccessreviews",
            json!({"spec": {"resourceAttributes": {"verb": "get"}}}),
            "spec.user: Invalid value: \"\": at least one of user or group must be specified",
        ),
        (
            "selfsubjectaccessreviews",
            json!({"spec": {}}),
            "spec.resourceAttributes: Invalid value: \"null\": exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        (
            "namespaces/default/localsubjectaccessreviews",
            json!({"spec": {"user": "u", "resourceAttributes": {"verb": "get", "namespace": "other"}}}),
            "spec.resourceAttributes.namespace: Invalid value: \"other\": must match metadata.namespace",
        ),
    ];
    for (path, body, want) in cases {
        let got = world.post(&format!("{AUTHORIZATION}/{path}"), &body).await;
        assert_eq!(got.code, 422, "{}", got.text);
        let message = got.json()["message"].as_str().unwrap().to_owned();
        assert!(message.ends_with(want), "{message}");
    }
    let local = format!("{AUTHORIZATION}/namespaces/default/localsubjectaccessreviews");
    let other = json!({"metadata": {"namespace": "other"}, "spec": {"user": "u", "resourceAttributes": {}}});
    assert_eq!(world.post(&local, &other).await.code, 400);
    let got = world
        .post(&format!("{AUTHENTICATION}/tokenreviews"), &json!({"spec": {}}))
        .await;
    assert_eq!(
        (got.code, got.json()["message"].clone()),
        (400, "token is required for TokenReview in authentication".into())
    );
}

#[tokio::test]
async fn reviews_are_created_and_nothing_else() {
    let world = World::new().await;
    let path = format!("{AUTHORIZATION}/selfsubjectaccessreviews");
    assert_eq!(world.get(&path).await.code, 405);
    let body = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}).to_string();
    for (accept, want) in [
        ("application/json;as=Table;v=v1;g=meta.k8s.io", 406),
        (
            "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
            406,
        ),
        (
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            201,
        ),
    ] {
        let headers = [("content-type", "application/json"), ("accept", accept)];
        let got = world.ask("POST", &path, &headers, body.clone()).await;
        assert_eq!(got.code, want, "{accept}: {}", got.text);
    }
}

#[tokio::test]
async fn a_token_proves_who_its_account_is() {
    let (world, uid) = with_robot().await;
    let got = token(&world, json!({})).await;
    let request = got.json();
    assert_eq!(request["kind"], "TokenRequest");
    assert_eq!(request["metadata"]["name"], "robot");
    assert_eq!(request["metadata"]["namespace"], "default");
    assert_eq!(
        request["spec"],
        json!({"audiences": [DEFAULT_ISSUER], "expirationSeconds": 3600, "boundObjectRef": null})
    );
    let text = text_of(&got);
    let claims = claims_of(&text);
    assert_eq!(claims["iss"], DEFAULT_ISSUER);
    assert_eq!(claims["sub"], "system:serviceaccount:default:robot");
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        3600
    );
    assert_eq!(
        claims["kubernetes.io"],
        json!({"namespace": "default", "serviceaccount": {"name": "robot", "uid": uid}})
    );

    assert_eq!(bearer(&world, &text, "/apis").await.code, 200);
    let pods = bearer(&world, &text, PODS).await;
    assert_eq!(
        (pods.code, pods.json()["message"].clone()),
        (403, "pods is forbidden: User \"system:serviceaccount:default:robot\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"".into())
    );
    let status = review(&world, json!({"token": text})).await;
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["audiences"], json!([DEFAULT_ISSUER]));
    assert_eq!(status["user"]["username"], "system:serviceaccount:default:robot");
    assert_eq!(status["user"]["uid"], uid);
    assert_eq!(
        status["user"]["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ])
    );
    let id = format!("JTI={}", claims["jti"].as_str().unwrap());
    assert_eq!(
        status["user"]["extra"],
        json!({"authentication.kubernetes.io/credential-id": [id]})
    );
}

#[tokio::test]
async fn a_token_is_for_its_audience_only() {
    let (world, _) = with_robot().await;
    let vault = text_of(&token(&world, json!({"audiences": ["vault"]})).await);
    assert_eq!(bearer(&world, &vault, "/apis").await.code, 401);
    let status = review(&world, json!({"token": vault, "audiences": ["vault", "other"]})).await;
    assert_eq!(
        (&status["authenticated"], &status["audiences"]),
        (&json!(true), &json!(["vault"]))
    );
    let status = review(&world, json!({"token": vault})).await;
    assert_eq!(status["authenticated"], Value::Null);
    assert_eq!(
        status["error"],
        format!(
            "[invalid bearer token, token audiences [\"vault\"] is invalid for the target audiences [\"{DEFAULT_ISSUER}\"]]"
        )
    );
    let status = review(&world, json!({"token": "nonsense"})).await;
    assert_eq!(status, json!({"error": "invalid bearer token", "user": {}}));
}

#[tokio::test]
async fn a_token_ends_with_what_it_is_bound_to() {
    let (world, _) = with_robot().await;
    let mut with_account = pod("p");
    with_account["spec"]["serviceAccountName"] = "robot".into();
    let made = world.post(PODS, &with_account).await.json();
    let uid = made["metadata"]["uid"].as_str().unwrap().to_owned();
    let bound =
        |uid: &str| json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}});
    let got = token(&world, bound("another")).await;
    assert_eq!(got.code, 409, "{}", got.text);
    assert_eq!(
        got.json()["message"],
        "Operation cannot be fulfilled on Pod \"p\": the UID in the bound object reference (another) does not match the UID in record. The object might have been deleted and then recreated"
    );
    let text = text_of(&token(&world, bound(&uid)).await);
    assert_eq!(
        claims_of(&text)["kubernetes.io"]["pod"],
        json!({"name": "p", "uid": uid})
    );
    assert_eq!(bearer(&world, &text, "/apis").await.code, 200);
    let path = format!("{PODS}/p");
    world.delete(&path, &json!({"gracePeriodSeconds": 0})).await;
    assert_eq!(bearer(&world, &text, "/apis").await.code, 401);
    let status = review(&world, json!({"token": text})).await;
    assert_eq!(
        status["error"],
        "[invalid bearer token, service account token has been invalidated]"
    );
}

#[tokio::test]
async fn a_token_ends_with_its_account() {
    let (world, uid) = with_robot().await;
    let text = text_of(&token(&world, json!({})).await);
    for _ in 0..2 {
        assert_eq!(bearer(&world, &text, "/apis").await.code, 200);
    }
    world.delete(&format!("{ACCOUNTS}/robot"), &json!({})).await;
    assert_eq!(bearer(&world, &text, "/apis").await.code, 401, "at once");
    let status = review(&world, json!({"token": text})).await;
    assert_eq!(
        status["error"],
        "[invalid bearer token, serviceaccounts \"robot\" not found]"
    );
    let again = world
        .post(ACCOUNTS, &json!({"metadata": {"name": "robot"}}))
        .await
        .json();
    let other = again["metadata"]["uid"].as_str().unwrap();
    let status = review(&world, json!({"token": text})).await;
    assert_eq!(
        status["error"],
        format!("[invalid bearer token, service account UID ({other}) does not match claim ({uid})]")
    );
}

#[tokio::test]
async fn tokens_that_are_not_given() {
    let (world, _) = with_robot().await;
    world.post(PODS, &pod("p")).await;
    let cases = [
        (
            json!({"expirationSeconds": 599}),
            422,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
        ),
        (
            json!({"expirationSeconds": 4_294_967_297_i64}),
            422,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds",
        ),
        (
            json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "none"}}),
            404,
            "pods \"none\" not found",
        ),
        (
            json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}}),
            400,
            "cannot bind token for serviceaccount \"robot\" to pod running with different serviceaccount name.",
        ),
        (
            json!({"boundObjectRef": {"kind": "ConfigMap", "apiVersion": "v1", "name": "p"}}),
            400,
            "cannot bind token to object of type /v1, Kind=ConfigMap",
        ),
        (
            json!({"boundObjectRef": {"kind": "Deployment", "apiVersion": "apps/v1", "name": "p"}}),
            400,
            "cannot bind token to object of type apps/v1, Kind=Deployment",
        ),
    ];
    for (spec, code, text) in cases {
        let got = token(&world, spec).await;
        assert_eq!((got.code, got.json()["message"].as_str().unwrap()), (code, text));
    }
    let got = world
        .post(&format!("{ACCOUNTS}/nobody/token"), &json!({"spec": {}}))
        .await;
    assert_eq!(got.code, 404);
    let named = json!({"metadata": {"name": "other"}, "spec": {}});
    let got = world.post(&format!("{ACCOUNTS}/robot/token"), &named).await;
    assert_eq!(got.code, 422, "{}", got.text);
    let of_another = json!({"metadata": {"uid": "x"}, "spec": {}});
    let got = world.post(&format!("{ACCOUNTS}/robot/token"), &of_another).await;
    assert_eq!(got.code, 409, "{}", got.text);
}

#[tokio::test]
async fn bad_credentials_are_never_taken_for_none() {
    let (world, _) = with_robot().await;
    let text = text_of(&token(&world, json!({})).await);
    let anyone = world.by_credentials();
    assert_eq!(anyone.get("/version").await.code, 200);
    for value in [
        "Bearer x",
        "Bearer ",
        "Basic eDp5",
        &format!("Bearer {text}x"),
        &format!("Token {text}"),
    ] {
        let got = anyone
            .ask("GET", "/version", &[("authorization", value)], "")
            .await;
        assert_eq!(got.code, 401, "{value}");
    }
    let lower = format!("bearer {text}");
    let got = anyone.ask("GET", "/apis", &[("authorization", &lower)], "").await;
    assert_eq!(got.code, 200, "the scheme has no case");
}

#[tokio::test]
async fn others_can_check_our_tokens() {
    let (world, _) = with_robot().await;
    let text = text_of(&token(&world, json!({})).await);
    let config = bearer(&world, &text, "/.well-known/openid-configuration").await;
    assert_eq!(config.code, 200, "{}", config.text);
    let config = config.json();
    assert_eq!(config["issuer"], DEFAULT_ISSUER);
    assert_eq!(config["jwks_uri"], "https://192.0.2.1:6443/openid/v1/jwks");
    assert_eq!(config["id_token_signing_alg_values_supported"], json!(["ES256"]));
    let keys = bearer(&world, &text, "/openid/v1/jwks").await;
    assert_eq!(keys.headers["content-type"], "application/jwk-set+json");
    let header = text.split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(keys.json()["keys"][0]["kid"], header["kid"]);
    assert_eq!(world.by(jane()).get("/openid/v1/jwks").await.code, 403);
}

#[tokio::test]
async fn masters_act_as_others() {
    let (world, _) = with_robot().await;
    let path = format!("{AUTHENTICATION}/selfsubjectreviews");
    let headers = [
        ("content-type", "application/json"),
        ("impersonate-user", "joe"),
        ("impersonate-group", "ops"),
    ];
    let got = world.ask("POST", &path, &headers, "{}").await;
    assert_eq!(
        got.json()["status"]["userInfo"],
        json!({"username": "joe", "groups": ["ops", "system:authenticated"]})
    );
    let got = world.by(jane()).ask("POST", &path, &headers, "{}").await;
    assert_eq!(got.code, 403);
    let text = text_of(&token(&world, json!({})).await);
    let authorization = format!("Bearer {text}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("impersonate-user", "kubernetes-admin"),
    ];
    assert_eq!(
        world
            .by_credentials()
            .ask("GET", "/apis", &headers, "")
            .await
            .code,
        403
    );
}

/// Checking a token must not make requests slow: a signature and two look-ups.
#[tokio::test]
async fn checking_a_token_is_cheap() {
    let (world, _) = with_robot().await;
    let text = text_of(&token(&world, json!({})).await);
    let started = std::time::Instant::now();
    const REQUESTS: u32 = 200;
    for _ in 0..REQUESTS {
        assert_eq!(bearer(&world, &text, "/version").await.code, 200);
    }
    let each = started.elapsed() / REQUESTS;
    eprintln!("a request with a token: {each:?}");
    assert!(each < Duration::from_millis(50), "{each:?}");
}

/// Nodes and controllers ask these questions in protobuf.
#[tokio::test]
async fn questions_and_answers_in_protobuf() {
    use corten_api::schema::proto;
    let (world, _) = with_robot().await;
    let ask = async |path: &str, body: Value| {
        let request = http::Request::post(path)
            .header("accept", proto::MEDIA_TYPE)
            .header("content-type", proto::MEDIA_TYPE)
            .body(http_body_util::Full::new(bytes::Bytes::from(
                proto::from_json(body.to_string().as_bytes()).expect("a protobuf form"),
            )))
            .expect("request");
        let (parts, body) = world.send(request).await.into_parts();
        let bytes = http_body_util::BodyExt::collect(body)
            .await
            .expect("body")
            .to_bytes();
        assert_eq!(parts.status, 201, "{}", String::from_utf8_lossy(&bytes));
        proto::to_json(&bytes).expect("protobuf")
    };
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["vault"]}});
    let answer = ask(&format!("{ACCOUNTS}/robot/token"), request).await;
    let token = answer["status"]["token"].as_str().expect("a token");
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": ["vault"]},
    });
    let answer = ask(&format!("{AUTHENTICATION}/tokenreviews"), request).await;
    assert_eq!(
        answer["status"]["user"]["username"],
        "system:serviceaccount:default:robot"
    );
    let request = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"groups": ["system:masters"], "resourceAttributes": {"verb": "get", "resource": "pods"}},
    });
    let answer = ask(&format!("{AUTHORIZATION}/subjectaccessreviews"), request).await;
    assert_eq!(answer["status"]["allowed"], true);
}
