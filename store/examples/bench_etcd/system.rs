//! What the operating system says about processes and files.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// User and system time of a process so far, in seconds.
pub fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The command's name stands in parentheses and may hold spaces; fields 14 and 15 follow it.
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = after.split(' ').skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The disk's own write and fdatasync, into a file whose room is written already.
pub struct Raw {
    file: File,
    path: PathBuf,
    bytes: Vec<u8>,
    at: u64,
}

/// Room of the file that is written over and over.
const ROOM: u64 = 8 << 20;

impl Raw {
    pub fn new(folder: &Path, bytes: usize) -> Raw {
        let path = folder.join("raw");
        let file = File::create(&path).expect("a file");
        file.write_all_at(&vec![0; ROOM as usize], 0).expect("write");
        file.sync_all().expect("sync");
        Raw {
            file,
            path,
            bytes: vec![1; bytes],
            at: 0,
        }
    }

    pub fn once(&mut self) -> Duration {
        let begun = Instant::now();
        self.file.write_all_at(&self.bytes, self.at).expect("write");
        self.file.sync_data().expect("sync");
        self.at = (self.at + self.bytes.len() as u64) % ROOM;
        begun.elapsed()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // What is left is in the bench's own folder, which goes too.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// p50 and p99 of [`Raw`].
pub fn fdatasync(folder: &Path, bytes: usize) -> (Duration, Duration) {
    let mut raw = Raw::new(folder, bytes);
    let mut taken: Vec<Duration> = (0..2000).map(|_| raw.once()).collect();
    taken.sort_unstable();
    (taken[1000], taken[1980])
}

/// Bytes a process has had written to disk (or into the page cache, on tmpfs none).
pub fn written(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}

pub fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

pub fn file_system(folder: &Path) -> String {
    let output = Command::new("stat").args(["-f", "-c", "%T"]).arg(folder).output();
    output.map_or_else(
        |_| "?".into(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
