//! The set of all served types: built-in ones and those of CustomResourceDefinitions.
//!
//! A set never changes; a new one takes its place. Who holds one sees one consistent state for as long as it likes, and
//! documents made from a set are kept with it. Must not know how definitions become types.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use corten_api::registry;
use corten_api::resource::TypeRef;
use parking_lot::{Mutex, RwLock};

use crate::aggregate::Remote;
use crate::{ApiServer, discovery, openapi};

/// One immutable set of served types.
pub struct Types {
    /// Built-in types in discovery order, then custom ones by group and version.
    all: Vec<TypeRef>,
    /// Custom types by group and plural; one entry for each version.
    by_plural: HashMap<String, HashMap<String, Vec<TypeRef>>>,
    /// Groups and versions of aggregated API servers, in the order of discovery.
    pub remote: Vec<Arc<Remote>>,
    /// Documents of this set, made when first asked for.
    pub discovery: OnceLock<discovery::Documents>,
    pub openapi: openapi::Documents,
}

impl Types {
    /// The built-in types and `custom`. The order of `custom` is that of discovery: a group's versions follow each
    /// other, the preferred one first.
    #[must_use]
    pub fn new(custom: Vec<TypeRef>) -> Types {
        Types::with(custom, Vec::new(), openapi::Documents::default())
    }

    /// The same, and what others serve. `openapi` knows the documents of the set before.
    #[must_use]
    pub fn with(custom: Vec<TypeRef>, remote: Vec<Arc<Remote>>, openapi: openapi::Documents) -> Types {
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
            remote,
            discovery: OnceLock::new(),
            openapi,
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
        for remote in &self.remote {
            match groups.iter_mut().find(|(group, _)| *group == remote.group) {
                Some((_, versions)) if versions.contains(&&*remote.version) => {}
                Some((_, versions)) => versions.push(&remote.version),
                None => groups.push((&remote.group, vec![&remote.version])),
            }
        }
        groups
    }
}

/// The set in force.
pub struct Current {
    types: RwLock<Arc<Types>>,
    /// What the set is made of: custom types, and groups of others.
    parts: Mutex<(Vec<TypeRef>, Vec<Arc<Remote>>)>,
}

impl Default for Current {
    fn default() -> Current {
        Current {
            types: RwLock::new(Arc::new(Types::new(Vec::new()))),
            parts: Mutex::default(),
        }
    }
}

impl Current {
    pub fn get(&self) -> Arc<Types> {
        self.types.read().clone()
    }

    /// Puts another set of custom types in force.
    pub fn set_custom(&self, custom: Vec<TypeRef>) {
        self.change(|parts| parts.0 = custom);
    }

    /// Puts another set of aggregated groups in force.
    pub fn set_remote(&self, remote: Vec<Arc<Remote>>) {
        self.change(|parts| parts.1 = remote);
    }

    fn change(&self, how: impl FnOnce(&mut (Vec<TypeRef>, Vec<Arc<Remote>>))) {
        let mut parts = self.parts.lock();
        how(&mut parts);
        let openapi = openapi::Documents::after(&self.get().openapi);
        let new = Arc::new(Types::with(parts.0.clone(), parts.1.clone(), openapi));
        *self.types.write() = new;
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
