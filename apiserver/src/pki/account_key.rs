//! The key that signs the tokens of ServiceAccounts. Knows its file; what is signed with it is `tokens`' business.

use std::path::Path;

use rcgen::KeyPair;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;

use super::{PkiError, files};

/// A P-256 key, the same on all servers of a cluster: a token made by one is checked by any.
#[derive(Clone)]
pub struct AccountKey {
    pem: String,
}

impl std::fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccountKey")
    }
}

impl AccountKey {
    /// Its place below the PKI's directory.
    pub const FILE: &'static str = "sa.key";

    /// A new key, not yet on disk.
    ///
    /// # Errors
    /// Only if it cannot be generated.
    pub fn generate() -> Result<AccountKey, PkiError> {
        Ok(AccountKey {
            pem: KeyPair::generate()?.serialize_pem(),
        })
    }

    /// The key kept in `dir`, made there if it is the first start.
    ///
    /// # Errors
    /// A file that cannot be read or written, or that holds no key.
    pub fn open(dir: &Path) -> Result<AccountKey, PkiError> {
        let path = dir.join(Self::FILE);
        match std::fs::read_to_string(&path) {
            Ok(pem) => {
                let key = AccountKey { pem };
                key.to_der().map_err(|error| PkiError::Unusable {
                    path,
                    reason: error.to_string(),
                })?;
                Ok(key)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = AccountKey::generate()?;
                files::write_private(&path, key.pem.as_bytes())?;
                Ok(key)
            }
            Err(source) => Err(PkiError::File {
                action: "read",
                path,
                source,
            }),
        }
    }

    /// PKCS #8.
    pub(crate) fn to_der(&self) -> Result<Vec<u8>, PkiError> {
        PrivatePkcs8KeyDer::from_pem_slice(self.pem.as_bytes())
            .map(|der| der.secret_pkcs8_der().to_vec())
            .map_err(|error| super::unusable(Self::FILE, &error))
    }
}
