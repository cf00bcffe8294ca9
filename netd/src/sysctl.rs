//! The kernel settings a node needs. Knows files below `/proc/sys/net` of the calling thread's namespace.

use std::path::Path;

/// What forwarding needs on every node, and why.
///
/// `route_localnet` is left alone on purpose: NodePorts answer on the host's addresses, never on loopback.
/// Redirects are off because two nodes on one link send each other's Pods' traffic through the interface it came from.
const NODE: [(&str, &str); 2] = [("ipv4/ip_forward", "1"), ("ipv4/conf/all/send_redirects", "0")];

/// Sets [`NODE`]; a value that already holds is not written again, so a read-only `/proc/sys` may be prepared by hand.
pub fn prepare_node() -> std::io::Result<()> {
    for (key, value) in NODE {
        set(key, value)?;
    }
    Ok(())
}

/// Strict source check on a Pod's host-side link: a Pod can only send from its own address (RFC 3704).
pub fn prepare_pod_link(name: &str) -> std::io::Result<()> {
    set(&format!("ipv4/conf/{name}/rp_filter"), "1")?;
    set(&format!("ipv4/conf/{name}/forwarding"), "1")?;
    set(&format!("ipv4/conf/{name}/send_redirects"), "0")?;
    // The link carries IPv4 only; without this the kernel would send router solicitations and claim addresses on it.
    let ipv6 = Path::new("/proc/sys/net/ipv6/conf").join(name);
    if ipv6.exists() {
        set(&format!("ipv6/conf/{name}/disable_ipv6"), "1")?;
    }
    Ok(())
}

fn set(key: &str, value: &str) -> std::io::Result<()> {
    let path = Path::new("/proc/sys/net").join(key);
    let failed =
        |error: std::io::Error| std::io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if std::fs::read_to_string(&path).map_err(failed)?.trim() == value {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(failed)
}
