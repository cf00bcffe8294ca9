//! How the seats of a server are divided among its priority levels. Pure.
//!
//! A level's shares give its nominal seats. Of these it lends a part when it does not need them, and it borrows what others
//! lend. Source: Kubernetes `flowcontrol.computeConcurrencyAllocation` and the `limited` fields of a
//! PriorityLevelConfiguration.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

/// What an object says of a level's seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    pub nominal: u32,
    /// Percent of the nominal seats that may be lent.
    pub lendable: u32,
    /// Percent of the nominal seats that may be borrowed; `None`: as many as there are.
    pub borrowing: Option<u32>,
}

/// The bounds of a level's seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    pub nominal: u32,
    pub least: u32,
    pub most: u32,
}

/// The bounds of each level, for a server with `total` seats. A level has at least one seat.
#[must_use]
pub fn bounds(total: u32, levels: &[Shares]) -> Vec<Bounds> {
    let sum: u64 = levels.iter().map(|level| u64::from(level.nominal)).sum();
    let part = |of: u32, percent: u32| ((u64::from(of) * u64::from(percent) + 50) / 100) as u32;
    levels
        .iter()
        .map(|level| {
            let nominal = match sum {
                0 => 0,
                sum => (u64::from(total) * u64::from(level.nominal)).div_ceil(sum) as u32,
            };
            let borrowed = level.borrowing.map_or(total, |percent| part(nominal, percent));
            let nominal = nominal.max(1);
            Bounds {
                nominal,
                least: nominal.saturating_sub(part(nominal, level.lendable)).max(1),
                most: nominal.saturating_add(borrowed).min(total.max(nominal)),
            }
        })
        .collect()
}

/// The seats of each level now: in proportion to what each would use (`wanted`), within its bounds, together at most
/// `total` where the bounds allow it.
#[must_use]
pub fn allocate(total: u32, levels: &[(Bounds, f64)]) -> Vec<u32> {
    let of = |proportion: f64| {
        let level = move |(bounds, wanted): &(Bounds, f64)| {
            // Who wants nothing still counts a little, so that idle levels share what nobody wants.
            let target = wanted.max(f64::from(bounds.least)).max(0.001);
            (target * proportion)
                .clamp(f64::from(bounds.least), f64::from(bounds.most))
                .floor() as u32
        };
        levels.iter().map(level)
    };
    let fits = |proportion: f64| of(proportion).map(u64::from).sum::<u64>() <= u64::from(total);
    // The sum grows with the proportion: the largest that fits is found by halving.
    let (mut low, mut high) = (0.0, f64::from(total.max(1)) * 1000.0);
    for _ in 0..64 {
        let middle = (low + high) / 2.0;
        if fits(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    of(low).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn level(nominal: u32, lendable: u32) -> Shares {
        Shares {
            nominal,
            lendable,
            borrowing: None,
        }
    }

    #[test]
    fn shares_become_seats_as_upstreams_defaults_do() {
        let levels = [30, 40, 10, 40, 100, 20, 5];
        let lend = [33, 25, 0, 50, 90, 50, 0];
        let levels: Vec<Shares> = levels.iter().zip(lend).map(|(n, l)| level(*n, l)).collect();
        let bounds = bounds(600, &levels);
        let nominal: Vec<u32> = bounds.iter().map(|b| b.nominal).collect();
        assert_eq!(nominal, [74, 98, 25, 98, 245, 49, 13]);
        assert_eq!((bounds[4].least, bounds[4].most), (24, 600));
        let bounded = super::bounds(
            100,
            &[
                Shares {
                    borrowing: Some(50),
                    ..level(1, 0)
                },
                level(1, 0),
            ],
        );
        assert_eq!(
            (bounded[0].nominal, bounded[0].least, bounded[0].most),
            (50, 50, 75)
        );
    }

    #[test]
    fn who_needs_seats_borrows_what_others_lend() {
        let bounds = bounds(100, &[level(50, 50), level(50, 20)]);
        let now = |first: f64, second: f64| allocate(100, &[(bounds[0], first), (bounds[1], second)]);
        assert_eq!(now(1000.0, 0.0), [60, 40]);
        assert_eq!(now(0.0, 1000.0), [25, 75]);
        assert_eq!(now(1000.0, 1000.0), [50, 50]);
        assert!(now(0.0, 0.0).iter().sum::<u32>() >= 99);
    }

    proptest! {
        #[test]
        fn seats_stay_within_their_bounds(
            total in 1u32..2000,
            levels in prop::collection::vec((0u32..200, 0u32..=100, prop::option::of(0u32..400), 0f64..5000.0), 1..12),
        ) {
            let shares: Vec<Shares> = levels
                .iter()
                .map(|(nominal, lendable, borrowing, _)| Shares { nominal: *nominal, lendable: *lendable, borrowing: *borrowing })
                .collect();
            let bounds = bounds(total, &shares);
            let wanted: Vec<(Bounds, f64)> = bounds.iter().copied().zip(levels.iter().map(|level| level.3)).collect();
            let seats = allocate(total, &wanted);
            for (seats, bounds) in seats.iter().zip(&bounds) {
                prop_assert!(*seats >= 1 && *seats >= bounds.least && *seats <= bounds.most, "{} {:?}", seats, bounds);
            }
            let least: u64 = bounds.iter().map(|bounds| u64::from(bounds.least)).sum();
            let sum: u64 = seats.iter().map(|seats| u64::from(*seats)).sum();
            prop_assert!(sum <= least.max(u64::from(total)), "{} of {}", sum, total);
        }
    }
}
