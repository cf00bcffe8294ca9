//! ImageLocality: a node that has the Pod's images already starts it sooner.
//!
//! An image counts with its size times the share of nodes that have it, so that one lucky node is not flooded.

use std::collections::HashMap;

use crate::node::Offer;
use crate::plugins::MAX_NODE_SCORE;
use crate::requirements::Requirements;

const MIB: i64 = 1024 * 1024;
/// Below this sum (bytes) the images do not matter. Source: kube-scheduler.
const MIN_THRESHOLD: i64 = 23 * MIB;
/// Per container, the sum (bytes) from which on more does not matter. Source: kube-scheduler.
const MAX_THRESHOLD: i64 = 1000 * MIB;

/// On how many nodes each image is.
#[derive(Clone, Debug, Default)]
pub struct Census {
    nodes: HashMap<String, i64>,
    /// Grows with every change, so that results computed from older counts are known to be stale.
    pub version: u64,
}

impl Census {
    pub fn replace(&mut self, old: Option<&Offer>, new: Option<&Offer>) {
        if old.map(|offer| &offer.images) == new.map(|offer| &offer.images) {
            return;
        }
        // A node without images counts too: the share of nodes that have an image changes.
        self.version += 1;
        for name in old.iter().flat_map(|offer| offer.images.keys()) {
            if let Some(count) = self.nodes.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.nodes.remove(name);
                }
            }
        }
        for name in new.iter().flat_map(|offer| offer.images.keys()) {
            *self.nodes.entry(name.clone()).or_default() += 1;
        }
    }
}

pub fn score(requirements: &Requirements, offer: &Offer, census: &Census, all_nodes: usize) -> i64 {
    let sum: i64 = requirements
        .images
        .iter()
        .filter_map(|image| {
            let size = *offer.images.get(image)?;
            let spread = *census.nodes.get(image)? as f64 / all_nodes.max(1) as f64;
            Some((size as f64 * spread) as i64)
        })
        .sum();
    let most = MAX_THRESHOLD * requirements.images.len().max(1) as i64;
    MAX_NODE_SCORE * (sum.clamp(MIN_THRESHOLD, most) - MIN_THRESHOLD) / (most - MIN_THRESHOLD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(images: &[(&str, i64)]) -> Offer {
        let images = images
            .iter()
            .map(|(name, mib)| ((*name).to_owned(), mib * MIB))
            .collect();
        Offer {
            images,
            ..Offer::default()
        }
    }

    /// Two nodes, the first with `images`, the second with `elsewhere`; the Pod runs `wanted`.
    #[track_caller]
    fn check(images: &[(&str, i64)], elsewhere: &[(&str, i64)], wanted: &[&str], want: i64) {
        let (here, there) = (offer(images), offer(elsewhere));
        let mut census = Census::default();
        census.replace(None, Some(&here));
        census.replace(None, Some(&there));
        let images = wanted.iter().map(|name| (*name).to_owned()).collect();
        let requirements = Requirements {
            images,
            ..Requirements::default()
        };
        assert_eq!(score(&requirements, &here, &census, 2), want);
    }

    #[test]
    fn size_and_spread_decide() {
        check(&[], &[("web:1", 500)], &["web:1"], 0);
        check(&[("web:1", 500)], &[], &["web:1"], 23);
        check(&[("web:1", 500)], &[("web:1", 500)], &["web:1"], 48);
        check(&[("web:1", 20)], &[("web:1", 20)], &["web:1"], 0);
        check(&[("web:1", 4000)], &[("web:1", 4000)], &["web:1"], 100);
        check(&[("web:1", 4000)], &[("web:1", 4000)], &["web:1", "side:1"], 100);
        check(&[("web:1", 1000)], &[("web:1", 1000)], &["web:1", "side:1"], 49);
    }
}
