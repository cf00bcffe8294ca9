//! The keys that sign the tokens of ServiceAccounts. Knows their files; what is signed with them is `tokens`' business.

use std::path::Path;

use rcgen::KeyPair;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

use super::{PkiError, files, rollover};

/// P-256 keys, the same on all servers of a cluster: a token made by one is checked by any.
#[derive(Clone)]
pub struct AccountKey {
    /// PEM, by the second since 1970 from which each signs, ascending; never empty.
    signing: Vec<(i64, String)>,
    /// PEM of public keys: what they have signed is still believed.
    former: Vec<String>,
}

impl std::fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccountKey")
    }
}

impl AccountKey {
    /// The first one's place below the PKI's directory.
    pub const FILE: &'static str = "sa.key";

    /// A new key, not yet on disk.
    ///
    /// # Errors
    /// Only if it cannot be generated.
    pub fn generate() -> Result<AccountKey, PkiError> {
        Ok(AccountKey {
            signing: vec![(i64::MIN, AccountKey::generate_pem()?)],
            former: Vec::new(),
        })
    }

    pub(super) fn generate_pem() -> Result<String, PkiError> {
        Ok(KeyPair::generate()?.serialize_pem())
    }

    /// The keys kept in `dir`; one is made there if it is the first start.
    ///
    /// # Errors
    /// A file that cannot be read or written, or that holds no key.
    pub fn open(dir: &Path) -> Result<AccountKey, PkiError> {
        let path = dir.join(Self::FILE);
        if files::read_text(&path)?.is_none() {
            files::write_private(&path, AccountKey::generate_pem()?.as_bytes())?;
        }
        let files = rollover::read(dir)?;
        let (signing, former) = rollover::account_keys(&files);
        let keys = AccountKey {
            signing: signing
                .into_iter()
                .map(|(from, pem)| (from, pem.to_owned()))
                .collect(),
            former: former.into_iter().map(str::to_owned).collect(),
        };
        let unusable = |error: PkiError| PkiError::Unusable {
            path,
            reason: error.to_string(),
        };
        keys.to_der().and_then(|_| keys.former_der()).map_err(unusable)?;
        Ok(keys)
    }

    /// PKCS #8, by when each begins to sign.
    pub(crate) fn to_der(&self) -> Result<Vec<(i64, Vec<u8>)>, PkiError> {
        let der = |(from, pem): &(i64, String)| {
            PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
                .map(|der| (*from, der.secret_pkcs8_der().to_vec()))
                .map_err(|error| super::unusable(Self::FILE, &error))
        };
        self.signing.iter().map(der).collect()
    }

    /// The public keys of before.
    pub(crate) fn former_der(&self) -> Result<Vec<Vec<u8>>, PkiError> {
        let der = |pem: &String| {
            SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes())
                .map(|der| der.as_ref().to_vec())
                .map_err(|error| super::unusable("sa-old-*.pub", &error))
        };
        self.former.iter().map(der).collect()
    }
}
