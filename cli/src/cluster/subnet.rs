//! Which addresses a new cluster's hosts get. Pure.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Where testbeds take their subnets from: a private range that Service and Pod defaults leave alone.
const POOL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 160, 0, 0), 11);
/// Hosts of one cluster.
const PREFIX: u8 = 24;

/// The first free subnet of the pool, beginning at a place that depends on the name, so that a cluster that is made again
/// tends to get the same one and several made at once tend not to meet.
pub fn pick(name: &str, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let count = 1u32 << (PREFIX - POOL.prefix_len());
    let start = fingerprint(name) as u32 % count;
    (0..count)
        .map(|step| {
            let base = u32::from(POOL.network()) + ((start + step) % count) * (1 << (32 - PREFIX));
            Ipv4Net::new_assert(Ipv4Addr::from(base), PREFIX)
        })
        .find(|subnet| !taken.iter().any(|other| overlap(*subnet, *other)))
}

/// Whether two networks share an address; a default route is no network anyone lives in.
pub fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.prefix_len() > 0 && b.prefix_len() > 0 && (a.contains(&b.network()) || b.contains(&a.network()))
}

/// The n-th address of a subnet; 1 is the root namespace's.
pub fn address(subnet: Ipv4Net, number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()) + number)
}

/// FNV-1a, 64 bits: short names that do not change with the compiler. Clashes only cost another try.
pub fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
