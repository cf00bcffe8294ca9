//! What all servers of a cluster have alike: authorities and signing keys, by the names of their files.
//!
//! Certificates of single servers and of the administrator are not among them: each server makes its own.

use std::collections::BTreeMap;
use std::path::Path;

use super::{PkiError, files};

/// Of single servers: made on each.
const OWN: [&str; 6] = [
    "server.crt",
    "server.key",
    "admin.crt",
    "admin.key",
    "peer.crt",
    "peer.key",
];
/// Longest file looked at, in bytes; a bundle of authorities is a few thousand.
const MAX_FILE: u64 = 1 << 20;

/// The files below `dir` that another server needs, with their contents.
///
/// # Errors
/// Files that cannot be read, are no text or too long.
pub fn shared(dir: &Path) -> Result<BTreeMap<String, String>, PkiError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| PkiError::File {
            action: "read",
            path,
            source,
        }
    };
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(failed(dir))? {
        let entry = entry.map_err(failed(dir))?;
        let path = entry.path();
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            continue;
        };
        let metadata = entry.metadata().map_err(failed(&path))?;
        if !metadata.is_file() || !is_shared(&name) {
            continue;
        }
        if metadata.len() > MAX_FILE {
            let error = std::io::Error::from(std::io::ErrorKind::FileTooLarge);
            return Err(failed(&path)(error));
        }
        found.insert(name, std::fs::read_to_string(&path).map_err(failed(&path))?);
    }
    Ok(found)
}

/// Puts what [`shared`] gave into `dir`.
///
/// # Errors
/// A name that is none of these, or what the file system reports.
pub fn store_shared(dir: &Path, shared: &BTreeMap<String, String>) -> Result<(), PkiError> {
    files::make_dir(dir)?;
    for (name, content) in shared {
        let path = dir.join(name);
        if !is_shared(name) {
            return Err(PkiError::Unusable {
                path,
                reason: "it has no name that servers share files under".into(),
            });
        }
        files::write_private(&path, content.as_bytes())?;
    }
    Ok(())
}

/// A plain name, and none of a single server's files.
fn is_shared(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    name.bytes().all(plain)
        && !name.is_empty()
        && !name.starts_with('.')
        && !name.ends_with(".tmp")
        && !OWN.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_shared_and_leaves_are_not() {
        let (from, to) = (
            tempfile::tempdir().expect("folder"),
            tempfile::tempdir().expect("folder"),
        );
        for name in [
            "ca.crt",
            "ca.key",
            "sa.key",
            "server.key",
            "admin.crt",
            "ca.crt.12.tmp",
        ] {
            std::fs::write(from.path().join(name), name).expect("write");
        }
        let files = shared(from.path()).expect("read");
        assert_eq!(files.keys().collect::<Vec<_>>(), ["ca.crt", "ca.key", "sa.key"]);
        store_shared(to.path(), &files).expect("write");
        assert_eq!(shared(to.path()).expect("read"), files);
    }

    #[test]
    fn names_stay_in_their_folder() {
        let to = tempfile::tempdir().expect("folder");
        for name in ["../x", "a/b", "", ".", "..", "server.key", "x\0y"] {
            let files = BTreeMap::from([(name.to_owned(), String::new())]);
            assert!(store_shared(to.path(), &files).is_err(), "{name:?}");
        }
    }
}
