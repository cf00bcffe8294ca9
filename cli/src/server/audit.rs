//! The flags of the audit log, as kube-apiserver has them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use corten_apiserver::audit::file::Rotation;
use corten_apiserver::audit::log::{Log, Settings};
use corten_apiserver::audit::policy::Policy;
use corten_apiserver::audit::{Audit, Mode};

/// Megabytes of one file when the flag says 0. Source: lumberjack.
const DEFAULT_MEGABYTES: u64 = 100;

#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// A file with the audit policy (audit.k8s.io/v1 Policy) [default: writes with their objects, reads without, nothing of
    /// the contents of Secrets, ConfigMaps and tokens]
    #[arg(long)]
    audit_policy_file: Option<PathBuf>,
    /// Record requests in this file; `-` means standard output
    #[arg(long)]
    audit_log_path: Option<PathBuf>,
    /// Days that rotated audit logs are kept; 0: for ever
    #[arg(long, default_value_t = 0)]
    audit_log_maxage: u32,
    /// Rotated audit logs that are kept; 0: all
    #[arg(long, default_value_t = 0)]
    audit_log_maxbackup: usize,
    /// Megabytes of an audit log before it is rotated
    #[arg(long, default_value_t = DEFAULT_MEGABYTES)]
    audit_log_maxsize: u64,
    /// What happens when the log cannot be written. blocking: requests wait for it, and are answered all the same;
    /// blocking-strict: requests are refused; batch: no request waits
    /// [default: blocking; hardened: blocking-strict]
    #[arg(long, value_parser = mode)]
    audit_log_mode: Option<Mode>,
    /// Each line of the audit log carries a digest of the ones before; `corten audit verify` checks them
    #[arg(long)]
    audit_log_chain: bool,
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "blocking" => Ok(Mode::Blocking),
        "blocking-strict" => Ok(Mode::BlockingStrict),
        "batch" => Ok(Mode::Batch),
        _ => Err(format!(
            "invalid audit log mode {text}, allowed modes are \"batch,blocking,blocking-strict\""
        )),
    }
}

impl Args {
    /// `always`: where to without a path; such a log is strict and chained.
    ///
    /// # Errors
    /// A bad policy, or a log that cannot be opened: a server that has to record does not start without.
    pub fn open(&self, always: Option<&Path>) -> Result<Option<Arc<Audit>>> {
        let policy = match &self.audit_policy_file {
            Some(path) => read(path).context("loading audit policy file")?,
            None => Policy::built_in(),
        };
        let Some(path) = self.audit_log_path.as_deref().or(always) else {
            return Ok(None);
        };
        let megabytes = match self.audit_log_maxsize {
            0 => DEFAULT_MEGABYTES,
            megabytes => megabytes,
        };
        let settings = Settings {
            path: path.to_owned(),
            rotation: Rotation {
                max_bytes: megabytes.saturating_mul(1024 * 1024),
                max_backups: self.audit_log_maxbackup,
                max_age_days: self.audit_log_maxage,
            },
            chained: self.audit_log_chain || always.is_some(),
        };
        let log = Log::open(&settings).with_context(|| format!("open the audit log {}", path.display()))?;
        let mode = self.audit_log_mode.unwrap_or(match always {
            Some(_) => Mode::BlockingStrict,
            None => Mode::Blocking,
        });
        Ok(Some(Arc::new(Audit::new(policy, log, mode))))
    }
}

fn read(path: &Path) -> Result<Policy> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read file path {:?}", path.display().to_string()))?;
    Policy::parse(&text).map_err(|why| anyhow::anyhow!("{why}: from file {}", path.display()))
}
