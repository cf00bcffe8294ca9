//! Counters of the front end in Prometheus' text form.
//!
//! Knows label sets, all bounded: verbs, registered resources, status codes we send. Must not know requests.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Upper bounds in seconds. Source: kube-apiserver, `apiserver_request_duration_seconds`, thinned.
const BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0,
];

/// Most label sets kept. Resources come and go with their definitions; those beyond are counted together.
const MAX_SERIES: usize = 4096;

/// What a request is counted under. `resource` comes from the served types, never from the request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels {
    pub verb: &'static str,
    pub group: Cow<'static, str>,
    pub resource: Cow<'static, str>,
    pub code: u16,
}

#[derive(Default, Clone, Copy)]
struct Histogram {
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum_seconds: f64,
}

/// Shared by every request of one server.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<Labels, Histogram>>,
    pub inflight: AtomicI64,
    /// Of them, those about members: one that asks a server to leave is answered when it has left.
    pub member_calls: AtomicI64,
    pub watches: AtomicI64,
    pub watch_events: AtomicU64,
}

impl Metrics {
    pub fn record(&self, mut labels: Labels, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut requests = self.requests.lock();
        if requests.len() >= MAX_SERIES && !requests.contains_key(&labels) {
            (labels.group, labels.resource) = ("".into(), "other".into());
        }
        let histogram = requests.entry(labels).or_default();
        histogram.count += 1;
        histogram.sum_seconds += seconds;
        if let Some(slot) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            histogram.counts[slot] += 1;
        }
    }

    /// The exposition text; `store` lines are appended as gauges.
    #[must_use]
    pub fn render(&self, store: &[(&str, u64)]) -> String {
        let requests = self.requests.lock().clone();
        let mut out = String::with_capacity(4096);
        let put = |out: &mut String, args: std::fmt::Arguments<'_>| {
            out.write_fmt(args).expect("writing to a String cannot fail");
            out.push('\n');
        };
        put(
            &mut out,
            format_args!("# HELP apiserver_request_total Requests by verb, group, resource and HTTP code."),
        );
        put(&mut out, format_args!("# TYPE apiserver_request_total counter"));
        for (l, h) in &requests {
            put(
                &mut out,
                format_args!(
                    "apiserver_request_total{{{},code=\"{}\"}} {}",
                    series(l),
                    l.code,
                    h.count
                ),
            );
        }
        let mut durations: BTreeMap<Labels, Histogram> = BTreeMap::new();
        for (labels, histogram) in &requests {
            let sum = durations
                .entry(Labels {
                    code: 0,
                    ..labels.clone()
                })
                .or_default();
            sum.count += histogram.count;
            sum.sum_seconds += histogram.sum_seconds;
            sum.counts
                .iter_mut()
                .zip(histogram.counts)
                .for_each(|(total, more)| *total += more);
        }
        let name = "apiserver_request_duration_seconds";
        put(
            &mut out,
            format_args!("# HELP {name} Time to the response's head, by verb, group and resource."),
        );
        put(&mut out, format_args!("# TYPE {name} histogram"));
        for (l, h) in &durations {
            let mut below = 0;
            for (bound, count) in BUCKETS.iter().zip(h.counts) {
                below += count;
                put(
                    &mut out,
                    format_args!("{name}_bucket{{{},le=\"{bound}\"}} {below}", series(l)),
                );
            }
            put(
                &mut out,
                format_args!("{name}_bucket{{{},le=\"+Inf\"}} {}", series(l), h.count),
            );
            put(
                &mut out,
                format_args!("{name}_sum{{{}}} {}", series(l), h.sum_seconds),
            );
            put(
                &mut out,
                format_args!("{name}_count{{{}}} {}", series(l), h.count),
            );
        }
        let gauges = [
            (
                "apiserver_current_inflight_requests",
                self.inflight.load(Ordering::Relaxed).max(0) as u64,
            ),
            (
                "apiserver_longrunning_requests",
                self.watches.load(Ordering::Relaxed).max(0) as u64,
            ),
            (
                "apiserver_watch_events_total",
                self.watch_events.load(Ordering::Relaxed),
            ),
        ];
        for (name, value) in gauges.iter().copied().chain(store.iter().copied()) {
            let kind = if name.ends_with("_total") {
                "counter"
            } else {
                "gauge"
            };
            put(&mut out, format_args!("# TYPE {name} {kind}"));
            put(&mut out, format_args!("{name} {value}"));
        }
        out
    }
}

fn series(l: &Labels) -> String {
    format!(
        "verb=\"{}\",group=\"{}\",resource=\"{}\"",
        l.verb, l.group, l.resource
    )
}

/// Counts up while it lives.
pub struct Gauge<'a>(&'a AtomicI64);

impl<'a> Gauge<'a> {
    pub fn new(of: &'a AtomicI64) -> Gauge<'a> {
        of.fetch_add(1, Ordering::Relaxed);
        Gauge(of)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let metrics = Metrics::default();
        let labels = Labels {
            verb: "get",
            group: "".into(),
            resource: "pods".into(),
            code: 200,
        };
        for millis in [0, 2, 2_000, 90_000] {
            metrics.record(labels.clone(), Duration::from_millis(millis));
        }
        let text = metrics.render(&[("store_revision", 7)]);
        for line in [
            "apiserver_request_total{verb=\"get\",group=\"\",resource=\"pods\",code=\"200\"} 4",
            "apiserver_request_duration_seconds_bucket{verb=\"get\",group=\"\",resource=\"pods\",le=\"0.0025\"} 2",
            "apiserver_request_duration_seconds_bucket{verb=\"get\",group=\"\",resource=\"pods\",le=\"5\"} 3",
            "apiserver_request_duration_seconds_bucket{verb=\"get\",group=\"\",resource=\"pods\",le=\"+Inf\"} 4",
            "store_revision 7",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
