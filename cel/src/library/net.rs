//! IP addresses and ranges of them.
//!
//! Source: `k8s.io/apiserver/pkg/cel/library/{ip,cidr}.go`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::operators::text;
use super::{Call, Entry, format::go_quoted};
use crate::error::{Eval, EvalError};
use crate::opaque::Opaque;
use crate::value::Value;

pub const TABLE: &[Entry] = &[
    Entry(
        "ip",
        ip,
        "string_to_ip (string) net.IP
        cidr_ip net.CIDR.() net.IP",
    ),
    Entry(
        "family",
        |_, a| Ok(Value::Int(if address(&a[0])?.is_ipv4() { 4 } else { 6 })),
        "ip_family net.IP.() int",
    ),
    Entry(
        "isIP",
        |_, a| Ok(Value::Bool(parse(text(&a[0])?).is_ok())),
        "is_ip (string) bool",
    ),
    Entry(
        "ip.isCanonical",
        |_, a| {
            let own = text(&a[0])?;
            Ok(Value::Bool(parse(own)?.to_string() == **own))
        },
        "ip_is_canonical (string) bool",
    ),
    Entry(
        "isUnspecified",
        |_, a| Ok(Value::Bool(address(&a[0])?.is_unspecified())),
        "ip_is_unspecified net.IP.() bool",
    ),
    Entry(
        "isLoopback",
        |_, a| Ok(Value::Bool(address(&a[0])?.is_loopback())),
        "ip_is_loopback net.IP.() bool",
    ),
    Entry(
        "isLinkLocalMulticast",
        |_, a| Ok(Value::Bool(link_local_multicast(address(&a[0])?))),
        "ip_is_link_local_multicast net.IP.() bool",
    ),
    Entry(
        "isLinkLocalUnicast",
        |_, a| Ok(Value::Bool(link_local_unicast(address(&a[0])?))),
        "ip_is_link_local_unicast net.IP.() bool",
    ),
    Entry(
        "isGlobalUnicast",
        |_, a| Ok(Value::Bool(global_unicast(address(&a[0])?))),
        "ip_is_global_unicast net.IP.() bool",
    ),
    Entry(
        "cidr",
        |_, a| Ok(Value::Opaque(Opaque::Cidr(Cidr::parse(text(&a[0])?)?))),
        "string_to_cidr (string) net.CIDR",
    ),
    Entry(
        "isCIDR",
        |_, a| Ok(Value::Bool(Cidr::parse(text(&a[0])?).is_ok())),
        "is_cidr (string) bool",
    ),
    Entry(
        "containsIP",
        contains_ip,
        "cidr_contains_ip_string net.CIDR.(string) bool
        cidr_contains_ip_ip net.CIDR.(net.IP) bool",
    ),
    Entry(
        "containsCIDR",
        contains_cidr,
        "cidr_contains_cidr_string net.CIDR.(string) bool
        cidr_contains_cidr net.CIDR.(net.CIDR) bool",
    ),
    Entry(
        "prefixLength",
        |_, a| Ok(Value::Int(i64::from(range(&a[0])?.prefix))),
        "cidr_prefix_length net.CIDR.() int",
    ),
    Entry(
        "masked",
        |_, a| Ok(Value::Opaque(Opaque::Cidr(range(&a[0])?.masked()))),
        "cidr_masked net.CIDR.() net.CIDR",
    ),
];

/// A range of addresses; the address keeps the bits beyond the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(own) => (u128::from(u32::from(own)), 32),
        IpAddr::V6(own) => (u128::from(own), 128),
    }
}

impl Cidr {
    /// # Errors
    /// Upstream's text.
    pub fn parse(own: &str) -> Eval<Cidr> {
        let wrong = |why: String| {
            EvalError::new(format!(
                "network address parse error during conversion from string: network address parse error during conversion from string: netip.ParsePrefix({}): {why}",
                go_quoted(own)
            ))
        };
        let (address, prefix) = own.rsplit_once('/').ok_or_else(|| wrong("no '/'".into()))?;
        if address.contains('%') {
            return Err(wrong("IPv6 zones cannot be present in a prefix".into()));
        }
        let address: IpAddr = address
            .parse()
            .map_err(|_| wrong(format!("ParseAddr({}): unable to parse IP", go_quoted(address))))?;
        if mapped(address) {
            return Err(EvalError::new("IPv4-mapped IPv6 addresses are not allowed"));
        }
        let digits = prefix.len() <= 3 && prefix.bytes().all(|b| b.is_ascii_digit());
        let plain = digits && !(prefix.len() > 1 && prefix.starts_with('0'));
        let length: u8 = plain
            .then(|| prefix.parse().ok())
            .flatten()
            .ok_or_else(|| wrong(format!("bad bits after slash: {}", go_quoted(prefix))))?;
        if length > bits(address).1 {
            return Err(wrong("prefix length out of range".into()));
        }
        Ok(Cidr {
            address,
            prefix: length,
        })
    }

    fn mask(self, own: u128) -> u128 {
        let width = bits(self.address).1;
        own.checked_shr(u32::from(width - self.prefix)).unwrap_or(0)
    }

    pub fn contains(self, other: IpAddr) -> bool {
        let ((own, width), (other, other_width)) = (bits(self.address), bits(other));
        width == other_width && self.mask(own) == self.mask(other)
    }

    fn masked(self) -> Cidr {
        let (own, width) = bits(self.address);
        let cleared = self
            .mask(own)
            .checked_shl(u32::from(width - self.prefix))
            .unwrap_or(0);
        let address = match self.address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(cleared as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(cleared)),
        };
        Cidr { address, ..self }
    }
}

fn mapped(own: IpAddr) -> bool {
    matches!(own, IpAddr::V6(own) if own.to_ipv4_mapped().is_some())
}

/// # Errors
/// Upstream's texts.
fn parse(own: &str) -> Eval<IpAddr> {
    if own.contains('%') {
        return Err(EvalError::new(format!(
            "IP address {} with zone value is not allowed",
            go_quoted(own)
        )));
    }
    let address: IpAddr = own.parse().map_err(|_| {
        EvalError::new(format!(
            "IP Address {} parse error during conversion from string: ParseAddr({}): unable to parse IP",
            go_quoted(own),
            go_quoted(own)
        ))
    })?;
    if mapped(address) {
        return Err(EvalError::new(format!(
            "IPv4-mapped IPv6 address {} is not allowed",
            go_quoted(own)
        )));
    }
    Ok(address)
}

fn address(value: &Value<'_>) -> Eval<IpAddr> {
    match value {
        Value::Opaque(Opaque::Ip(own)) => Ok(*own),
        _ => Err(EvalError::no_overload()),
    }
}

fn range(value: &Value<'_>) -> Eval<Cidr> {
    match value {
        Value::Opaque(Opaque::Cidr(own)) => Ok(*own),
        _ => Err(EvalError::no_overload()),
    }
}

fn ip<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    Ok(Value::Opaque(Opaque::Ip(match &args[0] {
        Value::Opaque(Opaque::Cidr(own)) => own.address,
        other => parse(text(other)?)?,
    })))
}

fn contains_ip<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let other = match &args[1] {
        Value::Opaque(Opaque::Ip(own)) => *own,
        other => parse(text(other)?).map_err(|_| EvalError::no_overload())?,
    };
    Ok(Value::Bool(range(&args[0])?.contains(other)))
}

fn contains_cidr<'a>(_: &Call<'_>, args: &[Value<'a>]) -> Eval<Value<'a>> {
    let own = range(&args[0])?;
    let other = match &args[1] {
        Value::Opaque(Opaque::Cidr(own)) => *own,
        other => Cidr::parse(text(other)?)?,
    };
    Ok(Value::Bool(
        own.contains(other.address) && own.prefix <= other.prefix,
    ))
}

fn link_local_unicast(own: IpAddr) -> bool {
    match own {
        IpAddr::V4(own) => own.is_link_local(),
        IpAddr::V6(own) => own.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn link_local_multicast(own: IpAddr) -> bool {
    match own {
        IpAddr::V4(own) => own.octets()[..3] == [224, 0, 0],
        IpAddr::V6(own) => own.segments()[0] & 0xff0f == 0xff02,
    }
}

fn global_unicast(own: IpAddr) -> bool {
    let broadcast = matches!(own, IpAddr::V4(own) if own.is_broadcast());
    !(broadcast || own.is_unspecified() || own.is_loopback() || own.is_multicast() || link_local_unicast(own))
}
