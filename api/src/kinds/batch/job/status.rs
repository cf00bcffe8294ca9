//! What a status update of a Job may say. Source: `pkg/apis/batch/validation`, `ValidateJobStatusUpdate`, with the
//! options of `pkg/registry/batch/job`: most rules hold only for what the update changes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{TYPE, has_condition, indexes};
use crate::cursor::At;
use crate::field::FieldErrors;
use crate::kinds::common::{go_value, rules};

/// One Job, before or after the update.
struct Side<'a> {
    job: &'a Value,
    status: At<'a>,
}

impl<'a> Side<'a> {
    fn new(job: &'a Value) -> Self {
        Self {
            job,
            status: At::root(job, TYPE).at("status"),
        }
    }

    fn is(&self, condition: &str) -> bool {
        has_condition(&self.job["status"], condition)
    }

    fn finished(&self) -> bool {
        self.is("Complete") || self.is("Failed")
    }
}

pub fn validate(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (new, old) = (Side::new(new), Side::new(old));
    counters(&new, errors);
    conditions(&new, &old, errors);
    times(&new, &old, errors);
    finished(&new, &old, errors);
    index_lists(&new, &old, errors);
    progress(&new, &old, errors);
}

fn counters(new: &Side<'_>, errors: &mut FieldErrors) {
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        rules::not_negative(&new.status, field, errors);
    }
    let Some(uncounted) = new.status.opt("uncountedTerminatedPods") else {
        return;
    };
    let mut seen = BTreeSet::new();
    for list in ["succeeded", "failed"] {
        for uid in uncounted.items(list) {
            if uid.text().is_empty() {
                errors.invalid(&uid, "", "must not be empty");
            } else if !seen.insert(uid.text()) {
                errors.duplicate(&uid, uid.text());
            }
        }
    }
}

fn conditions(new: &Side<'_>, old: &Side<'_>, errors: &mut FieldErrors) {
    let changed = |condition: &str| new.is(condition) != old.is(condition);
    let complete = changed("Complete");
    let mut refuse = |holds: bool, text: &str| {
        if holds {
            errors.invalid_without_value(new.status.path("conditions"), text);
        }
    };
    refuse(
        (complete || changed("Failed")) && new.is("Complete") && new.is("Failed"),
        "cannot set Complete=True and Failed=true conditions",
    );
    refuse(
        (complete || changed("FailureTarget")) && new.is("Complete") && new.is("FailureTarget"),
        "cannot set Complete=True and FailureTarget=true conditions",
    );
    refuse(
        (changed("Failed") || changed("FailureTarget")) && new.is("Failed") && !new.is("FailureTarget"),
        "cannot set Failed=True condition without the FailureTarget=true condition",
    );
    refuse(
        (complete || changed("SuccessCriteriaMet")) && new.is("Complete") && !new.is("SuccessCriteriaMet"),
        "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    );
    refuse(
        new.is("SuccessCriteriaMet") && new.is("Failed"),
        "cannot set SuccessCriteriaMet=True and Failed=true conditions",
    );
    refuse(
        new.is("SuccessCriteriaMet") && new.is("FailureTarget"),
        "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
    );
    refuse(
        !new.job["spec"]["successPolicy"].is_null() && !new.is("SuccessCriteriaMet") && new.is("Complete"),
        "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
    );
    for condition in ["Failed", "Complete", "FailureTarget", "SuccessCriteriaMet"] {
        let terminal = if condition == "SuccessCriteriaMet" {
            ""
        } else {
            "terminal "
        };
        refuse(
            old.is(condition) && !new.is(condition),
            &format!("cannot disable the {terminal}{condition}=True condition"),
        );
    }
    refuse(
        old.is("Complete") && !old.is("SuccessCriteriaMet") && new.is("SuccessCriteriaMet"),
        "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
    );
}

fn times(new: &Side<'_>, old: &Side<'_>, errors: &mut FieldErrors) {
    let changed = |field| new.status.get(field) != old.status.get(field);
    let (started, ended) = (new.status.get("startTime"), new.status.get("completionTime"));
    let end_place = new.status.path("completionTime");
    let complete_changed = new.is("Complete") != old.is("Complete");
    if complete_changed || changed("completionTime") {
        if !ended.is_null() && !new.is("Complete") {
            errors.invalid(
                end_place,
                ended.clone(),
                "cannot set completionTime when there is no Complete=True condition",
            );
        }
        if ended.is_null() && new.is("Complete") {
            errors.required(end_place, "completionTime is required for Complete jobs");
        }
    }
    // Times of this form order as text.
    if (changed("startTime") || changed("completionTime"))
        && let (Some(start), Some(end)) = (started.as_str(), ended.as_str())
        && end < start
    {
        errors.invalid(end_place, end, "completionTime cannot be set before startTime");
    }
    if !ended.is_null() && !old.status.get("completionTime").is_null() && changed("completionTime") {
        errors.invalid(end_place, ended.clone(), "completionTime cannot be mutated");
    }
    let resumes = old.is("Suspended") && !new.is("Suspended");
    if changed("startTime")
        && !old.status.get("startTime").is_null()
        && new.job["spec"]["suspend"] != true
        && !resumes
    {
        errors.required(
            new.status.path("startTime"),
            "startTime cannot be removed for unsuspended job",
        );
    }
}

/// What a Job that is over may not have.
fn finished(new: &Side<'_>, old: &Side<'_>, errors: &mut FieldErrors) {
    let status = &new.status;
    let changed = |field| status.get(field) != old.status.get(field);
    let over = new.finished();
    let just = over != old.finished();
    if (just || changed("active")) && over && status.int("active") > 0 {
        errors.invalid(
            status.path("active"),
            status.int("active"),
            "active>0 is invalid for finished job",
        );
    }
    let spec = &new.job["spec"];
    let never_ran = spec["suspend"] == true && spec["completions"] == 0;
    if (just || changed("startTime")) && !never_ran && over && !status.has("startTime") {
        errors.required(status.path("startTime"), "startTime is required for finished job");
    }
    let uncounted = status.at("uncountedTerminatedPods");
    if (just || changed("uncountedTerminatedPods"))
        && over
        && uncounted.count("succeeded") + uncounted.count("failed") > 0
    {
        errors.invalid(
            uncounted.here(),
            shown_uncounted(&uncounted),
            "uncountedTerminatedPods needs to be empty for finished job",
        );
    }
    if (just || changed("terminating")) && over && status.int("terminating") > 0 {
        errors.invalid(
            status.path("terminating"),
            status.int("terminating"),
            "terminating>0 is invalid for finished job",
        );
    }
    if (changed("ready") || changed("active"))
        && let Some(ready) = status.opt_int("ready")
        && ready > status.int("active")
    {
        errors.invalid(
            status.path("ready"),
            ready,
            "cannot set more ready pods than active",
        );
    }
}

/// The lists in Go's own form.
fn shown_uncounted(at: &At<'_>) -> go_value::Raw {
    go_value::Raw(format!(
        "{{\"Succeeded\":{},\"Failed\":{}}}",
        at.get("succeeded"),
        at.get("failed")
    ))
}

fn index_lists(new: &Side<'_>, old: &Side<'_>, errors: &mut FieldErrors) {
    let status = &new.status;
    let changed = |field| status.get(field) != old.status.get(field);
    let (done_changed, failed_changed) = (changed("completedIndexes"), changed("failedIndexes"));
    let spec = &new.job["spec"];
    let completions = spec["completions"].as_i64();
    let per_index = !spec["backoffLimitPerIndex"].is_null();
    let (done, failed) = (status.str("completedIndexes"), status.opt_str("failedIndexes"));
    let mut parse = |field: &'static str, list: &str, completions| {
        if let Err(error) = indexes::count(list, completions) {
            errors.invalid(
                status.path(field),
                list,
                &format!("error parsing {field}: {error}"),
            );
        }
    };
    if let Some(completions) = completions {
        if done_changed {
            parse("completedIndexes", done, completions);
        }
        if let Some(failed) = failed.filter(|_| failed_changed && per_index) {
            parse("failedIndexes", failed, completions);
        }
    }
    if done_changed && !done.is_empty() && spec["completionMode"] != "Indexed" {
        errors.invalid(
            status.path("completedIndexes"),
            done,
            "cannot set non-empty completedIndexes when non-indexed completion mode",
        );
    }
    let Some(failed) = failed else { return };
    if failed_changed && !per_index {
        errors.invalid(
            status.path("failedIndexes"),
            failed,
            "cannot set non-null failedIndexes when backoffLimitPerIndex is null",
        );
    }
    if (failed_changed || done_changed)
        && let Some(index) = completions.and_then(|c| indexes::overlap(done, failed, c))
    {
        errors.invalid(
            status.path("failedIndexes"),
            failed,
            &format!("failedIndexes and completedIndexes overlap at index: {index}"),
        );
    }
}

/// Counters of what ended only grow.
fn progress(new: &Side<'_>, old: &Side<'_>, errors: &mut FieldErrors) {
    let spec = &new.job["spec"];
    // An elastic Indexed Job that shrinks forgets Pods that succeeded.
    let elastic = spec["completionMode"] == "Indexed" && spec["completions"] == spec["parallelism"];
    for (field, may_shrink) in [("failed", false), ("succeeded", elastic)] {
        if !may_shrink && new.status.int(field) < old.status.int(field) {
            errors.invalid(
                new.status.path(field),
                new.status.int(field),
                &format!("cannot decrease the {field} counter"),
            );
        }
    }
}
