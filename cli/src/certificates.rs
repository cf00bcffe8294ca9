//! A server's certificates while it runs: issued anew before they end, and signed for others on request.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten_apiserver::pki::{self, Pki, ServerNames, ServerTls, SignRequest};
use corten_controllers::certificates::{Signer, ToSign};
use parking_lot::RwLock;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// Least life of a certificate.
const MIN_LIFE: Duration = Duration::from_secs(60);
/// How often a certificate's life is looked at: a tenth of it, but at least this often, for clocks jump.
const LOOK_PART: u32 = 10;
const LOOK_LAST: Duration = Duration::from_secs(3600);

pub struct Settings {
    /// `pki/` of the data folder.
    pub dir: PathBuf,
    pub names: ServerNames,
    /// Of this server's certificate, and the most that others get.
    pub life: Duration,
    pub kubeconfig: PathBuf,
    pub server_url: String,
}

/// Clones are the same.
#[derive(Clone)]
pub struct Certificates(Arc<Shared>);

struct Shared {
    settings: Settings,
    pki: RwLock<Arc<Pki>>,
    tls: ServerTls,
}

impl Certificates {
    /// # Errors
    /// Files that cannot be used.
    pub fn open(settings: Settings) -> Result<Certificates> {
        ensure!(
            settings.life >= MIN_LIFE,
            "certificates live at least {} s",
            MIN_LIFE.as_secs()
        );
        let pki = read(&settings)?;
        let tls = ServerTls::new(pki.server_tls()?);
        Ok(Certificates(Arc::new(Shared {
            settings,
            pki: RwLock::new(Arc::new(pki)),
            tls,
        })))
    }

    pub fn pki(&self) -> Arc<Pki> {
        self.0.pki.read().clone()
    }

    pub fn tls(&self) -> ServerTls {
        self.0.tls.clone()
    }

    /// The administrator's credentials for the people on this machine.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn write_kubeconfig(&self) -> Result<()> {
        let (settings, pki) = (&self.0.settings, self.pki());
        pki::write_kubeconfig(
            &settings.kubeconfig,
            "corten",
            &settings.server_url,
            pki.ca.cert_pem(),
            &pki.admin,
        )
        .with_context(|| format!("write {}", settings.kubeconfig.display()))
    }

    /// For the signing controller: the one way to this server's authority from there.
    pub fn signer(&self) -> Signer {
        let shared = self.0.clone();
        Signer::new(move |asked: ToSign| {
            let most = shared.settings.life;
            let asked = SignRequest {
                request_pem: asked.request_pem,
                usages: asked.usages,
                life: asked
                    .seconds
                    .map_or(most, |seconds| Duration::from_secs(seconds).min(most)),
            };
            let pki = shared.pki.read().clone();
            pki.ca
                .sign(&asked, OffsetDateTime::now_utc())
                .map_err(|error| format!("{:#}", anyhow::Error::new(error)))
        })
    }

    /// Issues what is about to end anew, until `shutdown`. Connections that are open go on.
    pub async fn keep(self, shutdown: CancellationToken) {
        let every = (self.0.settings.life / LOOK_PART).min(LOOK_LAST);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
            if let Err(error) = self.renew() {
                tracing::error!(
                    error = format!("{error:#}"),
                    "the server's certificates were not renewed"
                );
            }
        }
    }

    fn renew(&self) -> Result<()> {
        let (old, new) = (self.pki(), read(&self.0.settings)?);
        let server = new.server.cert_pem != old.server.cert_pem;
        let admin = new.admin.cert_pem != old.admin.cert_pem;
        let tls = new.server_tls()?;
        *self.0.pki.write() = Arc::new(new);
        if server {
            self.0.tls.set(tls);
            tracing::info!("the server's certificate was renewed");
        }
        if admin {
            self.write_kubeconfig()?;
        }
        Ok(())
    }
}

fn read(settings: &Settings) -> Result<Pki> {
    let life = time::Duration::try_from(settings.life).context("the life of certificates")?;
    Pki::open_for(&settings.dir, &settings.names, life, OffsetDateTime::now_utc())
        .context("open the certificates")
}
