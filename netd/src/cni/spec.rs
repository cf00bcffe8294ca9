//! The CNI protocol as data: what the runtime asks, what it is answered. Pure.
//!
//! Source: the CNI specification, versions 0.3.0 to 1.0.0.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ipam::PortMapping;

/// Versions this plug-in answers in; the result's form follows the version of the request.
pub const SUPPORTED_VERSIONS: [&str; 4] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0"];

/// Error codes. Source: CNI specification, "Well-known Error Codes".
pub mod code {
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    pub const UNKNOWN_CONTAINER: u32 = 3;
    pub const INVALID_ENVIRONMENT: u32 = 4;
    pub const IO_FAILURE: u32 = 5;
    pub const FAILED_TO_DECODE: u32 = 6;
    pub const INVALID_CONFIG: u32 = 7;
    pub const TRY_AGAIN_LATER: u32 = 11;
    /// First code a plug-in may define itself; here: the kernel refused a change of the network.
    pub const NETWORK: u32 = 100;
    /// No address is left.
    pub const EXHAUSTED: u32 = 101;
    /// `CHECK` found something missing.
    pub const NOT_AS_ADDED: u32 = 102;
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{msg}: {details}")]
pub struct CniError {
    pub code: u32,
    pub msg: String,
    pub details: String,
}

impl CniError {
    pub fn new(code: u32, msg: impl Into<String>, details: impl Into<String>) -> CniError {
        CniError {
            code,
            msg: msg.into(),
            details: details.into(),
        }
    }

    pub fn to_json(&self, version: &str) -> Value {
        json!({"cniVersion": version, "code": self.code, "msg": self.msg, "details": self.details})
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Add,
    Del,
    Check,
    Version,
}

/// The network configuration on standard input.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetConf {
    #[serde(default)]
    pub cni_version: String,
    #[serde(default)]
    pub name: String,
    #[serde(rename = "type", default)]
    pub kind: String,
    /// netd's folder on this node.
    #[serde(default)]
    pub data_dir: PathBuf,
    #[serde(default)]
    pub runtime_config: RuntimeConfig,
    #[serde(default)]
    pub prev_result: Option<Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeConfig {
    #[serde(default)]
    pub port_mappings: Vec<PortMapping>,
}

/// What one execution was asked to do.
#[derive(Debug, Clone)]
pub struct Request {
    pub command: Command,
    pub container_id: String,
    /// `None` only for `DEL` (the sandbox may be gone already) and `VERSION`.
    pub netns: Option<PathBuf>,
    pub ifname: String,
    pub config: NetConf,
}

impl Request {
    /// # Errors
    /// A [`CniError`] with the specification's code for what is missing or malformed.
    pub fn parse(environment: impl Fn(&str) -> Option<String>, input: &[u8]) -> Result<Request, CniError> {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let command = match variable("CNI_COMMAND").as_deref() {
            Some("ADD") => Command::Add,
            Some("DEL") => Command::Del,
            Some("CHECK") => Command::Check,
            Some("VERSION") => Command::Version,
            Some(other) => {
                return Err(invalid_environment(
                    "CNI_COMMAND",
                    &format!("unknown command {other:?}"),
                ));
            }
            None => return Err(invalid_environment("CNI_COMMAND", "missing")),
        };
        let config: NetConf = serde_json::from_slice(input).map_err(|error| {
            CniError::new(
                code::FAILED_TO_DECODE,
                "the network configuration is not valid",
                error.to_string(),
            )
        })?;
        if command == Command::Version {
            return Ok(Request {
                command,
                container_id: String::new(),
                netns: None,
                ifname: String::new(),
                config,
            });
        }
        if !SUPPORTED_VERSIONS.contains(&config.cni_version.as_str()) {
            let details = format!(
                "{:?} asked for, {} supported",
                config.cni_version,
                SUPPORTED_VERSIONS.join(", ")
            );
            return Err(CniError::new(
                code::INCOMPATIBLE_VERSION,
                "incompatible CNI version",
                details,
            ));
        }
        let container_id =
            variable("CNI_CONTAINERID").ok_or_else(|| invalid_environment("CNI_CONTAINERID", "missing"))?;
        if !is_container_id(&container_id) {
            return Err(invalid_environment(
                "CNI_CONTAINERID",
                &format!("invalid value {container_id:?}"),
            ));
        }
        let ifname = variable("CNI_IFNAME").ok_or_else(|| invalid_environment("CNI_IFNAME", "missing"))?;
        if !is_interface_name(&ifname) {
            return Err(invalid_environment(
                "CNI_IFNAME",
                &format!("invalid value {ifname:?}"),
            ));
        }
        let netns = variable("CNI_NETNS").map(PathBuf::from);
        if netns.is_none() && command != Command::Del {
            return Err(invalid_environment("CNI_NETNS", "missing"));
        }
        Ok(Request {
            command,
            container_id,
            netns,
            ifname,
            config,
        })
    }
}

fn invalid_environment(name: &str, details: &str) -> CniError {
    CniError::new(
        code::INVALID_ENVIRONMENT,
        format!("invalid environment variable {name}"),
        details,
    )
}

/// Source: CNI specification, `CNI_CONTAINERID`.
fn is_container_id(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    id.starts_with(|c: char| c.is_ascii_alphanumeric()) && id.chars().all(allowed)
}

/// Source: Linux, `dev_valid_name`.
fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.chars().any(|c| c == '/' || c == ':' || c.is_whitespace())
}

/// The answer to `VERSION`.
pub fn version(asked: &str) -> Value {
    let newest = SUPPORTED_VERSIONS[SUPPORTED_VERSIONS.len() - 1];
    let version = if asked.is_empty() { newest } else { asked };
    json!({"cniVersion": version, "supportedVersions": SUPPORTED_VERSIONS})
}

/// One end of the link in a result.
#[derive(Debug, Clone, Serialize)]
pub struct Interface {
    pub name: String,
    pub mac: String,
    /// Path of the namespace; absent for the host side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
}

/// The answer to `ADD`: two interfaces, one address on the second, one default route.
pub fn added(version: &str, interfaces: &[Interface], address: Ipv4Addr, gateway: Ipv4Addr) -> Value {
    result(
        version,
        interfaces,
        &format!("{address}/32"),
        interfaces.len() - 1,
        Some(gateway),
    )
}

/// The answer of the loopback plug-in to `ADD`.
pub fn loopback_added(version: &str, sandbox: &str) -> Value {
    let interface = Interface {
        name: "lo".into(),
        mac: "00:00:00:00:00:00".into(),
        sandbox: Some(sandbox.to_string()),
    };
    result(version, &[interface], "127.0.0.1/8", 0, None)
}

fn result(
    version: &str,
    interfaces: &[Interface],
    address: &str,
    on: usize,
    gateway: Option<Ipv4Addr>,
) -> Value {
    let mut ip = json!({"address": address, "interface": on});
    if version != "1.0.0" {
        ip["version"] = json!("4"); // required before 1.0.0, gone since
    }
    let mut routes = Vec::new();
    if let Some(gateway) = gateway {
        ip["gateway"] = json!(gateway);
        routes.push(json!({"dst": "0.0.0.0/0", "gw": gateway}));
    }
    json!({"cniVersion": version, "interfaces": interfaces, "ips": [ip], "routes": routes, "dns": {}})
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = r#"{"cniVersion":"1.0.0","name":"corten","type":"corten","dataDir":"/d",
        "runtimeConfig":{"portMappings":[{"hostPort":80,"containerPort":8080,"protocol":"tcp"}]}}"#;

    #[track_caller]
    fn check(environment: &[(&str, &str)], input: &str, expected: Result<Command, u32>) {
        let lookup = |name: &str| {
            environment
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.to_string())
        };
        let outcome = Request::parse(lookup, input.as_bytes());
        assert_eq!(
            outcome.map(|request| request.command).map_err(|error| error.code),
            expected
        );
    }

    #[test]
    fn requests_are_checked_as_the_specification_says() {
        let add = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "a1"),
            ("CNI_NETNS", "/n"),
            ("CNI_IFNAME", "eth0"),
        ];
        let with = |name: &str, value: &'static str| {
            add.map(|(key, present)| if key == name { (key, value) } else { (key, present) })
        };
        check(&add, CONF, Ok(Command::Add));
        check(&with("CNI_COMMAND", "DEL"), CONF, Ok(Command::Del));
        check(&with("CNI_COMMAND", "CHECK"), CONF, Ok(Command::Check));
        check(
            &[("CNI_COMMAND", "VERSION")],
            r#"{"cniVersion":"9.0"}"#,
            Ok(Command::Version),
        );
        check(
            &[
                ("CNI_COMMAND", "DEL"),
                ("CNI_CONTAINERID", "a"),
                ("CNI_IFNAME", "eth0"),
            ],
            CONF,
            Ok(Command::Del),
        );
        check(&[], CONF, Err(code::INVALID_ENVIRONMENT));
        check(&with("CNI_COMMAND", "GC"), CONF, Err(code::INVALID_ENVIRONMENT));
        check(
            &with("CNI_CONTAINERID", "../x"),
            CONF,
            Err(code::INVALID_ENVIRONMENT),
        );
        check(&with("CNI_NETNS", ""), CONF, Err(code::INVALID_ENVIRONMENT));
        check(
            &with("CNI_IFNAME", "a-name-that-is-too-long"),
            CONF,
            Err(code::INVALID_ENVIRONMENT),
        );
        check(&with("CNI_IFNAME", "a/b"), CONF, Err(code::INVALID_ENVIRONMENT));
        check(&add, "{", Err(code::FAILED_TO_DECODE));
        check(&add, r#"{"cniVersion":"0.1.0"}"#, Err(code::INCOMPATIBLE_VERSION));
    }

    #[test]
    fn port_mappings_are_read_as_the_specification_and_as_containerd_spell_them() {
        let read = |text: &str| serde_json::from_str::<RuntimeConfig>(text).unwrap().port_mappings;
        let specified = r#"{"portMappings": [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp", "hostIP": "10.0.0.1"}]}"#;
        let go = r#"{"portMappings": [{"HostPort": 80, "ContainerPort": 8080, "Protocol": "tcp", "HostIP": "10.0.0.1"}], "dns": null}"#;
        assert_eq!(read(specified), read(go));
        assert_eq!(read(go)[0].host_port, 80);
    }

    #[test]
    fn results_follow_the_version_asked_in() {
        let ends = [
            Interface {
                name: "cpod1".into(),
                mac: "m".into(),
                sandbox: None,
            },
            Interface {
                name: "eth0".into(),
                mac: "n".into(),
                sandbox: Some("/n".into()),
            },
        ];
        let gateway = Ipv4Addr::new(169, 254, 1, 1);
        let new = added("1.0.0", &ends, Ipv4Addr::new(10, 0, 0, 1), gateway);
        assert_eq!(
            new["ips"],
            json!([{"address": "10.0.0.1/32", "interface": 1, "gateway": "169.254.1.1"}])
        );
        let old = added("0.3.1", &ends, Ipv4Addr::new(10, 0, 0, 1), gateway);
        assert_eq!(old["ips"][0]["version"], "4");
        assert_eq!(old["routes"], json!([{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}]));
        assert_eq!(loopback_added("0.3.1", "/n")["ips"][0]["address"], "127.0.0.1/8");
    }
}
