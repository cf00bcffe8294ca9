//! How a resource type is shared: statically when built in, counted when made at run time.

use std::ops::Deref;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::{Kind, ResourceType};
use crate::custom::Custom;

/// A cheap handle on a resource type. Cloning one of a built-in type touches no memory.
#[derive(Clone)]
pub enum TypeRef {
    Static(&'static ResourceType),
    Shared(Arc<ResourceType>),
}

impl Deref for TypeRef {
    type Target = ResourceType;

    fn deref(&self) -> &ResourceType {
        match self {
            Self::Static(ty) => ty,
            Self::Shared(ty) => ty,
        }
    }
}

impl From<&'static ResourceType> for TypeRef {
    fn from(ty: &'static ResourceType) -> Self {
        Self::Static(ty)
    }
}

impl From<ResourceType> for TypeRef {
    fn from(ty: ResourceType) -> Self {
        Self::Shared(Arc::new(ty))
    }
}

impl std::fmt::Debug for TypeRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

/// Short names or categories of a resource.
#[derive(Debug, Clone)]
pub enum Names {
    Static(&'static [&'static str]),
    Shared(Arc<[String]>),
}

impl Names {
    pub fn len(&self) -> usize {
        match self {
            Self::Static(names) => names.len(),
            Self::Shared(names) => names.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let (known, own): (&[&str], &[String]) = match self {
            Self::Static(names) => (names, &[]),
            Self::Shared(names) => (&[], names),
        };
        known.iter().copied().chain(own.iter().map(String::as_str))
    }

    pub fn contains(&self, name: &str) -> bool {
        self.iter().any(|own| own == name)
    }
}

impl From<Vec<String>> for Names {
    fn from(names: Vec<String>) -> Self {
        Self::Shared(names.into())
    }
}

impl Serialize for Names {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// What is special about a kind.
#[derive(Clone)]
pub(crate) enum Behaviour {
    Static(&'static dyn Kind),
    Custom(Arc<Custom>),
}

impl Deref for Behaviour {
    type Target = dyn Kind;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Static(kind) => *kind,
            Self::Custom(kind) => &**kind,
        }
    }
}
