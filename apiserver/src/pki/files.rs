//! Certificate files: atomic writes, modes, loading pairs. Knows paths and bytes only.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::{Issued, PkiError};

const MODE_PRIVATE: u32 = 0o600;
const MODE_PUBLIC: u32 = 0o644;
const MODE_DIR: u32 = 0o700;

pub(super) fn make_dir(dir: &Path) -> Result<(), PkiError> {
    let made =
        fs::create_dir_all(dir).and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(MODE_DIR)));
    made.map_err(at("create", dir))
}

/// The pair `NAME.crt`, `NAME.key`; `None` when there is no certificate yet (a lone key comes from a crash
/// before anything was signed and is replaced).
pub(super) fn load(dir: &Path, name: &str) -> Result<Option<Issued>, PkiError> {
    let (cert, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
    let cert_pem = match fs::read_to_string(&cert) {
        Ok(pem) => pem,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at("read", &cert)(error)),
    };
    let key_pem = fs::read_to_string(&key).map_err(at("read", &key))?;
    Ok(Some(Issued { cert_pem, key_pem }))
}

pub(super) fn store(dir: &Path, name: &str, issued: &Issued) -> Result<(), PkiError> {
    write(
        &dir.join(format!("{name}.key")),
        issued.key_pem.as_bytes(),
        MODE_PRIVATE,
    )?;
    write(
        &dir.join(format!("{name}.crt")),
        issued.cert_pem.as_bytes(),
        MODE_PUBLIC,
    )
}

/// Writes `path` with mode 0600: a reader sees the old file or the new one, also after a power cut.
///
/// # Errors
/// What the file system reports, with the path.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    write(path, bytes, MODE_PRIVATE)
}

/// As [`write_private`], for what everyone may read.
pub(super) fn write_public(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    write(path, bytes, MODE_PUBLIC)
}

/// A text file; `None` if there is none.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at("read", path)(error)),
    }
}

/// Removes a file that may be gone.
pub(super) fn remove(path: &Path) -> Result<(), PkiError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = Path::new(&beside);
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(beside)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?; // the file may be a left-over with another mode
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(beside, path)?;
        match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => fs::File::open(dir)?.sync_all(),
            _ => Ok(()),
        }
    };
    write().map_err(|error| {
        let _ = fs::remove_file(beside); // best effort: the error of the write is the one to report
        at("write", path)(error)
    })
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PkiError {
    let path = path.to_owned();
    move |source| PkiError::File { action, path, source }
}
