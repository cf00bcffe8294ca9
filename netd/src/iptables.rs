//! Rules to the kernel: rendering (pure), and running `iptables-save` and `iptables-restore`.
//!
//! Knows tables, chains and our own names. Must not know Services. Chains of others are never named: a restore runs
//! with `--noflush`, declares only chains that begin with [`CHAIN_PREFIX`], and each table changes in one step.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

use crate::service::rule::{CHAIN_PREFIX, HOOKS, Hook, Rule, Ruleset};

/// How long to wait for another program that holds the legacy tables' lock, in seconds.
const LOCK_WAIT_SECONDS: &str = "10";

#[derive(Debug, thiserror::Error)]
pub enum IptablesError {
    #[error("run {program}")]
    Run {
        program: &'static str,
        source: std::io::Error,
    },
    #[error("{program} failed: {message}")]
    Failed { program: &'static str, message: String },
}

/// What is ours in one table of the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PresentTable {
    pub chains: BTreeSet<String>,
    /// Rules of other chains that lead into ours, as `iptables-save` prints them.
    pub hooks: Vec<String>,
}

/// What is ours in the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    pub nat: PresentTable,
    pub filter: PresentTable,
}

impl Present {
    fn table(&self, name: &str) -> &PresentTable {
        if name == "nat" { &self.nat } else { &self.filter }
    }

    /// Reads the output of `iptables-save`.
    pub fn parse(saved: &str) -> Present {
        let mut present = Present::default();
        let mut unknown = PresentTable::default();
        let mut table = &mut unknown;
        for line in saved.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = match name {
                    "nat" => &mut present.nat,
                    "filter" => &mut present.filter,
                    _ => &mut unknown,
                };
            } else if let Some(declared) = line.strip_prefix(':') {
                let name = declared.split(' ').next().unwrap_or_default();
                if name.starts_with(CHAIN_PREFIX) {
                    table.chains.insert(name.to_string());
                }
            } else if let Some(rule) = line.strip_prefix("-A ") {
                let target = rule
                    .rsplit_once(" -j ")
                    .or(rule.rsplit_once(" -g "))
                    .map_or("", |(_, target)| target);
                if !rule.starts_with(CHAIN_PREFIX) && target.starts_with(CHAIN_PREFIX) {
                    table.hooks.push(line.to_string());
                }
            }
        }
        present
    }
}

/// The text that brings the kernel from `present`, whatever its chains hold, to `wanted`.
pub fn full_text(present: &Present, wanted: &Ruleset) -> String {
    let mut text = String::new();
    for (table, chains) in wanted.tables() {
        let present = present.table(table);
        let stale = present
            .chains
            .iter()
            .filter(|name| !chains.contains_key(*name))
            .map(String::as_str)
            .collect();
        let changed = chains.iter().collect();
        let hooks = HOOKS
            .iter()
            .filter(|hook| hook.table == table)
            .copied()
            .collect::<Vec<_>>();
        write_table(
            &mut text,
            table,
            changed,
            stale,
            hook_changes(&present.hooks, &hooks),
        );
    }
    text
}

/// The text that brings the kernel from `old`, which is known to be in place, to `new`; `None` if they are equal.
pub fn delta_text(old: &Ruleset, new: &Ruleset) -> Option<String> {
    let mut text = String::new();
    for ((table, old), (_, new)) in old.tables().into_iter().zip(new.tables()) {
        let changed: Vec<_> = new
            .iter()
            .filter(|(name, rules)| old.get(*name) != Some(rules))
            .collect();
        let stale: Vec<&str> = old
            .keys()
            .filter(|name| !new.contains_key(*name))
            .map(String::as_str)
            .collect();
        if !changed.is_empty() || !stale.is_empty() {
            write_table(&mut text, table, changed, stale, Vec::new());
        }
    }
    (!text.is_empty()).then_some(text)
}

/// The text that fills one chain and leaves all others alone.
pub fn chain_text(table: &str, name: &str, rules: &[Rule]) -> String {
    let (name, rules) = (name.to_string(), rules.to_vec());
    let mut text = String::new();
    write_table(&mut text, table, vec![(&name, &rules)], Vec::new(), Vec::new());
    text
}

/// The text that removes everything of ours.
pub fn cleanup_text(present: &Present) -> Option<String> {
    let mut text = String::new();
    for table in ["nat", "filter"] {
        let present = present.table(table);
        if !present.chains.is_empty() || !present.hooks.is_empty() {
            let stale = present.chains.iter().map(String::as_str).collect();
            write_table(
                &mut text,
                table,
                Vec::new(),
                stale,
                hook_changes(&present.hooks, &[]),
            );
        }
    }
    (!text.is_empty()).then_some(text)
}

/// Each wanted hook exactly once, at the head of its chain; nothing to do where that is so already.
fn hook_changes(present: &[String], wanted: &[Hook]) -> Vec<String> {
    let plain = |hook: &Hook| format!("-A {} -j {}", hook.built_in, hook.chain);
    let mut changes = Vec::new();
    let mut missing: Vec<&Hook> = wanted.iter().collect();
    for line in present {
        match missing.iter().position(|hook| plain(hook) == *line) {
            Some(idx) => {
                missing.remove(idx);
            }
            None => changes.push(line.replacen("-A ", "-D ", 1)),
        }
    }
    changes.extend(
        missing
            .iter()
            .map(|hook| format!("-I {} 1 -j {}", hook.built_in, hook.chain)),
    );
    changes
}

/// One table's part of a restore. A declared chain is emptied, so `changed` chains end up with just their rules.
fn write_table(
    text: &mut String,
    table: &str,
    changed: Vec<(&String, &Vec<Rule>)>,
    stale: Vec<&str>,
    hooks: Vec<String>,
) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "*{table}");
    for name in changed
        .iter()
        .map(|(name, _)| name.as_str())
        .chain(stale.iter().copied())
    {
        let _ = writeln!(text, ":{name} - [0:0]");
    }
    for hook in hooks {
        let _ = writeln!(text, "{hook}");
    }
    for (name, rules) in changed {
        for rule in rules {
            let _ = writeln!(text, "-A {name}{rule}");
        }
    }
    for name in stale {
        let _ = writeln!(text, "-X {name}");
    }
    text.push_str("COMMIT\n");
}

/// What is ours in the kernel of this namespace.
pub async fn present() -> Result<Present, IptablesError> {
    const PROGRAM: &str = "iptables-save";
    let output = tokio::process::Command::new(PROGRAM)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|source| IptablesError::Run {
            program: PROGRAM,
            source,
        })?;
    if !output.status.success() {
        return Err(failed(PROGRAM, &output.stderr));
    }
    Ok(Present::parse(&String::from_utf8_lossy(&output.stdout)))
}

const RESTORE: &str = "iptables-restore";
const RESTORE_ARGUMENTS: [&str; 3] = ["--noflush", "-w", LOCK_WAIT_SECONDS];

fn failed(program: &'static str, stderr: &[u8]) -> IptablesError {
    IptablesError::Failed {
        program,
        message: String::from_utf8_lossy(stderr).trim().replace('\n', "; "),
    }
}

/// Applies `text`: each table changes completely or not at all.
pub async fn restore(text: &str) -> Result<(), IptablesError> {
    let text = text.to_string();
    tokio::task::spawn_blocking(move || restore_blocking(&text))
        .await
        .map_err(|error| IptablesError::Run {
            program: RESTORE,
            source: std::io::Error::other(error),
        })?
}

/// As [`restore`], for the plug-in, which has one thread and nothing else to do.
pub fn restore_blocking(text: &str) -> Result<(), IptablesError> {
    let run = |source| IptablesError::Run {
        program: RESTORE,
        source,
    };
    let mut child = std::process::Command::new(RESTORE)
        .args(RESTORE_ARGUMENTS)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(run)?;
    let mut stdin = child
        .stdin
        .take()
        .ok_or_else(|| run(std::io::Error::other("no standard input")))?;
    let written = stdin.write_all(text.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().map_err(run)?;
    if !output.status.success() {
        return Err(failed(RESTORE, &output.stderr));
    }
    written.map_err(run)
}

/// Removes every chain and hook of ours from this namespace and nothing else; may be run twice.
pub async fn cleanup() -> Result<(), IptablesError> {
    match cleanup_text(&present().await?) {
        Some(text) => restore(&text).await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::rule::{Match, Target};

    fn ruleset(nat: &[(&str, &[&str])]) -> Ruleset {
        let mut rules = Ruleset::default();
        for (name, targets) in nat {
            let chain = targets.iter().map(|target| Rule::jump([], *target)).collect();
            rules.nat.insert((*name).to_string(), chain);
        }
        rules
    }

    #[track_caller]
    fn check(text: Option<String>, expected: &str) {
        let lines = text.unwrap_or_default();
        assert_eq!(lines.lines().collect::<Vec<_>>().join(" | "), expected);
    }

    #[test]
    fn a_delta_names_only_what_changed() {
        let old = ruleset(&[("CORTEN-A", &["X"]), ("CORTEN-B", &["Y"]), ("CORTEN-C", &[])]);
        check(delta_text(&old, &old), "");
        let new = ruleset(&[("CORTEN-A", &["X"]), ("CORTEN-B", &["Z"]), ("CORTEN-D", &[])]);
        check(
            delta_text(&old, &new),
            "*nat | :CORTEN-B - [0:0] | :CORTEN-D - [0:0] | :CORTEN-C - [0:0] | -A CORTEN-B -j Z | -X CORTEN-C | COMMIT",
        );
    }

    #[test]
    fn a_full_sync_removes_stale_chains_and_sets_hooks_once() {
        let saved = "*nat\n:PREROUTING ACCEPT [1:2]\n:DOCKER - [0:0]\n:CORTEN-OLD - [0:0]\n-A PREROUTING -j DOCKER\n\
            -A PREROUTING -j CORTEN-SERVICES\n-A PREROUTING -j CORTEN-SERVICES\n-A OUTPUT -m comment --comment x -j CORTEN-OLD\n\
            -A CORTEN-OLD -j CORTEN-MARK\nCOMMIT\n*mangle\n:CORTEN-M - [0:0]\nCOMMIT\n";
        let present = Present::parse(saved);
        assert_eq!(present.nat.chains.iter().collect::<Vec<_>>(), ["CORTEN-OLD"]);
        let text = full_text(&present, &ruleset(&[("CORTEN-SERVICES", &["X"])]));
        let nat = text.split("*filter").next().map(str::to_string);
        check(
            nat,
            "*nat | :CORTEN-SERVICES - [0:0] | :CORTEN-OLD - [0:0] | -D PREROUTING -j CORTEN-SERVICES | \
             -D OUTPUT -m comment --comment x -j CORTEN-OLD | -I OUTPUT 1 -j CORTEN-SERVICES | \
             -I POSTROUTING 1 -j CORTEN-POSTROUTING | -A CORTEN-SERVICES -j X | -X CORTEN-OLD | COMMIT",
        );
        check(
            cleanup_text(&Present::parse(
                "*filter\n:CORTEN-A - [0:0]\n-A INPUT -j CORTEN-A\nCOMMIT\n",
            )),
            "*filter | :CORTEN-A - [0:0] | -D INPUT -j CORTEN-A | -X CORTEN-A | COMMIT",
        );
        check(cleanup_text(&Present::default()), "");
    }

    #[test]
    fn rules_are_written_as_iptables_reads_them() {
        let rule = Rule::new(
            [
                Match::Port(crate::service::rule::Protocol::Tcp, 80),
                Match::OneIn(3),
                Match::NotFromPod,
            ],
            Target::Dnat("10.0.0.1:8080".parse().unwrap()),
        )
        .comment("shop/web:http");
        assert_eq!(
            rule.to_string(),
            " -m comment --comment \"shop/web:http\" -p tcp -m tcp --dport 80 -m statistic --mode random \
             --probability 0.3333333333 ! -i cpod+ -j DNAT --to-destination 10.0.0.1:8080"
        );
    }
}
