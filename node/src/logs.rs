//! What modules log, on its way into `tracing`.
//!
//! A `tracing` event has a fixed target and fixed field names. So every record of every module has the target [`TARGET`], and
//! the module's own target and fields are values: `module`, `module_target`, `fields`.

use std::fmt;

use modipc_api::{LogLevel, LogMessage, decode_fields, decode_target};
use modipc_core::Records;
use modipc_core::envelope::{RECORD_LOG_FIELDS, RECORD_LOG_TARGET};

use crate::config::NodeConfig;
use crate::text::Shown;

/// The `tracing` target of everything that modules log, for filters.
pub const TARGET: &str = "modipc::module";

const US_PER_S: u64 = 1_000_000;

/// Writes one record that a module logged.
pub(crate) fn emit(module: &str, log: &LogMessage, records: &[u8], config: &NodeConfig) {
    let records = Records::new(records);
    let text_max = config.log_text_bytes_max;
    let target = records.get(RECORD_LOG_TARGET).and_then(|value| decode_target(value).ok());
    let target = target.map(|target| tracing::field::display(Shown::name(target)));
    let fields = records.get(RECORD_LOG_FIELDS);
    let fields = fields.map(|value| Fields { value, text_max, fields_max: config.log_fields_max });
    let fields = fields.map(tracing::field::debug);
    let message = Shown::new(&log.message, text_max);
    macro_rules! at {
        ($level:ident) => {
            tracing::event!(
                target: TARGET,
                tracing::Level::$level,
                module,
                module_target = target,
                fields,
                "{message}"
            )
        };
    }
    match log.level {
        LogLevel::Error => at!(ERROR),
        LogLevel::Warn => at!(WARN),
        LogLevel::Info => at!(INFO),
        LogLevel::Debug => at!(DEBUG),
        LogLevel::Trace => at!(TRACE),
    }
}

/// A record's fields, shown as a map from names to texts.
struct Fields<'a> {
    value: &'a [u8],
    text_max: usize,
    fields_max: usize,
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        let mut more = 0u64;
        for (at, field) in decode_fields(self.value).enumerate() {
            match field {
                Ok(_) if at >= self.fields_max => more += 1,
                Ok((name, value)) => {
                    map.entry(&format_args!("{}", Shown::name(name)), &Shown::new(value, self.text_max));
                }
                Err(error) => {
                    map.entry(&format_args!("…"), &format_args!("{error}"));
                }
            }
        }
        if more > 0 {
            map.entry(&format_args!("…"), &format_args!("{more} fields more"));
        }
        map.finish()
    }
}

/// How many records one module may write: a bucket that `logs_per_s` tokens drip into and that holds `logs_burst`.
#[derive(Debug)]
pub(crate) struct LogGate {
    per_s: u64,
    /// In millionths of a record.
    level_max: u64,
    level: u64,
    filled_at: u64,
    dropped: u64,
}

/// What becomes of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It is written. So many were dropped since the last one that was.
    Pass {
        /// How many.
        dropped: u64,
    },
    /// It is dropped.
    Drop {
        /// Whether it is the first of its series, which is worth a line.
        first: bool,
    },
}

impl LogGate {
    pub(crate) fn new(now: u64, config: &NodeConfig) -> LogGate {
        let level_max = u64::from(config.logs_burst) * US_PER_S;
        let per_s = u64::from(config.logs_per_s);
        LogGate { per_s, level_max, level: level_max, filled_at: now, dropped: 0 }
    }

    /// Decides about one record.
    pub(crate) fn record(&mut self, now: u64) -> Gate {
        let passed_us = now.saturating_sub(self.filled_at);
        self.filled_at = now;
        self.level = self.level.saturating_add(passed_us.saturating_mul(self.per_s)).min(self.level_max);
        match self.level.checked_sub(US_PER_S) {
            Some(level) => {
                self.level = level;
                Gate::Pass { dropped: std::mem::take(&mut self.dropped) }
            }
            None => {
                self.dropped += 1;
                Gate::Drop { first: self.dropped == 1 }
            }
        }
    }

    /// Records that were dropped and not yet reported.
    pub(crate) fn unreported(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_what_exceeds_the_rate_is_dropped_and_reported_once() {
        let config = NodeConfig { logs_per_s: 2, logs_burst: 3, ..NodeConfig::default() };
        let mut gate = LogGate::new(0, &config);
        for _ in 0..3 {
            assert_eq!(gate.record(0), Gate::Pass { dropped: 0 });
        }
        assert_eq!(gate.record(0), Gate::Drop { first: true });
        assert_eq!(gate.record(499_999), Gate::Drop { first: false });
        assert_eq!(gate.unreported(), 2);
        assert_eq!(gate.record(500_000), Gate::Pass { dropped: 2 });
        assert_eq!(gate.record(500_000), Gate::Drop { first: true });
        // A long silence fills the bucket and no more.
        for _ in 0..3 {
            assert!(matches!(gate.record(u64::MAX), Gate::Pass { .. }));
        }
        assert_eq!(gate.record(u64::MAX), Gate::Drop { first: true });
    }

    #[test]
    fn fields_are_shown_harmless_and_bounded() {
        let mut value = Vec::new();
        let fields = [("height", "702861"), ("pa\nth", "a\x1bb"), ("third", "3")];
        modipc_api::encode_fields(fields, usize::MAX, &mut value);
        let shown = format!("{:?}", Fields { value: &value, text_max: 100, fields_max: 2 });
        assert_eq!(shown, r#"{height: "702861", pa\nth: "a\u{1b}b", …: 1 fields more}"#);
    }
}
