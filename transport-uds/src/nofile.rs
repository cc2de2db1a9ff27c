//! How many descriptors this process may have.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Why there may not be so many descriptors.
#[derive(Debug, thiserror::Error)]
pub enum NofileError {
    /// The hard limit is below.
    #[error(
        "{wanted} open files are needed, but the limit of this process is {soft} and cannot be raised above {hard}: raise \
         the hard limit (`ulimit -Hn`, LimitNOFILE= of systemd), or serve fewer modules"
    )]
    HardLimit {
        /// What was asked for.
        wanted: u64,
        /// The limit in force.
        soft: u64,
        /// The most that it can be raised to.
        hard: u64,
    },
    /// The system refused.
    #[error("the limit of open files could not be raised from {soft} to {wanted}: {source}")]
    Io {
        /// What was asked for.
        wanted: u64,
        /// The limit in force.
        soft: u64,
        /// What the system said.
        source: io::Error,
    },
}

/// Raises the soft limit of open files (`RLIMIT_NOFILE`) to at least `wanted`, and gives the one in force then. It never
/// lowers it, and it does not touch the hard limit.
///
/// A connection takes one descriptor, and a second one while its peer does not keep up with what is sent.
///
/// # Errors
/// [`NofileError`], with the numbers.
pub fn raise_nofile_limit(wanted: u64) -> Result<u64, NofileError> {
    let limit = getrlimit(Resource::Nofile);
    match plan(&limit, wanted)? {
        None => Ok(limit.current.unwrap_or(u64::MAX)),
        Some(raised) => match setrlimit(Resource::Nofile, raised) {
            Ok(()) => Ok(wanted),
            Err(error) => {
                Err(NofileError::Io { wanted, soft: limit.current.unwrap_or(u64::MAX), source: error.into() })
            }
        },
    }
}

/// The limit to set, or `None` if the one in force is enough. An absent limit is none.
fn plan(limit: &Rlimit, wanted: u64) -> Result<Option<Rlimit>, NofileError> {
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    if soft >= wanted {
        return Ok(None);
    }
    if hard < wanted {
        return Err(NofileError::HardLimit { wanted, soft, hard });
    }
    Ok(Some(Rlimit { current: Some(wanted), maximum: limit.maximum }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_raised_only_as_far_as_needed_and_possible() {
        let limit = |current, maximum| Rlimit { current, maximum };
        assert!(plan(&limit(Some(1_024), Some(4_096)), 1_024).is_ok_and(|plan| plan.is_none()));
        assert!(plan(&limit(None, None), u64::MAX).is_ok_and(|plan| plan.is_none()));
        let raised = plan(&limit(Some(1_024), Some(4_096)), 4_096).expect("possible").expect("needed");
        assert_eq!((raised.current, raised.maximum), (Some(4_096), Some(4_096)));
        let raised = plan(&limit(Some(1_024), None), 9_999).expect("possible").expect("needed");
        assert_eq!((raised.current, raised.maximum), (Some(9_999), None));
        let text = plan(&limit(Some(1_024), Some(4_096)), 4_097).expect_err("too many").to_string();
        for number in ["1024", "4096", "4097"] {
            assert!(text.contains(number), "{text:?} lacks {number}");
        }
    }

    #[test]
    fn the_real_limit_is_raised_and_never_lowered() {
        let before = getrlimit(Resource::Nofile);
        let soft = before.current.unwrap_or(u64::MAX);
        let room = before.maximum.unwrap_or(u64::MAX).saturating_sub(soft);
        let wanted = soft + room.min(1);
        assert_eq!(raise_nofile_limit(wanted).expect("within the hard limit"), wanted);
        assert_eq!(raise_nofile_limit(1).expect("enough already"), wanted);
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), wanted);
    }
}
