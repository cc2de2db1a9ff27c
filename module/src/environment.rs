//! What a module's process was started with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Variables by which a transport finds the connection [T-2]. The transport reads them; this crate only looks whether one is set.
const CONNECTIONS: [&str; 3] = ["MODIPC_FD", "LISTEN_FDS", "SOCKET_PATH"];
const TOKEN: &str = "MODIPC_TOKEN";
const SETTING_PREFIX: &str = "MODULE_CONFIG_";

/// What a host tells a module's process in its environment.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    module_id: Option<String>,
    data_dir: Option<PathBuf>,
    token: Vec<u8>,
    settings: BTreeMap<String, String>,
    has_connection: bool,
}

impl Environment {
    /// This process's environment. Variables that are not UTF-8 are passed over.
    #[must_use]
    pub fn from_process() -> Self {
        let utf8 = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Environment::from_vars(utf8)
    }

    /// An environment of these variables.
    #[must_use]
    pub fn from_vars<N, V>(vars: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: AsRef<str>,
        V: Into<String>,
    {
        let mut environment = Environment::default();
        for (name, value) in vars {
            let value = value.into();
            match name.as_ref() {
                // Set but empty is how a shell unsets a variable for one command.
                _ if value.is_empty() => {}
                "MODULE_ID" => environment.module_id = Some(value),
                "DATA_DIR" => environment.data_dir = Some(value.into()),
                TOKEN => environment.token = value.into_bytes(),
                name if CONNECTIONS.contains(&name) => environment.has_connection = true,
                name => {
                    if let Some(key) = name.strip_prefix(SETTING_PREFIX) {
                        environment.settings.insert(key.to_lowercase(), value);
                    }
                }
            }
        }
        environment
    }

    /// The id under which the host started this module (`MODULE_ID`); without it, the module's own id holds.
    #[must_use]
    pub fn module_id(&self) -> Option<&str> {
        self.module_id.as_deref()
    }

    /// Where the module may keep its data (`DATA_DIR`).
    #[must_use]
    pub fn data_dir(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }

    /// A setting of the module's configuration: `MODULE_CONFIG_<KEY>`, whatever the key's case.
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.get(&key.to_lowercase()).map(String::as_str)
    }

    /// Every setting, by its key in lower case.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The one-time token of a module that is attached by hand (`MODIPC_TOKEN`); empty for one that the host started.
    #[must_use]
    pub fn token(&self) -> &[u8] {
        &self.token
    }

    /// Does it name a connection? If not, somebody started the module by hand.
    #[must_use]
    pub fn has_connection(&self) -> bool {
        self.has_connection
    }
}

impl std::fmt::Debug for Environment {
    /// Leaves values out: the token is a secret, and so may settings be.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment")
            .field("module_id", &self.module_id)
            .field("data_dir", &self.data_dir)
            .field("settings", &self.settings.keys())
            .field("has_connection", &self.has_connection)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_and_secrets_are_not_shown() {
        let environment = Environment::from_vars([
            ("MODULE_ID", "watcher-2"),
            ("DATA_DIR", "/data/watcher"),
            ("MODULE_CONFIG_MIN_FEE", "1000"),
            ("MODIPC_TOKEN", "secret"),
            ("SOCKET_PATH", "/run/node.sock"),
            ("HOME", "/root"),
        ]);
        assert_eq!(environment.module_id(), Some("watcher-2"));
        assert_eq!(environment.data_dir(), Some(Path::new("/data/watcher")));
        assert_eq!(environment.setting("min_fee"), Some("1000"));
        assert_eq!(environment.setting("home"), None);
        assert_eq!(environment.settings().count(), 1);
        assert_eq!(environment.token(), b"secret");
        assert!(environment.has_connection());
        assert!(!format!("{environment:?}").contains("secret"));
    }

    #[test]
    fn an_empty_variable_is_none() {
        let environment = Environment::from_vars([("MODIPC_FD", ""), ("MODULE_ID", "")]);
        assert_eq!(environment, Environment::default());
        assert!(!environment.has_connection());
    }
}
