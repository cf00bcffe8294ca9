//! Where Service addresses come from: the ServiceCIDRs that are ready. Pure.
//!
//! Each range has two bands, as in Kubernetes' KEP-3070: what is asked for by name may be anywhere, what is given out
//! comes from the upper band until that is full.

use std::net::Ipv4Addr;

use bytes::Bytes;
use corten_api::{Status, meta};
use corten_store::{Precondition, Revision, Snapshot};
use ipnet::Ipv4Net;
use rand::Rng;
use rand::rngs::StdRng;

use super::SERVICE_CIDRS;
use crate::damaged;
use crate::stored::{Stored, TypeMeta};

/// Bounds of the lower band. Source: `ipallocator.calculateRangeOffset`.
const ADDRESS_BAND: Band = Band {
    least: 16,
    most: 256,
    step: 16,
};
/// Bounds of the lower band of node ports. Source: `portallocator.calculateRangeOffset`.
pub const PORT_BAND: Band = Band {
    least: 16,
    most: 128,
    step: 32,
};

const META: TypeMeta<'static> = TypeMeta {
    group: "networking.k8s.io",
    version: "v1",
    kind: "ServiceCIDR",
};

/// How much of a range is kept for what is asked for by name: a `step`th of it, within bounds.
#[derive(Clone, Copy)]
pub struct Band {
    least: u32,
    most: u32,
    step: u32,
}

impl Band {
    /// Size of the lower band of a range of `size`; 0 for one too small to be divided.
    #[must_use]
    pub fn of(self, size: u64) -> u32 {
        if size <= u64::from(self.least) {
            return 0;
        }
        let part = u32::try_from(size / u64::from(self.step)).unwrap_or(u32::MAX);
        part.clamp(self.least, self.most)
    }
}

/// The first free number: from a random place of the upper band on and round it, then the same in the lower one.
/// `low..=high` is the whole, `band` the size of its lower part.
pub fn pick(rng: &mut StdRng, low: u32, high: u32, band: u32, free: impl Fn(u32) -> bool) -> Option<u32> {
    let parts = [
        (low.checked_add(band)?, high),
        (low, low.checked_add(band)?.checked_sub(1)?),
    ];
    for (from, to) in parts {
        if from > to || to > high {
            continue;
        }
        let start = rng.random_range(from..=to);
        let found = (start..=to).chain(from..start).find(|number| free(*number));
        if found.is_some() {
            return found;
        }
    }
    None
}

/// One range of a ServiceCIDR.
#[derive(Debug, Clone)]
pub struct Range {
    net: Ipv4Net,
    key: Bytes,
    revision: Revision,
}

impl Range {
    /// Neither its network nor its broadcast address is given out.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.net.contains(&address) && address != self.net.network() && address != self.net.broadcast()
    }

    /// Holds while the ServiceCIDR is as it was read: an address is never taken from one that is being deleted.
    #[must_use]
    pub fn unchanged(&self) -> Precondition {
        Precondition::ModRevision(self.key.clone(), self.revision)
    }

    pub fn free(&self, rng: &mut StdRng, free: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let (network, broadcast) = (u32::from(self.net.network()), u32::from(self.net.broadcast()));
        let band = ADDRESS_BAND.of(u64::from(broadcast) - u64::from(network) + 1);
        let (low, high) = (network.checked_add(1)?, broadcast.checked_sub(1)?);
        pick(rng, low, high, band, |number| free(Ipv4Addr::from(number))).map(Ipv4Addr::from)
    }
}

/// The ranges of all ServiceCIDRs that are ready and stay. One without the condition counts as ready. Source:
/// `MetaAllocator.syncAllocators`.
///
/// # Errors
/// `InternalError` for a stored value that is not ours.
pub fn ready(snapshot: &Snapshot) -> Result<Vec<Range>, Status> {
    let mut ranges = Vec::new();
    for entry in snapshot.range(SERVICE_CIDRS.range(None)) {
        let object = Stored::new(&entry.value)
            .and_then(|stored| stored.parse(META, entry.mod_revision.0))
            .map_err(damaged)?;
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        let mut ready = conditions
            .filter(|c| c["type"] == "Ready")
            .map(|c| c["status"] == "True");
        if meta::is_deleting(&object) || !ready.next().unwrap_or(true) {
            continue;
        }
        let cidrs = object["spec"]["cidrs"].as_array().into_iter().flatten();
        let nets = cidrs.filter_map(|cidr| cidr.as_str()?.parse::<Ipv4Net>().ok());
        ranges.extend(nets.map(|net| Range {
            net,
            key: entry.key.clone(),
            revision: entry.mod_revision,
        }));
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::collections::BTreeSet;

    #[test]
    fn the_lower_band_is_a_part_within_bounds() {
        let addresses = |bits: u32| ADDRESS_BAND.of(1 << bits);
        assert_eq!(
            [
                addresses(4),
                addresses(5),
                addresses(8),
                addresses(12),
                addresses(16),
                addresses(24)
            ],
            [0, 16, 16, 256, 256, 256]
        );
        assert_eq!(
            [
                PORT_BAND.of(16),
                PORT_BAND.of(86),
                PORT_BAND.of(2768),
                PORT_BAND.of(65_000)
            ],
            [0, 16, 86, 128]
        );
    }

    #[test]
    fn numbers_are_given_once_and_the_lower_band_last() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut taken = BTreeSet::new();
        let mut order = Vec::new();
        while let Some(number) = pick(&mut rng, 1, 30, 16, |n| !taken.contains(&n)) {
            assert!(taken.insert(number));
            order.push(number);
        }
        assert_eq!(taken, (1..=30).collect());
        assert!(order[..14].iter().all(|n| *n > 16), "{order:?}");
        assert_eq!(pick(&mut rng, 2, 1, 0, |_| true), None);
        assert_eq!(pick(&mut rng, 5, 5, 0, |_| true), Some(5));
    }

    #[test]
    fn the_smallest_ranges() {
        let mut rng = StdRng::seed_from_u64(7);
        let range = |net: &str| Range {
            net: net.parse().expect("CIDR"),
            key: Bytes::new(),
            revision: Revision(1),
        };
        assert_eq!(range("10.0.0.0/32").free(&mut rng, |_| true), None);
        assert_eq!(range("10.0.0.0/31").free(&mut rng, |_| true), None);
        assert!(range("10.0.0.0/30").free(&mut rng, |_| true).is_some());
        assert_eq!(range("255.255.255.255/32").free(&mut rng, |_| true), None);
        assert!(!range("10.0.0.0/30").contains(Ipv4Addr::new(10, 0, 0, 3)));
        assert!(range("10.0.0.0/30").contains(Ipv4Addr::new(10, 0, 0, 2)));
    }
}
