//! What a server can ask for beyond Kubernetes' defaults; all off unless it is told to. Pure.

use std::time::Duration;

use ipnet::Ipv4Net;

/// Namespaces that no webhook is asked about where [`Strict::webhook_limit`] is set.
const SYSTEM: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// The switches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Strict {
    /// Pods of an account named `default` get a token only where they or the account ask for one.
    pub bare_default_account: bool,
    /// Seconds that a token lives at most; who asks for more gets these, and is told.
    pub token_seconds: Option<i64>,
    /// No webhook is waited for longer, and none is asked about the system's namespaces: who installs one can neither slow
    /// down nor stop what the cluster itself needs.
    pub webhook_limit: Option<Duration>,
    /// Webhooks are asked about Secrets without what is in them, unless their configuration says that they may see it.
    pub hides_secrets: bool,
    /// The addresses of Pods; who writes others as endpoints needs a right of its own.
    pub pod_range: Option<Ipv4Net>,
}

impl Strict {
    /// Whether webhooks have no say in a namespace.
    #[must_use]
    pub fn spares(&self, namespace: &str) -> bool {
        self.webhook_limit.is_some() && SYSTEM.contains(&namespace)
    }

    /// How long a webhook that asks for `own` is waited for.
    #[must_use]
    pub fn webhook_time(&self, own: Duration) -> Duration {
        self.webhook_limit.map_or(own, |limit| limit.min(own))
    }

    /// What a token that is asked for lives, and a warning when that is less.
    #[must_use]
    pub fn token_life(&self, asked: i64) -> (i64, Option<String>) {
        match self.token_seconds {
            Some(most) if asked > most => {
                let told = format!("requested expiration of {asked} seconds shortened to {most} seconds");
                (most, Some(told))
            }
            _ => (asked, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_stricter_unless_told() {
        let (off, hour) = (Strict::default(), Duration::from_secs(3600));
        assert_eq!(off.token_life(1 << 32), (1 << 32, None));
        assert_eq!(off.webhook_time(hour), hour);
        assert!(!off.spares("kube-system"));
        let on = Strict {
            bare_default_account: true,
            token_seconds: Some(3600),
            webhook_limit: Some(Duration::from_secs(2)),
            ..off
        };
        assert_eq!(on.token_life(600), (600, None));
        let told = "requested expiration of 3607 seconds shortened to 3600 seconds";
        assert_eq!(on.token_life(3607), (3600, Some(told.to_owned())));
        assert_eq!(on.webhook_time(hour), Duration::from_secs(2));
        assert_eq!(on.webhook_time(Duration::from_secs(1)), Duration::from_secs(1));
        assert!(on.spares("kube-system") && !on.spares("default"));
    }
}
