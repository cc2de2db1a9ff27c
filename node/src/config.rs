//! Every bound of the host. None of them has a value that means "unlimited".

use modipc_core::Config;

/// What the host allows and how long it waits. [`NodeConfig::default`] suits a node with up to some thousand modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Bounds of one connection: open calls, bytes that wait, time for the handshake.
    pub connection: Config,
    /// What modules are told the node is; at most 64 bytes.
    pub node_version: String,
    /// Modules that may be connected at a time. One more is refused as Busy.
    pub modules_max: usize,
    /// Connections that have not yet introduced themselves. One more takes the place of the oldest of them, so that silent
    /// connections cost nobody the chance to connect.
    pub handshakes_max: usize,
    /// How long a token stays valid while its module is not connected, in microseconds.
    pub token_us: u64,
    /// Events that the log keeps for those who read slowly.
    pub events_max: usize,
    /// Bytes of events that the log keeps.
    pub event_bytes_max: usize,
    /// How long one publication waits for subscribers whose policy is *wait*, in microseconds. Then they lag like any other.
    pub publish_wait_us: u64,
    /// Log records per second that one module may write on average.
    pub logs_per_s: u32,
    /// Log records that one module may write at once.
    pub logs_burst: u32,
    /// Bytes of a log message or of a field that are shown; the rest is left out and counted.
    pub log_text_bytes_max: usize,
    /// Fields of a log record that are shown; further ones are counted.
    pub log_fields_max: usize,
    /// The longest pause after a failed accept, in microseconds. The first one is a hundredth of it.
    pub accept_pause_us: u64,
}

impl Default for NodeConfig {
    fn default() -> Self {
        NodeConfig {
            connection: Config::DEFAULT,
            node_version: concat!("modipc-node ", env!("CARGO_PKG_VERSION")).to_owned(),
            modules_max: 4096,
            handshakes_max: 256,
            token_us: 24 * 3600 * 1_000_000,
            events_max: 16_384,
            event_bytes_max: 64 << 20,
            publish_wait_us: 1_000_000,
            logs_per_s: 1000,
            logs_burst: 2000,
            log_text_bytes_max: 4096,
            log_fields_max: 32,
            accept_pause_us: 1_000_000,
        }
    }
}

/// A configuration that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("NodeConfig::{field} {problem}")]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl NodeConfig {
    /// Checks what would otherwise fail much later, or silently do nothing.
    ///
    /// # Errors
    /// The first field that cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("modules_max", self.modules_max as u64),
            ("handshakes_max", self.handshakes_max as u64),
            ("token_us", self.token_us),
            ("events_max", self.events_max as u64),
            ("event_bytes_max", self.event_bytes_max as u64),
            ("publish_wait_us", self.publish_wait_us),
            ("logs_per_s", u64::from(self.logs_per_s)),
            ("logs_burst", u64::from(self.logs_burst)),
            ("log_text_bytes_max", self.log_text_bytes_max as u64),
            ("accept_pause_us", self.accept_pause_us),
        ];
        for (field, value) in positive {
            if value == 0 {
                return Err(ConfigError { field, problem: "is zero: the host could do nothing" });
            }
        }
        if self.node_version.len() > 64 {
            return Err(ConfigError { field: "node_version", problem: "has more than 64 bytes" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_works_and_a_zero_is_named() {
        assert_eq!(NodeConfig::default().check(), Ok(()));
        let zero = NodeConfig { events_max: 0, ..NodeConfig::default() };
        assert_eq!(zero.check().unwrap_err().field, "events_max");
    }
}
