//! Whose a node's name is: of the machine whose key got it, for as long as that machine is alive. Pure.
//!
//! Upstream gives a node's name to whoever bears a bootstrap token; here a second machine that takes a living node's name
//! is told so instead of fighting over the Node.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

/// How long a certificate counts although its Node has not been heard of yet: the machine is just starting.
const STARTING: Duration = Duration::from_secs(120);
/// A Node whose Lease is older than this many of its durations is dead.
const LEASE_DURATIONS: i64 = 1;
/// Seconds a Lease lasts that does not say. Source: kubelet, `nodeLeaseDurationSeconds`.
const LEASE_SECONDS: i64 = 40;

/// Names that were given out a moment ago, by the public key they were given to. Bounded: what is older than [`STARTING`]
/// is forgotten whenever a name is given.
#[derive(Default)]
pub struct Given {
    by_name: HashMap<String, (Vec<u8>, Timestamp)>,
}

/// The last sign of life of a Node: when its Lease was renewed and how many seconds that is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alive {
    pub renewed: Timestamp,
    pub seconds: Option<i32>,
}

impl Given {
    /// Whether the machine with `key` may have the name; then it is noted as given. `alive`: of the Node of that name, if
    /// there is one.
    ///
    /// # Errors
    /// Why not, for the one who starts the agent.
    pub fn give(
        &mut self,
        name: &str,
        key: &[u8],
        alive: Option<Alive>,
        now: Timestamp,
    ) -> Result<(), String> {
        self.by_name
            .retain(|_, (_, at)| now.duration_since(*at).unsigned_abs() < STARTING);
        if let Some((holder, _)) = self.by_name.get(name) {
            if holder == key {
                return Ok(());
            }
            return Err(format!(
                "the node name {name:?} was given to another machine a moment ago: give this one another with --node-name"
            ));
        }
        if let Some(alive) = alive {
            let good_for = i64::from(alive.seconds.unwrap_or_default());
            let good_for = if good_for > 0 { good_for } else { LEASE_SECONDS };
            let age = now.as_second() - alive.renewed.as_second();
            if age <= LEASE_DURATIONS * good_for {
                return Err(format!(
                    "the node name {name:?} belongs to another machine, which was alive {} s ago: give this one another with \
                     --node-name, or wait {} s after that machine has stopped",
                    age.max(0),
                    good_for
                ));
            }
        }
        self.by_name.insert(name.to_owned(), (key.to_vec(), now));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn a_name_is_the_first_keys_while_its_machine_starts_or_lives() {
        let mut given = Given::default();
        assert_eq!(given.give("n", b"one", None, at(1000)), Ok(()));
        assert_eq!(
            given.give("n", b"one", None, at(1001)),
            Ok(()),
            "the same machine again"
        );
        assert!(given.give("n", b"two", None, at(1119)).is_err());
        assert_eq!(given.give("other", b"two", None, at(1119)), Ok(()));
        let alive = |renewed, seconds| {
            Some(Alive {
                renewed: at(renewed),
                seconds,
            })
        };
        let error = given
            .give("n", b"two", alive(1190, Some(40)), at(1200))
            .expect_err("alive");
        assert!(error.contains("alive 10 s ago"), "{error}");
        assert!(given.give("n", b"two", alive(1190, None), at(1230)).is_err());
        assert_eq!(
            given.give("n", b"two", alive(1190, Some(40)), at(1231)),
            Ok(()),
            "dead"
        );
        assert!(
            given.give("n", b"one", None, at(1232)).is_err(),
            "it changed hands"
        );
    }
}
