//! Who holds which Pod address: the ledger (pure) and the locked file it lives in.
//!
//! Knows addresses, sandboxes by their identifier, and time since boot. Must not know links or the CNI protocol.
//!
//! The ledger is one small file, replaced in one step under a lock. It names the boot it was written in: after a
//! reboot no sandbox is left, so nothing in it holds any more and it need not be synced to disk. An address that was
//! given back rests before it is given again, because the kernel removes a sandbox's routes and connections a while
//! after the sandbox is gone, and because peers may still hold connections to its last owner.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::node::write_atomically;
use crate::paths;

/// Seconds an address rests after its release while another one is free.
pub const REST_SECONDS: u64 = 60;

/// One port of the host that leads to a Pod. Field names are those of the CNI capability `portMappings`; containerd writes
/// them as Go spells them, and Go's own plug-ins read either.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    #[serde(alias = "HostPort")]
    pub host_port: u16,
    #[serde(alias = "ContainerPort")]
    pub container_port: u16,
    #[serde(alias = "Protocol", default)]
    pub protocol: String,
    #[serde(
        rename = "hostIP",
        alias = "HostIP",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    pub host_ip: String,
}

/// One network attachment of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface's name inside the sandbox.
    pub ifname: String,
    /// Path of the sandbox's network namespace.
    pub netns: PathBuf,
    /// Name of the link's host side; no name is used twice.
    pub host_interface: String,
    /// Seconds since boot.
    pub since: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port_mappings: Vec<PortMapping>,
}

/// Who asks for an address.
#[derive(Debug, Clone)]
pub struct Claim {
    pub container_id: String,
    pub ifname: String,
    pub netns: PathBuf,
    pub port_mappings: Vec<PortMapping>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AllocateError {
    #[error("no free address left in {pool}: all {size} are in use")]
    Exhausted { pool: Ipv4Net, size: usize },
    #[error("host port {port}/{protocol} is already taken by sandbox {holder}")]
    HostPortTaken {
        port: u16,
        protocol: String,
        holder: String,
    },
}

/// All attachments of this node since it booted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    #[serde(rename = "bootID")]
    boot_id: String,
    /// Grows with each attachment; makes interface names unique.
    serial: u64,
    /// The address given last: the search goes on behind it, so every address of the pool gets its turn.
    last: Option<Ipv4Addr>,
    attachments: BTreeMap<Ipv4Addr, Attachment>,
    /// When each resting address was given back, in seconds since boot.
    released: BTreeMap<Ipv4Addr, u64>,
}

impl Ledger {
    /// Forgets everything written in an earlier boot.
    pub fn enter_boot(&mut self, boot_id: &str) {
        if self.boot_id != boot_id {
            *self = Ledger {
                boot_id: boot_id.to_string(),
                last: self.last,
                ..Ledger::default()
            };
        }
    }

    /// Gives `claim` an address of `pool`: the first one behind the last given that has rested enough, else the one
    /// that has rested longest.
    pub fn allocate(
        &mut self,
        pool: Ipv4Net,
        claim: Claim,
        now: u64,
    ) -> Result<(Ipv4Addr, Attachment), AllocateError> {
        self.check_host_ports(&claim)?;
        self.released
            .retain(|_, at| now.saturating_sub(*at) < REST_SECONDS);
        let address = self.pick(pool)?;
        self.released.remove(&address);
        self.last = Some(address);
        self.serial += 1;
        let attachment = Attachment {
            host_interface: interface_name(&claim.container_id, &claim.ifname, self.serial),
            container_id: claim.container_id,
            ifname: claim.ifname,
            netns: claim.netns,
            since: now,
            port_mappings: claim.port_mappings,
        };
        self.attachments.insert(address, attachment.clone());
        Ok((address, attachment))
    }

    fn pick(&self, pool: Ipv4Net) -> Result<Ipv4Addr, AllocateError> {
        let (first, size) = usable(pool);
        let start = self
            .last
            .and_then(|last| u32::from(last).checked_sub(first))
            .map_or(0, |offset| (offset + 1) % size.max(1));
        let mut longest_rest: Option<(u64, Ipv4Addr)> = None;
        for step in 0..size {
            let address = Ipv4Addr::from(first + (start + step) % size);
            if self.attachments.contains_key(&address) {
                continue;
            }
            match self.released.get(&address) {
                None => return Ok(address),
                Some(at) if longest_rest.is_none_or(|(best, _)| *at < best) => {
                    longest_rest = Some((*at, address))
                }
                Some(_) => {}
            }
        }
        longest_rest
            .map(|(_, address)| address)
            .ok_or(AllocateError::Exhausted {
                pool,
                size: size as usize,
            })
    }

    fn check_host_ports(&self, claim: &Claim) -> Result<(), AllocateError> {
        for wanted in &claim.port_mappings {
            let taken = self.attachments.values().find(|attachment| {
                attachment.port_mappings.iter().any(|present| {
                    present.host_port == wanted.host_port
                        && present.protocol.eq_ignore_ascii_case(&wanted.protocol)
                        && (present.host_ip == wanted.host_ip || any_host(present) || any_host(wanted))
                })
            });
            if let Some(holder) = taken {
                return Err(AllocateError::HostPortTaken {
                    port: wanted.host_port,
                    protocol: wanted.protocol.clone(),
                    holder: holder.container_id.clone(),
                });
            }
        }
        Ok(())
    }

    pub fn find(&self, container_id: &str, ifname: &str) -> Option<(Ipv4Addr, &Attachment)> {
        self.attachments
            .iter()
            .find(|(_, attachment)| attachment.container_id == container_id && attachment.ifname == ifname)
            .map(|(address, attachment)| (*address, attachment))
    }

    /// Gives back what a sandbox holds; asking twice is no error.
    pub fn release(&mut self, container_id: &str, ifname: &str, now: u64) -> Option<(Ipv4Addr, Attachment)> {
        let (address, _) = self.find(container_id, ifname)?;
        let attachment = self.attachments.remove(&address)?;
        self.released.insert(address, now);
        Some((address, attachment))
    }

    /// Gives back everything whose sandbox is gone; returns how many that were.
    pub fn collect(&mut self, alive: impl Fn(&Attachment) -> bool, now: u64) -> usize {
        let dead: Vec<Ipv4Addr> = self
            .attachments
            .iter()
            .filter(|(_, held)| !alive(held))
            .map(|(address, _)| *address)
            .collect();
        for address in &dead {
            self.attachments.remove(address);
            self.released.insert(*address, now);
        }
        dead.len()
    }

    pub fn attachments(&self) -> impl Iterator<Item = (Ipv4Addr, &Attachment)> {
        self.attachments
            .iter()
            .map(|(address, attachment)| (*address, attachment))
    }
}

fn any_host(mapping: &PortMapping) -> bool {
    matches!(mapping.host_ip.as_str(), "" | "0.0.0.0")
}

/// First usable address and how many there are: not the network's own nor its broadcast address where it has them.
fn usable(pool: Ipv4Net) -> (u32, u32) {
    let first = u32::from(pool.network());
    match pool.prefix_len() {
        32 => (first, 1),
        31 => (first, 2),
        length => (first + 1, (1u32 << (32 - length.max(1))) - 2),
    }
}

/// At most 15 bytes (the kernel's limit), and never the same twice: removed links linger for seconds.
fn interface_name(container_id: &str, ifname: &str, serial: u64) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(format!("{container_id}/{ifname}/{serial}"));
    let hex: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{}{}", crate::service::POD_LINK_PREFIX, &hex[..11])
}

/// The ledger file, held under its lock until dropped.
pub struct LedgerFile {
    path: PathBuf,
    _lock: Flock<File>,
    pub ledger: Ledger,
}

impl LedgerFile {
    /// Waits for the lock and reads the ledger; a damaged file is an error, never an empty ledger.
    pub fn open(netd_dir: &Path) -> io::Result<LedgerFile> {
        std::fs::create_dir_all(netd_dir)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(paths::ledger_lock(netd_dir))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io::Error::from(errno))?;
        let path = paths::ledger_file(netd_dir);
        let mut ledger = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Ledger>(&bytes)
                .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ledger::default(),
            Err(error) => return Err(error),
        };
        ledger.enter_boot(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim());
        Ok(LedgerFile {
            path,
            _lock: lock,
            ledger,
        })
    }

    /// Makes the ledger as it is now the one others read.
    pub fn save(&self) -> io::Result<()> {
        let bytes = serde_json::to_vec(&self.ledger).map_err(io::Error::other)?;
        write_atomically(&self.path, &bytes)
    }
}

/// Seconds since boot, suspended time included.
pub fn uptime_seconds() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/uptime")?;
    let seconds = text.split(['.', ' ']).next().and_then(|whole| whole.parse().ok());
    seconds.ok_or_else(|| io::Error::other("/proc/uptime is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(id: &str) -> Claim {
        Claim {
            container_id: id.to_string(),
            ifname: "eth0".to_string(),
            netns: PathBuf::from(format!("/run/netns/{id}")),
            port_mappings: Vec::new(),
        }
    }

    /// Runs `script`: `a+` attaches sandbox a, `a-` releases it, a number moves the clock. Checks the last octets given.
    #[track_caller]
    fn check(pool: &str, script: &str, expected: &str) {
        let mut ledger = Ledger::default();
        let (mut now, mut given) = (0, Vec::new());
        for word in script.split_whitespace() {
            if let Ok(seconds) = word.parse::<u64>() {
                now += seconds;
            } else if let Some(id) = word.strip_suffix('+') {
                given.push(match ledger.allocate(pool.parse().unwrap(), claim(id), now) {
                    Ok((address, _)) => address.octets()[3].to_string(),
                    Err(AllocateError::Exhausted { .. }) => "none".to_string(),
                    Err(error) => error.to_string(),
                });
            } else if let Some(id) = word.strip_suffix('-') {
                ledger.release(id, "eth0", now);
            }
        }
        assert_eq!(given.join(" "), expected);
    }

    #[test]
    fn addresses_are_given_in_turn_and_rest_after_use() {
        check("10.244.1.0/24", "a+ b+ c+", "1 2 3");
        check("10.244.1.0/24", "a+ a- b+ b- c+", "1 2 3");
        check("10.0.0.0/29", "a+ b+ c+ d+ e+ f+ g+", "1 2 3 4 5 6 none");
        check(
            "10.0.0.0/29",
            "a+ b+ c+ d+ e+ f+ a- 10 b- x+ y+",
            "1 2 3 4 5 6 1 2",
        );
        check(
            "10.0.0.0/29",
            "a+ b+ c+ d+ e+ f+ b- 10 a- x+ y+",
            "1 2 3 4 5 6 2 1",
        );
        check("10.0.0.0/29", "a+ b+ c+ d+ a- 61 e+ f+ x+", "1 2 3 4 5 6 1");
        check("10.0.0.4/31", "a+ b+ c+", "4 5 none");
        check("10.0.0.4/32", "a+ b+", "4 none");
    }

    #[test]
    fn release_is_idempotent_and_collect_frees_the_dead() {
        let pool = "10.0.0.0/30".parse().unwrap();
        let mut ledger = Ledger::default();
        let (first, attachment) = ledger.allocate(pool, claim("a"), 0).unwrap();
        assert!(attachment.host_interface.len() <= 15);
        assert_eq!(
            ledger.release("a", "eth0", 0).map(|(address, _)| address),
            Some(first)
        );
        assert_eq!(ledger.release("a", "eth0", 0), None);
        ledger.allocate(pool, claim("b"), 0).unwrap();
        ledger.allocate(pool, claim("c"), 0).unwrap();
        assert!(ledger.allocate(pool, claim("d"), 0).is_err());
        assert_eq!(ledger.collect(|held| held.container_id == "b", 0), 1);
        assert!(ledger.find("b", "eth0").is_some());
        assert!(ledger.allocate(pool, claim("d"), 0).is_ok());
    }

    #[test]
    fn the_same_sandbox_never_gets_the_same_interface_name_again() {
        let pool = "10.0.0.0/24".parse().unwrap();
        let mut ledger = Ledger::default();
        let (_, first) = ledger.allocate(pool, claim("a"), 0).unwrap();
        ledger.release("a", "eth0", 0);
        let (_, second) = ledger.allocate(pool, claim("a"), 0).unwrap();
        assert_ne!(first.host_interface, second.host_interface);
    }

    #[test]
    fn a_reboot_frees_everything_but_goes_on_behind_the_last_address() {
        let pool = "10.0.0.0/24".parse().unwrap();
        let mut ledger = Ledger::default();
        ledger.enter_boot("one");
        ledger.allocate(pool, claim("a"), 0).unwrap();
        ledger.enter_boot("one");
        assert!(ledger.find("a", "eth0").is_some());
        ledger.enter_boot("two");
        assert!(ledger.find("a", "eth0").is_none());
        assert_eq!(
            ledger.allocate(pool, claim("b"), 0).unwrap().0,
            Ipv4Addr::new(10, 0, 0, 2)
        );
    }

    #[test]
    fn a_host_port_has_one_holder() {
        let pool = "10.0.0.0/24".parse().unwrap();
        let port = |host_ip: &str| PortMapping {
            host_port: 80,
            container_port: 8080,
            protocol: "tcp".to_string(),
            host_ip: host_ip.to_string(),
        };
        let with = |id: &str, host_ip: &str| Claim {
            port_mappings: vec![port(host_ip)],
            ..claim(id)
        };
        let mut ledger = Ledger::default();
        ledger.allocate(pool, with("a", "10.1.0.1"), 0).unwrap();
        ledger.allocate(pool, with("b", "10.1.0.2"), 0).unwrap();
        let error = ledger.allocate(pool, with("c", ""), 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "host port 80/tcp is already taken by sandbox a"
        );
    }

    #[test]
    fn the_file_keeps_what_was_saved_and_refuses_damage() {
        let folder = std::env::temp_dir().join(format!("corten-ledger-{}", std::process::id()));
        let pool = "10.0.0.0/24".parse().unwrap();
        let mut file = LedgerFile::open(&folder).unwrap();
        file.ledger.allocate(pool, claim("a"), 0).unwrap();
        file.save().unwrap();
        let saved = file.ledger.clone();
        drop(file);
        assert_eq!(LedgerFile::open(&folder).unwrap().ledger, saved);
        std::fs::write(paths::ledger_file(&folder), b"{").unwrap();
        assert!(LedgerFile::open(&folder).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
