//! Image archives: `docker save` tars (with `manifest.json`) and OCI layouts packed as tar (with `index.json`).
//!
//! Reads only the table of contents and the small JSON files; layers stay in the file and are named by offset.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Blob, ImageContent, Source, media, reference};

/// Entries of an archive; an image has a handful per layer.
const ENTRY_LIMIT: usize = 100_000;
/// Size of a JSON document.
const JSON_LIMIT: u64 = 8 << 20;
/// Images in one archive.
const IMAGE_LIMIT: usize = 1_000;
/// An index in an index in an index …
const NESTING_LIMIT: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {reason}")]
    Invalid { path: PathBuf, reason: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    rootfs: RootFs,
}

#[derive(Deserialize, Default)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: HashMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Deserialize, Clone)]
struct Platform {
    architecture: String,
    os: String,
}

/// All images of an archive that fit this machine. Blocks.
pub fn read(path: &Path) -> Result<Vec<ImageContent>, ArchiveError> {
    let archive = Archive::open(path)?;
    let images = if archive.entries.contains_key("manifest.json") {
        archive.docker_images()?
    } else if archive.entries.contains_key("index.json") {
        archive.oci_images()?
    } else {
        return Err(archive.invalid("no image archive: it has neither manifest.json nor index.json"));
    };
    if images.is_empty() {
        return Err(archive.invalid("the archive holds no image for this machine"));
    }
    Ok(images)
}

struct Archive {
    path: PathBuf,
    /// Offset and size of each file's content.
    entries: HashMap<String, (u64, u64)>,
}

impl Archive {
    fn open(path: &Path) -> Result<Archive, ArchiveError> {
        let read = |source| ArchiveError::Read {
            path: path.to_path_buf(),
            source,
        };
        let mut archive = Archive {
            path: path.to_path_buf(),
            entries: HashMap::new(),
        };
        let mut file = File::open(path).map_err(read)?;
        let mut magic = [0; 4];
        let got = file.read(&mut magic).map_err(read)?;
        match &magic[..got] {
            [0x1f, 0x8b, ..] => return Err(archive.invalid("the archive is compressed: gunzip it first")),
            [0x28, 0xb5, 0x2f, 0xfd] => {
                return Err(archive.invalid("the archive is compressed: unzstd it first"));
            }
            _ => {}
        }
        file.seek(SeekFrom::Start(0)).map_err(read)?;
        let mut links = Vec::new();
        let mut tar = tar::Archive::new(file);
        for entry in tar.entries_with_seek().map_err(read)? {
            let entry = entry.map_err(read)?;
            let name = clean(&entry.path_bytes());
            if archive.entries.len() + links.len() >= ENTRY_LIMIT {
                return Err(archive.invalid("too many entries"));
            }
            match entry.header().entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    archive
                        .entries
                        .insert(name, (entry.raw_file_position(), entry.size()));
                }
                // Older Docker links equal layers to one another.
                tar::EntryType::Symlink => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    let target = relative_to(&name, &String::from_utf8_lossy(&target));
                    links.push((name, target));
                }
                tar::EntryType::Link => {
                    let target = clean(&entry.link_name_bytes().unwrap_or_default());
                    links.push((name, target));
                }
                _ => {}
            }
        }
        for (name, target) in links {
            if let Some(entry) = archive.entries.get(&target).copied() {
                archive.entries.insert(name, entry);
            }
        }
        Ok(archive)
    }

    fn invalid(&self, reason: impl Into<String>) -> ArchiveError {
        ArchiveError::Invalid {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    fn find(&self, name: &str) -> Result<(u64, u64), ArchiveError> {
        let entry = self.entries.get(&clean(name.as_bytes())).copied();
        entry.ok_or_else(|| self.invalid(format!("{name} is missing")))
    }

    fn bytes(&self, name: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let (offset, size) = self.find(name)?;
        if size > limit {
            return Err(self.invalid(format!("{name} is larger than {limit} bytes")));
        }
        let read = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = vec![0; size as usize];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|source| ArchiveError::Read {
            path: self.path.clone(),
            source,
        })
    }

    fn json<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<T, ArchiveError> {
        let bytes = self.bytes(name, JSON_LIMIT)?;
        serde_json::from_slice(&bytes).map_err(|e| self.invalid(format!("{name}: {e}")))
    }

    fn names<'a>(&self, names: impl Iterator<Item = &'a String>) -> Result<Vec<String>, ArchiveError> {
        let full = names.map(|name| reference::normalise(name).map_err(|e| self.invalid(e.to_string())));
        full.collect()
    }

    fn docker_images(&self) -> Result<Vec<ImageContent>, ArchiveError> {
        let listed: Vec<DockerImage> = self.json("manifest.json")?;
        let mut images = Vec::new();
        for image in listed.into_iter().take(IMAGE_LIMIT) {
            let names = self.names(image.repo_tags.iter().flatten())?;
            if names.is_empty() {
                return Err(
                    self.invalid("an image has no name (RepoTags): save it by its name, not by its id")
                );
            }
            let bytes = self.bytes(&image.config, JSON_LIMIT)?;
            let config: Config =
                serde_json::from_slice(&bytes).map_err(|e| self.invalid(format!("{}: {e}", image.config)))?;
            if config.rootfs.diff_ids.len() != image.layers.len() {
                return Err(self.invalid(format!("{}: number of layers and diff_ids differ", image.config)));
            }
            let layers = image.layers.iter().zip(&config.rootfs.diff_ids);
            let layers = layers.map(|(layer, diff_id)| self.docker_layer(layer, diff_id));
            let layers = layers.collect::<Result<Vec<_>, _>>()?;
            let mut content = ImageContent::new(Blob::memory(media::CONFIG, bytes), layers);
            content.names = names;
            images.push(content);
        }
        Ok(images)
    }

    /// An uncompressed layer's digest is its diff id, which containerd verifies while storing it.
    fn docker_layer(&self, name: &str, diff_id: &str) -> Result<Blob, ArchiveError> {
        let (offset, size) = self.find(name)?;
        let source = Source::File {
            path: self.path.clone(),
            offset,
        };
        let blob = |media_type, digest| Blob {
            media_type,
            digest,
            size,
            source: source.clone(),
        };
        let magic = self.head(offset, size)?;
        match magic {
            [0x1f, 0x8b, ..] => Ok(blob(media::LAYER_GZIP, self.hash(offset, size)?)),
            [0x28, 0xb5, 0x2f, 0xfd] => Ok(blob(media::LAYER_ZSTD, self.hash(offset, size)?)),
            _ => Ok(blob(media::LAYER, diff_id.to_string())),
        }
    }

    fn head(&self, offset: u64, size: u64) -> Result<[u8; 4], ArchiveError> {
        let read = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut magic = [0; 4];
            let wanted = size.min(4) as usize;
            file.read_exact(&mut magic[..wanted])?;
            Ok(magic)
        };
        read().map_err(|source| ArchiveError::Read {
            path: self.path.clone(),
            source,
        })
    }

    fn hash(&self, offset: u64, size: u64) -> Result<String, ArchiveError> {
        let read = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut hasher = Sha256::new();
            std::io::copy(&mut file.take(size), &mut hasher)?;
            Ok(super::digest(hasher))
        };
        read().map_err(|source| ArchiveError::Read {
            path: self.path.clone(),
            source,
        })
    }

    fn oci_images(&self) -> Result<Vec<ImageContent>, ArchiveError> {
        let index: Index = self.json("index.json")?;
        let mut images: Vec<ImageContent> = Vec::new();
        for descriptor in index.manifests.iter().take(IMAGE_LIMIT) {
            let Some(manifest) = self.manifest_for_this_machine(descriptor.clone(), 0)? else {
                continue;
            };
            let name = oci_name(&descriptor.annotations).ok_or_else(|| {
                self.invalid(
                    "an image has no name: neither io.containerd.image.name nor a full \
                     org.opencontainers.image.ref.name is among its annotations",
                )
            })?;
            let names = self.names(std::iter::once(&name))?;
            match images
                .iter_mut()
                .find(|image| image.manifest.digest == manifest.digest)
            {
                Some(image) => image.names.extend(names),
                None => {
                    let mut image = self.oci_image(&manifest)?;
                    image.names = names;
                    images.push(image);
                }
            }
        }
        Ok(images)
    }

    /// Follows indexes down to the manifest for this machine; `None` if there is none.
    fn manifest_for_this_machine(
        &self,
        descriptor: Descriptor,
        depth: usize,
    ) -> Result<Option<Descriptor>, ArchiveError> {
        if !matches!(descriptor.media_type.as_str(), media::INDEX | media::DOCKER_LIST) {
            return Ok(fits(&descriptor).then_some(descriptor));
        }
        if depth == NESTING_LIMIT {
            return Err(self.invalid("its indexes are nested too deeply"));
        }
        let index: Index = self.json(&blob_path(&descriptor.digest))?;
        for inner in index.manifests.into_iter().filter(fits) {
            // Attestations and other platforms are often named but not packed.
            if !self.entries.contains_key(&blob_path(&inner.digest)) {
                continue;
            }
            if let Some(found) = self.manifest_for_this_machine(inner, depth + 1)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn oci_image(&self, descriptor: &Descriptor) -> Result<ImageContent, ArchiveError> {
        let path = blob_path(&descriptor.digest);
        let bytes = self.bytes(&path, JSON_LIMIT)?;
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|e| self.invalid(format!("{path}: {e}")))?;
        let media_type = match descriptor.media_type.as_str() {
            media::DOCKER_MANIFEST => media::DOCKER_MANIFEST,
            _ => media::MANIFEST,
        };
        let layers = manifest
            .layers
            .iter()
            .map(|layer| self.oci_layer(layer))
            .collect::<Result<Vec<_>, _>>()?;
        let config = self.bytes(&blob_path(&manifest.config.digest), JSON_LIMIT)?;
        let mut config = Blob::memory(media::CONFIG, config);
        config.digest = manifest.config.digest; // containerd verifies it
        let manifest = Blob::memory(media_type, bytes);
        if manifest.digest != descriptor.digest {
            return Err(self.invalid(format!("{path} does not have the digest it is named by")));
        }
        Ok(ImageContent {
            names: Vec::new(),
            id: config.digest.clone(),
            manifest,
            config,
            layers,
            pinned: false,
        })
    }

    fn oci_layer(&self, layer: &Descriptor) -> Result<Blob, ArchiveError> {
        let (offset, size) = self.find(&blob_path(&layer.digest))?;
        let source = Source::File {
            path: self.path.clone(),
            offset,
        };
        // The media type stands in the manifest, which is stored as it is.
        Ok(Blob {
            media_type: media::LAYER,
            digest: layer.digest.clone(),
            size,
            source,
        })
    }
}

fn fits(descriptor: &Descriptor) -> bool {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    match &descriptor.platform {
        Some(platform) => platform.os == "linux" && platform.architecture == architecture,
        None => true,
    }
}

fn oci_name(annotations: &HashMap<String, String>) -> Option<String> {
    let full = annotations.get("io.containerd.image.name");
    // Often only a tag, which says nothing by itself.
    let reference = annotations
        .get("org.opencontainers.image.ref.name")
        .filter(|n| n.contains(['/', ':']));
    full.or(reference).cloned()
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn clean(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    path.strip_prefix("./")
        .unwrap_or(&path)
        .trim_matches('/')
        .to_string()
}

/// Resolves `../x/layer.tar` as seen from `y/layer.tar`, without leaving the archive.
fn relative_to(name: &str, target: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packs `files` and describes what is read, or the error.
    #[track_caller]
    fn check(files: &[(&str, &[u8])], expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.tar");
        let mut tar = tar::Builder::new(File::create(&path).unwrap());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, *content).unwrap();
        }
        tar.finish().unwrap();
        let told = match read(&path) {
            Ok(images) => {
                let tell = |image: &ImageContent| {
                    let layers: Vec<&str> = image.layers.iter().map(|l| &l.digest[7..11]).collect();
                    format!("{} {}", image.names.join(","), layers.join(","))
                };
                images.iter().map(tell).collect::<Vec<_>>().join("; ")
            }
            Err(ArchiveError::Invalid { reason, .. }) => reason,
            Err(error) => error.to_string(),
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn docker_archives() {
        let layer = b"layer".as_slice();
        let digest = super::super::digest_of(layer);
        let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#);
        let manifest =
            br#"[{"Config":"c.json","RepoTags":["busybox:1"],"Layers":["l/layer.tar"]}]"#.as_slice();
        let expected = format!("docker.io/library/busybox:1 {}", &digest[7..11]);
        let files = [
            ("manifest.json", manifest),
            ("./c.json", config.as_bytes()),
            ("l/layer.tar", layer),
        ];
        check(&files, &expected);
        check(&files[..2], "l/layer.tar is missing");
        check(
            &[("x", b"y")],
            "no image archive: it has neither manifest.json nor index.json",
        );
        let unnamed = br#"[{"Config":"c.json","RepoTags":null,"Layers":[]}]"#.as_slice();
        let error = "an image has no name (RepoTags): save it by its name, not by its id";
        check(&[("manifest.json", unnamed), ("c.json", b"{}")], error);
    }

    #[test]
    fn oci_layouts() {
        let digest_path = |bytes: &[u8]| blob_path(&super::super::digest_of(bytes));
        let layer = b"layer".as_slice();
        let config = b"{}".as_slice();
        let of = |bytes: &[u8]| super::super::digest_of(bytes);
        let manifest = format!(
            r#"{{"config":{{"digest":"{}"}},"layers":[{{"digest":"{}"}}]}}"#,
            of(config),
            of(layer)
        );
        let inner = format!(
            r#"{{"manifests":[{{"digest":"sha256:00","platform":{{"os":"plan9","architecture":"x"}}}},{{"digest":"{}"}}]}}"#,
            of(manifest.as_bytes())
        );
        let index = format!(
            r#"{{"manifests":[{{"mediaType":"{}","digest":"{}","annotations":{{"io.containerd.image.name":"docker.io/library/a:1"}}}}]}}"#,
            media::INDEX,
            of(inner.as_bytes())
        );
        let paths = [
            digest_path(layer),
            digest_path(config),
            digest_path(manifest.as_bytes()),
        ];
        let inner_path = digest_path(inner.as_bytes());
        let files = [
            ("index.json", index.as_bytes()),
            (&paths[0], layer),
            (&paths[1], config),
            (&paths[2], manifest.as_bytes()),
            (&inner_path, inner.as_bytes()),
        ];
        check(&files, &format!("docker.io/library/a:1 {}", &of(layer)[7..11]));
    }

    #[test]
    fn links_are_followed_inside_the_archive_only() {
        assert_eq!(relative_to("b/layer.tar", "../a/layer.tar"), "a/layer.tar");
        assert_eq!(relative_to("b/layer.tar", "../../../etc/passwd"), "etc/passwd");
    }
}
