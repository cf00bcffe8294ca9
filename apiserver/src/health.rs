//! `/healthz`, `/livez`, `/readyz` and `/metrics`.

use std::sync::atomic::Ordering;

use http::StatusCode;

use crate::Inner;
use crate::query::Query;
use crate::respond::{self, Answer};
use crate::route::Health;

/// Every check by its name, and whether it passes. `/livez` leaves out what a restart cannot mend.
fn checks(server: &Inner, health: Health) -> Vec<(&'static str, bool)> {
    let store = server.store.status();
    let mut checks = vec![("ping", true), ("log", true)];
    match health {
        Health::Livez => {}
        Health::Healthz | Health::Readyz => {
            checks.push(("etcd", store.leader.is_some())); // the store, under the name clients ask for
            checks.push((
                "poststarthook/bootstrap-objects",
                server.bootstrapped.load(Ordering::Acquire),
            ));
        }
    }
    if health == Health::Readyz {
        checks.push(("shutdown", !server.closing.is_cancelled()));
    }
    checks
}

pub fn answer(server: &Inner, health: Health, check: Option<&str>, query: &Query) -> Answer {
    let name = match health {
        Health::Healthz => "healthz",
        Health::Livez => "livez",
        Health::Readyz => "readyz",
    };
    let mut checks = checks(server, health);
    if let Some(check) = check {
        let Some(found) = checks.iter().find(|(name, _)| *name == check) else {
            return respond::page_not_found();
        };
        return match found.1 {
            true => respond::text(StatusCode::OK, "ok"),
            false => respond::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal server error: not ok\n",
            ),
        };
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    checks.retain(|(name, _)| !excluded.contains(name));
    let passed = checks.iter().all(|(_, ok)| *ok);
    if passed && query.get("verbose").is_none() {
        return respond::text(StatusCode::OK, "ok");
    }
    let mut text = String::new();
    for (name, ok) in &checks {
        text += &if *ok {
            format!("[+]{name} ok\n")
        } else {
            format!("[-]{name} failed: reason withheld\n")
        };
    }
    text += &format!("{name} check {}\n", if passed { "passed" } else { "failed" });
    respond::text(
        if passed {
            StatusCode::OK
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        },
        text,
    )
}

pub fn metrics(server: &Inner) -> Answer {
    let store = server.store.status();
    let mut text = server.metrics.render(&[
        ("corten_store_revision", store.revision.0),
        ("corten_store_keys", store.keys as u64),
        ("corten_store_applied_index", store.applied),
        ("corten_store_term", store.term),
        ("corten_store_fsyncs_total", store.fsyncs),
        ("corten_store_log_entries_total", store.entries),
        ("corten_store_transactions_total", store.transactions),
        ("corten_store_queued", store.queued as u64),
        ("corten_store_history_events", store.history_events as u64),
        ("corten_store_history_bytes", store.history_bytes as u64),
        ("corten_store_watchers", store.watchers as u64),
        ("corten_store_log_bytes", store.log_bytes),
        ("corten_store_image_bytes", store.image_bytes),
        ("corten_store_scrubs_total", store.scrubs),
        ("corten_store_scrubbed_bytes_total", store.scrubbed_bytes),
        ("corten_store_damages_total", store.damages),
    ]);
    server.flow.render(&mut text);
    if let Some(audit) = &server.config.audit {
        audit.render(&mut text);
    }
    respond::with_type(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        text.into(),
    )
}
