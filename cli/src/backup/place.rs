//! A folder that backups are kept in: written under another name until they are whole and on disk, listed, thinned out.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use corten_store::backup::{self, About};

const SUFFIX: &str = ".cortenbackup";

pub struct Folder(PathBuf);

/// One backup in a folder.
pub struct Kept {
    pub name: String,
    pub bytes: u64,
    path: PathBuf,
}

impl Kept {
    /// What it says about itself.
    pub fn about(&self) -> Result<About> {
        Ok(backup::read_about(&mut self.open()?)?)
    }

    /// The same, once all of it was read and found whole.
    pub fn verify(&self) -> Result<About> {
        Ok(backup::read(&mut self.open()?)?.0)
    }

    fn open(&self) -> Result<BufReader<File>> {
        Ok(BufReader::new(File::open(&self.path)?))
    }
}

impl Folder {
    pub fn new(path: PathBuf) -> Folder {
        Folder(path)
    }

    /// The backups, oldest first: their names start with when they were taken. None if there is no such folder.
    pub fn list(&self) -> Result<Vec<Kept>> {
        let files = match std::fs::read_dir(&self.0) {
            Ok(files) => files,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("list {}", self.0.display())),
        };
        let mut kept = Vec::new();
        for file in files {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            if name.ends_with(SUFFIX) {
                let (bytes, path) = (file.metadata()?.len(), file.path());
                kept.push(Kept { name, bytes, path });
            }
        }
        kept.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(kept)
    }

    /// Deletes all but the newest `keep`; how many went.
    pub fn thin_out(&self, keep: usize) -> Result<usize> {
        let kept = self.list()?;
        let surplus = kept.len().saturating_sub(keep);
        for backup in &kept[..surplus] {
            std::fs::remove_file(&backup.path).with_context(|| format!("delete {}", backup.name))?;
        }
        Ok(surplus)
    }
}

/// A backup that is being written.
pub struct Partial {
    folder: PathBuf,
    path: PathBuf,
    file: BufWriter<File>,
    done: bool,
}

impl Partial {
    pub fn create(folder: &Folder) -> Result<Partial> {
        std::fs::create_dir_all(&folder.0).with_context(|| format!("make {}", folder.0.display()))?;
        let path = folder.0.join(format!(".{:016x}.partial", rand::random::<u64>()));
        let file = File::create_new(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Partial {
            folder: folder.0.clone(),
            file: BufWriter::new(file),
            path,
            done: false,
        })
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).context("write the backup")
    }

    /// Verifies what was written and gives it its name, which says when it was taken, at which revision, and of which
    /// cluster.
    pub fn finish(mut self) -> Result<(PathBuf, About)> {
        self.file.flush().context("write the backup")?;
        self.file.get_ref().sync_all().context("write the backup")?;
        let (about, _) = backup::read(&mut BufReader::new(File::open(&self.path)?))?;
        let taken = time(about.taken_at).replace([':', '-'], "");
        let (revision, cluster) = (about.revision.0, about.identity.cluster);
        let path = self
            .folder
            .join(format!("{taken}-{revision:012}-{cluster:016x}{SUFFIX}"));
        std::fs::rename(&self.path, &path).with_context(|| format!("name {}", path.display()))?;
        self.done = true;
        sync(&self.folder)?;
        Ok((path, about))
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
