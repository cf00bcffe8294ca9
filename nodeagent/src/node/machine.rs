//! What the machine is and has: read once at start, and what is watched of it afterwards.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use corten_api::quantity::{Quantity, ResourceList};

use super::floors::Floors;

/// Pods a node takes. Source: kubelet configuration, `maxPods`.
pub const MAX_PODS: i64 = 110;

#[derive(Debug, Clone, Default)]
pub struct Machine {
    pub boot_id: String,
    pub machine_id: String,
    pub system_uuid: String,
    pub kernel_version: String,
    pub os_image: String,
    /// As Go names it: `amd64`, `arm64`.
    pub architecture: &'static str,
    pub cpus: i64,
    pub memory_bytes: i64,
    pub disk_bytes: i64,
    floors: Floors,
    data_dir: PathBuf,
}

/// How the machine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pressure {
    pub memory: bool,
    pub disk: bool,
}

impl Machine {
    /// # Errors
    /// `/proc` or the data directory cannot be read.
    pub fn read(data_dir: &Path, floors: Floors) -> io::Result<Machine> {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let machine_id = text("/etc/machine-id");
        let uuid = text("/sys/class/dmi/id/product_uuid");
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let os_image = release
            .lines()
            .find_map(|line| line.strip_prefix("PRETTY_NAME="))
            .map_or("Linux", |name| name.trim_matches('"'))
            .to_owned();
        let disk = disk(data_dir)?;
        Ok(Machine {
            boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")?
                .trim()
                .to_owned(),
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            kernel_version: text("/proc/sys/kernel/osrelease"),
            os_image,
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            },
            cpus: std::thread::available_parallelism()?.get() as i64,
            memory_bytes: meminfo(&fs::read_to_string("/proc/meminfo")?, "MemTotal").unwrap_or_default()
                as i64,
            disk_bytes: disk.total as i64,
            floors,
            data_dir: data_dir.to_owned(),
        })
    }

    /// A reading that fails says nothing, so it is no pressure.
    pub fn pressure(&self) -> Pressure {
        let floors = &self.floors;
        let memory = fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| meminfo(&text, "MemAvailable"));
        Pressure {
            memory: memory.is_some_and(|available| {
                floors
                    .memory
                    .is_above(available, self.memory_bytes.unsigned_abs())
            }),
            disk: disk(&self.data_dir).is_ok_and(|disk| {
                floors.disk.is_above(disk.free, disk.total)
                    || floors.inodes.is_above(disk.inodes_free, disk.inodes)
            }),
        }
    }
}

struct Disk {
    total: u64,
    free: u64,
    inodes: u64,
    inodes_free: u64,
}

fn disk(path: &Path) -> io::Result<Disk> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    Ok(Disk {
        total: stat.blocks() * stat.fragment_size(),
        free: stat.blocks_available() * stat.fragment_size(),
        inodes: stat.files(),
        inodes_free: stat.files_free(),
    })
}

/// Bytes of one line of `/proc/meminfo`, which counts in KiB. Pure.
fn meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kib| kib << 10)
}

#[derive(Debug, Clone, Default)]
pub struct Resources {
    pub capacity: ResourceList,
    pub allocatable: ResourceList,
}

/// Capacity is the machine's unless overridden; allocatable is what `reserved` leaves of it. Pure.
pub fn resources(machine: &Machine, overrides: &ResourceList, reserved: &ResourceList) -> Resources {
    let mut capacity: ResourceList = [
        ("cpu", Quantity::units(machine.cpus)),
        ("memory", Quantity::bytes(machine.memory_bytes)),
        ("ephemeral-storage", Quantity::bytes(machine.disk_bytes)),
        ("pods", Quantity::units(MAX_PODS)),
        ("hugepages-1Gi", Quantity::units(0)),
        ("hugepages-2Mi", Quantity::units(0)),
    ]
    .map(|(name, amount)| (name.to_owned(), amount))
    .into();
    capacity.extend(overrides.clone());
    let mut allocatable = capacity.clone();
    for (name, amount) in reserved {
        if let Some(left) = allocatable.get_mut(name) {
            left.sub(amount);
            if left.is_negative() {
                *left = Quantity::ZERO;
            }
        }
    }
    Resources {
        capacity,
        allocatable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(overrides: &[(&str, i64)], reserved: &[(&str, i64)], name: &str, wanted: (i64, i64)) {
        let machine = Machine {
            cpus: 2,
            memory_bytes: 1 << 30,
            ..Machine::default()
        };
        let list = |list: &[(&str, i64)]| {
            list.iter()
                .map(|(name, amount)| ((*name).to_owned(), Quantity::units(*amount)))
                .collect()
        };
        let made = resources(&machine, &list(overrides), &list(reserved));
        assert_eq!(
            (made.capacity[name].value(), made.allocatable[name].value()),
            wanted
        );
    }

    #[test]
    fn capacity_minus_reserve() {
        check(&[], &[("cpu", 1)], "cpu", (2, 1));
        check(&[("cpu", 8)], &[], "cpu", (8, 8));
        check(&[], &[("memory", 2 << 30)], "memory", (1 << 30, 0));
        check(&[], &[], "pods", (110, 110));
    }

    #[test]
    fn meminfo_counts_in_kib() {
        assert_eq!(
            meminfo("MemTotal:  2 kB\nMemAvailable: 1 kB\n", "MemAvailable"),
            Some(1024)
        );
    }
}
