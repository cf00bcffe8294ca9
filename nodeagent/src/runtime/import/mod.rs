//! Images into containerd without its command line tool: from archives, and the built-in sandbox image.
//!
//! Knows the OCI image format and containerd's content and image services. Must not know who wants an image.
//! Blobs are written under a lease and are tied together by garbage collection labels, so a collection at any
//! moment keeps a half-stored image and, later, exactly what a name still needs.

mod archive;
mod pause;
pub mod reference;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use corten_proto::containerd::services::content::v1 as content;
use corten_proto::containerd::services::content::v1::content_client::ContentClient;
use corten_proto::containerd::services::images::v1 as images;
use corten_proto::containerd::services::images::v1::images_client::ImagesClient;
use corten_proto::containerd::services::leases::v1 as leases;
use corten_proto::containerd::services::leases::v1::leases_client::LeasesClient;
use corten_proto::containerd::types::Descriptor;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

pub use self::archive::ArchiveError;
pub use self::pause::{PAUSE_IMAGE, pause_image};
use super::cri::NAMESPACE;
use super::{Result, RuntimeError};

/// Bytes in one message of an upload.
const CHUNK: usize = 1 << 20;
/// Messages of an upload that wait to be sent.
const CHUNKS_WAITING: usize = 4;
/// After this long containerd drops the lease by itself, should we die before we do.
const LEASE_LIFE: Duration = Duration::from_secs(3600);

pub mod media {
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
}

/// One image for one platform, ready to be stored.
#[derive(Debug, Clone)]
pub struct ImageContent {
    /// Full names.
    pub names: Vec<String>,
    /// Digest of the configuration: what CRI calls the image's id.
    pub id: String,
    pub manifest: Blob,
    pub config: Blob,
    pub layers: Vec<Blob>,
    /// Never to be garbage collected.
    pub pinned: bool,
}

#[derive(Debug, Clone)]
pub struct Blob {
    pub media_type: &'static str,
    /// `sha256:…`; verified by containerd when stored.
    pub digest: String,
    pub size: u64,
    pub source: Source,
}

#[derive(Debug, Clone)]
pub enum Source {
    Memory(Bytes),
    File { path: PathBuf, offset: u64 },
}

impl Blob {
    pub fn memory(media_type: &'static str, bytes: Vec<u8>) -> Blob {
        let digest = digest_of(&bytes);
        Blob {
            media_type,
            digest,
            size: bytes.len() as u64,
            source: Source::Memory(bytes.into()),
        }
    }
}

impl ImageContent {
    /// Makes the manifest.
    pub fn new(config: Blob, layers: Vec<Blob>) -> ImageContent {
        let describe = |blob: &Blob| serde_json::json!({ "mediaType": blob.media_type, "digest": blob.digest, "size": blob.size });
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media::MANIFEST,
            "config": describe(&config),
            "layers": layers.iter().map(describe).collect::<Vec<_>>(),
        });
        let manifest = Blob::memory(media::MANIFEST, manifest.to_string().into_bytes());
        ImageContent {
            names: Vec::new(),
            id: config.digest.clone(),
            manifest,
            config,
            layers,
            pinned: false,
        }
    }
}

pub fn digest_of(bytes: &[u8]) -> String {
    digest(Sha256::new_with_prefix(bytes))
}

fn digest(hasher: Sha256) -> String {
    let hex: String = hasher.finalize().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// Reads an archive's table of contents; see [`archive`].
pub async fn read_archive(path: &Path) -> Result<Vec<ImageContent>> {
    let path = path.to_path_buf();
    let read = tokio::task::spawn_blocking(move || archive::read(&path)).await;
    let read = read.map_err(|e| RuntimeError::Failed(format!("read image archive: {e}")))?;
    read.map_err(|error| match error {
        ArchiveError::Read { path, source } => {
            RuntimeError::Invalid(format!("read {}: {source}", path.display()))
        }
        error @ ArchiveError::Invalid { .. } => RuntimeError::Invalid(error.to_string()),
    })
}

/// Stores an image under all its names. What is there already is not sent again.
pub async fn store(channel: Channel, image: &ImageContent) -> Result<()> {
    let session = Session {
        channel,
        lease: format!("corten-import-{:016x}", rand::random::<u64>()),
    };
    session
        .create_lease()
        .await
        .map_err(failed("create lease", image))?;
    let stored = session.store(image).await;
    if let Err(status) = session.delete_lease().await {
        tracing::warn!(lease = session.lease, %status, "the lease of an import stays until it expires");
    }
    stored
}

fn failed<'a>(what: &'a str, image: &'a ImageContent) -> impl Fn(Status) -> RuntimeError + 'a {
    move |status| {
        let name = image.names.first().map_or(image.id.as_str(), String::as_str);
        let message = format!("import {name}: {what}: {}", status.message());
        match status.code() {
            Code::Unavailable => RuntimeError::Unavailable(message),
            Code::Unimplemented => {
                RuntimeError::Unsupported(format!("{message} (the runtime is not containerd)"))
            }
            Code::InvalidArgument | Code::FailedPrecondition => RuntimeError::Invalid(message),
            _ => RuntimeError::Failed(message),
        }
    }
}

struct Session {
    channel: Channel,
    lease: String,
}

impl Session {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut metadata = MetadataMap::new();
        metadata.insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
        metadata.insert(
            "containerd-lease",
            self.lease.parse().expect("hexadecimal digits"),
        );
        Request::from_parts(metadata, Default::default(), message)
    }

    async fn create_lease(&self) -> Result<(), Status> {
        let now = jiff::Timestamp::now().as_second();
        let expire = jiff::Timestamp::from_second(now + LEASE_LIFE.as_secs() as i64).expect("near now");
        let labels = BTreeMap::from([("containerd.io/gc.expire".to_string(), expire.to_string())]);
        let request = leases::CreateRequest {
            id: self.lease.clone(),
            labels,
        };
        LeasesClient::new(self.channel.clone())
            .create(self.request(request))
            .await?;
        Ok(())
    }

    async fn delete_lease(&self) -> Result<(), Status> {
        let request = leases::DeleteRequest {
            id: self.lease.clone(),
            sync: false,
        };
        LeasesClient::new(self.channel.clone())
            .delete(self.request(request))
            .await?;
        Ok(())
    }

    async fn store(&self, image: &ImageContent) -> Result<()> {
        for layer in &image.layers {
            self.write(layer, BTreeMap::new())
                .await
                .map_err(failed("write layer", image))?;
        }
        self.write(&image.config, BTreeMap::new())
            .await
            .map_err(failed("write configuration", image))?;
        let config = std::iter::once((
            "containerd.io/gc.ref.content.config".into(),
            image.config.digest.clone(),
        ));
        let layers = image.layers.iter().enumerate();
        let layers = layers.map(|(i, l)| (format!("containerd.io/gc.ref.content.l.{i}"), l.digest.clone()));
        let labels = config.chain(layers).collect();
        self.write(&image.manifest, labels)
            .await
            .map_err(failed("write manifest", image))?;
        for name in &image.names {
            self.name(name, image)
                .await
                .map_err(failed("name image", image))?;
        }
        Ok(())
    }

    /// Points a name at the manifest. Labels are replaced, so that the CRI plug-in takes the image up anew.
    async fn name(&self, name: &str, image: &ImageContent) -> Result<(), Status> {
        let mut client = ImagesClient::new(self.channel.clone());
        let pinned = ("io.cri-containerd.pinned".to_string(), "pinned".to_string());
        let record = images::Image {
            name: name.to_string(),
            labels: image.pinned.then_some(pinned).into_iter().collect(),
            target: Some(Descriptor {
                media_type: image.manifest.media_type.to_string(),
                digest: image.manifest.digest.clone(),
                size: image.manifest.size as i64,
                annotations: BTreeMap::new(),
            }),
        };
        let create = images::CreateImageRequest {
            image: Some(record.clone()),
        };
        match client.create(self.request(create)).await {
            Err(status) if status.code() == Code::AlreadyExists => {
                let current = images::GetImageRequest {
                    name: name.to_string(),
                };
                let current = client.get(self.request(current)).await?.into_inner().image;
                if current.and_then(|i| i.target).map(|t| t.digest) == Some(image.manifest.digest.clone()) {
                    return Ok(());
                }
                let paths = vec!["target".to_string(), "labels".to_string()];
                let update = images::UpdateImageRequest {
                    image: Some(record),
                    update_mask: Some(prost_types::FieldMask { paths }),
                };
                client.update(self.request(update)).await.map(|_| ())
            }
            result => result.map(|_| ()),
        }
    }

    /// Sends one blob. The service answers each message, so sending and reading go on side by side.
    async fn write(&self, blob: &Blob, labels: BTreeMap<String, String>) -> Result<(), Status> {
        let (sender, receiver) = tokio::sync::mpsc::channel(CHUNKS_WAITING);
        let mut client = ContentClient::new(self.channel.clone());
        let feed = feed(blob, format!("{}-{}", self.lease, blob.digest), labels, sender);
        let read = async {
            let responses = client.write(self.request(ReceiverStream::new(receiver))).await;
            let mut responses = match responses {
                Ok(responses) => responses.into_inner(),
                Err(status) => return Err(status),
            };
            while let Some(response) = responses.message().await? {
                if response.action() == content::WriteAction::Commit {
                    return Ok(());
                }
            }
            Err(Status::unavailable("the upload ended before its commit"))
        };
        tokio::pin!(feed, read);
        let result = tokio::select! {
            result = &mut read => result,
            fed = &mut feed => match fed {
                Ok(()) => read.await,
                Err(error) => Err(Status::failed_precondition(error.to_string())),
            },
        };
        match result {
            // Another image has it. It is under our lease now too.
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            result => result,
        }
    }
}

type Upload = tokio::sync::mpsc::Sender<content::WriteContentRequest>;

async fn feed(
    blob: &Blob,
    upload: String,
    labels: BTreeMap<String, String>,
    sender: Upload,
) -> std::io::Result<()> {
    let total = blob.size as i64;
    let message = |action: content::WriteAction, offset: u64, data: Bytes| content::WriteContentRequest {
        action: action.into(),
        r#ref: upload.clone(),
        total,
        expected: blob.digest.clone(),
        offset: offset as i64,
        data,
        labels: BTreeMap::new(),
    };
    // A receiver that is gone has its own error to tell; there is nothing left to send then.
    if sender
        .send(message(content::WriteAction::Stat, 0, Bytes::new()))
        .await
        .is_err()
    {
        return Ok(());
    }
    let mut offset = 0;
    match &blob.source {
        Source::Memory(bytes) => {
            for start in (0..bytes.len()).step_by(CHUNK) {
                let chunk = bytes.slice(start..bytes.len().min(start + CHUNK));
                offset = (start + chunk.len()) as u64;
                if sender
                    .send(message(content::WriteAction::Write, start as u64, chunk))
                    .await
                    .is_err()
                {
                    return Ok(());
                }
            }
        }
        Source::File { path, offset: start } => {
            let mut file = tokio::fs::File::open(path).await?;
            file.seek(std::io::SeekFrom::Start(*start)).await?;
            while offset < blob.size {
                let mut chunk = vec![0; CHUNK.min((blob.size - offset) as usize)];
                file.read_exact(&mut chunk).await?;
                let size = chunk.len() as u64;
                if sender
                    .send(message(content::WriteAction::Write, offset, chunk.into()))
                    .await
                    .is_err()
                {
                    return Ok(());
                }
                offset += size;
            }
        }
    }
    let mut commit = message(content::WriteAction::Commit, offset, Bytes::new());
    commit.labels = labels;
    let _ = sender.send(commit).await; // as above
    Ok(())
}
