//! `corten backup`: saves the state of a running cluster, makes a server's data folder from such a file, and lists what
//! there is. The form of the bytes is the store's; where they are kept is `place`'s.

mod place;
mod s3;
pub mod schedule;

use std::io::BufReader;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use corten_apiserver::{authorities, members};
use corten_store::backup::{self, DEFAULT_BUMP};
use futures::AsyncReadExt;
use http::Request;

use crate::kubeconfig::{self, Credentials};
use place::{Fetched, Place};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Save all objects of a running cluster into a folder, or into a bucket: s3://BUCKET/PREFIX
    Save {
        #[arg(default_value = ".")]
        place: String,
        #[command(flatten)]
        credentials: Credentials,
    },
    /// Make the data folder of a new cluster's first server from a backup; other servers join it as usual
    Restore {
        /// The backup's path, or s3://BUCKET/PREFIX/NAME
        file: String,
        /// Its `store` must be empty or missing. Put the old cluster's `pki` beside it, so that its nodes and clients know
        /// the new one
        #[arg(long, default_value = "/var/lib/corten/server")]
        data_dir: PathBuf,
        /// How far resourceVersions jump, so that nobody takes what was written after the backup for what is written now
        #[arg(long, default_value_t = DEFAULT_BUMP)]
        bump_revision: u64,
    },
    /// List the backups in a folder or bucket
    List {
        #[arg(default_value = "/var/lib/corten/server/backups")]
        place: String,
        /// Read and verify every one of them
        #[arg(long)]
        verify: bool,
    },
}

/// # Errors
/// In words for the user.
pub async fn run(args: Args) -> Result<()> {
    match args.verb {
        Verb::Save { place, credentials } => save(Place::parse(&place)?, credentials).await,
        Verb::Restore {
            file,
            data_dir,
            bump_revision,
        } => {
            let fetched = match file.rsplit_once('/') {
                Some((place, name)) if place.contains("://") => Place::parse(place)?.fetch(name).await?,
                _ => Fetched::Own(file.into()),
            };
            tokio::task::spawn_blocking(move || restore(fetched.path(), &data_dir, bump_revision)).await?
        }
        Verb::List { place, verify } => list(&Place::parse(&place)?, verify).await,
    }
}

async fn save(place: Place, credentials: Credentials) -> Result<()> {
    let client = kubeconfig::client(&credentials.find()?).await?;
    let request = Request::get(corten_apiserver::backup::PATH).body(Vec::new())?;
    let mut stream = Box::pin(client.request_stream(request).await?);
    let mut partial = place.begin()?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = stream.read(&mut buffer).await.context("receive the backup")?;
        if length == 0 {
            break;
        }
        partial.write(&buffer[..length])?;
    }
    let (at, about) = place.keep(partial).await?;
    println!("{at} saved: revision {}, {} objects", about.revision, about.keys);
    Ok(())
}

fn restore(file: &std::path::Path, data_dir: &std::path::Path, bump: u64) -> Result<()> {
    let opened = std::fs::File::open(file).with_context(|| format!("open {}", file.display()))?;
    let (about, state) = backup::read(&mut BufReader::new(opened))?;
    let store = data_dir.join("store");
    let restored = backup::restore(&store, (&about, state), bump, |key| {
        !members::is_record(key) && !authorities::is_record(key)
    })?;
    println!(
        "{} restored: {} objects, revisions from {} on, cluster {:016x} (was {:016x})",
        store.display(),
        restored.keys,
        restored.revision,
        restored.identity.cluster,
        about.identity.cluster
    );
    if !data_dir.join("pki").exists() {
        println!(
            "{} has no pki: the server will make new certificates, which old nodes and clients do not know",
            data_dir.display()
        );
    }
    Ok(())
}

async fn list(place: &Place, verify: bool) -> Result<()> {
    let mut damaged = 0;
    println!(
        "{:<20}  {:<16}  {:>12}  {:>10}  {:>12}  NAME",
        "TAKEN", "CLUSTER", "REVISION", "OBJECTS", "BYTES"
    );
    for backup in place.list().await? {
        let found = if verify {
            place.verify(&backup).await
        } else {
            place.about(&backup).await
        };
        match found {
            Ok(about) => println!(
                "{:<20}  {:016x}  {:>12}  {:>10}  {:>12}  {}",
                place::time(about.taken_at),
                about.identity.cluster,
                about.revision.0,
                about.keys,
                backup.bytes,
                backup.name
            ),
            Err(error) => {
                damaged += 1;
                println!("{}: {error:#}", backup.name);
            }
        }
    }
    if damaged > 0 {
        bail!("{damaged} of them cannot be used");
    }
    Ok(())
}
