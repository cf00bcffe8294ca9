//! An AdmissionConfiguration: what an administrator configures about plug-ins of admission. Pure but for the files it names.
//!
//! Source: Kubernetes `apiserver.config.k8s.io/v1`.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::PodSecurity;
use crate::event_rate_limit::{self, EventRateLimit};

const GROUP: &str = "apiserver.config.k8s.io/v1";

/// A configuration that has to be of this version and kind.
///
/// # Errors
/// What it is instead, or what is wrong in it.
pub(crate) fn typed<T: DeserializeOwned>(
    mut value: Value,
    api_version: &str,
    kind: &str,
) -> Result<T, String> {
    let mut take = |field: &str| match value.as_object_mut().and_then(|object| object.remove(field)) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let (found_version, found_kind) = (take("apiVersion"), take("kind"));
    if found_version != api_version || found_kind != kind {
        return Err(format!(
            "expected a {kind} of {api_version}, not a {found_kind:?} of {found_version:?}"
        ));
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    #[serde(default)]
    plugins: Vec<Plugin>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Plugin {
    name: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    configuration: Option<Value>,
}

/// What is configured; a plug-in that is not named is as it is without.
#[derive(Debug, Default)]
pub struct AdmissionConfig {
    pub event_rate_limit: Option<EventRateLimit>,
    pub pod_security: Option<PodSecurity>,
}

impl AdmissionConfig {
    /// Reads a configuration. `read` gives the text of a file it names.
    ///
    /// # Errors
    /// What is wrong, also a plug-in that has nothing to configure here.
    pub fn parse(text: &str, read: impl Fn(&Path) -> Result<String, String>) -> Result<Self, String> {
        let whole: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let config: Configuration = typed(whole, GROUP, "AdmissionConfiguration")?;
        let mut out = AdmissionConfig::default();
        for plugin in config.plugins {
            let name = plugin.name;
            if name != event_rate_limit::PLUGIN && name != "PodSecurity" {
                return Err(format!("the plug-in {name:?} has no configuration here"));
            }
            let own: Value = match (plugin.configuration, plugin.path.as_str()) {
                (Some(value), _) => value,
                (None, "") => return Err(format!("the plug-in {name} needs a configuration")),
                (None, path) => {
                    serde_saphyr::from_str(&read(Path::new(path))?).map_err(|error| error.to_string())?
                }
            };
            if name == event_rate_limit::PLUGIN {
                out.event_rate_limit = Some(EventRateLimit::parse(own)?);
            } else {
                out.pod_security =
                    Some(PodSecurity::parse(own).map_err(|why| format!("PodSecurity: {why}"))?);
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(plugins: &str) -> Result<AdmissionConfig, String> {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins: {plugins}\n"
        );
        AdmissionConfig::parse(&text, |path| {
            match path.to_str() {
            Some("e.yaml") => Ok("{apiVersion: eventratelimit.admission.k8s.io/v1alpha1, kind: Configuration, limits: [{type: Server, qps: 1, burst: 1}]}".into()),
            _ => Err("no such file".into()),
        }
        })
    }

    #[test]
    fn plug_ins_are_configured_in_place_or_by_a_file() {
        let inline = "{name: PodSecurity, configuration: {apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration, exemptions: {namespaces: [infra]}}}";
        let both =
            parse(&format!("[{{name: EventRateLimit, path: e.yaml}}, {inline}]")).expect("a configuration");
        assert!(both.event_rate_limit.is_some());
        let exempt = both.pod_security.and_then(|own| own.exempts("infra", "x"));
        assert_eq!(exempt, Some("namespace"));
    }

    #[test]
    fn what_cannot_be_is_said() {
        let check = |plugins: &str, want: &str| {
            let error = parse(plugins).expect_err("refused");
            assert!(error.contains(want), "{error}");
        };
        check("[{name: PodSecurity}]", "needs a configuration");
        check("[{name: PodSecurity, path: f.yaml}]", "no such file");
        check("[{name: AlwaysPullImages}]", "has no configuration here");
        check(
            "[{name: PodSecurity, configuration: {apiVersion: v1, kind: X}}]",
            "PodSecurity: expected a PodSecurityConfiguration",
        );
    }
}
