//! Who is asking: the user and groups of a request.
//!
//! Knows certificates. Must not know what a user may do (`authorize`).

use corten_api::resource::Requester;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The group that may do everything. Source: Kubernetes default `cluster-admin` binding.
pub const MASTERS: &str = "system:masters";
pub const AUTHENTICATED: &str = "system:authenticated";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
pub const ANONYMOUS: &str = "system:anonymous";

/// The identity a request acts under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub groups: Vec<String>,
}

impl User {
    #[must_use]
    pub fn new(name: impl Into<String>, groups: &[&str]) -> User {
        let mut groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        groups.push(AUTHENTICATED.to_owned());
        User {
            name: name.into(),
            groups,
        }
    }

    /// A part of this process that acts for the cluster, e.g. `system:kube-controller-manager`.
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
        Some(User::new(name, &groups))
    }

    /// As objects remember who made them.
    #[must_use]
    pub fn requester(&self) -> Requester {
        Requester {
            name: self.name.clone(),
            groups: self.groups.clone(),
            ..Requester::default()
        }
    }

    #[must_use]
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }
}
