//! `corten member`: the servers of a cluster as members of its store. Shows and asks; the servers decide.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Subcommand;
use corten_api::humanize;
use http::Request;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::kubeconfig::{self, Credentials};

const PATH: &str = "/corten/v1/members";

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    credentials: Credentials,
}

#[derive(Subcommand)]
enum Verb {
    /// List the members
    List,
    /// Everything a member says about itself, or all of them
    Status {
        /// Id or name
        member: Option<String>,
    },
    /// Remove a member for good, such as one whose machine is lost; its id is never taken in again
    Remove {
        /// Id or name
        member: String,
        /// Also when too few of those that stay are alive
        #[arg(long)]
        force: bool,
    },
    /// Take the server of this machine out of the cluster in order: it hands over, and stops when the others know
    Leave {
        /// The folder of this machine's server
        #[arg(long, default_value = "/var/lib/corten/server")]
        data_dir: PathBuf,
    },
    /// Remove a member whose machine is lost, and print how another one takes its place
    Replace {
        /// Id or name
        member: String,
        /// Also when too few of those that stay are alive
        #[arg(long)]
        force: bool,
    },
    /// Make a learner a voter now (the leader does so by itself once it has caught up)
    Promote {
        /// Id or name
        member: String,
    },
    /// Make a member lead
    Transfer {
        /// Id or name
        member: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    cluster: String,
    term: u64,
    members: Vec<Value>,
}

/// # Errors
/// In words for the user.
pub async fn run(args: Args) -> Result<()> {
    // Another server must not be asked to leave because a variable names it.
    let kubeconfig = match &args.verb {
        Verb::Leave { data_dir } => data_dir.join("admin.kubeconfig"),
        _ => args.credentials.find()?,
    };
    let client = kubeconfig::client(&kubeconfig).await?;
    let list = |path: String| {
        let client = client.clone();
        async move { ask::<Members>(&client, Request::get(path)).await }
    };
    match args.verb {
        Verb::List => print!("{}", table(&list(PATH.into()).await?.members, Timestamp::now())),
        Verb::Status { member } => {
            let path = member.map_or_else(|| PATH.to_owned(), |member| format!("{PATH}/{member}"));
            let members = list(path).await?;
            println!("cluster {}  term {}", members.cluster, members.term);
            for member in &members.members {
                println!("{}", serde_json::to_string_pretty(member)?);
            }
        }
        Verb::Remove { member, force } => {
            let path = format!("{PATH}/{member}?force={force}");
            ask::<Value>(&client, Request::delete(path)).await?;
            println!("member {member} removed");
        }
        Verb::Leave { .. } => {
            let left: Value = ask(&client, Request::post(format!("{PATH}/leave"))).await?;
            println!(
                "member {} has left: its server stops",
                left["removed"].as_str().unwrap_or_default()
            );
        }
        Verb::Replace { member, force } => {
            let found = list(format!("{PATH}/{member}")).await?;
            let witness = found.members.iter().any(|member| member["witness"] == true);
            ask::<Value>(&client, Request::delete(format!("{PATH}/{member}?force={force}"))).await?;
            let stay = list(PATH.into()).await?.members;
            let leader = stay.iter().find(|member| member["role"] == "leader");
            let url = leader
                .and_then(|leader| leader["api"].as_str())
                .context("no server leads")?;
            let token = crate::token::for_servers(&client).await?;
            println!("member {member} removed; on the new machine, with an empty data folder:\n");
            println!(
                "  corten server --join https://{url} --token {}{} --advertise-address ADDRESS",
                token.reveal(),
                if witness { " --witness" } else { "" }
            );
        }
        Verb::Promote { member } => {
            ask::<Value>(&client, Request::post(format!("{PATH}/{member}/promote"))).await?;
            println!("member {member} votes");
        }
        Verb::Transfer { member } => {
            ask::<Value>(&client, Request::post(format!("{PATH}/{member}/transfer"))).await?;
            println!("member {member} leads");
        }
    }
    Ok(())
}

async fn ask<T: serde::de::DeserializeOwned>(
    client: &kube::Client,
    request: http::request::Builder,
) -> Result<T> {
    client
        .request(request.body(Vec::new())?)
        .await
        .map_err(|error| match error {
            kube::Error::Api(status) => anyhow::anyhow!("{}", status.message),
            error => error.into(),
        })
}

/// MENDED: how often this process found something damaged on its disk, and replaced it.
const HEADS: [&str; 13] = [
    "ID", "NAME", "PEER", "API", "ROLE", "TERM", "APPLIED", "LAG", "DISK", "FREE", "HEALTH", "MENDED",
    "HALTED",
];

fn table(members: &[Value], now: Timestamp) -> String {
    let rows = members.iter().map(|member| row(member, now));
    let rows: Vec<[String; HEADS.len()]> = std::iter::once(HEADS.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    let line = |row: &[String; HEADS.len()]| {
        let cells = row.iter().zip(&widths);
        let text: String = cells.map(|(cell, width)| format!("{cell:<width$}   ")).collect();
        format!("{}\n", text.trim_end())
    };
    rows.iter().map(line).collect()
}

fn row(member: &Value, now: Timestamp) -> [String; HEADS.len()] {
    let text = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => "-".to_owned(),
    };
    let about = &member["about"];
    let disk = about["logBytes"]
        .as_u64()
        .zip(about["imageBytes"].as_u64())
        .map_or_else(|| "-".to_owned(), |(log, image)| mebibytes(log + image));
    [
        text(&member["id"]),
        text(&member["name"]),
        text(&member["peer"]),
        text(&member["api"]),
        text(&member["role"]),
        text(&about["term"]),
        text(&about["applied"]),
        text(&member["lag"]),
        disk,
        about["diskFreeBytes"]
            .as_u64()
            .map_or_else(|| "-".to_owned(), mebibytes),
        text(&member["health"]),
        text(&about["damages"]),
        halted(&about["halted"], now),
    ]
}

/// Why the member stopped itself the last time, and how long ago; its supervisor has started it again since.
fn halted(halted: &Value, now: Timestamp) -> String {
    let at = halted["at"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
    match (at, halted["reason"].as_str()) {
        (Some(at), Some(reason)) => format!("{} ago: {reason}", humanize::age(Some(at), now)),
        _ => "-".to_owned(),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}Mi", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_member_that_does_not_answer_has_dashes() {
        let members = [
            json!({ "id": "ab", "name": "s0", "peer": "192.0.2.1:6444", "api": "192.0.2.1:6443", "role": "leader",
                "health": "healthy", "lag": 0, "about": { "term": 3, "applied": 17, "logBytes": 1 << 20, "imageBytes": 0,
                "diskFreeBytes": 5 << 20, "damages": 2, "halted": { "at": "2026-01-01T00:00:00Z", "reason": "write the log" } } }),
            json!({ "id": "cd", "name": "", "peer": "192.0.2.2:6444", "api": "", "role": "voter",
                "health": "unreachable", "about": null }),
        ];
        let now: Timestamp = "2026-01-01T00:00:30Z".parse().expect("a time");
        let table = table(&members, now);
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[1][3..],
            [
                "192.0.2.1:6443",
                "leader",
                "3",
                "17",
                "0",
                "1.0Mi",
                "5.0Mi",
                "healthy",
                "2",
                "30s",
                "ago:",
                "write",
                "the",
                "log"
            ]
        );
        assert_eq!(
            lines[2][3..],
            ["-", "voter", "-", "-", "-", "-", "-", "unreachable", "-", "-"]
        );
    }
}
