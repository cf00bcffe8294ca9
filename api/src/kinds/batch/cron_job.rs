//! CronJob. Source: `pkg/apis/batch`, defaults and validation, and `pkg/registry/batch/cronjob`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::job::{failure_policy_defaults, spec as job_spec};
use crate::cron;
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::apps::deployment::name_warning;
use crate::kinds::apps::replica_set::pod_columns;
use crate::kinds::common::defaults::{child_or_new, default};
use crate::kinds::common::rules;
use crate::kinds::core::pod::template;
use crate::resource::Kind;
use crate::table::Column;
use crate::{humanize, meta, time};

pub struct CronJob;

const TYPE: &str = "batch.v1.CronJob";
/// The controller appends a hyphen and ten digits to make a Job's name of at most 63 bytes.
const MAX_NAME: usize = 52;
const POLICIES: [&str; 3] = ["Allow", "Forbid", "Replace"];

impl Kind for CronJob {
    fn set_defaults(&self, object: &mut Map<String, Value>) {
        let spec = child_or_new(object, "spec");
        default(spec, "concurrencyPolicy", "Allow");
        default(spec, "suspend", false);
        default(spec, "successfulJobsHistoryLimit", 3);
        default(spec, "failedJobsHistoryLimit", 1);
        let template = child_or_new(spec, "jobTemplate");
        child_or_new(template, "metadata");
        let job = child_or_new(template, "spec");
        failure_policy_defaults(job);
        template::set_defaults(child_or_new(job, "template"));
    }

    fn prepare_create(&self, object: &mut Map<String, Value>) {
        object.insert("status".into(), json!({}));
    }

    fn generation_fields(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn validate(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, TYPE).at("spec");
        match spec.str("schedule") {
            "" => errors.required(spec.path("schedule"), ""),
            schedule => {
                if let Err(text) = cron::parse(schedule) {
                    errors.invalid(spec.path("schedule"), schedule, &text);
                }
            }
        }
        rules::not_negative(&spec, "startingDeadlineSeconds", errors);
        rules::one_of(&spec, "concurrencyPolicy", &POLICIES, errors);
        let job = spec.at("jobTemplate").at("spec");
        job_spec::validate(&job, errors);
        if job.has("selector") {
            errors.invalid(
                job.path("selector"),
                job.get("selector").clone(),
                "`selector` will be auto-generated",
            );
        }
        if job.bool("manualSelector") {
            errors.not_supported(job.path("manualSelector"), true, &["nil", "false"]);
        }
        rules::not_negative(&spec, "successfulJobsHistoryLimit", errors);
        rules::not_negative(&spec, "failedJobsHistoryLimit", errors);
    }

    fn validate_create(&self, object: &Value, errors: &mut FieldErrors) {
        let spec = At::root(object, TYPE).at("spec");
        zone_in_schedule(&spec, false, errors);
        time_zone(&spec, errors);
        let name = meta::name(object);
        if name.len() > MAX_NAME {
            errors.invalid("metadata.name", name, "must be no more than 52 characters");
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut FieldErrors) {
        let (new, old) = (At::root(new, TYPE).at("spec"), At::root(old, TYPE).at("spec"));
        zone_in_schedule(&new, old.str("schedule").contains("TZ"), errors);
        if new.get("timeZone") != old.get("timeZone") {
            time_zone(&new, errors);
        }
    }

    fn warnings_on_create(&self, object: &Value) -> Vec<String> {
        let mut out = name_warning(object);
        out.extend(self.warnings(object));
        out
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let job = At::root(object, TYPE).at("spec").at("jobTemplate").at("spec");
        let mut out = job_spec::warnings(&job);
        let schedule = object["spec"]["schedule"].as_str().unwrap_or_default();
        if schedule.contains("TZ") {
            out.push("CRON_TZ or TZ used in spec.schedule is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".into());
        }
        out
    }

    fn warnings_on_update(&self, new: &Value, old: &Value) -> Vec<String> {
        if meta::generation(new) == meta::generation(old) {
            return Vec::new();
        }
        self.warnings(new)
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::string("Schedule"),
                Column::string("Timezone"),
                Column::string("Suspend"),
                Column::integer("Active"),
                Column::string("Last Schedule"),
                Column::AGE,
                Column::wide("Containers"),
                Column::wide("Images"),
                Column::wide("Selector"),
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (&object["spec"], &object["status"]);
        let suspended = match spec["suspend"].as_bool() {
            Some(true) => "True",
            Some(false) => "False",
            None => "<unset>",
        };
        let last = match status["lastScheduleTime"].as_str() {
            Some(text) => humanize::age(time::parse(text), now),
            None => "<none>".into(),
        };
        let [containers, images, selector] = pod_columns(&spec["jobTemplate"]);
        vec![
            meta::name(object).into(),
            spec["schedule"].as_str().unwrap_or_default().into(),
            spec["timeZone"].as_str().unwrap_or("<none>").into(),
            suspended.into(),
            status["active"].as_array().map_or(0, Vec::len).into(),
            last.into(),
            humanize::age(meta::creation_timestamp(object), now).into(),
            containers,
            images,
            selector,
        ]
    }
}

/// A time zone inside the schedule was never official; only old objects may keep theirs.
fn zone_in_schedule(spec: &At<'_>, allowed: bool, errors: &mut FieldErrors) {
    let schedule = spec.str("schedule");
    if !schedule.contains("TZ") {
        return;
    }
    let text = match allowed {
        true if spec.has("timeZone") => "cannot use both timeZone field and TZ or CRON_TZ in schedule",
        true => return,
        false => "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
    };
    errors.invalid(spec.path("schedule"), schedule, text);
}

fn time_zone(spec: &At<'_>, errors: &mut FieldErrors) {
    let Some(zone) = spec.opt_str("timeZone") else {
        return;
    };
    let place = spec.path("timeZone");
    if zone.is_empty() {
        errors.invalid(place, zone, "timeZone must be nil or non-empty string");
        return;
    }
    let unknown = format!("unknown time zone {zone}");
    if zone.split('/').any(|part| !is_zone_part(part)) {
        errors.invalid(place, zone, &unknown);
        return;
    }
    if zone.eq_ignore_ascii_case("Local") {
        errors.invalid(
            place,
            zone,
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        );
    }
    if !cron::is_time_zone(zone) {
        errors.invalid(place, zone, &unknown);
    }
}

/// One part of a zone's name. Source: the naming rules of the IANA database.
fn is_zone_part(part: &str) -> bool {
    const MAX_PART: usize = 14;
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+');
    !matches!(part, "." | "..")
        && !part.starts_with('-')
        && (1..=MAX_PART).contains(&part.len())
        && part.bytes().all(known)
}
