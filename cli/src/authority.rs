//! `corten certificate`: new authorities and keys for a cluster while it runs. Shows and asks; the servers decide.

use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;
use http::Request;
use serde_json::Value;

use crate::duration;
use crate::kubeconfig::{self, Credentials};

const PATH: &str = "/corten/v1/authorities";

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
        Verb::Show => (Request::get(PATH.to_owned()), None),
        Verb::RotateCa { finish: false, .. } => (
            Request::post(format!("{PATH}/ca/rotate")),
            Some(
                "The new authorities sign from now on, and the old ones are still trusted. Servers and nodes renew their \
                 certificates by themselves; hand out the new admin.kubeconfig and new join tokens, let aggregated API \
                 servers read ConfigMap extension-apiserver-authentication again, let a witness join anew, then run: \
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
    let answer: Value = client
        .request(request.body(Vec::new())?)
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
    use serde_json::json;

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
