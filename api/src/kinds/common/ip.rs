//! IP addresses and CIDRs in fields: what is valid, what deserves a warning.
//!
//! Fields that are older than strict checking keep a bad value that the stored object already had.
//! Source: `k8s.io/apimachinery/pkg/util/validation/ip.go`, with `StrictIPCIDRValidation` on.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::field::{FieldErrors, quoted};

const BAD_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const BAD_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Reads an address as older releases did: octets of IPv4 may have leading zeros.
pub fn lenient_ip(text: &str) -> Option<IpAddr> {
    if !text.contains(':') {
        return lenient_ipv4(text).map(IpAddr::V4);
    }
    match text.rsplit_once(':') {
        Some((head, tail)) if tail.contains('.') => {
            let tail = lenient_ipv4(tail)?;
            format!("{head}:{tail}").parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        }
        _ => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
    }
}

fn lenient_ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = decimal(parts.next()?)?.try_into().ok()?;
    }
    parts.next().is_none().then(|| octets.into())
}

/// A number of digits only, leading zeros allowed; at most six digits count.
fn decimal(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = text.trim_start_matches('0');
    match digits.len() {
        0 => Some(0),
        1..=6 => digits.parse().ok(),
        _ => None,
    }
}

/// Reads `ADDRESS/BITS` as older releases did: leading zeros, and bits beyond the prefix.
pub fn lenient_cidr(text: &str) -> Option<IpNet> {
    let (address, bits) = text.split_once('/')?;
    let bits = decimal(bits)?.try_into().ok()?;
    IpNet::new(lenient_ip(address)?, bits).ok()
}

/// As Go prints an address: IPv4 in IPv6 is IPv4.
fn shown(ip: IpAddr) -> String {
    ip.to_canonical().to_string()
}

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

fn strict_ip(field: impl Display, value: &str, errors: &mut FieldErrors) -> Option<IpAddr> {
    let Some(ip) = lenient_ip(value) else {
        errors.invalid(field, value, BAD_IP);
        return None;
    };
    if value.parse::<IpAddr>().is_err() {
        errors.invalid(field, value, "must not have leading 0s");
        return None;
    }
    if is_mapped(ip) {
        errors.invalid(field, value, "must not be an IPv4-mapped IPv6 address");
        return None;
    }
    Some(ip)
}

/// An address in a field older than strict checking; `known` are the stored object's values.
pub fn legacy_ip(field: impl Display, value: &str, known: &[&str], errors: &mut FieldErrors) {
    if !known.contains(&value) {
        strict_ip(field, value, errors);
    }
}

/// The texts of what is wrong with an address that must be in canonical form.
pub fn canonical_ip(value: &str) -> Vec<String> {
    let mut errors = FieldErrors::default();
    match strict_ip("", value, &mut errors) {
        Some(ip) if shown(ip) != value => {
            vec![format!("must be in canonical form ({})", quoted(&shown(ip)))]
        }
        Some(_) => Vec::new(),
        None => {
            let prefix = format!("Invalid value: {}: ", quoted(value));
            let detail = |body: String| body.strip_prefix(&prefix).unwrap_or(&body).to_string();
            errors.errors.into_iter().map(|e| detail(e.body)).collect()
        }
    }
}

fn strict_cidr(field: impl Display, value: &str, errors: &mut FieldErrors) -> Option<IpNet> {
    let Some(net) = lenient_cidr(value) else {
        errors.invalid(field, value, BAD_CIDR);
        return None;
    };
    let plain = value
        .split_once('/')
        .is_some_and(|(ip, bits)| ip.parse::<IpAddr>().is_ok() && (bits == "0" || !bits.starts_with('0')));
    if !plain {
        errors.invalid(field, value, "must not have leading 0s in IP or prefix length");
    } else if is_mapped(net.addr()) {
        errors.invalid(field, value, "must not have an IPv4-mapped IPv6 address");
    } else if net.addr() != net.network() {
        errors.invalid(field, value, "must not have bits set beyond the prefix length");
    } else {
        return Some(net);
    }
    None
}

/// A CIDR in a field older than strict checking; `known` are the stored object's values. The network, if it
/// can be read at all.
pub fn legacy_cidr(
    field: impl Display,
    value: &str,
    known: &[&str],
    errors: &mut FieldErrors,
) -> Option<IpNet> {
    if !known.contains(&value) {
        strict_cidr(field, value, errors);
    }
    lenient_cidr(value)
}

/// A CIDR that must be in canonical form.
pub fn canonical_cidr(field: impl Display, value: &str, errors: &mut FieldErrors) {
    if let Some(net) = strict_cidr(&field, value, errors)
        && net.to_string() != value
    {
        let text = format!("must be in canonical form ({})", quoted(&net.to_string()));
        errors.invalid(field, value, &text);
    }
}

/// What to tell a client about an address that was accepted but is not in its usual form.
pub fn ip_warning(field: impl Display, value: &str) -> Option<String> {
    let ip = lenient_ip(value)?;
    let usual = quoted(&shown(ip));
    let value_shown = quoted(value);
    if value.parse::<IpAddr>().is_err() || is_mapped(ip) {
        return Some(format!(
            "{field}: non-standard IP address {value_shown} will be considered invalid in a future Kubernetes release: use {usual}"
        ));
    }
    (ip.is_ipv6() && ip.to_string() != value).then(|| {
        format!("{field}: IPv6 address {value_shown} should be in RFC 5952 canonical format ({usual})")
    })
}

/// What to tell a client about a CIDR that was accepted but is not in its usual form.
pub fn cidr_warnings(field: impl Display, value: &str) -> Vec<String> {
    let Some(net) = lenient_cidr(value) else {
        return Vec::new();
    };
    let (value_shown, usual) = (quoted(value), quoted(&go_network(net)));
    let mut warnings = Vec::new();
    if net.addr() != net.network() {
        let single = quoted(&format!("{}/{}", shown(net.addr()), net.max_prefix_len()));
        warnings.push(format!(
            "{field}: CIDR value {value_shown} is ambiguous in this context (should be {usual} or {single}?)"
        ));
    }
    let plain = value
        .split_once('/')
        .is_some_and(|(ip, bits)| ip.parse::<IpAddr>().is_ok() && (bits == "0" || !bits.starts_with('0')));
    if !plain || is_mapped(net.addr()) {
        warnings.push(format!(
            "{field}: non-standard CIDR value {value_shown} will be considered invalid in a future Kubernetes release: use {usual}"
        ));
    }
    if warnings.is_empty() && net.addr().is_ipv6() && net.to_string() != value {
        warnings.push(format!(
            "{field}: IPv6 CIDR value {value_shown} should be in RFC 5952 canonical format ({})",
            quoted(&net.to_string())
        ));
    }
    warnings
}

/// The network as Go prints it, with mapped addresses as IPv4.
fn go_network(net: IpNet) -> String {
    match net.network() {
        ip if is_mapped(ip) && net.prefix_len() >= 96 => format!("{}/{}", shown(ip), net.prefix_len() - 96),
        ip => format!("{ip}/{}", net.prefix_len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, ip: &str, cidr_of: &str, cidr: &str) {
        assert_eq!(canonical_ip(value).join("|"), ip, "{value}");
        let mut errors = FieldErrors::default();
        canonical_cidr("f", cidr_of, &mut errors);
        let texts: Vec<&str> = errors.errors.iter().map(|e| e.body.as_str()).collect();
        let want = match cidr {
            "" => String::new(),
            text => format!("Invalid value: {}: {text}", quoted(cidr_of)),
        };
        assert_eq!(texts.join("|"), want, "{cidr_of}");
    }

    #[test]
    fn strict_forms() {
        check("10.0.0.1", "", "10.0.0.0/8", "");
        check("::1", "", "2001:db8::/64", "");
        check("x", BAD_IP, "x", BAD_CIDR);
        check("10.0.0", BAD_IP, "10.0.0.0/33", BAD_CIDR);
        check(
            "010.0.0.1",
            "must not have leading 0s",
            "010.0.0.0/8",
            "must not have leading 0s in IP or prefix length",
        );
        check(
            "::ffff:1.2.3.4",
            "must not be an IPv4-mapped IPv6 address",
            "::ffff:1.2.3.4/128",
            "must not have an IPv4-mapped IPv6 address",
        );
        check(
            "FE80::1",
            "must be in canonical form (\"fe80::1\")",
            "10.0.0.1/8",
            "must not have bits set beyond the prefix length",
        );
        check(
            "1::0",
            "must be in canonical form (\"1::\")",
            "1:0::/16",
            "must be in canonical form (\"1::/16\")",
        );
        check(
            "::ffff:01.2.3.4",
            "must not have leading 0s",
            "10.0.0.0/08",
            "must not have leading 0s in IP or prefix length",
        );
    }

    #[test]
    fn what_the_stored_object_had_stays() {
        let mut errors = FieldErrors::default();
        legacy_ip("f", "010.0.0.1", &["010.0.0.1"], &mut errors);
        assert!(legacy_cidr("f", "10.0.0.1/8", &["10.0.0.1/8"], &mut errors).is_some());
        assert!(errors.is_empty());
    }

    #[test]
    fn warnings() {
        assert_eq!(ip_warning("f", "10.0.0.1"), None);
        assert_eq!(
            ip_warning("f", "010.0.0.1").as_deref(),
            Some(
                "f: non-standard IP address \"010.0.0.1\" will be considered invalid in a future Kubernetes release: use \"10.0.0.1\""
            )
        );
        assert_eq!(
            ip_warning("f", "2001:DB8::1").as_deref(),
            Some("f: IPv6 address \"2001:DB8::1\" should be in RFC 5952 canonical format (\"2001:db8::1\")")
        );
        assert_eq!(cidr_warnings("f", "10.0.0.0/8"), Vec::<String>::new());
        assert_eq!(
            cidr_warnings("f", "10.0.0.1/8"),
            [
                "f: CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)"
            ]
        );
        assert_eq!(
            cidr_warnings("f", "2001:DB8::/64"),
            [
                "f: IPv6 CIDR value \"2001:DB8::/64\" should be in RFC 5952 canonical format (\"2001:db8::/64\")"
            ]
        );
    }
}
