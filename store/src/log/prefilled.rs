//! The log's files, with their room written in advance: `fallocate` alone leaves extents that the file system has to turn
//! into written ones, through its journal, at every fsync of new bytes. Measured on ext4, that is a third of an fsync.

use std::fs::File;
use std::io::{Read, Result, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use raft_engine::env::{FileSystem, Handle, Permission, WriteExt};

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

pub struct Prefilled;

/// One open file.
pub struct LogFile(File);

/// A place in it.
pub struct At {
    file: Arc<LogFile>,
    offset: u64,
}

impl Handle for LogFile {
    fn truncate(&self, offset: usize) -> Result<()> {
        self.0.set_len(offset as u64)
    }

    fn file_size(&self) -> Result<usize> {
        Ok(self.0.metadata()?.len() as usize)
    }

    fn sync(&self) -> Result<()> {
        self.0.sync_data()
    }
}

impl FileSystem for Prefilled {
    type Handle = LogFile;
    type Reader = At;
    type Writer = At;

    fn create<P: AsRef<Path>>(&self, path: P) -> Result<LogFile> {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true);
        file.open(path).map(LogFile)
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> Result<LogFile> {
        let write = permission == Permission::ReadWrite;
        File::options().read(true).write(write).open(path).map(LogFile)
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> Result<()> {
        std::fs::remove_file(path)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> Result<()> {
        std::fs::rename(from, to)
    }

    fn new_reader(&self, file: Arc<LogFile>) -> Result<At> {
        Ok(At { file, offset: 0 })
    }

    fn new_writer(&self, file: Arc<LogFile>) -> Result<At> {
        Ok(At { file, offset: 0 })
    }
}

impl Read for At {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        let length = self.file.0.read_at(bytes, self.offset)?;
        self.offset += length as u64;
        Ok(length)
    }
}

impl Write for At {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let length = self.file.0.write_at(bytes, self.offset)?;
        self.offset += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Seek for At {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let add = |base: u64, step: i64| {
            base.checked_add_signed(step)
                .ok_or(std::io::Error::from(std::io::ErrorKind::InvalidInput))
        };
        self.offset = match to {
            SeekFrom::Start(offset) => offset,
            SeekFrom::Current(step) => add(self.offset, step)?,
            SeekFrom::End(step) => add(self.file.file_size()? as u64, step)?,
        };
        Ok(self.offset)
    }
}

impl WriteExt for At {
    fn truncate(&mut self, offset: usize) -> Result<()> {
        self.file.truncate(offset)?;
        self.offset = offset as u64;
        Ok(())
    }

    /// The engine asks before it writes there, and only warns when this fails: then the write itself finds no room.
    fn allocate(&mut self, offset: usize, size: usize) -> Result<()> {
        let (mut at, end) = (offset as u64, (offset + size) as u64);
        while at < end {
            let length = ZEROS.len().min((end - at) as usize);
            self.file.0.write_all_at(&ZEROS[..length], at)?;
            at += length as u64;
        }
        // Now, or the next write would pay for all of it, and its extents would still be new.
        self.file.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_is_there_and_reads_as_zeros() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = Arc::new(Prefilled.create(dir.path().join("f")).expect("create"));
        let mut writer = Prefilled.new_writer(file.clone()).expect("a writer");
        writer.allocate(0, 200_000).expect("allocate");
        writer.seek(SeekFrom::Start(100)).expect("seek");
        writer.write_all(b"here").expect("write");
        assert_eq!(file.file_size().expect("a size"), 200_000);
        let mut reader = Prefilled.new_reader(file).expect("a reader");
        let mut all = Vec::new();
        reader.read_to_end(&mut all).expect("read");
        assert_eq!((&all[100..104], all.len()), (&b"here"[..], 200_000));
        assert!(all[..100].iter().chain(&all[104..]).all(|byte| *byte == 0));
        assert_eq!(reader.seek(SeekFrom::End(-1)).expect("seek"), 199_999);
        assert!(reader.seek(SeekFrom::Current(-200_000)).is_err());
    }
}
