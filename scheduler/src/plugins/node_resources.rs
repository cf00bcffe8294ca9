//! NodeResourcesFit and NodeResourcesBalancedAllocation: does the Pod fit, and where does it leave the most and the
//! most even room.

use crate::node::{Node, Offer};
use crate::plugins::MAX_NODE_SCORE;
use crate::requirements::Requirements;
use crate::resources::Resources;

/// Scalar resources of one Pod that are reported by name; any beyond share the last bit.
const NAMED_SCALARS: u32 = 28;
const PODS: u32 = 1;
const CPU: u32 = 1 << 1;
const MEMORY: u32 = 1 << 2;
const EPHEMERAL_STORAGE: u32 = 1 << 3;
const FIRST_SCALAR: u32 = 4;

/// Which resources are short, as bits. Empty when the Pod fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Short {
    bits: u32,
    /// Even the empty node has too little, so removing Pods cannot help.
    pub beyond_capacity: bool,
}

impl Short {
    pub fn fits(self) -> bool {
        self.bits == 0
    }

    /// Kubernetes' reasons in its order, e.g. `Insufficient cpu`.
    pub fn reasons(self, requests: &Resources) -> Vec<String> {
        let named = [
            (PODS, "Too many pods"),
            (CPU, "Insufficient cpu"),
            (MEMORY, "Insufficient memory"),
            (EPHEMERAL_STORAGE, "Insufficient ephemeral-storage"),
        ];
        let fixed = named
            .into_iter()
            .filter(|(bit, _)| self.bits & bit != 0)
            .map(|(_, text)| text.to_owned());
        let scalar = requests
            .scalar
            .keys()
            .enumerate()
            .filter(|(at, _)| self.bits & scalar_bit(*at) != 0);
        fixed
            .chain(scalar.map(|(_, name)| format!("Insufficient {name}")))
            .collect()
    }
}

fn scalar_bit(at: usize) -> u32 {
    1 << (FIRST_SCALAR + (at as u32).min(NAMED_SCALARS - 1))
}

/// NodeResourcesFit's filter. A resource the Pod does not request is never short, even on an overcommitted node.
pub fn filter(requirements: &Requirements, node: &Node, offer: &Offer) -> Short {
    let (requests, used, capacity) = (&requirements.requests, &node.requested, &offer.allocatable);
    let mut short = Short::default();
    if node.pods.len() as i64 + 1 > offer.max_pods {
        short.bits |= PODS;
    }
    let mut look = |bit: u32, request: i64, used: i64, capacity: i64| {
        if request > 0 && request > capacity.saturating_sub(used) {
            short.bits |= bit;
            short.beyond_capacity |= request > capacity;
        }
    };
    look(CPU, requests.milli_cpu, used.milli_cpu, capacity.milli_cpu);
    look(MEMORY, requests.memory, used.memory, capacity.memory);
    look(
        EPHEMERAL_STORAGE,
        requests.ephemeral_storage,
        used.ephemeral_storage,
        capacity.ephemeral_storage,
    );
    for (at, (name, request)) in requests.scalar.iter().enumerate() {
        let of = |resources: &Resources| resources.scalar.get(name).copied().unwrap_or(0);
        look(scalar_bit(at), *request, of(used), of(capacity));
    }
    short
}

/// NodeResourcesFit, strategy LeastAllocated over CPU and memory: the free share after placement, mean of both.
pub fn least_allocated(requirements: &Requirements, node: &Node, offer: &Offer) -> i64 {
    let free = |capacity: i64, used: i64, request: i64| {
        let used = used.saturating_add(request);
        let left = capacity.saturating_sub(used).max(0);
        (capacity > 0).then(|| (i128::from(left) * i128::from(MAX_NODE_SCORE) / i128::from(capacity)) as i64)
    };
    let cpu = free(
        offer.allocatable.milli_cpu,
        node.scoring_milli_cpu,
        requirements.scoring_milli_cpu,
    );
    let memory = free(
        offer.allocatable.memory,
        node.scoring_memory,
        requirements.scoring_memory,
    );
    match (cpu, memory) {
        (Some(cpu), Some(memory)) => (cpu + memory) / 2,
        (Some(score), None) | (None, Some(score)) => score,
        (None, None) => 0,
    }
}

/// NodeResourcesBalancedAllocation over CPU and memory: 100 when both are used to the same share.
/// A Pod that requests neither scores 0 everywhere, so that such Pods do not pile up on one node.
pub fn balanced(requirements: &Requirements, node: &Node, offer: &Offer) -> i64 {
    let requests = &requirements.requests;
    if requests.milli_cpu == 0 && requests.memory == 0 {
        return 0;
    }
    let share = |capacity: i64, used: i64, request: i64| {
        (capacity > 0).then(|| (used.saturating_add(request) as f64 / capacity as f64).min(1.0))
    };
    let cpu = share(
        offer.allocatable.milli_cpu,
        node.requested.milli_cpu,
        requests.milli_cpu,
    );
    let memory = share(offer.allocatable.memory, node.requested.memory, requests.memory);
    let deviation = match (cpu, memory) {
        (Some(cpu), Some(memory)) => ((cpu - memory) / 2.0).abs(),
        _ => 0.0,
    };
    ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(text: &str) -> Resources {
        let mut resources = Resources::default();
        for pair in text.split_whitespace() {
            let (name, amount) = pair.split_once('=').expect("name=amount");
            let amount = amount.parse().expect("a number");
            match name {
                "cpu" => resources.milli_cpu = amount,
                "memory" => resources.memory = amount,
                "disk" => resources.ephemeral_storage = amount,
                _ => drop(resources.scalar.insert(name.to_owned(), amount)),
            }
        }
        resources
    }

    /// A node of `capacity` with `used` taken and room for one more Pod of `max_pods`.
    fn case(capacity: &str, used: &str, request: &str, max_pods: i64) -> (Requirements, Node, Offer) {
        let (requests, used) = (resources(request), resources(used));
        let requirements = Requirements {
            scoring_milli_cpu: requests.milli_cpu,
            scoring_memory: requests.memory,
            requests,
            ..Requirements::default()
        };
        let node = Node {
            scoring_milli_cpu: used.milli_cpu,
            scoring_memory: used.memory,
            requested: used,
            ..Node::default()
        };
        (
            requirements,
            node,
            Offer {
                allocatable: resources(capacity),
                max_pods,
                ..Offer::default()
            },
        )
    }

    #[track_caller]
    fn check(capacity: &str, used: &str, request: &str, max_pods: i64, want: &str) {
        let (requirements, node, offer) = case(capacity, used, request, max_pods);
        let short = filter(&requirements, &node, &offer);
        let mut got = short.reasons(&requirements.requests);
        assert_eq!(short.fits(), got.is_empty());
        if short.beyond_capacity {
            got.push("beyond capacity".to_owned());
        }
        assert_eq!(got.join(", "), want);
    }

    #[test]
    fn names_every_resource_that_is_short() {
        check("cpu=1000 memory=100", "", "cpu=1000 memory=100", 1, "");
        check("cpu=1000 memory=100", "cpu=1", "cpu=1000", 1, "Insufficient cpu");
        check(
            "cpu=1000 memory=100",
            "",
            "cpu=1001",
            1,
            "Insufficient cpu, beyond capacity",
        );
        check(
            "cpu=1000 memory=100",
            "cpu=999",
            "cpu=2 memory=100",
            0,
            "Too many pods, Insufficient cpu",
        );
        check("cpu=10", "", "gpu=1", 1, "Insufficient gpu, beyond capacity");
        check(
            "gpu=2",
            "gpu=1",
            "gpu=2 disk=1",
            1,
            "Insufficient ephemeral-storage, Insufficient gpu, beyond capacity",
        );
        check("cpu=10", "cpu=20", "", 1, "");
        check(
            "cpu=9223372036854775807",
            "cpu=9223372036854775807",
            "cpu=1",
            1,
            "Insufficient cpu",
        );
    }

    #[track_caller]
    fn check_scores(capacity: &str, used: &str, request: &str, least: i64, even: i64) {
        let (requirements, node, offer) = case(capacity, used, request, 1);
        let got = (
            least_allocated(&requirements, &node, &offer),
            balanced(&requirements, &node, &offer),
        );
        assert_eq!(got, (least, even));
    }

    #[test]
    fn scores_follow_kube_schedulers_formulas() {
        check_scores("cpu=4000 memory=10000", "cpu=0", "cpu=3000 memory=5000", 37, 87);
        check_scores(
            "cpu=4000 memory=10000",
            "cpu=3000 memory=5000",
            "cpu=500 memory=2500",
            18,
            93,
        );
        check_scores("cpu=4000 memory=10000", "", "", 100, 0);
        check_scores("cpu=4000", "", "cpu=2000", 50, 100);
        check_scores("", "", "cpu=1", 0, 100);
    }
}
