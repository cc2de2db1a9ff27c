//! Who is at the other end, as the kernel says (`SO_PEERCRED`), and who may be.

use core::fmt;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;

use rustix::net::sockopt::socket_peercred;

/// The credentials that the kernel noted for the other end of a stream.
///
/// They are those of the moment: of `connect` for who connected, of `listen` for who listens, and of the one that made it
/// for both ends of a socket pair. A process that was handed the socket afterwards does not appear in them, so on the
/// host's side of an inherited connection they are the host's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// The process, which may have ended since and whose number may be another's by now: for messages, not for decisions.
    pub pid: i32,
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
}

impl PeerCredentials {
    pub(crate) fn of(stream: impl AsFd) -> io::Result<Self> {
        let credentials = socket_peercred(stream)?;
        Ok(Self {
            pid: credentials.pid.as_raw_nonzero().get(),
            uid: credentials.uid.as_raw(),
            gid: credentials.gid.as_raw(),
        })
    }
}

impl fmt::Display for PeerCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of user {} and group {}", self.pid, self.uid, self.gid)
    }
}

/// Whom we talk to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PeerPolicy {
    /// Only with our own effective user.
    #[default]
    SameUser,
    /// Only with these users. Ours is not among them unless it is listed.
    Uids(BTreeSet<u32>),
    /// With everybody whom the file system lets through.
    Any,
}

impl PeerPolicy {
    /// Whether this peer is one of them.
    ///
    /// # Errors
    /// [`PeerRefused`], which says who came and who may.
    pub fn check(&self, peer: PeerCredentials) -> Result<(), PeerRefused> {
        self.check_as(peer, rustix::process::geteuid().as_raw())
    }

    fn check_as(&self, peer: PeerCredentials, own_uid: u32) -> Result<(), PeerRefused> {
        let allowed = match self {
            Self::SameUser => peer.uid == own_uid,
            Self::Uids(uids) => uids.contains(&peer.uid),
            Self::Any => true,
        };
        if allowed { Ok(()) } else { Err(PeerRefused { peer, policy: self.clone(), own_uid }) }
    }
}

/// The peer is not one of those whom the policy allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{peer} is not allowed here: {}", Allowed { policy, own_uid: *own_uid })]
pub struct PeerRefused {
    /// Who came.
    pub peer: PeerCredentials,
    /// Who may.
    pub policy: PeerPolicy,
    /// Our own effective user.
    pub own_uid: u32,
}

struct Allowed<'a> {
    policy: &'a PeerPolicy,
    own_uid: u32,
}

impl fmt::Display for Allowed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.policy {
            PeerPolicy::SameUser => {
                write!(f, "only user {}; list others with PeerPolicy::Uids", self.own_uid)
            }
            PeerPolicy::Uids(uids) => write!(f, "only the users {uids:?}, as PeerPolicy::Uids lists them"),
            PeerPolicy::Any => write!(f, "everybody"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32) -> PeerCredentials {
        PeerCredentials { pid: 4711, uid, gid: 100 }
    }

    #[test]
    fn each_policy_allows_exactly_whom_it_names() {
        let listed = PeerPolicy::Uids(BTreeSet::from([5, 7]));
        for (policy, own_uid, uid, allowed) in [
            (&PeerPolicy::SameUser, 5, 5, true),
            (&PeerPolicy::SameUser, 5, 0, false),
            (&PeerPolicy::SameUser, 0, 5, false),
            (&listed, 5, 7, true),
            (&listed, 6, 6, false),
            (&PeerPolicy::Any, 5, 99, true),
        ] {
            assert_eq!(policy.check_as(peer(uid), own_uid).is_ok(), allowed, "{policy:?} {own_uid} {uid}");
        }
    }

    #[test]
    fn a_refusal_says_who_came_and_who_may() {
        let refused = PeerPolicy::SameUser.check_as(peer(9), 5).expect_err("another user");
        let text = refused.to_string();
        for part in ["process 4711", "user 9", "only user 5"] {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }
}
