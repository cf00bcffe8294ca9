//! Who is asking: the user and groups of a request.
//!
//! Knows certificates. Must not know what a user may do (`authorize`).

use std::collections::BTreeMap;
use std::fmt::Write;

use corten_api::resource::Requester;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::fence::Fence;

/// The group that may do everything. Source: Kubernetes default `cluster-admin` binding.
pub const MASTERS: &str = "system:masters";
pub const AUTHENTICATED: &str = "system:authenticated";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
pub const ANONYMOUS: &str = "system:anonymous";

/// The extra that names the credential a user came with. Source: KEP-4193.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The identity a request acts under.
/// The default is nobody: without a name, in no group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// Empty for users without one.
    pub uid: String,
    pub groups: Vec<String>,
    /// What the authenticator knows beyond that, by key.
    pub extra: BTreeMap<String, Vec<String>>,
    /// What every write of an elected component asserts; nobody else has one.
    pub fence: Option<Fence>,
}

impl User {
    #[must_use]
    pub fn new(name: impl Into<String>, groups: &[&str]) -> User {
        let mut groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        groups.push(AUTHENTICATED.to_owned());
        User {
            name: name.into(),
            groups,
            ..User::nobody()
        }
    }

    /// A ServiceAccount, such as a controller of this process.
    #[must_use]
    pub fn service_account(namespace: &str, name: &str) -> User {
        User::new(
            format!("system:serviceaccount:{namespace}:{name}"),
            &[
                "system:serviceaccounts",
                &format!("system:serviceaccounts:{namespace}"),
            ],
        )
    }

    /// One who may do everything.
    #[must_use]
    pub fn component(name: impl Into<String>) -> User {
        User::new(name, &[MASTERS])
    }

    /// A request without credentials.
    #[must_use]
    pub fn anonymous() -> User {
        User {
            name: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..User::nobody()
        }
    }

    fn nobody() -> User {
        User {
            name: String::new(),
            uid: String::new(),
            groups: Vec::new(),
            extra: BTreeMap::new(),
            fence: None,
        }
    }

    /// For objects that write down who made them.
    #[must_use]
    pub fn requester(&self) -> Requester {
        Requester {
            name: self.name.clone(),
            uid: self.uid.clone(),
            groups: self.groups.clone(),
            extra: self.extra.clone(),
        }
    }

    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    /// User from the common name, groups from every organization of a verified certificate; `None` without a
    /// common name. Source: Kubernetes "X509 client certificates".
    #[must_use]
    pub fn from_certificate(der: &[u8]) -> Option<User> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        let subject = cert.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        if name.is_empty() {
            return None;
        }
        let groups: Vec<&str> = subject
            .iter_organization()
            .filter_map(|o| o.as_str().ok())
            .collect();
        let mut user = User::new(name, &groups);
        let mut id = "X509SHA256=".to_owned();
        for byte in Sha256::digest(der) {
            let _ = write!(id, "{byte:02x}"); // writing to a string does not fail
        }
        user.extra.insert(CREDENTIAL_ID.to_owned(), vec![id]);
        Some(user)
    }

    #[must_use]
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }
}

/// What a verified certificate says beside whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// DER.
    pub issuer: Vec<u8>,
    /// Hexadecimal, without leading zeros.
    pub serial: String,
    /// From when until when, in seconds since 1970.
    pub from: i64,
    pub until: i64,
}

impl Certificate {
    #[must_use]
    pub fn of(der: &[u8]) -> Option<Certificate> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        let digits: String = cert
            .raw_serial()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let serial = match digits.trim_start_matches('0') {
            "" => "0",
            digits => digits,
        };
        Some(Certificate {
            issuer: cert.issuer().as_raw().to_vec(),
            serial: serial.to_owned(),
            from: cert.validity().not_before.timestamp(),
            until: cert.validity().not_after.timestamp(),
        })
    }
}
