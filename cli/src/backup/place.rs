//! Where backups are kept: in a folder or in a bucket. Listed, read, thinned out; what is new is written under another
//! name until it is whole and on disk.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use corten_store::backup::{self, About};

use super::s3::Bucket;

const SUFFIX: &str = ".cortenbackup";
/// A backup says what it is in so many of its first bytes.
const ABOUT_BYTES: u64 = 4096;

/// Where backups are kept.
#[derive(Clone)]
pub enum Place {
    Folder(PathBuf),
    Bucket(Box<Bucket>),
}

/// One backup there.
pub struct Kept {
    pub name: String,
    pub bytes: u64,
}

impl Place {
    /// A path, or `s3://BUCKET/PREFIX`.
    ///
    /// # Errors
    /// A bucket that cannot be used, in words for the user.
    pub fn parse(text: &str) -> Result<Place> {
        if !Bucket::is_meant(text) {
            return Ok(Place::Folder(PathBuf::from(text)));
        }
        let bucket = Bucket::parse(text, |name| std::env::var(name).ok())?;
        Ok(Place::Bucket(Box::new(bucket)))
    }

    /// The backups, oldest first: their names start with when they were taken. None if there is no such folder.
    ///
    /// # Errors
    /// In words for the user.
    pub async fn list(&self) -> Result<Vec<Kept>> {
        let all = match self {
            Place::Folder(folder) => files(folder)?,
            Place::Bucket(bucket) => bucket.list().await?,
        };
        let kept = all.into_iter().filter(|(name, _)| name.ends_with(SUFFIX));
        let mut kept: Vec<Kept> = kept.map(|(name, bytes)| Kept { name, bytes }).collect();
        kept.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(kept)
    }

    /// What a backup says about itself.
    ///
    /// # Errors
    /// In words for the user.
    pub async fn about(&self, kept: &Kept) -> Result<About> {
        match self {
            Place::Folder(folder) => Ok(backup::read_about(&mut open(&folder.join(&kept.name))?)?),
            Place::Bucket(bucket) => {
                let mut start = Vec::new();
                let first = ABOUT_BYTES.min(kept.bytes.max(1));
                bucket.get(&kept.name, Some(first), &mut start).await?;
                Ok(backup::read_about(&mut &start[..])?)
            }
        }
    }

    /// The same, once all of it was read and found whole.
    ///
    /// # Errors
    /// In words for the user.
    pub async fn verify(&self, kept: &Kept) -> Result<About> {
        let fetched = self.fetch(&kept.name).await?;
        let read = move || anyhow::Ok(backup::verify(&mut open(fetched.path())?)?);
        tokio::task::spawn_blocking(read).await?
    }

    /// The file of a backup, brought here if it is elsewhere.
    ///
    /// # Errors
    /// In words for the user.
    pub async fn fetch(&self, name: &str) -> Result<Fetched> {
        match self {
            Place::Folder(folder) => Ok(Fetched::Own(folder.join(name))),
            Place::Bucket(bucket) => {
                let mut partial = Partial::create(&std::env::temp_dir())?;
                bucket.get(name, None, &mut partial.file).await?;
                partial.file.flush()?;
                Ok(Fetched::Brought(partial))
            }
        }
    }

    /// Where a new backup is written at first.
    ///
    /// # Errors
    /// In words for the user.
    pub fn begin(&self) -> Result<Partial> {
        match self {
            Place::Folder(folder) => {
                std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
                Partial::create(folder)
            }
            Place::Bucket(_) => Partial::create(&std::env::temp_dir()),
        }
    }

    /// Verifies what was written and keeps it under its name, which says when it was taken, at which revision, and of which
    /// cluster. Where it is now.
    ///
    /// # Errors
    /// In words for the user; then nothing is kept.
    pub async fn keep(&self, partial: Partial) -> Result<(String, About)> {
        let (partial, about) = tokio::task::spawn_blocking(move || partial.verified()).await??;
        let taken = time(about.taken_at).replace([':', '-'], "");
        let (revision, cluster) = (about.revision.0, about.identity.cluster);
        let name = format!("{taken}-{revision:012}-{cluster:016x}{SUFFIX}");
        match self {
            Place::Folder(folder) => {
                let path = partial.rename(folder, &name)?;
                Ok((path.display().to_string(), about))
            }
            Place::Bucket(bucket) => {
                bucket.put(&name, &partial.path).await?;
                Ok((format!("{bucket}{name}"), about))
            }
        }
    }

    /// Deletes all but the newest `keep`; how many went.
    ///
    /// # Errors
    /// In words for the user.
    pub async fn thin_out(&self, keep: usize) -> Result<usize> {
        let kept = self.list().await?;
        let surplus = kept.len().saturating_sub(keep);
        for Kept { name, .. } in &kept[..surplus] {
            match self {
                Place::Folder(folder) => {
                    std::fs::remove_file(folder.join(name)).with_context(|| format!("delete {name}"))?;
                }
                Place::Bucket(bucket) => bucket.delete(name).await?,
            }
        }
        Ok(surplus)
    }
}

/// The file of a backup.
pub enum Fetched {
    Own(PathBuf),
    /// Goes with this.
    Brought(Partial),
}

impl Fetched {
    pub fn path(&self) -> &Path {
        match self {
            Fetched::Own(path) => path,
            Fetched::Brought(partial) => &partial.path,
        }
    }
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    Ok(BufReader::new(file))
}

fn files(folder: &Path) -> Result<Vec<(String, u64)>> {
    let files = match std::fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("list {}", folder.display())),
    };
    let mut found = Vec::new();
    for file in files {
        let file = file?;
        found.push((
            file.file_name().to_string_lossy().into_owned(),
            file.metadata()?.len(),
        ));
    }
    Ok(found)
}

/// A backup that is being written; its file goes with it unless it was kept.
pub struct Partial {
    path: PathBuf,
    file: BufWriter<File>,
    done: bool,
}

impl Partial {
    fn create(folder: &Path) -> Result<Partial> {
        let path = folder.join(format!(".{:016x}.partial", rand::random::<u64>()));
        let mut options = File::options();
        options.write(true).create_new(true);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options
            .open(&path)
            .with_context(|| format!("create {}", path.display()))?;
        Ok(Partial {
            file: BufWriter::new(file),
            path,
            done: false,
        })
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).context("write the backup")
    }

    /// On disk, and read back.
    fn verified(mut self) -> Result<(Partial, About)> {
        self.file.flush().context("write the backup")?;
        self.file.get_ref().sync_all().context("write the backup")?;
        let about = backup::verify(&mut open(&self.path)?)?;
        Ok((self, about))
    }

    fn rename(mut self, folder: &Path, name: &str) -> Result<PathBuf> {
        let path = folder.join(name);
        std::fs::rename(&self.path, &path).with_context(|| format!("name {}", path.display()))?;
        self.done = true;
        sync(folder)?;
        Ok(path)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.done {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn sync(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("sync {}", folder.display()))
}

/// As RFC 3339 in UTC, to the second.
pub fn time(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
