//! Attaching a sandbox: a veth pair, its address, the routes of both ends. The plug-in's shell.
//!
//! The sandbox's end carries the Pod's address as a /32 and routes everything through a link-local gateway that exists
//! only as a fixed neighbour entry, so no broadcast domain and no ARP is needed. The host's end has no address; a /32
//! route leads to it, and strict source checking on it lets a Pod send from nothing but its own address.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde_json::Value;

use super::spec::{self, CniError, Interface, Request, code};
use crate::ipam::{AllocateError, Attachment, Claim, LedgerFile, uptime_seconds};
use crate::iptables;
use crate::netlink::{Hop, Mac, Netlink, NetlinkError, Route, Veth};
use crate::netns;
use crate::node::LocalNode;
use crate::routes::POD_ROUTE_PROTOCOL;
use crate::service::host_ports;
use crate::sysctl;

/// The gateway every Pod sees. Link-local, so it can never be an address of a real peer.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The host's end of every link; each link is its own network, so one address serves all.
const HOST_MAC: Mac = [0x02, 0xc0, 0x47, 0xe0, 0x00, 0x01];

/// An attachment younger than this, in seconds, may still be under construction and is never collected.
const GRACE_SECONDS: u64 = 120;

fn io_error(what: &str) -> impl Fn(std::io::Error) -> CniError + '_ {
    move |error| CniError::new(code::IO_FAILURE, what, error.to_string())
}

fn network_error(error: NetlinkError) -> CniError {
    CniError::new(code::NETWORK, "cannot change the network", error.to_string())
}

fn open_sandbox(request: &Request) -> Result<(PathBuf, File), CniError> {
    let path = request.netns.clone().unwrap_or_default();
    let file = File::open(&path).ok().filter(|_| netns::is_namespace(&path));
    file.map(|file| (path.clone(), file)).ok_or_else(|| {
        let details = format!("{} is not a network namespace", path.display());
        CniError::new(
            code::UNKNOWN_CONTAINER,
            "the sandbox has no network namespace",
            details,
        )
    })
}

pub async fn loopback_up(request: &Request) -> Result<Value, CniError> {
    let (path, sandbox) = open_sandbox(request)?;
    let inside = Netlink::open_in(&sandbox).map_err(network_error)?;
    let link = inside.need_link("lo").await.map_err(network_error)?;
    inside.set_up(link.index, true).await.map_err(network_error)?;
    Ok(spec::loopback_added(
        &request.config.cni_version,
        &path.to_string_lossy(),
    ))
}

pub async fn loopback_check(request: &Request) -> Result<(), CniError> {
    let (_, sandbox) = open_sandbox(request)?;
    let inside = Netlink::open_in(&sandbox).map_err(network_error)?;
    let link = inside.need_link("lo").await.map_err(network_error)?;
    if link.up {
        Ok(())
    } else {
        Err(CniError::new(code::NOT_AS_ADDED, "lo is down", ""))
    }
}

pub async fn add(request: &Request) -> Result<Value, CniError> {
    let netd_dir = &request.config.data_dir;
    let (path, sandbox) = open_sandbox(request)?;
    let node = LocalNode::read(netd_dir).map_err(|error| {
        CniError::new(
            code::TRY_AGAIN_LATER,
            "this node has no Pod address range yet",
            error.to_string(),
        )
    })?;
    let host = Netlink::open().map_err(network_error)?;
    let (address, attachment, stale) = allocate(request, &path, &node)?;
    if let Some(stale) = stale {
        // The same sandbox was attached before and never detached.
        host.delete_link(&stale.host_interface)
            .await
            .map_err(network_error)?;
    }
    let outcome = connect(&host, &sandbox, &node, address, &attachment).await;
    let outcome = match outcome {
        Ok(pod_mac) if !attachment.port_mappings.is_empty() => {
            publish_host_ports(netd_dir).await.map(|()| pod_mac)
        }
        other => other,
    };
    let pod_mac = match outcome {
        Ok(pod_mac) => pod_mac,
        Err(error) => {
            // The first error is the one to report; what cannot be taken back is collected later.
            let _ = detach(&host, netd_dir, &request.container_id, &request.ifname).await;
            return Err(error);
        }
    };
    let ends = [
        Interface {
            name: attachment.host_interface,
            mac: mac_text(HOST_MAC),
            sandbox: None,
        },
        Interface {
            name: request.ifname.clone(),
            mac: mac_text(pod_mac),
            sandbox: Some(path.to_string_lossy().into_owned()),
        },
    ];
    Ok(spec::added(&request.config.cni_version, &ends, address, GATEWAY))
}

/// Takes an address; on exhaustion first gives back those of sandboxes that died without `DEL`.
fn allocate(
    request: &Request,
    sandbox: &Path,
    node: &LocalNode,
) -> Result<(Ipv4Addr, Attachment, Option<Attachment>), CniError> {
    let ledger_failed = io_error("cannot use the address ledger");
    let mut file = LedgerFile::open(&request.config.data_dir).map_err(&ledger_failed)?;
    let now = uptime_seconds().map_err(&ledger_failed)?;
    let claim = Claim {
        container_id: request.container_id.clone(),
        ifname: request.ifname.clone(),
        netns: sandbox.to_path_buf(),
        port_mappings: wanted_ports(request)?,
    };
    let stale = file
        .ledger
        .release(&claim.container_id, &claim.ifname, now)
        .map(|(_, attachment)| attachment);
    let mut outcome = file.ledger.allocate(node.pod_cidr, claim.clone(), now);
    if outcome.is_err() && file.ledger.collect(|attachment| is_alive(attachment, now), now) > 0 {
        outcome = file.ledger.allocate(node.pod_cidr, claim, now);
    }
    let (address, attachment) = outcome.map_err(|error| match error {
        AllocateError::Exhausted { .. } => CniError::new(
            code::EXHAUSTED,
            "the node's Pod addresses are exhausted",
            error.to_string(),
        ),
        AllocateError::HostPortTaken { .. } => {
            CniError::new(code::INVALID_CONFIG, "the host port is taken", error.to_string())
        }
    })?;
    file.save().map_err(ledger_failed)?;
    Ok((address, attachment, stale))
}

/// containerd passes every container port; those with a host port of 0 ask for nothing.
fn wanted_ports(request: &Request) -> Result<Vec<crate::ipam::PortMapping>, CniError> {
    let mut wanted = Vec::new();
    for mapping in request
        .config
        .runtime_config
        .port_mappings
        .iter()
        .filter(|mapping| mapping.host_port != 0)
    {
        let mut mapping = mapping.clone();
        mapping.protocol = if mapping.protocol.is_empty() {
            "tcp".to_string()
        } else {
            mapping.protocol.to_ascii_lowercase()
        };
        let host_is_ipv4 = mapping.host_ip.is_empty() || mapping.host_ip.parse::<Ipv4Addr>().is_ok();
        if !matches!(mapping.protocol.as_str(), "tcp" | "udp" | "sctp") || !host_is_ipv4 {
            let details = format!(
                "{}/{} on {:?}",
                mapping.host_port, mapping.protocol, mapping.host_ip
            );
            return Err(CniError::new(
                code::INVALID_CONFIG,
                "the host port cannot be mapped",
                details,
            ));
        }
        wanted.push(mapping);
    }
    Ok(wanted)
}

/// A sandbox lives as long as its namespace does; a young one may not be complete yet.
pub(crate) fn is_alive(attachment: &Attachment, now: u64) -> bool {
    netns::is_namespace(&attachment.netns) || now.saturating_sub(attachment.since) < GRACE_SECONDS
}

/// Makes and configures the link; returns the hardware address of the sandbox's end.
async fn connect(
    host: &Netlink,
    sandbox: &File,
    node: &LocalNode,
    address: Ipv4Addr,
    attachment: &Attachment,
) -> Result<Mac, CniError> {
    let (name, ifname) = (&attachment.host_interface, &attachment.ifname);
    let pod_mac = mac_of(address);
    let veth = Veth {
        name,
        mac: Some(HOST_MAC),
        peer_name: ifname,
        peer_mac: Some(pod_mac),
        peer_namespace: Some(sandbox),
        mtu: Some(node.mtu),
    };
    host.add_veth(veth).await.map_err(network_error)?;
    let host_link = host.need_link(name).await.map_err(network_error)?;
    sysctl::prepare_pod_link(name).map_err(io_error("cannot prepare the Pod's link"))?;
    // Both ends go up only now: up in the message that creates them fails with ENOTCONN.
    host.set_up(host_link.index, true).await.map_err(network_error)?;
    inside(sandbox, ifname, address).await.map_err(network_error)?;
    let neighbour = host.set_neighbour(host_link.index, address, pod_mac);
    neighbour.await.map_err(network_error)?;
    host.set_route(&pod_route(address, host_link.index, node.node_ip))
        .await
        .map_err(network_error)?;
    Ok(pod_mac)
}

async fn inside(sandbox: &File, ifname: &str, address: Ipv4Addr) -> Result<(), NetlinkError> {
    let netlink = Netlink::open_in(sandbox)?;
    let lo = netlink.need_link("lo").await?;
    netlink.set_up(lo.index, true).await?;
    let link = netlink.need_link(ifname).await?;
    netlink.add_address(link.index, Ipv4Net::from(address)).await?;
    netlink.set_up(link.index, true).await?;
    netlink.set_neighbour(link.index, GATEWAY, HOST_MAC).await?;
    let to_gateway = Hop::Link {
        interface: link.index,
        source: None,
    };
    let through_gateway = Hop::Via {
        gateway: GATEWAY,
        interface: Some(link.index),
    };
    for (destination, hop) in [
        (Ipv4Net::from(GATEWAY), to_gateway),
        (Ipv4Net::default(), through_gateway),
    ] {
        netlink
            .set_route(&Route {
                destination,
                hop,
                protocol: POD_ROUTE_PROTOCOL,
            })
            .await?;
    }
    Ok(())
}

fn pod_route(address: Ipv4Addr, interface: u32, source: Option<Ipv4Addr>) -> Route {
    Route {
        destination: Ipv4Net::from(address),
        hop: Hop::Link { interface, source },
        protocol: POD_ROUTE_PROTOCOL,
    }
}

/// Locally administered and unique on the node, as the address is.
fn mac_of(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x02, 0xc0, a, b, c, d]
}

fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Never fails because something is already gone: `DEL` may be called twice, or for a sandbox that was never added.
pub async fn del(request: &Request) -> Result<(), CniError> {
    let host = Netlink::open().map_err(network_error)?;
    detach(
        &host,
        &request.config.data_dir,
        &request.container_id,
        &request.ifname,
    )
    .await
}

async fn detach(host: &Netlink, netd_dir: &Path, container_id: &str, ifname: &str) -> Result<(), CniError> {
    let held = {
        let file = LedgerFile::open(netd_dir).map_err(io_error("cannot use the address ledger"))?;
        file.ledger
            .find(container_id, ifname)
            .map(|(address, attachment)| (address, attachment.clone()))
    };
    let Some((_, attachment)) = held else {
        return Ok(());
    };
    // The link takes its routes and neighbours with it; its address is given back only once it is gone.
    host.delete_link(&attachment.host_interface)
        .await
        .map_err(network_error)?;
    {
        let ledger_failed = io_error("cannot use the address ledger");
        let mut file = LedgerFile::open(netd_dir).map_err(&ledger_failed)?;
        let now = uptime_seconds().map_err(&ledger_failed)?;
        file.ledger.release(container_id, ifname, now);
        file.save().map_err(ledger_failed)?;
    }
    if attachment.port_mappings.is_empty() {
        Ok(())
    } else {
        publish_host_ports(netd_dir).await
    }
}

/// Rewrites the chain of host ports from the ledger, under its lock so that the last writer saw every attachment.
async fn publish_host_ports(netd_dir: &Path) -> Result<(), CniError> {
    let file = LedgerFile::open(netd_dir).map_err(io_error("cannot use the address ledger"))?;
    let text = iptables::chain_text(
        "nat",
        host_ports::CHAIN,
        &host_ports::rules(file.ledger.attachments()),
    );
    iptables::restore_blocking(&text)
        .map_err(|error| CniError::new(code::NETWORK, "cannot publish the host ports", error.to_string()))
}

/// Verifies that the address, both ends and the host's route are still as `ADD` left them.
pub async fn check(request: &Request) -> Result<(), CniError> {
    let missing = |what: &str, details: String| CniError::new(code::NOT_AS_ADDED, what, details);
    let (_, sandbox) = open_sandbox(request)?;
    let (address, attachment) = {
        let file =
            LedgerFile::open(&request.config.data_dir).map_err(io_error("cannot use the address ledger"))?;
        file.ledger
            .find(&request.container_id, &request.ifname)
            .map(|(address, attachment)| (address, attachment.clone()))
            .ok_or_else(|| CniError::new(code::UNKNOWN_CONTAINER, "the sandbox is not attached", ""))?
    };
    let host = Netlink::open().map_err(network_error)?;
    let name = &attachment.host_interface;
    let link = host.link(name).await.map_err(network_error)?;
    let Some(link) = link.filter(|link| link.up) else {
        return Err(missing(
            "the host's end of the link is missing or down",
            name.clone(),
        ));
    };
    let routes = host.routes().await.map_err(network_error)?;
    let leads_there = |route: &Route| {
        route.destination == Ipv4Net::from(address)
            && matches!(route.hop, Hop::Link { interface, .. } if interface == link.index)
    };
    if !routes.iter().any(leads_there) {
        return Err(missing(
            "the host's route to the Pod is missing",
            address.to_string(),
        ));
    }
    let inside = Netlink::open_in(&sandbox).map_err(network_error)?;
    let end = inside.link(&request.ifname).await.map_err(network_error)?;
    let Some(end) = end.filter(|end| end.up) else {
        return Err(missing(
            "the sandbox's end of the link is missing or down",
            request.ifname.clone(),
        ));
    };
    let addresses = inside.addresses().await.map_err(network_error)?;
    if !addresses.contains(&(end.index, Ipv4Net::from(address))) {
        return Err(missing("the sandbox's address is missing", address.to_string()));
    }
    Ok(())
}
