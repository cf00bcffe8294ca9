//! Numbered files in a folder, and what an image does with them. Knows names and bytes, not what they say.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// One open file.
pub(crate) trait Segment: Send {
    /// All of it, in place of what was in `bytes`.
    fn read(&self, bytes: &mut Vec<u8>) -> io::Result<()>;
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Returns once what was written is on disk.
    fn sync(&self) -> io::Result<()>;
}

/// Where the files are. A name that is made or removed is durable with [`Disk::sync_names`].
pub(crate) trait Disk: Send {
    /// Numbers and lengths, in order. A folder that is not there holds none.
    fn list(&self) -> io::Result<Vec<(u64, u64)>>;
    /// An empty file, whatever was there.
    fn create(&self, number: u64) -> io::Result<Box<dyn Segment>>;
    fn open(&self, number: u64) -> io::Result<Box<dyn Segment>>;
    fn remove(&self, number: u64) -> io::Result<()>;
    fn sync_names(&self) -> io::Result<()>;
    /// What is read next comes from the disk itself.
    fn forget_cached(&self, number: u64);
    /// Moves everything out of the way.
    fn set_aside(&self) -> io::Result<()>;
}

const SUFFIX: &str = ".segment";

pub(super) struct Folder(pub PathBuf);

impl Folder {
    fn path(&self, number: u64) -> PathBuf {
        self.0.join(format!("{number:010}{SUFFIX}"))
    }

    fn file(&self, number: u64, create: bool) -> io::Result<Box<dyn Segment>> {
        let mut options = File::options();
        options.read(true).write(true).create(create).truncate(create);
        let file = options.open(self.path(number))?;
        Ok(Box::new(file))
    }
}

impl Segment for File {
    fn read(&self, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.resize(self.metadata()?.len() as usize, 0);
        self.read_exact_at(bytes, 0)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<(u64, u64)>> {
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            if let Some(number) = number.and_then(|number| number.parse().ok()) {
                found.push((number, entry.metadata()?.len()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn create(&self, number: u64) -> io::Result<Box<dyn Segment>> {
        if !self.0.exists() {
            std::fs::create_dir_all(&self.0)?;
            sync_folder(self.0.parent().unwrap_or(Path::new(".")))?;
        }
        self.file(number, true)
    }

    fn open(&self, number: u64) -> io::Result<Box<dyn Segment>> {
        self.file(number, false)
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        std::fs::remove_file(self.path(number))
    }

    fn sync_names(&self) -> io::Result<()> {
        sync_folder(&self.0)
    }

    fn forget_cached(&self, number: u64) {
        crate::space::forget_cached(&self.path(number));
    }

    fn set_aside(&self) -> io::Result<()> {
        let old = older_format(&self.0);
        for path in [&self.0, &old] {
            if !path.exists() {
                continue;
            }
            let aside = (1..)
                .map(|n| self.0.with_extension(format!("damaged-{n}")))
                .find(|aside| !aside.exists())
                .expect("some number is free");
            std::fs::rename(path, aside)?;
        }
        sync_folder(self.0.parent().unwrap_or(Path::new(".")))
    }
}

/// Where versions before this one kept their image.
pub(super) fn older_format(folder: &Path) -> PathBuf {
    folder.with_extension("redb")
}
