//! Writes a set of files so that readers see the old set or the new one, never a mix.
//!
//! Layout, as in Kubernetes: the files live in a directory named by time, `..data` is a symbolic link to it, and each
//! top-level name is a link through `..data`. An update makes a new directory and swaps the one link by rename.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use jiff::Timestamp;

use super::payload::Payload;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Makes `directory` hold exactly `payload`. Returns whether anything was written.
/// `group`: owner of the files (fsGroup); they are then readable by it.
///
/// # Errors
/// From the file system; the old set stays in place.
pub fn write(directory: &Path, payload: &Payload, group: Option<u32>, now: Timestamp) -> io::Result<bool> {
    let old = fs::read_link(directory.join(DATA)).ok();
    if old.is_some_and(|old| is_same(&directory.join(old), payload)) {
        return Ok(false);
    }
    let version = format!(
        "..{}.{}",
        now.strftime("%Y_%m_%d_%H_%M_%S"),
        now.subsec_nanosecond()
    );
    let fresh = directory.join(&version);
    fs::create_dir_all(&fresh)?;
    own(&fresh, (None, group), 0o755)?;
    for (path, file) in payload {
        let target = fresh.join(path);
        if let Some(parent) = target.parent().filter(|parent| *parent != fresh) {
            fs::create_dir_all(parent)?;
            own(parent, (None, group), 0o755)?;
        }
        let mode = if group.is_some() {
            file.mode | 0o440
        } else {
            file.mode
        };
        let mut handle = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&target)?;
        handle.write_all(&file.data)?;
        own(&target, (file.owner, group), mode)?;
    }
    let staged = directory.join(DATA_NEW);
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(&version, &staged)?;
    fs::rename(&staged, directory.join(DATA))?;
    link_names(directory, payload)?;
    // The old set, and what an attempt that was cut off has left.
    for entry in fs::read_dir(directory)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("..") && name != DATA && name != version {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(true)
}

fn own(path: &Path, (user, group): (Option<u32>, Option<u32>), mode: u32) -> io::Result<()> {
    if user.is_some() || group.is_some() {
        std::os::unix::fs::chown(path, user, group)?;
    }
    // Set once more: the process's umask applies at creation.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn is_same(directory: &Path, payload: &Payload) -> bool {
    let mut found = BTreeSet::new();
    collect(directory, String::new(), &mut found);
    found.len() == payload.len()
        && payload
            .iter()
            .all(|(path, file)| fs::read(directory.join(path)).is_ok_and(|data| data == file.data))
}

fn collect(directory: &Path, prefix: String, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), format!("{name}/"), found);
        } else {
            found.insert(name);
        }
    }
}

/// Links for new top-level names; links to names that are gone are removed.
fn link_names(directory: &Path, payload: &Payload) -> io::Result<()> {
    let top = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    let wanted: BTreeSet<String> = payload.keys().map(|path| top(path)).collect();
    for entry in fs::read_dir(directory)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    for name in wanted {
        let link = directory.join(&name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(format!("{DATA}/{name}"), link)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::payload::File;

    /// Writes each set in turn (`path=data` by spaces) and compares what a reader sees in the end.
    #[track_caller]
    fn check(sets: &[&str], written: &[bool], gone: &[&str]) {
        let directory = tempfile::tempdir().expect("a directory");
        let mut seen = Vec::new();
        fs::create_dir(directory.path().join("..2000_cut_off")).expect("made");
        for (place, set) in sets.iter().enumerate() {
            let now = Timestamp::from_second(1_000 + place as i64).expect("in range");
            let file = |data: &str| File {
                data: data.as_bytes().to_vec(),
                mode: 0o640,
                owner: None,
            };
            let payload: Payload = set
                .split_whitespace()
                .filter_map(|entry| entry.split_once('='))
                .map(|(path, data)| (path.to_owned(), file(data)))
                .collect();
            seen.push(write(directory.path(), &payload, None, now).expect("written"));
            for (path, file) in &payload {
                let target = directory.path().join(path);
                assert_eq!(fs::read(&target).expect("readable"), file.data);
                assert_eq!(
                    fs::metadata(&target).expect("there").permissions().mode() & 0o777,
                    0o640
                );
            }
        }
        assert_eq!(seen, written);
        for name in gone {
            assert!(
                fs::symlink_metadata(directory.path().join(name)).is_err(),
                "{name} is still there"
            );
        }
        let versions = fs::read_dir(directory.path())
            .expect("listed")
            .flatten()
            .filter(|entry| {
                entry.file_name().to_string_lossy().starts_with("..2")
                    || entry.file_name().to_string_lossy().starts_with("..1")
            })
            .count();
        assert_eq!(versions, 1);
    }

    #[test]
    fn swaps_sets_and_leaves_nothing_behind() {
        check(
            &["a=1 d/b=2", "a=1 d/b=2", "a=3 c=4"],
            &[true, false, true],
            &["d"],
        );
    }
}
