//! A server on an in-memory store, and one way to ask it.

#![allow(dead_code)] // each test binary uses its part

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_apiserver::body::Body;
use corten_apiserver::pki::AccountKey;
use corten_apiserver::tokens::{DEFAULT_ISSUER, Issuer};
use corten_apiserver::{ApiServer, Config, InProcess, User};
use corten_store::Store;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::Service;

pub struct World {
    pub server: ApiServer,
    pub store: Store,
    service: InProcess,
}

/// An answer with its whole body.
pub struct Got {
    pub code: u16,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Got {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

impl World {
    /// With the bootstrap objects.
    pub async fn new() -> World {
        World::with(Config::new(IpAddr::from([192, 0, 2, 1]), "test CA")).await
    }

    /// With the bootstrap objects of a cluster of this configuration.
    pub async fn with(config: Config) -> World {
        let store = Store::open(corten_store::Config {
            tagger: Some(corten_apiserver::tag),
            ..corten_store::Config::in_memory()
        })
        .await
        .expect("store");
        World::over(store, config).await
    }

    /// Over a store that is there, with the bootstrap objects.
    pub async fn over(store: Store, mut config: Config) -> World {
        let key = AccountKey::generate().expect("key");
        let issuer = Issuer::new(DEFAULT_ISSUER, &key).expect("issuer");
        config.tokens.get_or_insert(Arc::new(issuer));
        let server = ApiServer::new(store.clone(), config);
        server.bootstrap().await.expect("bootstrap");
        let service = server.in_process(User::component("test"));
        World {
            server,
            store,
            service,
        }
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Response<Body> {
        let Ok(response) = self.service.clone().call(request).await;
        response
    }

    /// The same world, asked by another user.
    pub fn by(&self, user: User) -> World {
        World {
            server: self.server.clone(),
            store: self.store.clone(),
            service: self.server.in_process(user),
        }
    }

    /// The same world, asked by whom the headers of a request name.
    pub fn by_credentials(&self) -> World {
        World {
            server: self.server.clone(),
            store: self.store.clone(),
            service: self.server.in_process_by_credentials(),
        }
    }

    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Got {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self
            .send(request.body(Full::new(body.into())).expect("request"))
            .await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("body").to_bytes();
        Got {
            code: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    pub async fn get(&self, path: &str) -> Got {
        self.ask("GET", path, &[], "").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Got {
        self.ask(
            "POST",
            path,
            &[("content-type", "application/json")],
            body.to_string(),
        )
        .await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Got {
        self.ask(
            "PUT",
            path,
            &[("content-type", "application/json")],
            body.to_string(),
        )
        .await
    }

    pub async fn delete(&self, path: &str, options: &Value) -> Got {
        self.ask(
            "DELETE",
            path,
            &[("content-type", "application/json")],
            options.to_string(),
        )
        .await
    }

    pub async fn patch(&self, path: &str, kind: &str, body: &Value) -> Got {
        let media = match kind {
            "json" => "application/json-patch+json",
            "merge" => "application/merge-patch+json",
            "strategic" => "application/strategic-merge-patch+json",
            other => other,
        };
        self.ask("PATCH", path, &[("content-type", media)], body.to_string())
            .await
    }

    pub async fn watch(&self, path: &str) -> Events {
        self.watch_as(path, "application/json").await
    }

    pub async fn watch_as(&self, path: &str, accept: &str) -> Events {
        let request = Request::get(path)
            .header("accept", accept)
            .body(Full::default())
            .expect("request");
        let response = self.send(request).await;
        assert_eq!(response.status(), 200, "{path}");
        Events {
            body: response.into_body().into_stream(),
            buffer: Vec::new(),
        }
    }
}

/// Events of a watch, one by one.
pub struct Events {
    body: std::pin::Pin<
        Box<dyn futures::Stream<Item = Result<Bytes, corten_apiserver::body::BoxError>> + Send>,
    >,
    buffer: Vec<u8>,
}

/// Longest wait for an event that must come.
const EVENT_DEADLINE: Duration = Duration::from_secs(10);

impl Events {
    /// `None`: the watch ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("an event"));
            }
            let chunk = tokio::time::timeout(EVENT_DEADLINE, self.body.next())
                .await
                .expect("an event in time")?;
            self.buffer.extend_from_slice(&chunk.expect("chunk"));
        }
    }

    /// `TYPE name` of the next event.
    pub async fn next_line(&mut self) -> String {
        match self.next().await {
            None => "end".to_owned(),
            Some(event) => {
                let object = &event["object"];
                let name = object["metadata"]["name"]
                    .as_str()
                    .or(object["reason"].as_str())
                    .unwrap_or_default();
                format!("{} {name}", event["type"].as_str().unwrap_or_default())
                    .trim_end()
                    .to_owned()
            }
        }
    }
}

pub const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub const PODS: &str = "/api/v1/namespaces/default/pods";
pub const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

pub fn config_map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "a": "1" } })
}

pub fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": { "containers": [{ "name": "c", "image": "i" }] },
    })
}

pub fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "c", "image": "i" }] },
            },
        },
    })
}
