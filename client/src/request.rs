//! One verb, one call: requests against the API without paying for typed codecs twice.
//!
//! A write returns only what the writer needs ([`Written`]): the answer's body is not decoded into a type.
//! Knows URLs, verbs and `Status`. Must not know caches or queues.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Limited};
use kube::Client;
use kube::client::Body;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::ApiError;
use crate::informers::Selection;
use crate::object::{KubeKind, ObjectKey, PartialObject, Target};

/// The largest answer this client holds in memory; a page of 500 objects of the largest allowed size is far below.
pub const MAX_ANSWER_BYTES: usize = 256 << 20;
/// How long one request may take before it counts as failed. Source: kube-apiserver `--request-timeout`.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Objects per page of a list. Source: client-go's pager.
pub const PAGE_SIZE: usize = 500;
/// Attempts of [`retry_on_conflict`]. Source: client-go `retry.DefaultRetry` has 5 steps.
pub const CONFLICT_ATTEMPTS: usize = 5;

/// What the server said about a write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    pub key: ObjectKey,
    pub uid: String,
    /// The revision of the object after the write; 0 when the object is gone.
    pub revision: u64,
    /// The object still exists but is being deleted.
    pub terminating: bool,
}

/// Who removes the dependents of a deleted object. Source: meta/v1 `DeletionPropagation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeleteOptions {
    /// Delete only this incarnation.
    pub uid: Option<String>,
    /// Delete only if the object is still at this `resourceVersion`.
    pub resource_version: Option<String>,
    /// Seconds; `Some(0)` deletes at once, `None` leaves it to the kind.
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
}

impl DeleteOptions {
    pub fn uid(uid: impl Into<String>) -> Self {
        DeleteOptions {
            uid: Some(uid.into()),
            ..Self::default()
        }
    }

    fn body(&self) -> Value {
        let mut options = serde_json::json!({ "apiVersion": "v1", "kind": "DeleteOptions" });
        let mut preconditions = serde_json::Map::new();
        if let Some(uid) = &self.uid {
            preconditions.insert("uid".into(), uid.clone().into());
        }
        if let Some(revision) = &self.resource_version {
            preconditions.insert("resourceVersion".into(), revision.clone().into());
        }
        if !preconditions.is_empty() {
            options["preconditions"] = Value::Object(preconditions);
        }
        if let Some(seconds) = self.grace_period_seconds {
            options["gracePeriodSeconds"] = seconds.into();
        }
        match self.propagation {
            Some(Propagation::Orphan) => options["propagationPolicy"] = "Orphan".into(),
            Some(Propagation::Background) => options["propagationPolicy"] = "Background".into(),
            Some(Propagation::Foreground) => options["propagationPolicy"] = "Foreground".into(),
            None => {}
        }
        options
    }
}

/// A change to an object, in one of the four forms the API takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 7396.
    Merge(Value),
    /// Kubernetes strategic merge: lists merge by their patch keys.
    Strategic(Value),
    /// RFC 6902.
    Json(Value),
    /// Server-side apply.
    Apply {
        manager: String,
        force: bool,
        object: Value,
    },
}

impl Patch {
    fn content_type(&self) -> &'static str {
        match self {
            Patch::Merge(_) => "application/merge-patch+json",
            Patch::Strategic(_) => "application/strategic-merge-patch+json",
            Patch::Json(_) => "application/json-patch+json",
            Patch::Apply { .. } => "application/apply-patch+yaml",
        }
    }

    fn query(&self) -> String {
        match self {
            Patch::Apply { manager, force, .. } => {
                format!(
                    "?fieldManager={}&force={force}",
                    utf8_percent_encode(manager, NON_ALPHANUMERIC)
                )
            }
            _ => String::new(),
        }
    }

    fn value(&self) -> &Value {
        match self {
            Patch::Merge(value) | Patch::Strategic(value) | Patch::Json(value) => value,
            Patch::Apply { object, .. } => object,
        }
    }
}

/// The part of an object a request addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subresource {
    #[default]
    None,
    Status,
    Scale,
    Binding,
    Finalize,
    Approval,
}

impl Subresource {
    fn suffix(self) -> &'static str {
        match self {
            Subresource::None => "",
            Subresource::Status => "/status",
            Subresource::Scale => "/scale",
            Subresource::Binding => "/binding",
            Subresource::Finalize => "/finalize",
            Subresource::Approval => "/approval",
        }
    }
}

/// The verbs. Cheap to clone.
#[derive(Clone)]
pub struct ApiClient {
    client: Client,
}

impl ApiClient {
    pub fn new(client: Client) -> Self {
        ApiClient { client }
    }

    pub fn kube(&self) -> &Client {
        &self.client
    }

    /// `None` if the object does not exist. Linearizable.
    pub async fn get<K: KubeKind>(&self, key: &ObjectKey) -> Result<Option<K>, ApiError> {
        match self.call(Method::GET, K::target().object_path(key), None).await {
            Ok(body) => serde_json::from_slice(&body).map(Some).map_err(ApiError::Decode),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The metadata of an object of any kind; `None` if it does not exist. Linearizable.
    pub async fn get_metadata(
        &self,
        target: &Target,
        key: &ObjectKey,
    ) -> Result<Option<PartialObject>, ApiError> {
        match self.call(Method::GET, target.object_path(key), None).await {
            Ok(body) => serde_json::from_slice(&body).map(Some).map_err(ApiError::Decode),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every object of the kind that matches, page by page. Linearizable.
    pub async fn list<K: KubeKind>(&self, selection: &Selection) -> Result<Vec<K>, ApiError> {
        self.list_target(&K::target(), selection).await
    }

    /// As [`list`](Self::list), for a kind known only at run time.
    pub async fn list_target<K: for<'de> Deserialize<'de>>(
        &self,
        target: &Target,
        selection: &Selection,
    ) -> Result<Vec<K>, ApiError> {
        let mut items = Vec::new();
        let mut continue_token = String::new();
        loop {
            let page = self.list_page(target, selection, &continue_token).await?;
            for item in &page.items {
                items.push(serde_json::from_str(item.get()).map_err(ApiError::Decode)?);
            }
            match page.metadata.continue_token {
                Some(token) if !token.is_empty() => continue_token = token,
                _ => return Ok(items),
            }
        }
    }

    /// One page of at most [`PAGE_SIZE`] objects; an empty token asks for the first.
    pub async fn list_page(
        &self,
        target: &Target,
        selection: &Selection,
        continue_token: &str,
    ) -> Result<RawList, ApiError> {
        self.list_page_as(target, selection, continue_token, "application/json")
            .await
    }

    pub(crate) async fn list_page_as(
        &self,
        target: &Target,
        selection: &Selection,
        continue_token: &str,
        accept: &'static str,
    ) -> Result<RawList, ApiError> {
        let mut path = target.collection_path(&selection.namespace);
        path.push_str(&format!("?limit={PAGE_SIZE}"));
        selection.push_query(&mut path);
        if !continue_token.is_empty() {
            path.push_str("&continue=");
            path.extend(utf8_percent_encode(continue_token, NON_ALPHANUMERIC));
        }
        let body = self.call_as(Method::GET, path, accept, None).await?;
        serde_json::from_slice(&body).map_err(ApiError::Decode)
    }

    pub async fn create<K: KubeKind + Serialize>(&self, object: &K) -> Result<Written, ApiError> {
        let target = K::target();
        let path = target.collection_path(object.meta().namespace.as_deref().unwrap_or_default());
        self.write(Method::POST, path, "application/json", encode(object)?)
            .await
    }

    pub async fn replace<K: KubeKind + Serialize>(&self, object: &K) -> Result<Written, ApiError> {
        self.replace_part(object, Subresource::None).await
    }

    pub async fn replace_status<K: KubeKind + Serialize>(&self, object: &K) -> Result<Written, ApiError> {
        self.replace_part(object, Subresource::Status).await
    }

    pub async fn replace_part<K: KubeKind + Serialize>(
        &self,
        object: &K,
        part: Subresource,
    ) -> Result<Written, ApiError> {
        let path = K::target().object_path(&ObjectKey::of(object.meta())) + part.suffix();
        self.write(Method::PUT, path, "application/json", encode(object)?)
            .await
    }

    pub async fn patch<K: KubeKind>(&self, key: &ObjectKey, patch: &Patch) -> Result<Written, ApiError> {
        self.patch_target(&K::target(), key, Subresource::None, patch)
            .await
    }

    pub async fn patch_status<K: KubeKind>(
        &self,
        key: &ObjectKey,
        patch: &Patch,
    ) -> Result<Written, ApiError> {
        self.patch_target(&K::target(), key, Subresource::Status, patch)
            .await
    }

    pub async fn patch_target(
        &self,
        target: &Target,
        key: &ObjectKey,
        part: Subresource,
        patch: &Patch,
    ) -> Result<Written, ApiError> {
        let path = target.object_path(key) + part.suffix() + &patch.query();
        self.write(Method::PATCH, path, patch.content_type(), encode(patch.value())?)
            .await
    }

    /// Puts any body at a subresource, for instance a Binding.
    pub async fn create_part(
        &self,
        target: &Target,
        key: &ObjectKey,
        part: Subresource,
        body: &Value,
    ) -> Result<Written, ApiError> {
        let path = target.object_path(key) + part.suffix();
        self.write(Method::POST, path, "application/json", encode(body)?)
            .await
    }

    /// The object may still exist afterwards: see [`Written::terminating`].
    pub async fn delete<K: KubeKind>(
        &self,
        key: &ObjectKey,
        options: &DeleteOptions,
    ) -> Result<Written, ApiError> {
        self.delete_target(&K::target(), key, options).await
    }

    pub async fn delete_target(
        &self,
        target: &Target,
        key: &ObjectKey,
        options: &DeleteOptions,
    ) -> Result<Written, ApiError> {
        let body = encode(&options.body())?;
        let mut written = self
            .write(Method::DELETE, target.object_path(key), "application/json", body)
            .await?;
        written.key = key.clone();
        Ok(written)
    }

    /// `deletecollection` of everything that matches in a namespace.
    pub async fn delete_collection(
        &self,
        target: &Target,
        selection: &Selection,
        options: &DeleteOptions,
    ) -> Result<(), ApiError> {
        let mut path = target.collection_path(&selection.namespace) + "?";
        selection.push_query(&mut path);
        let body = encode(&options.body())?;
        self.call(Method::DELETE, path, Some(("application/json", body)))
            .await
            .map(drop)
    }

    /// A GET of any path, decoded: discovery and the like.
    pub async fn get_path<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T, ApiError> {
        let body = self.call(Method::GET, path.to_owned(), None).await?;
        serde_json::from_slice(&body).map_err(ApiError::Decode)
    }

    /// As [`Self::get_path`], in the form that `accept` names.
    pub(crate) async fn get_path_as<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        accept: &'static str,
    ) -> Result<T, ApiError> {
        let body = self.call_as(Method::GET, path.to_owned(), accept, None).await?;
        serde_json::from_slice(&body).map_err(ApiError::Decode)
    }

    /// A question that is posted, such as a SubjectAccessReview, and its answer.
    pub async fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        path: &str,
        question: &impl Serialize,
    ) -> Result<T, ApiError> {
        let body = encode(question)?;
        let body = self
            .call(Method::POST, path.to_owned(), Some(("application/json", body)))
            .await?;
        serde_json::from_slice(&body).map_err(ApiError::Decode)
    }

    async fn write(
        &self,
        method: Method,
        path: String,
        content_type: &'static str,
        body: Vec<u8>,
    ) -> Result<Written, ApiError> {
        let answer = self.call(method, path, Some((content_type, body))).await?;
        let head: Head = serde_json::from_slice(&answer).map_err(ApiError::Decode)?;
        Ok(head.written())
    }

    async fn call(
        &self,
        method: Method,
        path: String,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Bytes, ApiError> {
        self.call_as(method, path, "application/json", body).await
    }

    async fn call_as(
        &self,
        method: Method,
        path: String,
        accept: &'static str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Bytes, ApiError> {
        let exchange = async {
            let response = self.open(method, path, accept, body).await?;
            collect(response.into_body()).await
        };
        tokio::time::timeout(REQUEST_TIMEOUT, exchange)
            .await
            .unwrap_or(Err(ApiError::Timeout))
    }

    /// Sends a request; an answer of 400 and above becomes its `Status`.
    pub(crate) async fn open(
        &self,
        method: Method,
        path: String,
        accept: &'static str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<http::Response<Body>, ApiError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::ACCEPT, accept);
        let body = match body {
            Some((content_type, bytes)) => {
                request = request.header(header::CONTENT_TYPE, content_type);
                Body::from(bytes)
            }
            None => Body::empty(),
        };
        let request = request
            .body(body)
            .map_err(|error| ApiError::Transport(kube::Error::HttpError(error)))?;
        let response = self.client.send(request).await.map_err(ApiError::Transport)?;
        if response.status().as_u16() < 400 {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let text = collect(response.into_body()).await?;
        let mut status: kube::core::Status = serde_json::from_slice(&text).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(&text);
            kube::core::Status::failure(text.trim(), "Unknown")
        });
        if status.code == 0 {
            status.code = code;
        }
        Err(ApiError::Status(Box::new(status)))
    }
}

/// Runs `attempt` again while it fails with a conflict, at most [`CONFLICT_ATTEMPTS`] times in all.
/// `attempt` must read the object afresh each time.
pub async fn retry_on_conflict<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, ApiError>>,
{
    let mut left = CONFLICT_ATTEMPTS;
    loop {
        left -= 1;
        match attempt().await {
            Err(error) if error.is_conflict() && left > 0 => continue,
            result => return result,
        }
    }
}

/// A list whose items are not decoded yet.
#[derive(Debug, Deserialize)]
pub struct RawList {
    #[serde(default)]
    pub metadata: RawListMeta,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub items: Vec<Box<RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RawListMeta {
    pub resource_version: Option<String>,
    #[serde(rename = "continue")]
    pub continue_token: Option<String>,
}

fn null_is_empty<'de, D>(deserializer: D) -> Result<Vec<Box<RawValue>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The few fields of an answer that a writer looks at; everything else is skipped unparsed.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    metadata: HeadMeta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct HeadMeta {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    deletion_timestamp: Option<String>,
}

impl Head {
    fn written(self) -> Written {
        let meta = self.metadata;
        Written {
            key: ObjectKey {
                namespace: meta.namespace,
                name: meta.name,
            },
            uid: meta.uid,
            revision: meta.resource_version.parse().unwrap_or(0),
            terminating: meta.deletion_timestamp.is_some(),
        }
    }
}

fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(ApiError::Decode)
}

async fn collect(body: Body) -> Result<Bytes, ApiError> {
    match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(ApiError::TooLarge {
            limit: MAX_ANSWER_BYTES,
        }),
        Err(error) => Err(ApiError::Transport(kube::Error::Service(error))),
    }
}
