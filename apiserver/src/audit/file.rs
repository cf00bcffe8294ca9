//! The audit log's file: appended to, rotated by size, old ones removed by number and age.
//!
//! Knows files. Must not know what is in a line. A rotated file has the name upstream gives it:
//! `audit-2026-01-02T15-04-05.000.log`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::fmt::strtime;
use jiff::{SignedDuration, Timestamp};

const STAMP: &str = "%Y-%m-%dT%H-%M-%S";
/// How much of a file's end is looked at for its last line.
const TAIL: u64 = 4 * 1024 * 1024;

/// When the log is rotated, and what is kept.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Bytes of one file. Source: kube-apiserver `--audit-log-maxsize`, in MB, 100 where it says 0.
    pub max_bytes: u64,
    /// Rotated files that are kept; 0: all. Source: `--audit-log-maxbackup`.
    pub max_backups: usize,
    /// Days that rotated files are kept; 0: for ever. Source: `--audit-log-maxage`.
    pub max_age_days: u32,
}

/// One open log.
pub struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    open: Option<(File, u64)>,
}

impl LogFile {
    /// # Errors
    /// The file cannot be opened for appending.
    pub fn open(path: &Path, rotation: Rotation, now: Timestamp) -> io::Result<LogFile> {
        let mut log = LogFile {
            path: path.to_owned(),
            rotation,
            open: None,
        };
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent)?;
        }
        log.opened()?;
        log.remove_old(now);
        Ok(log)
    }

    /// The last whole line there is, to go on from.
    #[must_use]
    pub fn last_line(&self) -> Option<Vec<u8>> {
        let mut file = File::open(&self.path).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail).ok()?;
        let end = tail.iter().rposition(|byte| *byte == b'\n')?;
        let begin = tail[..end]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        Some(tail[begin..end].to_vec())
    }

    /// Appends whole lines. After an error the file is opened anew with the next ones.
    ///
    /// # Errors
    /// They are not, or not all, in the file.
    pub fn append(&mut self, lines: &[u8], now: Timestamp) -> io::Result<()> {
        let size = self.opened()?.1;
        if size > 0 && size + lines.len() as u64 > self.rotation.max_bytes {
            self.rotate(now)?;
        }
        let (file, size) = self.opened()?;
        let written = file.write_all(lines);
        match written {
            Ok(()) => *size += lines.len() as u64,
            Err(_) => {
                let _ = file.set_len(*size); // half a line would spoil the next one
                self.open = None;
            }
        }
        written
    }

    fn opened(&mut self) -> io::Result<&mut (File, u64)> {
        if self.open.is_none() {
            let mut options = OpenOptions::new();
            let file = options.append(true).create(true).mode(0o600).open(&self.path)?;
            let size = file.metadata()?.len();
            self.open = Some((file, size));
        }
        Ok(self.open.as_mut().expect("it was opened above"))
    }

    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        self.open = None;
        let mut at = now;
        while self.backup(at).exists() {
            at += SignedDuration::from_millis(1);
        }
        fs::rename(&self.path, self.backup(at))?;
        self.opened()?;
        self.remove_old(now);
        Ok(())
    }

    /// The name without its extension, and the extension with its dot.
    fn name_parts(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let extension = self
            .path
            .extension()
            .map(|_| format!(".{}", text(self.path.extension())));
        (text(self.path.file_stem()), extension.unwrap_or_default())
    }

    fn backup(&self, at: Timestamp) -> PathBuf {
        let (stem, extension) = self.name_parts();
        let millis = at.subsec_millisecond().rem_euclid(1000);
        let stamp = strtime::format(STAMP, at).expect("a timestamp always formats");
        self.path
            .with_file_name(format!("{stem}-{stamp}.{millis:03}{extension}"))
    }

    /// Rotated files and when they were rotated, the oldest first.
    fn backups(&self) -> Vec<(Timestamp, PathBuf)> {
        let (stem, extension) = self.name_parts();
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let files = fs::read_dir(parent.unwrap_or(Path::new(".")))
            .into_iter()
            .flatten()
            .flatten();
        let mut found: Vec<(Timestamp, PathBuf)> = files
            .filter_map(|file| {
                let name = file.file_name().to_string_lossy().into_owned();
                let stamp = name
                    .strip_prefix(&stem)?
                    .strip_prefix('-')?
                    .strip_suffix(&extension)?;
                let (seconds, millis) = stamp.split_once('.')?;
                let at = strtime::parse(STAMP, seconds).ok()?.to_datetime().ok()?;
                let at = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
                let millis = SignedDuration::from_millis(millis.parse().ok()?);
                Some((at.checked_add(millis).ok()?, file.path()))
            })
            .collect();
        found.sort();
        found
    }

    /// Files that cannot be removed stay; the next rotation tries again.
    fn remove_old(&self, now: Timestamp) {
        let found = self.backups();
        let surplus = match self.rotation.max_backups {
            0 => 0,
            most => found.len().saturating_sub(most),
        };
        let age = SignedDuration::from_hours(24 * i64::from(self.rotation.max_age_days));
        for (number, (at, path)) in found.iter().enumerate() {
            let old = self.rotation.max_age_days > 0 && now.duration_since(*at) > age;
            if (number < surplus || old)
                && let Err(error) = fs::remove_file(path)
            {
                tracing::warn!(path = %path.display(), %error, "an old audit log stays");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_767_366_245 + seconds).expect("a time")
    }

    fn names(dir: &Path) -> Vec<String> {
        let files = fs::read_dir(dir).expect("a folder").flatten();
        let mut names: Vec<String> = files
            .map(|f| f.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_rotated_by_size_and_removed_by_number_and_age() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("logs").join("audit.log");
        let rotation = Rotation {
            max_bytes: 10,
            max_backups: 2,
            max_age_days: 1,
        };
        let mut log = LogFile::open(&path, rotation.clone(), at(0)).expect("open");
        for second in 0..4 {
            log.append(b"123456\n", at(second)).expect("append");
        }
        let logs = dir.path().join("logs");
        let two = [
            "audit-2026-01-02T15-04-07.000.log",
            "audit-2026-01-02T15-04-08.000.log",
            "audit.log",
        ];
        assert_eq!(names(&logs), two);
        log.append(b"1234567\n", at(3)).expect("append");
        assert_eq!(
            names(&logs)[1],
            "audit-2026-01-02T15-04-08.001.log",
            "no file is written over"
        );
        let later = LogFile::open(&path, rotation, at(2 * 86_400)).expect("open");
        assert_eq!(names(&logs), ["audit.log"]);
        assert_eq!(later.last_line(), Some(b"1234567".to_vec()));
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).expect("the file"));
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_tried_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("audit.log");
        let rotation = Rotation {
            max_bytes: 4,
            max_backups: 0,
            max_age_days: 0,
        };
        let mut log = LogFile::open(&path, rotation, at(0)).expect("open");
        log.append(b"one\n", at(0)).expect("append");
        fs::remove_file(&path).expect("remove");
        assert!(log.append(b"two\n", at(1)).is_err(), "there is nothing to rotate");
        log.append(b"three\n", at(2)).expect("a new file");
        assert_eq!(fs::read(&path).expect("the file"), b"three\n");
    }
}
