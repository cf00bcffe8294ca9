//! The few rtnetlink operations netd and the testbeds need, with errors that say what was tried.
//!
//! Knows links, addresses, routes, neighbours. Must not know Pods or nodes. A [`Netlink`] belongs to the namespace of
//! the thread that opened it, wherever its requests are awaited.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd};

use futures::{StreamExt, TryStreamExt};
use ipnet::Ipv4Net;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{
    AddressMessageBuilder, Handle, LinkBridge, LinkUnspec, LinkVeth, MulticastGroup, RouteMessageBuilder,
};

use crate::netns;
use crate::service::POD_LINK_PREFIX;

/// A hardware address.
pub type Mac = [u8; 6];

#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("open a netlink socket")]
    Open(#[source] std::io::Error),
    #[error("{action}: {reason}")]
    Request {
        action: String,
        reason: String,
        /// The kernel's error number, where it answered with one.
        errno: Option<i32>,
    },
}

impl NetlinkError {
    /// The kernel's error number, where it answered with one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            NetlinkError::Request { errno, .. } => *errno,
            NetlinkError::Open(error) => error.raw_os_error(),
        }
    }

    fn is(&self, errno: i32) -> bool {
        self.errno() == Some(errno)
    }

    /// The thing to be removed or asked for is not there.
    pub fn is_not_found(&self) -> bool {
        self.is(libc::ENODEV) || self.is(libc::ESRCH) || self.is(libc::ENOENT)
    }

    /// The thing to be made is already there.
    pub fn is_exists(&self) -> bool {
        self.is(libc::EEXIST)
    }
}

fn request_error(action: impl FnOnce() -> String) -> impl FnOnce(rtnetlink::Error) -> NetlinkError {
    move |error| {
        let errno = match &error {
            rtnetlink::Error::NetlinkError(message) => message.code.map(|code| code.get().abs()),
            _ => None,
        };
        let reason = errno.map_or_else(
            || error.to_string(),
            |errno| std::io::Error::from_raw_os_error(errno).to_string(),
        );
        NetlinkError::Request {
            action: action(),
            reason,
            errno,
        }
    }
}

/// What to make of a veth pair: one end here, the other in another namespace from the start.
#[derive(Debug)]
pub struct Veth<'a, N> {
    pub name: &'a str,
    pub mac: Option<Mac>,
    pub peer_name: &'a str,
    pub peer_mac: Option<Mac>,
    pub peer_namespace: Option<N>,
    /// Bytes; the kernel's default of 1500 where `None`.
    pub mtu: Option<u32>,
}

/// One IPv4 route of the main table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    pub destination: Ipv4Net,
    pub hop: Hop,
    /// The route protocol: who put it there.
    pub protocol: u8,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hop {
    /// Through a neighbour; the interface follows from its address unless given.
    Via {
        gateway: Ipv4Addr,
        interface: Option<u32>,
    },
    /// The destination is on this link.
    Link {
        interface: u32,
        source: Option<Ipv4Addr>,
    },
    /// ICMP host unreachable to the sender.
    Unreachable,
}

/// A link as far as netd cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub up: bool,
    /// Interface number of the bridge it belongs to.
    pub controller: Option<u32>,
}

/// A netlink socket and the task that reads it.
pub struct Netlink {
    handle: Handle,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Netlink {
    /// Opens a socket in the calling thread's namespace. Needs a tokio runtime.
    pub fn open() -> Result<Netlink, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        Ok(Netlink {
            handle,
            reader: tokio::spawn(connection),
        })
    }

    /// Opens a socket inside `namespace`.
    pub fn open_in(namespace: impl AsFd) -> Result<Netlink, NetlinkError> {
        netns::within(namespace, Netlink::open).map_err(NetlinkError::Open)?
    }

    pub async fn add_veth<N: AsFd>(&self, veth: Veth<'_, N>) -> Result<(), NetlinkError> {
        let mut peer = LinkUnspec::new_with_name(veth.peer_name);
        if let Some(namespace) = &veth.peer_namespace {
            peer = peer.setns_by_fd(namespace.as_fd().as_raw_fd());
        }
        if let Some(mac) = veth.peer_mac {
            peer = peer.address(mac.to_vec());
        }
        let mut link = LinkVeth::new(veth.name, veth.peer_name);
        if let Some(mac) = veth.mac {
            link = link.address(mac.to_vec());
        }
        if let Some(mtu) = veth.mtu {
            peer = peer.mtu(mtu);
            link = link.mtu(mtu);
        }
        let link = link.set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())));
        self.handle
            .link()
            .add(link.build())
            .execute()
            .await
            .map_err(request_error(|| format!("create veth {}", veth.name)))
    }

    pub async fn add_bridge(&self, name: &str) -> Result<(), NetlinkError> {
        let bridge = LinkBridge::new(name).up().build();
        self.handle
            .link()
            .add(bridge)
            .execute()
            .await
            .map_err(request_error(|| format!("create bridge {name}")))
    }

    /// The link of that name, `None` where there is none.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut answers = self.handle.link().get().match_name(name.to_string()).execute();
        match answers.try_next().await {
            Ok(message) => Ok(message.map(link_of)),
            Err(error) => {
                let error = request_error(|| format!("look up link {name}"))(error);
                if error.is_not_found() {
                    Ok(None)
                } else {
                    Err(error)
                }
            }
        }
    }

    /// As [`Netlink::link`], but a missing link is an error.
    pub async fn need_link(&self, name: &str) -> Result<Link, NetlinkError> {
        self.link(name).await?.ok_or_else(|| NetlinkError::Request {
            action: format!("look up link {name}"),
            reason: "no such link".to_string(),
            errno: Some(libc::ENODEV),
        })
    }

    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        self.handle
            .link()
            .get()
            .execute()
            .map_ok(link_of)
            .try_collect()
            .await
            .map_err(request_error(|| "list links".to_string()))
    }

    pub async fn set_up(&self, index: u32, up: bool) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index);
        let message = if up { message.up() } else { message.down() };
        self.handle
            .link()
            .set(message.build())
            .execute()
            .await
            .map_err(request_error(|| {
                format!("set link {index} {}", if up { "up" } else { "down" })
            }))
    }

    /// Makes a link a port of a bridge.
    pub async fn set_controller(&self, index: u32, bridge: u32) -> Result<(), NetlinkError> {
        self.handle
            .link()
            .set(LinkUnspec::new_with_index(index).controller(bridge).build())
            .execute()
            .await
            .map_err(request_error(|| {
                format!("attach link {index} to bridge {bridge}")
            }))
    }

    /// Removes a link; one that is already gone is no error.
    pub async fn delete_link(&self, name: &str) -> Result<(), NetlinkError> {
        let Some(link) = self.link(name).await? else {
            return Ok(());
        };
        match self.handle.link().del(link.index).execute().await {
            Ok(()) => Ok(()),
            Err(error) => {
                let error = request_error(|| format!("delete link {name}"))(error);
                if error.is_not_found() { Ok(()) } else { Err(error) }
            }
        }
    }

    pub async fn add_address(&self, index: u32, address: Ipv4Net) -> Result<(), NetlinkError> {
        let message = AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(address.addr(), address.prefix_len())
            .build();
        let mut request = self
            .handle
            .address()
            .add(index, IpAddr::V4(address.addr()), address.prefix_len());
        *request.message_mut() = message;
        request
            .execute()
            .await
            .map_err(request_error(|| format!("add address {address} to link {index}")))
    }

    /// Every IPv4 address of this namespace with the number of its link.
    pub async fn addresses(&self) -> Result<Vec<(u32, Ipv4Net)>, NetlinkError> {
        use rtnetlink::packet_route::address::AddressAttribute;
        let messages: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(request_error(|| "list addresses".to_string()))?;
        Ok(messages
            .iter()
            .filter_map(|message| {
                let address = message.attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
                    _ => None,
                })?;
                let network = Ipv4Net::new(address, message.header.prefix_len).ok()?;
                Some((message.header.index, network))
            })
            .collect())
    }

    /// A fixed answer to "who has `address`", so that no ARP is needed on a link with one neighbour.
    pub async fn set_neighbour(&self, index: u32, address: Ipv4Addr, mac: Mac) -> Result<(), NetlinkError> {
        self.handle
            .neighbours()
            .add(index, IpAddr::V4(address))
            .link_layer_address(&mac)
            .replace()
            .execute()
            .await
            .map_err(request_error(|| {
                format!("add neighbour {address} on link {index}")
            }))
    }

    /// Adds a route; one to the same destination is an error, whoever put it there.
    pub async fn add_route(&self, route: &Route) -> Result<(), NetlinkError> {
        self.handle
            .route()
            .add(route_message(route))
            .execute()
            .await
            .map_err(request_error(|| format!("add route to {}", route.destination)))
    }

    /// Adds a route or replaces the one to the same destination, whoever put it there.
    pub async fn set_route(&self, route: &Route) -> Result<(), NetlinkError> {
        self.handle
            .route()
            .add(route_message(route))
            .replace()
            .execute()
            .await
            .map_err(request_error(|| format!("add route to {}", route.destination)))
    }

    /// Removes a route; one that is already gone is no error.
    pub async fn delete_route(&self, route: &Route) -> Result<(), NetlinkError> {
        match self.handle.route().del(route_message(route)).execute().await {
            Ok(()) => Ok(()),
            Err(error) => {
                let error = request_error(|| format!("delete route to {}", route.destination))(error);
                if error.is_not_found() { Ok(()) } else { Err(error) }
            }
        }
    }

    /// The main table's IPv4 routes that netd can describe.
    pub async fn routes(&self) -> Result<Vec<Route>, NetlinkError> {
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let mut answers = self.handle.route().get(all).execute();
        let mut routes = Vec::new();
        while let Some(message) = answers.next().await {
            let message = message.map_err(request_error(|| "list routes".to_string()))?;
            routes.extend(route_of(&message));
        }
        Ok(routes)
    }
}

/// A stream that yields whenever something changed that may have taken routes with it: a link that is not a Pod's, an
/// address, or a route of `protocol` that was removed.
///
/// # Errors
/// The socket cannot be opened.
pub fn changes(protocol: u8) -> Result<impl futures::Stream<Item = ()> + Send + Unpin, NetlinkError> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv4Route,
    ];
    let (connection, handle, messages) =
        rtnetlink::new_multicast_connection(&groups).map_err(NetlinkError::Open)?;
    tokio::spawn(connection);
    let matters = move |message: &RouteNetlinkMessage| match message {
        RouteNetlinkMessage::DelRoute(route) => u8::from(route.header.protocol) == protocol,
        RouteNetlinkMessage::NewLink(link) => !link.attributes.iter().any(
            |attribute| matches!(attribute, LinkAttribute::IfName(name) if name.starts_with(POD_LINK_PREFIX)),
        ),
        RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_) => true,
        _ => false,
    };
    Ok(Box::pin(messages.filter_map(move |(message, _)| {
        let _keeps_the_socket_open = &handle;
        let hit = matches!(&message.payload, NetlinkPayload::InnerMessage(inner) if matters(inner));
        futures::future::ready(hit.then_some(()))
    })))
}

fn link_of(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        controller: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            _ => {}
        }
    }
    link
}

fn route_message(route: &Route) -> RouteMessage {
    let builder = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(route.destination.addr(), route.destination.prefix_len())
        .protocol(RouteProtocol::from(route.protocol));
    match &route.hop {
        Hop::Via { gateway, interface } => {
            let builder = builder.gateway(*gateway);
            match interface {
                Some(index) => builder.output_interface(*index).build(),
                None => builder.build(),
            }
        }
        Hop::Link { interface, source } => {
            let builder = builder.output_interface(*interface).scope(RouteScope::Link);
            match source {
                Some(address) => builder.pref_source(*address).build(),
                None => builder.build(),
            }
        }
        Hop::Unreachable => builder.kind(RouteType::Unreachable).build(),
    }
}

fn route_of(message: &RouteMessage) -> Option<Route> {
    const MAIN: u8 = rtnetlink::packet_route::route::RouteHeader::RT_TABLE_MAIN;
    if message.header.table != MAIN {
        return None;
    }
    let (mut address, mut gateway, mut interface, mut source) = (Ipv4Addr::UNSPECIFIED, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(found)) => address = *found,
            RouteAttribute::Gateway(RouteAddress::Inet(found)) => gateway = Some(*found),
            RouteAttribute::PrefSource(RouteAddress::Inet(found)) => source = Some(*found),
            RouteAttribute::Oif(index) => interface = Some(*index),
            _ => {}
        }
    }
    let hop = match (message.header.kind, gateway, interface) {
        (RouteType::Unreachable, _, _) => Hop::Unreachable,
        (RouteType::Unicast, Some(gateway), interface) => Hop::Via { gateway, interface },
        (RouteType::Unicast, None, Some(interface)) => Hop::Link { interface, source },
        _ => return None,
    };
    let destination = Ipv4Net::new(address, message.header.destination_prefix_length).ok()?;
    Some(Route {
        destination,
        hop,
        protocol: u8::from(message.header.protocol),
    })
}
