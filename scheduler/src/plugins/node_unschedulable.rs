//! NodeUnschedulable: nothing new goes to a cordoned node, unless the Pod tolerates exactly that.

use crate::node::Offer;
use crate::requirements::{Requirements, Taint};

pub const REASON: &str = "node(s) were unschedulable";
const TAINT_KEY: &str = "node.kubernetes.io/unschedulable";

pub fn filter(requirements: &Requirements, offer: &Offer) -> bool {
    if !offer.unschedulable {
        return true;
    }
    let taint = Taint {
        key: TAINT_KEY.to_owned(),
        value: String::new(),
        effect: "NoSchedule".to_owned(),
    };
    requirements
        .tolerations
        .iter()
        .any(|toleration| toleration.tolerates(&taint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirements::Toleration;

    #[track_caller]
    fn check(unschedulable: bool, tolerated_key: Option<&str>, want: bool) {
        let tolerations = tolerated_key.map(|key| Toleration {
            key: key.to_owned(),
            operator: "Exists".to_owned(),
            ..Toleration::default()
        });
        let requirements = Requirements {
            tolerations: tolerations.into_iter().collect(),
            ..Requirements::default()
        };
        assert_eq!(
            filter(
                &requirements,
                &Offer {
                    unschedulable,
                    ..Offer::default()
                }
            ),
            want
        );
    }

    #[test]
    fn a_cordoned_node_takes_only_pods_that_tolerate_it() {
        check(false, None, true);
        check(true, None, false);
        check(true, Some("other"), false);
        check(true, Some(TAINT_KEY), true);
        check(true, Some(""), true);
    }
}
