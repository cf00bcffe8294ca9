//! Kinds of the batch group.

pub mod cron_job;
pub mod job;

use crate::resource::{ResourceType, SubresourceType};

pub(crate) const RESOURCES: &[ResourceType] = &[
    ResourceType::new(
        ["batch", "v1", "CronJob", "cronjobs"],
        "cronjob",
        "batch.v1.CronJob",
        &cron_job::CronJob,
    )
    .short(&["cj"])
    .categories(&["all"])
    .subresources(&[SubresourceType::status("CronJob")]),
    ResourceType::new(["batch", "v1", "Job", "jobs"], "job", "batch.v1.Job", &job::Job)
        .categories(&["all"])
        .subresources(&[SubresourceType::status("Job")]),
];
