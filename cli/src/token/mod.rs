//! `corten token`: makes, lists and deletes the tokens that machines join with.
//!
//! Tokens are Kubernetes' bootstrap tokens, Secrets of `kube-system`; what is special is that the text people pass on also
//! names the cluster's CA. Source of words and table: `kubeadm token`.

mod form;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use corten_client::join::{CaHash, JoinToken, is_bootstrap_token};
use corten_client::{ApiClient, DeleteOptions, ObjectKey, Selection};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use crate::duration;
use crate::kubeconfig::{self, Credentials};

const NAMESPACE: &str = "kube-system";

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    credentials: Credentials,
}

#[derive(Subcommand)]
enum Verb {
    /// Make a token and print it, ready for `corten agent --token`
    Create(CreateArgs),
    /// List the tokens
    List,
    /// Delete tokens by their id, or as a whole
    Delete {
        /// `ID`, `ID.SECRET` or the whole token
        #[arg(required = true)]
        tokens: Vec<String>,
    },
}

#[derive(clap::Args)]
struct CreateArgs {
    /// `ID.SECRET`, 6 and 16 characters of a-z and 0-9 [default: random]
    token: Option<String>,
    /// How long it is good for, such as 30m or 24h; 0: for ever
    #[arg(long, default_value = "24h", value_parser = duration::parse)]
    ttl: Duration,
    /// For servers to join with; it shows the cluster's keys
    #[arg(long)]
    server: bool,
    /// It is spent by the first machine that joins with it
    #[arg(long)]
    single_use: bool,
    /// For people
    #[arg(long, default_value = "")]
    description: String,
    /// More groups of its bearers, each system:bootstrappers:NAME
    #[arg(long = "groups", value_delimiter = ',')]
    groups: Vec<String>,
    /// Print the whole command to run on the machine that joins
    #[arg(long)]
    print_join_command: bool,
}

/// # Errors
/// In words for the user.
pub async fn run(args: Args) -> Result<()> {
    let kubeconfig = args.credentials.find()?;
    let client = kubeconfig::client(&kubeconfig).await?;
    let api = ApiClient::new(client.clone());
    match args.verb {
        Verb::Create(args) => create(&api, &client, &kubeconfig, args).await,
        Verb::List => list(&api).await,
        Verb::Delete { tokens } => {
            for token in &tokens {
                let id = id_of(token)?;
                let key = ObjectKey::new(NAMESPACE, form::secret_name(id));
                match api.delete::<Secret>(&key, &DeleteOptions::default()).await {
                    Ok(_) => println!("bootstrap token {id:?} deleted"),
                    Err(error) if error.is_not_found() => bail!("there is no token {id}"),
                    Err(error) => return Err(error).context("delete the token"),
                }
            }
            Ok(())
        }
    }
}

async fn create(
    api: &ApiClient,
    client: &kube::Client,
    kubeconfig: &std::path::Path,
    args: CreateArgs,
) -> Result<()> {
    for group in &args.groups {
        ensure!(
            form::is_group(group),
            "group {group:?} is not system:bootstrappers:NAME"
        );
    }
    let text = args.token.unwrap_or_else(|| form::random(&mut rand::rng()));
    ensure!(
        is_bootstrap_token(&text),
        "the bootstrap token {text:?} was not of the form [a-z0-9]{{6}}.[a-z0-9]{{16}}"
    );
    let new = form::New {
        server: args.server,
        single_use: args.single_use,
        description: args.description,
        groups: args.groups,
        expires: (!args.ttl.is_zero()).then(|| Timestamp::now() + args.ttl),
    };
    let token = make(api, client, &text, &new).await?;
    if args.print_join_command {
        let endpoint = corten_client::connect::endpoint(kubeconfig).await?;
        let url = format!("https://{}", form::authority(&endpoint.host, endpoint.port));
        println!("{}", form::join_command(&url, &token, new.server));
    } else {
        println!("{}", token.reveal());
    }
    Ok(())
}

/// A token for servers of a testbed, good for as long as the testbed lives.
///
/// # Errors
/// The server does not make it.
pub async fn for_servers(client: &kube::Client) -> Result<JoinToken> {
    of_testbed(client, true, "servers of this testbed").await
}

/// As [`for_servers`], for nodes.
///
/// # Errors
/// The server does not make it.
pub async fn for_nodes(client: &kube::Client) -> Result<JoinToken> {
    of_testbed(client, false, "nodes of this testbed").await
}

async fn of_testbed(client: &kube::Client, server: bool, description: &str) -> Result<JoinToken> {
    let new = form::New {
        server,
        single_use: false,
        description: description.into(),
        groups: Vec::new(),
        expires: None,
    };
    let text = form::random(&mut rand::rng());
    make(&ApiClient::new(client.clone()), client, &text, &new).await
}

async fn make(api: &ApiClient, client: &kube::Client, text: &str, new: &form::New) -> Result<JoinToken> {
    let ca = client
        .request_text(http::Request::get("/corten/v1/ca").body(Vec::new())?)
        .await
        .context("ask for the cluster's CA")?;
    let ca = CaHash::of_pem(&ca).context("the server's CA is no certificate")?;
    let token = JoinToken::new(ca, text)?;
    match api.create(&new.secret(text)).await {
        Ok(_) => Ok(token),
        Err(error) if error.is_already_exists() => {
            bail!("a token with id {:?} already exists", token.id())
        }
        Err(error) => Err(error).context("make the token"),
    }
}

async fn list(api: &ApiClient) -> Result<()> {
    let selection = Selection {
        fields: format!("type={}", form::SECRET_TYPE),
        ..Selection::namespace(NAMESPACE)
    };
    let secrets = api.list::<Secret>(&selection).await.context("list the tokens")?;
    print!("{}", form::table(&secrets, Timestamp::now()));
    Ok(())
}

/// The id in what a user typed.
fn id_of(text: &str) -> Result<&str> {
    let own = text.rsplit("::").next().unwrap_or_default();
    let id = match is_bootstrap_token(own) {
        true => &own[..6],
        false => own,
    };
    ensure!(
        id.len() == 6 && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
        "given token {text:?} didn't match pattern ID, ID.SECRET or CA-HASH::ID.SECRET"
    );
    Ok(id)
}
