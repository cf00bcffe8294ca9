//! Rules and chains as data. The same values are rendered for the kernel and walked by the model tests. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;

/// The packet mark that asks for masquerading in POSTROUTING. One bit; others are left as they are.
pub const MASQUERADE_MARK: u32 = 0x4000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// Parses the API's spelling; an absent protocol is TCP.
    pub fn parse(text: Option<&str>) -> Option<Protocol> {
        match text.unwrap_or("TCP") {
            "TCP" | "tcp" => Some(Protocol::Tcp),
            "UDP" | "udp" => Some(Protocol::Udp),
            "SCTP" | "sctp" => Some(Protocol::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    New,
    Invalid,
    Established,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    Source(Ipv4Net),
    Destination(Ipv4Net),
    NotDestination(Ipv4Net),
    Protocol(Protocol),
    /// Protocol and destination port.
    Port(Protocol, u16),
    /// The packet came in over a Pod's link; never true for packets of the host itself.
    FromPod,
    NotFromPod,
    ToPod,
    /// The destination is an address of this host.
    DestinationIsLocal,
    SourceIsLocal,
    Marked,
    State(ConnectionState),
    /// True once in this many packets.
    OneIn(usize),
    /// The sender was seen by [`Match::Remember`] of the same name within the last so many seconds.
    Remembered {
        name: String,
        seconds: u32,
    },
    /// Always true; remembers the sender.
    Remember {
        name: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Jump(String),
    Return,
    Accept,
    Drop,
    Reject,
    Dnat(SocketAddrV4),
    Masquerade,
    SetMark,
    ClearMark,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub matches: Vec<Match>,
    pub target: Target,
    /// For the reader of `iptables-save`; no meaning.
    pub comment: Option<String>,
}

impl Rule {
    pub fn new(matches: impl Into<Vec<Match>>, target: Target) -> Rule {
        Rule {
            matches: matches.into(),
            target,
            comment: None,
        }
    }

    pub fn jump(matches: impl Into<Vec<Match>>, chain: impl Into<String>) -> Rule {
        Rule::new(matches, Target::Jump(chain.into()))
    }

    pub fn comment(mut self, comment: impl Into<String>) -> Rule {
        self.comment = Some(comment.into());
        self
    }
}

/// The chains of one table by name.
pub type Chains = BTreeMap<String, Vec<Rule>>;

/// Everything netd wants in the kernel, the hooks into the built-in chains apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    pub nat: Chains,
    pub filter: Chains,
}

impl Ruleset {
    /// The two tables with their names.
    pub fn tables(&self) -> [(&'static str, &Chains); 2] {
        [("nat", &self.nat), ("filter", &self.filter)]
    }
}

/// A jump from a built-in chain into one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    pub table: &'static str,
    pub built_in: &'static str,
    pub chain: &'static str,
}

/// Where the kernel enters our chains.
pub const HOOKS: [Hook; 6] = [
    Hook {
        table: "nat",
        built_in: "PREROUTING",
        chain: "CORTEN-SERVICES",
    },
    Hook {
        table: "nat",
        built_in: "OUTPUT",
        chain: "CORTEN-SERVICES",
    },
    Hook {
        table: "nat",
        built_in: "POSTROUTING",
        chain: "CORTEN-POSTROUTING",
    },
    Hook {
        table: "filter",
        built_in: "INPUT",
        chain: "CORTEN-INPUT",
    },
    Hook {
        table: "filter",
        built_in: "FORWARD",
        chain: "CORTEN-FORWARD",
    },
    Hook {
        table: "filter",
        built_in: "OUTPUT",
        chain: "CORTEN-OUTPUT",
    },
];

/// Every chain of ours begins so, and nothing else does.
pub const CHAIN_PREFIX: &str = "CORTEN-";

fn write_match(f: &mut fmt::Formatter<'_>, one: &Match) -> fmt::Result {
    use crate::service::POD_LINK_PREFIX as POD;
    match one {
        Match::Source(net) => write!(f, " -s {net}"),
        Match::Destination(net) => write!(f, " -d {net}"),
        Match::NotDestination(net) => write!(f, " ! -d {net}"),
        Match::Protocol(protocol) => write!(f, " -p {protocol}"),
        Match::Port(protocol, port) => write!(f, " -p {protocol} -m {protocol} --dport {port}"),
        Match::FromPod => write!(f, " -i {POD}+"),
        Match::NotFromPod => write!(f, " ! -i {POD}+"),
        Match::ToPod => write!(f, " -o {POD}+"),
        Match::DestinationIsLocal => f.write_str(" -m addrtype --dst-type LOCAL"),
        Match::SourceIsLocal => f.write_str(" -m addrtype --src-type LOCAL"),
        Match::Marked => write!(f, " -m mark --mark {MASQUERADE_MARK:#x}/{MASQUERADE_MARK:#x}"),
        Match::State(state) => write!(
            f,
            " -m conntrack --ctstate {}",
            match state {
                ConnectionState::New => "NEW",
                ConnectionState::Invalid => "INVALID",
                ConnectionState::Established => "RELATED,ESTABLISHED",
            }
        ),
        Match::OneIn(count) => {
            write!(
                f,
                " -m statistic --mode random --probability {:.10}",
                1.0 / *count as f64
            )
        }
        Match::Remembered { name, seconds } => {
            write!(f, " -m recent --name {name} --rcheck --seconds {seconds} --reap")
        }
        Match::Remember { name } => write!(f, " -m recent --name {name} --set"),
    }
}

/// As `iptables-restore` reads it, without the leading `-A CHAIN`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(comment) = &self.comment {
            // Names are checked by the API; a comment must not be able to end the line or the quotes all the same.
            let plain: String = comment
                .chars()
                .filter(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\') || *c == ' ')
                .collect();
            write!(f, " -m comment --comment \"{plain}\"")?;
        }
        for one in &self.matches {
            write_match(f, one)?;
        }
        match &self.target {
            Target::Jump(chain) => write!(f, " -j {chain}"),
            Target::Return => f.write_str(" -j RETURN"),
            Target::Accept => f.write_str(" -j ACCEPT"),
            Target::Drop => f.write_str(" -j DROP"),
            Target::Reject => f.write_str(" -j REJECT"),
            Target::Dnat(to) => write!(f, " -j DNAT --to-destination {to}"),
            // Fully random ports: two connections masqueraded at the same moment do not pick the same one.
            Target::Masquerade => f.write_str(" -j MASQUERADE --random-fully"),
            Target::SetMark => write!(
                f,
                " -j MARK --set-xmark {MASQUERADE_MARK:#x}/{MASQUERADE_MARK:#x}"
            ),
            Target::ClearMark => write!(f, " -j MARK --set-xmark 0x0/{MASQUERADE_MARK:#x}"),
        }
    }
}

/// A single address as a network.
pub fn host(address: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::from(address)
}
