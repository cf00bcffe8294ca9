//! Which verb on which resource: from a target to the read or write that serves it.
//!
//! Knows the registry and the order "exists, is allowed here, read the body, do it". Must not know what a verb decides.

use std::sync::OnceLock;

use bytes::Bytes;
use corten_api::patch::PatchType;
use corten_api::resource::Subresource;
use corten_api::resource::TypeRef;
use corten_api::schema::proto;
use corten_api::table::IncludeObject;
use corten_api::{Status, meta, registry};
use http::request::Parts;
use http::{StatusCode, header};
use jiff::Timestamp;
use serde_json::Value;

use crate::audit;
use crate::body::{self, ReadError, RequestBody};
use crate::identity::User;
use crate::negotiate::{self, BodyFormat, Form};
use crate::query::{ListOptions, Query, WriteOptions};
use crate::read::shape::Shape;
use crate::read::{get, list, options, point, watch};
use crate::respond::{self, Answer};
use crate::route::{Target, Verb};
use crate::service::{method_not_allowed, text};
use crate::stored::Stored;
use crate::write::admission::{RequestOptions, node_restriction};
use crate::write::{Answered, Env, Payload, Subject, apply, binding, create, patch, scale, transact, update};
use crate::{ApiServer, Inner, connect, custom, damaged, node, proxy, review};

mod deletes;

/// One request about objects.
struct Call<'a> {
    server: &'a ApiServer,
    user: &'a User,
    ty: TypeRef,
    target: &'a Target,
    parts: &'a Parts,
    query: &'a Query,
    now: Timestamp,
    /// What was negotiated, once asked.
    accepted: OnceLock<negotiate::Accepted>,
}

/// # Errors
/// The `Status` the client gets.
pub async fn resource(
    server: &ApiServer,
    user: &User,
    target: Target,
    parts: Parts,
    query: Query,
    body: RequestBody,
) -> Result<Answer, Status> {
    let Some(ty) = server.lookup(&target.group, &target.version, &target.resource) else {
        return Ok(respond::page_not_found());
    };
    custom::check_served(&ty, target.verb.as_str())?;
    if !ty.namespaced && target.namespace.is_some() {
        return Ok(respond::page_not_found());
    }
    let whole = matches!(target.verb, Verb::List | Verb::Watch) && target.name.is_none();
    if ty.namespaced && target.namespace.is_none() && !whole {
        return Ok(match target.name {
            Some(_) => respond::page_not_found(),
            None => method_not_allowed(),
        });
    }
    if let Some(sub) = target.subresource.as_deref()
        && connect::is_stream(&ty, sub)
    {
        connect::admit(server, user, &ty, &target, &query).await?;
        return connect::stream(server, &ty, &target, parts, &query).await;
    }
    if target.subresource.as_deref() == Some("proxy") && ty.subresource("proxy").is_some() {
        connect::admit(server, user, &ty, &target, &query).await?;
        return proxy::serve(server, &ty, &target, parts, body).await;
    }
    let call = Call {
        server,
        user,
        ty,
        target: &target,
        parts: &parts,
        query: &query,
        now: Timestamp::now(),
        accepted: OnceLock::new(),
    };
    let deprecation = call.ty.deprecation();
    let mut answer = match target.subresource.as_deref() {
        None => call.whole(body).await?,
        Some(sub) => call.part(sub, body).await?,
    };
    respond::warn(&mut answer, deprecation.as_slice());
    let media = call.accepted()?.media;
    respond::as_media(answer, media).await.map_err(Status::internal)
}

impl Call<'_> {
    fn inner(&self) -> &Inner {
        self.server.inner()
    }

    fn accepted(&self) -> Result<negotiate::Accepted, Status> {
        if let Some(accepted) = self.accepted.get() {
            return Ok(*accepted);
        }
        let accepted = self.negotiated()?;
        Ok(*self.accepted.get_or_init(|| accepted))
    }

    fn negotiated(&self) -> Result<negotiate::Accepted, Status> {
        let allowed = negotiate::of_objects(self.ty.type_facts().is_some());
        let accepted = negotiate::accept(text(self.parts, header::ACCEPT), allowed);
        if self.target.verb == Verb::Watch {
            return accepted
                .ok()
                .filter(|accepted| accepted.media.watch_type().is_some())
                .ok_or_else(|| Status::not_acceptable(&negotiate::WATCH_TYPES));
        }
        accepted.map_err(|_| Status::not_acceptable(&negotiate::MEDIA_TYPES))
    }

    fn shape(&self) -> Result<Shape, Status> {
        let accepted = self.accepted()?;
        let include = match accepted.form {
            Form::Table(_) => IncludeObject::parse(self.query.get("includeObject").unwrap_or_default())?,
            _ => IncludeObject::Metadata,
        };
        Ok(Shape {
            ty: self.ty.clone(),
            form: accepted.form,
            media: accepted.media,
            include,
        })
    }

    fn namespace(&self) -> Option<&str> {
        self.target.namespace.as_deref()
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            ty: &self.ty,
            namespace: self.namespace().unwrap_or_default(),
        }
    }

    fn name(&self) -> Result<&str, Status> {
        self.target
            .name
            .as_deref()
            .ok_or_else(|| Status::bad_request("name must be provided"))
    }

    fn list_options(&self) -> Result<ListOptions, Status> {
        ListOptions::parse(self.query).map_err(|error| Status::bad_request(error.0))
    }

    /// A verb on the object itself.
    async fn whole(&self, body: RequestBody) -> Result<Answer, Status> {
        if !self.ty.supports(self.target.verb.as_str()) {
            if self.ty.plural == "bindings" && self.target.verb == Verb::Create {
                return self.bind(None, body).await;
            }
            return Ok(method_not_allowed());
        }
        match self.target.verb {
            Verb::Get => self.get().await,
            Verb::List => {
                list::list(
                    self.inner(),
                    self.shape()?,
                    self.namespace(),
                    &self.list_options()?,
                    self.now,
                )
                .await
            }
            Verb::Watch => {
                let options = options::of_one(self.list_options()?, self.target.name.as_deref())?;
                watch::watch(self.server, self.shape()?, self.namespace(), &options).await
            }
            Verb::Create if self.ty.plural == "bindings" => self.bind(None, body).await,
            Verb::Create if review::is_review(&self.ty) => self.review(body).await,
            Verb::Create => self.create(body).await,
            Verb::Update => self.update(None, body).await,
            Verb::Patch => self.patch(None, body).await,
            Verb::Delete => self.delete(body).await,
            Verb::DeleteCollection => self.delete_collection(body).await,
        }
    }

    /// A verb on a subresource that is an object in its own right or a part of one.
    async fn part(&self, sub: &str, body: RequestBody) -> Result<Answer, Status> {
        let Some(known) = self.ty.subresource(sub) else {
            return Ok(respond::page_not_found());
        };
        if !known.verbs.contains(&self.target.verb.as_str()) {
            return Ok(method_not_allowed());
        }
        match (sub, self.target.verb) {
            ("binding", Verb::Create) => self.bind(self.target.name.as_deref(), body).await,
            ("scale", Verb::Get) => self.get_scale().await,
            ("scale", Verb::Update | Verb::Patch) => self.write_scale(body).await,
            ("eviction", Verb::Create) => self.evict(body).await,
            ("token", Verb::Create) => self.token(body).await,
            (_, Verb::Get) if update::part(Some(sub)).is_some() => self.get().await,
            (_, Verb::Update) if update::part(Some(sub)).is_some() => self.update(Some(sub), body).await,
            (_, Verb::Patch) if update::part(Some(sub)).is_some() => self.patch(Some(sub), body).await,
            _ => Ok(method_not_allowed()),
        }
    }

    async fn get(&self) -> Result<Answer, Status> {
        let version = self.query.get("resourceVersion");
        get::get(
            self.inner(),
            self.shape()?,
            self.namespace(),
            self.name()?,
            version,
            self.now,
        )
        .await
    }

    /// The body as JSON, within its bounds.
    async fn json(&self, body: RequestBody) -> Result<Bytes, Status> {
        let unsupported = |_| Status::unsupported_media_type(&negotiate::MEDIA_TYPES);
        let format = negotiate::body_format(text(self.parts, header::CONTENT_TYPE)).map_err(unsupported)?;
        let bytes = read(body).await?;
        match format {
            BodyFormat::Json => Ok(bytes),
            BodyFormat::Protobuf if bytes.is_empty() => Ok(bytes),
            BodyFormat::Protobuf => proto::to_json(&bytes)
                .map(|value| Bytes::from(value.to_string()))
                .map_err(|error| Status::bad_request(format!("unable to decode protobuf body: {error}"))),
            BodyFormat::Yaml => negotiate::yaml_to_json(&bytes).map_err(|error| {
                Status::bad_request(format!("error converting YAML to JSON: yaml: {error}"))
            }),
        }
    }

    async fn create(&self, body: RequestBody) -> Result<Answer, Status> {
        let options = WriteOptions::parse(self.query, "CreateOptions")?;
        let mut env = self.env("CreateOptions", &options)?;
        let shape = self.shape()?;
        let bytes = self.json(body).await?;
        let mut decoded = self.ty.decode(&bytes, options.validation)?;
        audit::note(|trail| trail.request_object(&decoded.value));
        decoded.warnings.extend(meta::dedup_owners(&mut decoded.value));
        let (config, subject) = (&self.inner().config, self.subject());
        // Most creates are decided once; who has to decide again reads the body again.
        let mut first = Some(decoded.value);
        let written = transact(self.inner(), &mut env, |snapshot, env| {
            let object = match first.take() {
                Some(object) => object,
                None => {
                    let mut again = self.ty.decode(&bytes, options.validation)?.value;
                    meta::dedup_owners(&mut again);
                    again
                }
            };
            create::decide(config, subject, snapshot, object, env)
        });
        let (answer, revision) = written.await?;
        self.written(answer, revision, options.dry_run, decoded.warnings, shape)
    }

    async fn update(&self, sub: Option<&str>, body: RequestBody) -> Result<Answer, Status> {
        let options = WriteOptions::parse(self.query, "UpdateOptions")?;
        let (shape, name) = (self.shape()?, self.name()?);
        let part = update::part(sub).ok_or_else(Status::no_such_resource)?;
        let mut env = self.env("UpdateOptions", &options)?;
        let bytes = self.json(body).await?;
        let mut decoded = self.ty.decode(&bytes, options.validation)?;
        audit::note(|trail| trail.request_object(&decoded.value));
        decoded.warnings.extend(meta::dedup_owners(&mut decoded.value));
        let (config, subject) = (&self.inner().config, self.subject());
        let written = transact(self.inner(), &mut env, |snapshot, env| {
            update::decide(config, subject, snapshot, name, decoded.value.clone(), part, env)
        });
        let (answer, revision) = written.await?;
        self.written(answer, revision, options.dry_run, decoded.warnings, shape)
    }

    async fn patch(&self, sub: Option<&str>, body: RequestBody) -> Result<Answer, Status> {
        let options = WriteOptions::parse(self.query, "PatchOptions")?;
        let (shape, name) = (self.shape()?, self.name()?);
        let part = update::part(sub).ok_or_else(Status::no_such_resource)?;
        let kind = PatchType::from_content_type(text(self.parts, header::CONTENT_TYPE).unwrap_or_default())?;
        if kind == PatchType::Apply {
            return self.apply(part, body, &options).await;
        }
        let mut env = self.env("PatchOptions", &options)?;
        let bytes = read_patch(body).await?;
        let patch = patch::Patch {
            kind,
            body: &bytes,
            validation: options.validation,
        };
        let (config, subject) = (&self.inner().config, self.subject());
        let written = transact(self.inner(), &mut env, |snapshot, env| {
            patch::decide(config, subject, snapshot, name, &patch, part, env)
        });
        let (answer, revision) = written.await?;
        self.written(answer, revision, options.dry_run, Vec::new(), shape)
    }

    async fn apply(
        &self,
        part: Subresource,
        body: RequestBody,
        options: &WriteOptions,
    ) -> Result<Answer, Status> {
        let (shape, name) = (self.shape()?, self.name()?);
        let who = apply::options(self.query, "PatchOptions", true, None)?;
        let (wanted, warnings) = apply::read(&read_patch(body).await?, options.validation)?;
        let mut env = self.env_of(who.manager, "PatchOptions", options, who.force);
        let (config, subject, dry_run) = (&self.inner().config, self.subject(), options.dry_run);
        let written = transact(self.inner(), &mut env, |snapshot, env| {
            apply::decide(config, subject, snapshot, name, &wanted, who.force, part, env)
        });
        let (answer, revision) = written.await?;
        self.written(answer, revision, dry_run, warnings, shape)
    }

    /// The options of an update or a patch, as errors name them.
    fn options_kind(&self) -> &'static str {
        match self.target.verb {
            Verb::Create => "CreateOptions",
            Verb::Patch => "PatchOptions",
            _ => "UpdateOptions",
        }
    }

    /// Time, randomness and the manager of what is written; `options` names the options in errors.
    fn env(&self, kind: &'static str, options: &WriteOptions) -> Result<Env, Status> {
        let agent = text(self.parts, header::USER_AGENT);
        let who = apply::options(self.query, kind, false, agent)?;
        Ok(self.env_of(who.manager, kind, options, false))
    }

    fn env_of(&self, manager: String, kind: &'static str, options: &WriteOptions, force: bool) -> Env {
        let asked = RequestOptions::Write {
            kind,
            field_manager: self.query.get("fieldManager").unwrap_or_default().to_owned(),
            validation: options.validation,
            force,
        };
        Env::of(self.now, manager).by(self.user, asked, options.dry_run)
    }

    async fn bind(&self, name: Option<&str>, body: RequestBody) -> Result<Answer, Status> {
        let options = WriteOptions::parse(self.query, "CreateOptions")?;
        let shape = self.shape()?;
        let bytes = self.json(body).await?;
        let pods = registry().lookup("", "v1", "pods").expect("Pods are built in");
        let decoded = pods.decode_subresource("binding", &bytes, options.validation)?;
        audit::note(|trail| trail.request_object(&decoded.value));
        let own = meta::name(&decoded.value).to_owned();
        let name = name.map_or(own, str::to_owned);
        let subject = Subject {
            ty: pods,
            ..self.subject()
        };
        let mut env = self.env_of(String::new(), "CreateOptions", &options, false);
        let written = transact(self.inner(), &mut env, |snapshot, env| {
            binding::decide(subject, snapshot, &name, &decoded.value, env)
        });
        let (answer, revision) = written.await?;
        self.written(answer, revision, options.dry_run, decoded.warnings, shape)
    }

    /// Reviews and tokens have one form only: no Table, no metadata alone.
    fn only_objects(&self) -> Result<(), Status> {
        let accepted = negotiate::accept_plain(text(self.parts, header::ACCEPT));
        accepted
            .map_err(|_| Status::not_acceptable(&negotiate::MEDIA_TYPES))
            .map(|_| ())
    }

    async fn review(&self, body: RequestBody) -> Result<Answer, Status> {
        let options = WriteOptions::parse(self.query, self.options_kind())?;
        self.only_objects()?;
        let bytes = self.json(body).await?;
        let decoded = self.ty.decode(&bytes, options.validation)?;
        audit::note(|trail| trail.request_object(&decoded.value));
        let namespace = self.namespace().unwrap_or_default();
        let answer = review::answer(
            self.server,
            &self.ty,
            self.user,
            namespace,
            decoded.value,
            self.now,
        );
        let mut response = respond::json(StatusCode::CREATED, answer.await?.to_string());
        respond::warn(&mut response, &decoded.warnings);
        Ok(response)
    }

    async fn token(&self, body: RequestBody) -> Result<Answer, Status> {
        let options = WriteOptions::parse(self.query, self.options_kind())?;
        self.only_objects()?;
        let (namespace, name) = (self.namespace().unwrap_or_default(), self.name()?);
        let bytes = self.json(body).await?;
        let decoded = self.ty.decode_subresource("token", &bytes, options.validation)?;
        audit::note(|trail| trail.request_object(&decoded.value));
        let id = Env::new(self.now).uid();
        let store = &self.inner().store;
        // Everything acknowledged before this request: the account may be new.
        let snapshot = point::snapshot(store, &point::Point::Newest, "").await?;
        if let Some(node) = node::of_user(self.user) {
            node_restriction::token(node, (namespace, name), &decoded.value, &snapshot)?;
        }
        let (answer, told) = review::token(
            self.inner(),
            &snapshot,
            (namespace, name),
            decoded.value,
            &id,
            self.now,
        )?;
        let mut response = respond::json(StatusCode::CREATED, answer.to_string());
        let warnings: Vec<String> = decoded.warnings.into_iter().chain(told).collect();
        respond::warn(&mut response, &warnings);
        Ok(response)
    }

    async fn get_scale(&self) -> Result<Answer, Status> {
        let point = point::of_get(self.query.get("resourceVersion"))?;
        let snapshot = point::snapshot(&self.inner().store, &point, "").await?;
        let current = self.subject().read(&snapshot, self.name()?)?;
        Ok(respond::json(
            StatusCode::OK,
            scale::of(&self.ty, &current.value).to_string(),
        ))
    }

    async fn write_scale(&self, body: RequestBody) -> Result<Answer, Status> {
        let options = WriteOptions::parse(self.query, self.options_kind())?;
        let (shape, name) = (self.shape()?, self.name()?);
        let (config, subject) = (&self.inner().config, self.subject());
        let mut warnings = Vec::new();
        let (answer, revision) = if self.target.verb == Verb::Patch {
            let kind =
                PatchType::from_content_type(text(self.parts, header::CONTENT_TYPE).unwrap_or_default())?;
            if kind == PatchType::Apply {
                let who = apply::options(self.query, "PatchOptions", true, None)?;
                let (wanted, warnings) = apply::read(&read_patch(body).await?, options.validation)?;
                let mut env = self.env_of(who.manager, "PatchOptions", &options, who.force);
                let written = transact(self.inner(), &mut env, |snapshot, env| {
                    scale::apply(config, subject, snapshot, name, &wanted, who.force, env)
                });
                let (answer, revision) = written.await?;
                return self.written(answer, revision, options.dry_run, warnings, shape);
            }
            let mut env = self.env("PatchOptions", &options)?;
            let bytes = read_patch(body).await?;
            let patch = patch::Patch {
                kind,
                body: &bytes,
                validation: options.validation,
            };
            let change = |scale: &Value| patch::of_scale(scale, &patch);
            transact(self.inner(), &mut env, |snapshot, env| {
                scale::decide(config, subject, snapshot, name, change, env)
            })
            .await?
        } else {
            let mut env = self.env("UpdateOptions", &options)?;
            let bytes = self.json(body).await?;
            let decoded = self.ty.decode_subresource("scale", &bytes, options.validation)?;
            audit::note(|trail| trail.request_object(&decoded.value));
            warnings = decoded.warnings;
            let scale = decoded.value;
            let change = |_: &Value| Ok(scale.clone());
            transact(self.inner(), &mut env, |snapshot, env| {
                scale::decide(config, subject, snapshot, name, change, env)
            })
            .await?
        };
        self.written(answer, revision, options.dry_run, warnings, shape)
    }

    /// The HTTP answer to a write. `revision` is that of the object if it was written, or before a dry run.
    fn written(
        &self,
        answer: Answered,
        revision: u64,
        dry_run: bool,
        mut warnings: Vec<String>,
        shape: Shape,
    ) -> Result<Answer, Status> {
        let mut response = match answer.payload {
            Payload::Status(status) => {
                let mut response = respond::status(&status);
                *response.status_mut() = answer.code;
                response
            }
            Payload::Value(value) => respond::json(answer.code, value.to_string()),
            Payload::Scale { mut scale, at } => {
                let at = at.unwrap_or(revision);
                if at > 0 {
                    scale["metadata"]["resourceVersion"] = at.to_string().into();
                }
                respond::json(answer.code, scale.to_string())
            }
            Payload::Stored { value, at } if dry_run && at.is_none() && revision == 0 => {
                // A dry run of what does not exist yet: there is no revision to show.
                let mut object = Stored::new(&value)
                    .and_then(|s| s.parse(shape.meta(), 0))
                    .map_err(damaged)?;
                self.ty.from_stored(&mut object);
                meta::set(&mut object, "resourceVersion", Value::Null);
                respond::json(answer.code, object.to_string())
            }
            Payload::Stored { value, at } => {
                let mut out = Vec::new();
                shape
                    .write_object(&mut out, &value, at.unwrap_or(revision), true, self.now)
                    .map_err(damaged)?;
                respond::json(answer.code, out)
            }
        };
        warnings.extend(answer.warnings);
        respond::warn(&mut response, &warnings);
        Ok(response)
    }
}

async fn read_patch(body: RequestBody) -> Result<Bytes, Status> {
    let bytes = read(body).await?;
    audit::note(|trail| trail.request_body(&bytes));
    Ok(bytes)
}

async fn read(body: RequestBody) -> Result<Bytes, Status> {
    body::read(body).await.map_err(|error| match error {
        ReadError::TooLarge => Status::too_large(body::MAX_BODY_BYTES),
        ReadError::Broken(source) => Status::bad_request(format!("read request body: {source}")),
    })
}
