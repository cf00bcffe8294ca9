//! Labels of a Pod, Node or Namespace.
//!
//! Knows only that they are few and hardly change: a sorted list takes a tenth of the memory of a map.

use std::collections::BTreeMap;
use std::ops::Index;

/// Sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(Box<[(String, String)]>);

impl Labels {
    #[cfg(test)]
    pub fn new() -> Self {
        Labels::default()
    }

    pub fn get<Q: AsRef<str> + ?Sized>(&self, key: &Q) -> Option<&String> {
        let at = self
            .0
            .binary_search_by(|(own, _)| own.as_str().cmp(key.as_ref()))
            .ok()?;
        Some(&self.0[at].1)
    }

    pub fn contains_key<Q: AsRef<str> + ?Sized>(&self, key: &Q) -> bool {
        self.get(key).is_some()
    }
}

impl<Q: AsRef<str> + ?Sized> Index<&Q> for Labels {
    type Output = String;

    fn index(&self, key: &Q) -> &String {
        self.get(key).expect("the caller has seen the label")
    }
}

impl From<&Option<BTreeMap<String, String>>> for Labels {
    fn from(labels: &Option<BTreeMap<String, String>>) -> Self {
        let pairs = labels.iter().flatten();
        pairs.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

impl FromIterator<(String, String)> for Labels {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort_unstable();
        Labels(pairs.into())
    }
}
