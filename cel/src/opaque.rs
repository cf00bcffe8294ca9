//! Values of the types that Kubernetes' libraries add.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::authorizer::{Authorize, Check, Decision, Subject};
use crate::library::formats::Format;
use crate::library::net::Cidr;
use crate::library::semver::Semver;
use crate::library::url::Url;
use crate::quantity::Quantity;

#[derive(Clone)]
pub enum Opaque<'a> {
    Url(Arc<Url>),
    Quantity(Arc<Quantity>),
    Ip(IpAddr),
    Cidr(Cidr),
    Semver(Arc<Semver>),
    Format(&'static Format),
    /// Asks on behalf of the request's user, or of a ServiceAccount.
    Authorizer(&'a dyn Authorize, Arc<Subject>),
    PathCheck(&'a dyn Authorize, Arc<Check>),
    GroupCheck(&'a dyn Authorize, Arc<Check>),
    ResourceCheck(&'a dyn Authorize, Arc<Check>),
    Decision(Arc<Decision>),
}

pub const URL: &str = "kubernetes.URL";
pub const QUANTITY: &str = "kubernetes.Quantity";
pub const IP: &str = "net.IP";
pub const CIDR: &str = "net.CIDR";
pub const SEMVER: &str = "kubernetes.Semver";
pub const FORMAT: &str = "kubernetes.NamedFormat";
pub const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
pub const PATH_CHECK: &str = "kubernetes.authorization.PathCheck";
pub const GROUP_CHECK: &str = "kubernetes.authorization.GroupCheck";
pub const RESOURCE_CHECK: &str = "kubernetes.authorization.ResourceCheck";
pub const DECISION: &str = "kubernetes.authorization.Decision";

/// All names, as signatures write them.
pub const NAMES: [&str; 11] = [
    URL,
    QUANTITY,
    IP,
    CIDR,
    SEMVER,
    FORMAT,
    AUTHORIZER,
    PATH_CHECK,
    GROUP_CHECK,
    RESOURCE_CHECK,
    DECISION,
];

impl Opaque<'_> {
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Url(_) => URL,
            Self::Quantity(_) => QUANTITY,
            Self::Ip(_) => IP,
            Self::Cidr(_) => CIDR,
            Self::Semver(_) => SEMVER,
            Self::Format(_) => FORMAT,
            Self::Authorizer(..) => AUTHORIZER,
            Self::PathCheck(..) => PATH_CHECK,
            Self::GroupCheck(..) => GROUP_CHECK,
            Self::ResourceCheck(..) => RESOURCE_CHECK,
            Self::Decision(_) => DECISION,
        }
    }

    /// The bytes an address has, by which upstream counts its cost.
    pub fn size(&self) -> Option<usize> {
        match self {
            Self::Ip(IpAddr::V4(_)) => Some(4),
            Self::Ip(IpAddr::V6(_)) => Some(16),
            Self::Cidr(own) => Some(usize::from(own.prefix.div_ceil(8))),
            _ => None,
        }
    }
}

impl PartialEq for Opaque<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Url(a), Self::Url(b)) => a == b,
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a), Self::Cidr(b)) => a == b,
            (Self::Semver(a), Self::Semver(b)) => a == b,
            (Self::Format(a), Self::Format(b)) => a.name == b.name,
            (Self::Authorizer(_, a), Self::Authorizer(_, b)) => a == b,
            (Self::PathCheck(_, a), Self::PathCheck(_, b))
            | (Self::GroupCheck(_, a), Self::GroupCheck(_, b))
            | (Self::ResourceCheck(_, a), Self::ResourceCheck(_, b)) => a == b,
            (Self::Decision(a), Self::Decision(b)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Debug for Opaque<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())
    }
}
