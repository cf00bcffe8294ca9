//! `corten certificate`: new authorities and keys for a cluster while it runs, and certificates that are refused before their
//! end. Shows and asks; the servers decide.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Subcommand;
use corten_apiserver::pki;
use http::Request;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::duration;
use crate::kubeconfig::{self, Credentials};

const PATH: &str = "/corten/v1/authorities";
const REVOKED_PATH: &str = "/corten/v1/revoked";
/// What an id must not have in a path.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b':');

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    credentials: Credentials,
}

#[derive(Subcommand)]
enum Verb {
    /// Which certificate authorities and which keys for tokens are trusted
    Show,
    /// Make new certificate authorities (the cluster's, the servers' among each other, the front proxy's) and issue every
    /// certificate anew; the old ones are trusted until --finish
    RotateCa {
        /// Trust the newest authorities alone, once all have certificates of them
        #[arg(long)]
        finish: bool,
        /// Finish also when nodes or members would have to join again
        #[arg(long, requires = "finish")]
        force: bool,
    },
    /// Refuse client certificates before their end, on all servers at once, and end their connections
    Revoke {
        /// A certificate, PEM
        #[arg(required_unless_present_any = ["serial", "user"], conflicts_with_all = ["serial", "user"])]
        file: Option<PathBuf>,
        /// Serial number, hexadecimal
        #[arg(long, conflicts_with = "user")]
        serial: Option<String>,
        /// All certificates of this user that were issued until now; system:node:NAME for a node
        #[arg(long)]
        user: Option<String>,
        /// For people
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Which certificates are refused before their end
    Revoked,
    /// Take back what was revoked
    Restore {
        /// As shown by `revoked`, such as user:jane
        id: String,
    },
    /// Make a new key for the tokens of ServiceAccounts; tokens of the old one stay good until --finish
    RotateServiceAccountKey {
        /// Trust the newest key alone: all tokens of former ones end
        #[arg(long)]
        finish: bool,
        /// How long others are shown the new key before it signs
        #[arg(long, default_value = "60s", value_parser = duration::parse, conflicts_with = "finish")]
        overlap: Duration,
    },
}

/// # Errors
/// In words for the user.
pub async fn run(args: Args) -> Result<()> {
    let kubeconfig = args.credentials.find()?;
    let client = kubeconfig::client(&kubeconfig).await?;
    let (request, advice) = match args.verb {
        Verb::Revoke {
            file,
            serial,
            user,
            reason,
        } => {
            let serial = match file {
                Some(file) => Some(serial_in(&file)?),
                None => serial,
            };
            let entry = json!({ "serial": serial.unwrap_or_default(), "user": user.unwrap_or_default(), "reason": reason });
            let request = Request::post(REVOKED_PATH).header("content-type", "application/json");
            return print(&client, request, entry.to_string(), None, revoked_table).await;
        }
        Verb::Revoked => {
            return print(
                &client,
                Request::get(REVOKED_PATH),
                String::new(),
                None,
                revoked_table,
            )
            .await;
        }
        Verb::Restore { id } => {
            let path = format!("{REVOKED_PATH}/{}", utf8_percent_encode(&id, IN_PATH));
            return print(&client, Request::delete(path), String::new(), None, revoked_table).await;
        }
        Verb::Show => (Request::get(PATH.to_owned()), None),
        Verb::RotateCa { finish: false, .. } => (
            Request::post(format!("{PATH}/ca/rotate")),
            Some(
                "The new authorities sign from now on, and the old ones are still trusted. Servers and nodes renew their \
                 certificates by themselves; hand out the new admin.kubeconfig and new join tokens, let aggregated API \
                 servers read ConfigMap extension-apiserver-authentication again, then run: \
                 corten certificate rotate-ca --finish",
            ),
        ),
        Verb::RotateCa { finish: true, force } => (
            Request::post(format!("{PATH}/ca/finish?force={force}")),
            Some("The old authorities are trusted no more. kubeconfigs and join tokens of them are void."),
        ),
        Verb::RotateServiceAccountKey {
            finish: false,
            overlap,
        } => (
            Request::post(format!("{PATH}/account-key/rotate?overlap={}", overlap.as_secs())),
            Some(
                "The new key is shown to everybody from now on and signs after the overlap. Tokens of the old key stay good \
                 until: corten certificate rotate-service-account-key --finish",
            ),
        ),
        Verb::RotateServiceAccountKey { finish: true, .. } => (
            Request::post(format!("{PATH}/account-key/finish")),
            Some(
                "Tokens of former keys are void. Nodes ask for new ones within the life of those in Pods; restart what cannot wait.",
            ),
        ),
    };
    print(&client, request, String::new(), advice, table).await
}

/// Asks, and shows the answer as `table` says.
async fn print(
    client: &kube::Client,
    request: http::request::Builder,
    body: String,
    advice: Option<&str>,
    table: fn(&Value) -> String,
) -> Result<()> {
    let answer: Value =
        client
            .request(request.body(body.into_bytes())?)
            .await
            .map_err(|error| match error {
                kube::Error::Api(status) => anyhow::anyhow!("{}", status.message),
                error => error.into(),
            })?;
    print!("{}", table(&answer));
    if let Some(advice) = advice {
        println!("{advice}");
    }
    Ok(())
}

fn serial_in(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    pki::serial_of(&text).with_context(|| format!("{} holds no certificate", file.display()))
}

/// One entry, all of them, or what was taken back.
fn revoked_table(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if answer["restored"].is_string() {
        return format!("{} restored\n", text(&answer["restored"]));
    }
    let one = |item: &Value| {
        let entry = &item["entry"];
        let at = entry["at"]
            .as_i64()
            .and_then(|at| jiff::Timestamp::from_second(at).ok());
        let at = at.map(|at| at.to_string()).unwrap_or_default();
        let line = format!(
            "{}  since {at}  by {}  {}",
            text(&item["id"]),
            text(&entry["by"]),
            text(&entry["reason"])
        );
        format!("{}\n", line.trim_end())
    };
    match answer["items"].as_array() {
        Some(items) => items.iter().map(one).collect(),
        None => one(answer),
    }
}

fn table(answer: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut out = String::new();
    for (title, field) in [
        ("certificate authority", "certificateAuthorities"),
        ("peer authority", "peerAuthorities"),
        ("front-proxy authority", "frontProxyAuthorities"),
    ] {
        for (place, authority) in answer[field].as_array().into_iter().flatten().enumerate() {
            out += &format!(
                "{title:<22} {:<8} {}  sha256 {}  until {}\n",
                if place == 0 { "newest" } else { "old" },
                text(&authority["subject"]),
                text(&authority["sha256"]),
                text(&authority["notAfter"]),
            );
        }
    }
    for (place, key) in answer["serviceAccountKeys"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let age = if place == 0 { "newest" } else { "old" };
        out += &format!("service account key    {age:<8} {}\n", text(&key["kid"]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_lines() {
        let entry =
            json!({ "id": "user:jane", "entry": { "user": "jane", "at": 1_767_225_600, "by": "admin" } });
        let line = "user:jane  since 2026-01-01T00:00:00Z  by admin\n";
        assert_eq!(revoked_table(&entry), line);
        assert_eq!(revoked_table(&json!({ "items": [entry, entry] })), line.repeat(2));
        assert_eq!(
            revoked_table(&json!({ "restored": "serial:ab" })),
            "serial:ab restored\n"
        );
    }

    #[test]
    fn the_newest_comes_first() {
        let answer = json!({
            "certificateAuthorities": [
                { "subject": "CN=b", "sha256": "22", "notAfter": "2036-01-01T00:00:00Z" },
                { "subject": "CN=a", "sha256": "11", "notAfter": "2035-01-01T00:00:00Z" },
            ],
            "peerAuthorities": [{ "subject": "CN=p", "sha256": "33", "notAfter": "2036-01-01T00:00:00Z" }],
            "serviceAccountKeys": [{ "kid": "k" }],
        });
        assert_eq!(
            table(&answer),
            "certificate authority  newest   CN=b  sha256 22  until 2036-01-01T00:00:00Z\n\
             certificate authority  old      CN=a  sha256 11  until 2035-01-01T00:00:00Z\n\
             peer authority         newest   CN=p  sha256 33  until 2036-01-01T00:00:00Z\n\
             service account key    newest   k\n"
        );
    }
}
