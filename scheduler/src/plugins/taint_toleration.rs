//! TaintToleration: `NoSchedule` and `NoExecute` taints must be tolerated; untolerated `PreferNoSchedule` ones cost score.

use crate::node::Offer;
use crate::plugins::MAX_NODE_SCORE;
use crate::requirements::{Requirements, Taint};

/// Names no taint: since 1.34.2 keys and values stay out of Pod status and Events.
/// Source: kubernetes/kubernetes#134740.
pub const REASON: &str = "node(s) had untolerated taint(s)";

pub fn filter(requirements: &Requirements, offer: &Offer) -> bool {
    !offer
        .taints
        .iter()
        .any(|taint| taint.effect != "PreferNoSchedule" && untolerated(requirements, taint))
}

/// How many `PreferNoSchedule` taints the Pod does not tolerate.
pub fn score(requirements: &Requirements, offer: &Offer) -> i64 {
    let disliked = |taint: &&Taint| taint.effect == "PreferNoSchedule" && untolerated(requirements, taint);
    offer.taints.iter().filter(disliked).count() as i64
}

/// `most` is the highest count among the nodes that passed the filters.
pub fn normalize(count: i64, most: i64) -> i64 {
    if most == 0 {
        MAX_NODE_SCORE
    } else {
        MAX_NODE_SCORE - MAX_NODE_SCORE * count / most
    }
}

fn untolerated(requirements: &Requirements, taint: &Taint) -> bool {
    !requirements
        .tolerations
        .iter()
        .any(|toleration| toleration.tolerates(taint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirements::Toleration;

    /// Taints are `key=value:effect ...`; a toleration is `key operator value effect`, `*` for empty.
    #[track_caller]
    fn check(taints: &str, toleration: Option<&str>, passes: bool, disliked: i64) {
        let taints = taints.split_whitespace().map(|taint| {
            let (key, rest) = taint.split_once('=').expect("key=");
            let (value, effect) = rest.split_once(':').expect("value:effect");
            Taint {
                key: key.to_owned(),
                value: value.to_owned(),
                effect: effect.to_owned(),
            }
        });
        let tolerations = toleration.map(|words| {
            let words: Vec<String> = words
                .split(' ')
                .map(|word| {
                    if word == "*" {
                        String::new()
                    } else {
                        word.to_owned()
                    }
                })
                .collect();
            let [key, operator, value, effect] = words.try_into().expect("four words");
            Toleration {
                key,
                operator,
                value,
                effect,
            }
        });
        let offer = Offer {
            taints: taints.collect(),
            ..Offer::default()
        };
        let requirements = Requirements {
            tolerations: tolerations.into_iter().collect(),
            ..Requirements::default()
        };
        assert_eq!(
            (filter(&requirements, &offer), score(&requirements, &offer)),
            (passes, disliked)
        );
    }

    #[test]
    fn taints_need_a_matching_toleration() {
        check("", None, true, 0);
        check("a=1:NoSchedule", None, false, 0);
        check("a=1:NoExecute", None, false, 0);
        check("a=1:PreferNoSchedule b=:PreferNoSchedule", None, true, 2);
        check("a=1:NoSchedule", Some("a Equal 1 NoSchedule"), true, 0);
        check("a=1:NoSchedule", Some("a * 1 *"), true, 0);
        check("a=1:NoSchedule", Some("a Equal 2 *"), false, 0);
        check("a=1:NoSchedule", Some("a Exists * NoExecute"), false, 0);
        check("a=1:NoSchedule b=2:NoExecute", Some("* Exists * *"), true, 0);
        check("a=1:NoSchedule b=2:NoSchedule", Some("a Exists * *"), false, 0);
        check("slow=7:NoSchedule", Some("slow Lt 9 *"), true, 0);
        check("slow=7:NoSchedule", Some("slow Gt 9 *"), false, 0);
    }

    #[test]
    fn fewer_disliked_taints_score_higher() {
        assert_eq!(
            (normalize(0, 0), normalize(0, 2), normalize(1, 2), normalize(2, 2)),
            (100, 100, 50, 0)
        );
    }
}
