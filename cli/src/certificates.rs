//! A server's certificates while it runs: issued anew before they end, and signed for others on request.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use corten_apiserver::ApiServer;
use corten_apiserver::authorities::{self, Authorities};
use corten_apiserver::pki::peers::PeerTls;
use corten_apiserver::pki::{
    self, CurrentFrontProxy, FrontProxy, Pki, ServerNames, ServerTls, SignRequest, TlsProfile,
};
use corten_apiserver::tokens::{self, Issuer};
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
    pub profile: TlsProfile,
}

/// Clones are the same.
#[derive(Clone)]
pub struct Certificates(Arc<Shared>);

struct Shared {
    settings: Settings,
    pki: RwLock<Arc<Pki>>,
    tls: ServerTls,
    authorities: Authorities,
    /// Of tokens; its keys change with the files.
    issuer: Arc<Issuer>,
    front_proxy: CurrentFrontProxy,
    /// Set once the store is open: with the id of this member.
    peers: OnceLock<(PeerTls, u64)>,
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
        let tls = ServerTls::new(pki.server_tls_as(&settings.profile)?);
        let issuer =
            Issuer::new(tokens::DEFAULT_ISSUER, &pki.accounts).context("read the keys of ServiceAccounts")?;
        let authorities = Authorities::new(pki.ca.bundle());
        let front_proxy = FrontProxy::open(&settings.dir, OffsetDateTime::now_utc())
            .context("open the front-proxy authority")?;
        Ok(Certificates(Arc::new(Shared {
            settings,
            pki: RwLock::new(Arc::new(pki)),
            tls,
            authorities,
            issuer: Arc::new(issuer),
            front_proxy: front_proxy.into(),
            peers: OnceLock::new(),
        })))
    }

    pub fn pki(&self) -> Arc<Pki> {
        self.0.pki.read().clone()
    }

    pub fn tls(&self) -> ServerTls {
        self.0.tls.clone()
    }

    /// Whom this server trusts.
    pub fn authorities(&self) -> Authorities {
        self.0.authorities.clone()
    }

    /// Of ServiceAccounts' tokens.
    pub fn issuer(&self) -> Arc<Issuer> {
        self.0.issuer.clone()
    }

    /// What aggregated API servers are shown.
    pub fn front_proxy(&self) -> CurrentFrontProxy {
        self.0.front_proxy.clone()
    }

    /// Opens what this member shows the others, and keeps it from now on.
    ///
    /// # Errors
    /// Files that cannot be used.
    pub fn secure_peers(&self, tls: PeerTls, member: u64) -> Result<()> {
        tls.renew(&self.0.settings.dir, member, OffsetDateTime::now_utc())?;
        let _ = self.0.peers.set((tls, member)); // asked for once
        Ok(())
    }

    /// Follows what the cluster decides about its authorities, until `shutdown`.
    pub async fn follow(self, api: ApiServer, shutdown: CancellationToken) {
        let dir = self.0.settings.dir.clone();
        let take_over = move || self.renew().map_err(|error| format!("{error:#}"));
        authorities::follow(api, dir, take_over, shutdown).await;
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
            &pki.ca.bundle(),
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
        // A rollover that begins or ends changes what is trusted and shown, too.
        let bundle = new.ca.bundle();
        let trust = bundle != old.ca.bundle();
        let server = trust || new.server.cert_pem != old.server.cert_pem;
        let admin = trust || new.admin.cert_pem != old.admin.cert_pem;
        let tls = new.server_tls_as(&self.0.settings.profile)?;
        self.0.issuer.set_keys(&new.accounts)?;
        *self.0.pki.write() = Arc::new(new);
        if trust {
            self.0.authorities.set(bundle);
            tracing::info!("the cluster's authorities have changed");
        }
        if server {
            self.0.tls.set(tls);
            tracing::info!("the server's certificate was renewed");
        }
        if admin {
            self.write_kubeconfig()?;
        }
        let (dir, now) = (&self.0.settings.dir, OffsetDateTime::now_utc());
        self.0.front_proxy.renew(dir, now)?;
        if let Some((tls, member)) = self.0.peers.get() {
            tls.renew(dir, *member, now)?;
        }
        Ok(())
    }
}

fn read(settings: &Settings) -> Result<Pki> {
    let life = time::Duration::try_from(settings.life).context("the life of certificates")?;
    Pki::open_for(&settings.dir, &settings.names, life, OffsetDateTime::now_utc())
        .context("open the certificates")
}
