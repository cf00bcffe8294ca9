//! What a node must have left before it calls itself under pressure.

use std::str::FromStr;

use corten_api::quantity::Quantity;

/// Signals and floors as the kubelet's `--eviction-hard` names them. Defaults: `memory.available<100Mi`,
/// `nodefs.available<10%`, `nodefs.inodesFree<5%`. Source: kubelet configuration, `evictionHard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floors {
    pub memory: Floor,
    pub disk: Floor,
    pub inodes: Floor,
}

/// An amount that must be left, absolute or as a share of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Floor {
    /// Bytes, or inodes.
    Amount(u64),
    /// 0 to 100.
    Percent(u64),
}

impl Default for Floors {
    fn default() -> Self {
        Floors {
            memory: Floor::Amount(100 << 20),
            disk: Floor::Percent(10),
            inodes: Floor::Percent(5),
        }
    }
}

impl Floor {
    /// Whether `free` of `total` is less than this. A total of zero is one that could not be read.
    #[must_use]
    pub fn is_above(self, free: u64, total: u64) -> bool {
        match self {
            Floor::Amount(amount) => total > 0 && free < amount,
            Floor::Percent(percent) => total > 0 && free.saturating_mul(100) < total.saturating_mul(percent),
        }
    }
}

impl FromStr for Floor {
    type Err = String;

    fn from_str(text: &str) -> Result<Floor, String> {
        if let Some(percent) = text.strip_suffix('%') {
            return match percent.parse() {
                Ok(percent @ 0..=100) => Ok(Floor::Percent(percent)),
                _ => Err(format!("{text:?} is no share between 0% and 100%")),
            };
        }
        let amount: Quantity = text
            .parse()
            .map_err(|_| format!("{text:?} is neither a quantity nor a share"))?;
        u64::try_from(amount.value())
            .map(Floor::Amount)
            .map_err(|_| format!("{text:?} is negative"))
    }
}

impl FromStr for Floors {
    type Err = String;

    /// `signal<floor`, separated by commas; a signal that is not named keeps its default.
    fn from_str(text: &str) -> Result<Floors, String> {
        let mut floors = Floors::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (signal, floor) = part
                .split_once('<')
                .ok_or_else(|| format!("{part:?} is not signal<floor"))?;
            let floor = floor.parse()?;
            match signal {
                "memory.available" => floors.memory = floor,
                "nodefs.available" => floors.disk = floor,
                "nodefs.inodesFree" => floors.inodes = floor,
                other => return Err(format!("{other:?} is no signal this node watches")),
            }
        }
        Ok(floors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<Floors, &str>) {
        assert_eq!(text.parse::<Floors>(), expected.map_err(str::to_owned));
    }

    #[test]
    fn reads_what_the_kubelet_reads() {
        check("", Ok(Floors::default()));
        let none = Floor::Percent(0);
        check(
            "memory.available<1Gi,nodefs.available<0%,nodefs.inodesFree<0%",
            Ok(Floors {
                memory: Floor::Amount(1 << 30),
                disk: none,
                inodes: none,
            }),
        );
        check(
            "nodefs.available",
            Err("\"nodefs.available\" is not signal<floor"),
        );
        check(
            "nodefs.available<101%",
            Err("\"101%\" is no share between 0% and 100%"),
        );
        check(
            "nodefs.available<much",
            Err("\"much\" is neither a quantity nor a share"),
        );
        check(
            "pid.available<5%",
            Err("\"pid.available\" is no signal this node watches"),
        );
    }

    #[test]
    fn zero_is_never_above() {
        assert!(Floor::Percent(10).is_above(9, 100));
        assert!(!Floor::Percent(10).is_above(10, 100));
        assert!(!Floor::Percent(0).is_above(0, 100));
        assert!(Floor::Amount(10).is_above(9, 100));
        assert!(!Floor::Amount(10).is_above(0, 0), "an unknown total says nothing");
    }
}
