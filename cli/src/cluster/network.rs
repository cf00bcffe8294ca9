//! The wires of a cluster: the switch, the hosts' namespaces, the link to the root namespace.
//!
//! Knows netlink and namespaces. Must not know processes. Works through `corten_netd`'s netlink, not `ip`.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use corten_netd::netlink::{Hop, Netlink, Route, Veth};
use corten_netd::netns;
use ipnet::Ipv4Net;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::state::{Cluster, SWITCH, WITNESS, clusters_dir, namespace, root_link};

/// Where `ip netns` keeps names too, so `ip netns exec corten-NAME-node-0 ...` works.
const NETNS: &str = "/run/netns";
const BRIDGE: &str = "br0";
/// Route protocol "static", as an administrator's own.
const STATIC: u8 = 4;

pub fn namespace_path(cluster: &str, host: &str) -> PathBuf {
    Path::new(NETNS).join(namespace(cluster, host))
}

/// Subnets this machine uses already, as far as the root namespace knows.
pub async fn subnets_in_use() -> Result<Vec<Ipv4Net>> {
    let root = Netlink::open()?;
    let addresses = root.addresses().await?.into_iter().map(|(_, net)| net.trunc());
    let routes = root.routes().await?.into_iter().map(|route| route.destination);
    Ok(addresses.chain(routes).collect())
}

/// Makes namespaces, links and addresses of a whole cluster: some milliseconds a host.
pub async fn build(cluster: &Cluster) -> Result<()> {
    prepare_names()?;
    let switch_path = namespace_path(&cluster.name, SWITCH);
    netns::create(&switch_path).with_context(|| format!("make namespace {}", switch_path.display()))?;
    let switch_ns = File::open(&switch_path)?;
    netns::within(&switch_ns, prepare_switch)??;
    let switch = Netlink::open_in(&switch_ns)?;
    let lo = switch.need_link("lo").await?;
    switch.set_up(lo.index, true).await?;
    switch.add_bridge(BRIDGE).await?;
    let bridge = switch.need_link(BRIDGE).await?.index;

    let root = Netlink::open()?;
    let link = root_link(&cluster.name);
    connect(
        &switch,
        bridge,
        "root",
        &File::open("/proc/thread-self/ns/net")?,
        &link,
    )
    .await?;
    without_ipv6(&link)?;
    let index = root.need_link(&link).await?.index;
    root.add_address(
        index,
        Ipv4Net::new(cluster.root_ip(), cluster.subnet.prefix_len())?,
    )
    .await?;
    root.set_up(index, true).await?;

    for host in &cluster.hosts {
        let path = namespace_path(&cluster.name, &host.name);
        netns::create(&path).with_context(|| format!("make namespace {}", path.display()))?;
        let namespace = File::open(&path)?;
        netns::within(&namespace, || without_ipv6("all"))??;
        connect(&switch, bridge, &host.name, &namespace, "eth0").await?;
        let inside = Netlink::open_in(&namespace)?;
        let lo = inside.need_link("lo").await?;
        inside.set_up(lo.index, true).await?;
        let eth0 = inside.need_link("eth0").await?;
        inside
            .add_address(eth0.index, Ipv4Net::new(host.ip, cluster.subnet.prefix_len())?)
            .await?;
        inside.set_up(eth0.index, true).await?;
        // As on any real host: addresses of Services must lead somewhere for the host's own packets to be translated.
        let hop = Hop::Via {
            gateway: cluster.root_ip(),
            interface: None,
        };
        inside
            .add_route(&Route {
                destination: Ipv4Net::default(),
                hop,
                protocol: STATIC,
            })
            .await?;
    }
    Ok(())
}

/// A cable from a port of the switch to `name` in `namespace`.
async fn connect(switch: &Netlink, bridge: u32, port: &str, namespace: &File, name: &str) -> Result<()> {
    let veth = Veth {
        name: port,
        mac: None,
        peer_name: name,
        peer_mac: None,
        peer_namespace: Some(namespace),
        mtu: None,
    };
    switch.add_veth(veth).await?;
    let index = switch.need_link(port).await?.index;
    switch.set_controller(index, bridge).await?;
    switch.set_up(index, true).await?;
    Ok(())
}

/// Plugs a host in or out at the switch; the host sees its link lose the carrier.
pub async fn set_plugged(cluster: &str, host: &str, plugged: bool) -> Result<()> {
    let path = namespace_path(cluster, SWITCH);
    let namespace = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    let switch = Netlink::open_in(&namespace)?;
    let port = switch.need_link(host).await?;
    switch.set_up(port.index, plugged).await?;
    Ok(())
}

/// Removes what [`build`] made, also half of it. Gone already is no error.
pub async fn remove(cluster: &str, hosts: &[String]) -> Result<()> {
    // The link goes before the namespaces: those disappear in the background, this one at once.
    Netlink::open()?.delete_link(&root_link(cluster)).await?;
    for host in hosts.iter().map(String::as_str).chain([SWITCH]) {
        let path = namespace_path(cluster, host);
        netns::remove(&path).with_context(|| format!("remove namespace {}", path.display()))?;
    }
    Ok(())
}

/// Hosts of a cluster by the names of its namespaces, for a cluster whose state was lost.
pub fn hosts_by_namespace(cluster: &str) -> Vec<String> {
    let prefix = namespace(cluster, "");
    let entries = std::fs::read_dir(NETNS).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    // Another cluster's name may begin with this one's: what is left must be a host of ours.
    let is_host = |rest: &str| {
        rest == SWITCH
            || rest == WITNESS
            || ["server-", "node-"].iter().any(|role| {
                rest.strip_prefix(role)
                    .is_some_and(|number| number.parse::<u32>().is_ok())
            })
    };
    names
        .filter_map(|name| name.strip_prefix(&prefix).map(str::to_string))
        .filter(|rest| is_host(rest))
        .collect()
}

/// In the switch's namespace: frames pass between hosts without the packet filter looking at them.
fn prepare_switch() -> std::io::Result<()> {
    for name in ["iptables", "ip6tables", "arptables"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{name}");
        if Path::new(&path).exists() {
            std::fs::write(path, "0")?;
        }
    }
    without_ipv6("all")
}

fn without_ipv6(interface: &str) -> std::io::Result<()> {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    if Path::new(&path).exists() {
        std::fs::write(path, "1")
    } else {
        Ok(())
    }
}

/// The note that the folder of names was made a mount by us, and whether the folder itself was ours.
fn note() -> PathBuf {
    clusters_dir().join(".netns-mount")
}

/// Makes the folder of names a mount of its own, as `ip netns add` would: it binds the folder to itself, and namespaces
/// mounted before that would be hidden below and never go away.
fn prepare_names() -> Result<()> {
    let made = !Path::new(NETNS).exists();
    std::fs::create_dir_all(NETNS).with_context(|| format!("make {NETNS}"))?;
    if super::process::mount_points()?
        .iter()
        .any(|point| point == Path::new(NETNS))
    {
        return Ok(());
    }
    std::fs::write(note(), if made { "folder" } else { "mount" })?;
    let none = None::<&str>;
    mount(Some(NETNS), NETNS, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
        .with_context(|| format!("mount {NETNS}"))?;
    mount(none, NETNS, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none)
        .with_context(|| format!("share {NETNS}"))?;
    Ok(())
}

/// Undoes [`prepare_names`] once no name is left. Called under the lock of all clusters.
pub fn forget_names() -> Result<()> {
    let Ok(what) = std::fs::read_to_string(note()) else {
        return Ok(());
    };
    let is_empty = std::fs::read_dir(NETNS).map_or(true, |mut entries| entries.next().is_none());
    if !is_empty {
        return Ok(());
    }
    umount2(NETNS, MntFlags::MNT_DETACH).with_context(|| format!("unmount {NETNS}"))?;
    if what == "folder" {
        // Not empty means someone used it meanwhile; then it stays.
        let _ = std::fs::remove_dir(NETNS);
    }
    std::fs::remove_file(note()).context("remove the note")
}
