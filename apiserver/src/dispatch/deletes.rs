//! Requests that remove objects: delete, deletecollection, eviction.

use corten_api::Status;
use corten_api::options::DeleteOptions;
use corten_store::Entry;
use futures::StreamExt;
use futures::future::BoxFuture;
use http::StatusCode;
use serde_json::json;

use super::Call;
use crate::audit;
use crate::body::RequestBody;
use crate::query::{DeleteQuery, WriteOptions};
use crate::read::filter::Filter;
use crate::read::list::Page;
use crate::read::point::{self, Point};
use crate::respond::{self, Answer};
use crate::write::admission::RequestOptions;
use crate::write::{Env, Subject, delete, evict, transact};
use crate::{Inner, damaged};

/// Deletions of one `deletecollection` that run at once.
const COLLECTION_WORKERS: usize = 32;

impl Call<'_> {
    /// `DeleteOptions` from the body; from the query only if there is none. Source: Kubernetes
    /// `endpoints/handlers/delete.go`. A dry run is one wherever it is asked for: the other reading could not be undone.
    async fn delete_options(&self, body: RequestBody) -> Result<DeleteOptions, Status> {
        let bytes = self.json(body).await?;
        audit::note(|trail| trail.request_body(&bytes));
        let query = DeleteQuery::parse(self.query).map_err(|error| Status::bad_request(error.0));
        if !bytes.is_empty() {
            let mut options = DeleteOptions::decode(&bytes)?;
            options.dry_run |= query.is_ok_and(|query| query.dry_run == ["All"]);
            return Ok(options);
        }
        let query = query?;
        let form = json!({
            "gracePeriodSeconds": query.grace_period_seconds,
            "propagationPolicy": query.propagation_policy,
            "orphanDependents": query.orphan_dependents,
            "dryRun": query.dry_run,
        });
        DeleteOptions::decode(form.to_string().as_bytes())
    }

    fn env_to_delete(&self, options: &DeleteOptions) -> Env {
        let asked = RequestOptions::Delete(options.clone());
        Env::new(self.now).by(self.user, asked, options.dry_run)
    }

    pub(super) async fn delete(&self, body: RequestBody) -> Result<Answer, Status> {
        let (shape, name) = (self.shape()?, self.name()?);
        let options = self.delete_options(body).await?;
        let subject = self.subject();
        let mut env = self.env_to_delete(&options);
        let written = transact(self.inner(), &mut env, |snapshot, env| {
            delete::decide(subject, snapshot, name, &options, env)
        });
        let (answer, revision) = written.await?;
        self.written(answer, revision, options.dry_run, Vec::new(), shape)
    }

    pub(super) async fn evict(&self, body: RequestBody) -> Result<Answer, Status> {
        let options = WriteOptions::parse(self.query, "CreateOptions")?;
        let (shape, name, subject) = (self.shape()?, self.name()?, self.subject());
        let bytes = self.json(body).await?;
        audit::note(|trail| trail.request_body(&bytes));
        let eviction = evict::decode(&self.ty, &bytes, options.validation, subject.namespace, name)?;
        let dry_run = options.dry_run || eviction.options.dry_run;
        let options = WriteOptions { dry_run, ..options };
        let mut env = self.env_of(String::new(), "CreateOptions", &options, false);
        let written = transact(self.inner(), &mut env, |snapshot, env| {
            evict::decide(subject, snapshot, name, &eviction, env)
        });
        let (answer, revision) = written.await?;
        self.written(answer, revision, dry_run, eviction.warnings, shape)
    }

    /// Deletes what a list would show, page by page if there is a limit, each like a single delete; answers with the
    /// list.
    pub(super) async fn delete_collection(&self, body: RequestBody) -> Result<Answer, Status> {
        let options = self.delete_options(body).await?;
        let (list, shape) = (self.list_options()?, self.shape()?);
        crate::read::options::check_list(&list)?;
        let filter = Filter::new(&self.ty, self.namespace(), &list)?;
        let store = &self.inner().store;
        // What is deleted is what is there now, whichever state the client has seen.
        let start = match point::of_list(&list, &filter.prefix)? {
            Point::Page(position) => position.start,
            _ => filter.range.start.clone(),
        };
        let snapshot = point::snapshot(store, &Point::Newest, "").await?;
        let limit = usize::try_from(list.limit).unwrap_or(usize::MAX);
        let page =
            Page::cut(&snapshot, &filter, filter.range_from(&start), limit, self.now).map_err(damaged)?;
        let mut chosen = Vec::new();
        for entry in snapshot.range(page.range.clone()) {
            if filter.matches(&entry).map_err(damaged)? {
                chosen.push(entry);
            }
        }
        let mut shown = self.inner().converted(&self.ty, chosen.clone()).await?;
        if crate::convert::webhook(&self.ty).is_some() {
            let pairs = chosen.into_iter().zip(shown);
            let pairs = pairs.filter_map(|(entry, shown)| match filter.matches(&shown) {
                Ok(selected) => selected.then_some(Ok((entry, shown))),
                Err(damaged) => Some(Err(damaged)),
            });
            (chosen, shown) = pairs.collect::<Result<_, _>>().map_err(damaged)?;
        }
        let mut deletions = Vec::with_capacity(chosen.len());
        for entry in &chosen {
            let env = self.env_to_delete(&options);
            deletions.push(delete_one(self.inner(), self.subject(), entry, &options, env));
        }
        let mut deletions = futures::stream::iter(deletions).buffer_unordered(COLLECTION_WORKERS);
        while let Some(done) = deletions.next().await {
            done?;
        }
        drop(deletions);
        let mut out = Vec::new();
        shape.open_list(&mut out, &page.metadata);
        for (i, entry) in shown.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            shape
                .write_item(&mut out, &entry.value, entry.mod_revision.0, self.now)
                .map_err(damaged)?;
        }
        out.extend_from_slice(b"]}\n");
        Ok(respond::json(StatusCode::OK, out))
    }
}

/// Boxed, as many of them run at once.
fn delete_one<'a>(
    inner: &'a Inner,
    subject: Subject<'a>,
    entry: &'a Entry,
    options: &'a DeleteOptions,
    mut env: Env,
) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(async move {
        let mut parts = std::str::from_utf8(&entry.key).unwrap_or_default().rsplit('/');
        let name = parts.next().unwrap_or_default();
        let namespace = match subject.ty.namespaced {
            true => parts.next().unwrap_or_default(),
            false => "",
        };
        let subject = Subject { namespace, ..subject };
        let deleted = transact(inner, &mut env, |snapshot, env| {
            delete::decide(subject, snapshot, name, options, env)
        });
        match deleted.await {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(()), // gone already: that is what was asked for
        }
    })
}
