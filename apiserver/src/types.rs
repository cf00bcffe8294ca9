//! The set of all served types: built-in ones and those of CustomResourceDefinitions.
//!
//! A set never changes; a new one takes its place. Who holds one sees one consistent state for as long as it likes, and
//! documents made from a set are kept with it. Must not know how definitions become types.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use corten_api::registry;
use corten_api::resource::TypeRef;
use parking_lot::RwLock;

use crate::{ApiServer, discovery, openapi};

/// One immutable set of served types.
pub struct Types {
    /// Built-in types in discovery order, then custom ones by group and version.
    all: Vec<TypeRef>,
    /// Custom types by group and plural; one entry for each version.
    by_plural: HashMap<String, HashMap<String, Vec<TypeRef>>>,
    /// Documents of this set, made when first asked for.
    pub discovery: OnceLock<discovery::Documents>,
    pub openapi: openapi::Documents,
}

impl Types {
    /// The built-in types and `custom`. The order of `custom` is that of discovery: a group's versions follow each
    /// other, the preferred one first.
    #[must_use]
    pub fn new(custom: Vec<TypeRef>) -> Types {
        let mut by_plural: HashMap<String, HashMap<String, Vec<TypeRef>>> = HashMap::new();
        for ty in &custom {
            by_plural
                .entry(ty.group.to_string())
                .or_default()
                .entry(ty.plural.to_string())
                .or_default()
                .push(ty.clone());
        }
        let built_in = registry().all().iter().map(TypeRef::from);
        Types {
            all: built_in.chain(custom).collect(),
            by_plural,
            discovery: OnceLock::new(),
            openapi: openapi::Documents::default(),
        }
    }

    #[must_use]
    pub fn lookup(&self, group: &str, version: &str, plural: &str) -> Option<TypeRef> {
        match registry().lookup(group, version, plural) {
            Some(ty) => Some(ty.into()),
            None => {
                let versions = self.by_plural.get(group)?.get(plural)?;
                versions.iter().find(|ty| ty.version == version).cloned()
            }
        }
    }

    /// All types, in the order of discovery.
    #[must_use]
    pub fn all(&self) -> &[TypeRef] {
        &self.all
    }

    /// Types of one group and version.
    pub fn members(&self, group: &str, version: &str) -> impl Iterator<Item = &TypeRef> {
        self.all
            .iter()
            .filter(move |ty| ty.group == group && ty.version == version)
    }

    /// Groups with their versions, the core group (`""`) first, a group's preferred version first.
    #[must_use]
    pub fn groups(&self) -> Vec<(&str, Vec<&str>)> {
        let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
        for ty in &self.all {
            match groups.iter_mut().find(|(group, _)| *group == ty.group) {
                Some((_, versions)) if versions.contains(&&*ty.version) => {}
                Some((_, versions)) => versions.push(&ty.version),
                None => groups.push((&ty.group, vec![&ty.version])),
            }
        }
        groups
    }
}

/// The set in force.
pub struct Current(RwLock<Arc<Types>>);

impl Default for Current {
    fn default() -> Current {
        Current(RwLock::new(Arc::new(Types::new(Vec::new()))))
    }
}

impl Current {
    pub fn get(&self) -> Arc<Types> {
        self.0.read().clone()
    }

    /// Puts another set in force.
    pub fn set(&self, types: Types) {
        *self.0.write() = Arc::new(types);
    }
}

impl ApiServer {
    /// The set in force.
    pub(crate) fn types(&self) -> Arc<Types> {
        self.inner().types.get()
    }

    /// One served type. A built-in one costs a look into a static table.
    pub(crate) fn lookup(&self, group: &str, version: &str, plural: &str) -> Option<TypeRef> {
        match registry().lookup(group, version, plural) {
            Some(ty) => Some(ty.into()),
            None => self.types().lookup(group, version, plural),
        }
    }
}
