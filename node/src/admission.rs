//! Who is admitted, and with which capabilities: a machine without IO (PROTOCOL.md, section 4).
//!
//! What is decided here rests on what the host knows: the connection's [`PeerIdentity`], the operator's [`Policy`], the tokens
//! that it handed out. What the Hello asks for grants nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use modipc_api::CapabilitySet;
use modipc_core::{Hello, check_module_id};

pub use crate::admission_error::AdmissionError;
use crate::policy::{Attach, PeerIdentity, Policy};
use crate::text::Shown;
use crate::token::Token;

/// What an admitted module got.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Its id.
    pub module_id: Arc<str>,
    /// What it may do.
    pub grants: CapabilitySet,
    /// What it asked for and did not get, names that are no capabilities included; for the log.
    pub not_granted: Vec<String>,
    /// The token for its next connection, if it connects by itself with one.
    pub next_token: Option<Token>,
}

/// Why no token is issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("module {module_id:?} is not one that the policy lets attach with a token")]
pub struct NotAttachable {
    /// The module.
    pub module_id: String,
}

/// The machine. `now` is in microseconds and never decreases.
#[derive(Debug)]
pub struct Admission {
    policy: Policy,
    modules_max: usize,
    token_us: u64,
    /// The modules that are connected, and what they may do now.
    connected: BTreeMap<Arc<str>, CapabilitySet>,
    /// At most one token for each module that the policy names, so that they cannot pile up.
    tokens: BTreeMap<Arc<str>, Issued>,
    /// Grants that were changed while the host runs: they hold for later connections too, or a module could undo a revocation
    /// by connecting again.
    changed: BTreeMap<Arc<str>, CapabilitySet>,
    shutting_down: bool,
}

#[derive(Debug)]
struct Issued {
    token: Token,
    /// `None` while the module is connected.
    expires_at: Option<u64>,
}

impl Admission {
    /// Nobody is connected yet.
    pub fn new(policy: Policy, modules_max: usize, token_us: u64) -> Self {
        Admission {
            policy,
            modules_max,
            token_us,
            connected: BTreeMap::new(),
            tokens: BTreeMap::new(),
            changed: BTreeMap::new(),
            shutting_down: false,
        }
    }

    /// A module introduces itself. If it is admitted its id is taken until [`Admission::handle_left`]. `fresh` becomes the
    /// token for the next connection of a module that needs one.
    ///
    /// # Errors
    /// Why it is not admitted. Nothing has changed then: a token that was presented is still good.
    pub fn handle_hello(
        &mut self,
        now: u64,
        identity: &PeerIdentity,
        hello: &Hello,
        fresh: Token,
    ) -> Result<Admitted, AdmissionError> {
        if self.shutting_down {
            return Err(AdmissionError::ShuttingDown);
        }
        check_hello(hello)?;
        let proven = self.prove(now, identity, hello)?;
        let module_id = &hello.module_id;
        if self.connected.contains_key(module_id.as_str()) {
            return Err(AdmissionError::DuplicateId { module_id: module_id.clone() });
        }
        let grants = self.changed.get(module_id.as_str()).copied().unwrap_or(proven.grants);
        let missing = proven.requires.without(grants);
        if !missing.is_empty() {
            return Err(AdmissionError::MissingCapability { module_id: module_id.clone(), missing });
        }
        if self.connected.len() >= self.modules_max {
            return Err(AdmissionError::TooManyModules { modules_max: self.modules_max });
        }
        Ok(self.admit(hello, grants, proven.by_token.then_some(fresh)))
    }

    /// The connection of an admitted module ended. Its id is free, and the time of its token begins to run.
    pub fn handle_left(&mut self, now: u64, module_id: &str) {
        self.connected.remove(module_id);
        if let Some(issued) = self.tokens.get_mut(module_id) {
            issued.expires_at = Some(now.saturating_add(self.token_us));
        }
    }

    /// Makes `fresh` the one token with which this module may connect. An earlier one is void.
    ///
    /// # Errors
    /// The policy does not let this module attach with a token.
    pub fn issue_token(&mut self, now: u64, module_id: &str, fresh: Token) -> Result<(), NotAttachable> {
        let by_token = self.policy.get(module_id).is_some_and(|policy| policy.attach == Attach::Token);
        if !by_token {
            return Err(NotAttachable { module_id: module_id.to_owned() });
        }
        let connected = self.connected.contains_key(module_id);
        let expires_at = (!connected).then(|| now.saturating_add(self.token_us));
        self.tokens.insert(module_id.into(), Issued { token: fresh, expires_at });
        Ok(())
    }

    /// Changes what a module may do, now and when it connects again. False if neither the policy nor a connection knows it.
    pub fn set_grants(&mut self, module_id: &str, grants: CapabilitySet) -> bool {
        if let Some(current) = self.connected.get_mut(module_id) {
            *current = grants;
        } else if self.policy.get(module_id).is_none() && !self.changed.contains_key(module_id) {
            return false;
        }
        self.changed.insert(module_id.into(), grants);
        true
    }

    /// What a connected module may do now.
    pub fn grants(&self, module_id: &str) -> Option<CapabilitySet> {
        self.connected.get(module_id).copied()
    }

    /// From now on nobody is admitted.
    pub fn shut_down(&mut self) {
        self.shutting_down = true;
    }

    /// Whether [`Admission::shut_down`] was called.
    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down
    }

    fn prove(&self, now: u64, identity: &PeerIdentity, hello: &Hello) -> Result<Proven, AdmissionError> {
        let module_id = &hello.module_id;
        let credentials = match identity {
            PeerIdentity::Inherited { module_id: expected, .. } if **expected != **module_id => {
                return Err(AdmissionError::NotThisModule {
                    expected: Arc::clone(expected),
                    claimed: module_id.clone(),
                });
            }
            PeerIdentity::Inherited { grants, requires, .. } => {
                return Ok(Proven { grants: *grants, requires: *requires, by_token: false });
            }
            PeerIdentity::Attached { credentials } => credentials,
        };
        if !self.policy.admits_user(credentials.uid) {
            let module_id = module_id.clone();
            return Err(AdmissionError::UserNotAllowed { module_id, uid: credentials.uid });
        }
        let Some(policy) = self.policy.get(module_id) else {
            return Err(AdmissionError::NotInPolicy { module_id: module_id.clone() });
        };
        match policy.attach {
            Attach::Never => return Err(AdmissionError::NotAttachable { module_id: module_id.clone() }),
            Attach::Token => self.check_token(now, hello)?,
            Attach::Credentials => {}
        }
        let by_token = policy.attach == Attach::Token;
        Ok(Proven { grants: policy.grants, requires: policy.requires, by_token })
    }

    fn check_token(&self, now: u64, hello: &Hello) -> Result<(), AdmissionError> {
        let module_id = hello.module_id.clone();
        let presented = hello.tail.as_ref().map_or(&[][..], |tail| &tail.token);
        if presented.is_empty() {
            return Err(AdmissionError::TokenMissing { module_id });
        }
        match self.tokens.get(module_id.as_str()) {
            Some(issued) if issued.token.matches(presented) => match issued.expires_at {
                Some(at) if at <= now => Err(AdmissionError::TokenExpired { module_id }),
                Some(_) | None => Ok(()),
            },
            Some(_) | None => Err(AdmissionError::TokenUnknown { module_id }),
        }
    }

    fn admit(&mut self, hello: &Hello, grants: CapabilitySet, next_token: Option<Token>) -> Admitted {
        let module_id: Arc<str> = hello.module_id.as_str().into();
        self.connected.insert(Arc::clone(&module_id), grants);
        if let Some(token) = &next_token {
            let issued = Issued { token: token.clone(), expires_at: None };
            self.tokens.insert(Arc::clone(&module_id), issued);
        }
        Admitted { module_id, grants, not_granted: not_granted(hello, grants), next_token }
    }
}

/// What a module that proved who it is may do.
struct Proven {
    grants: CapabilitySet,
    requires: CapabilitySet,
    by_token: bool,
}

fn check_hello(hello: &Hello) -> Result<(), AdmissionError> {
    check_module_id(&hello.module_id).map_err(|reason| AdmissionError::BadModuleId {
        id: format!("{:?}", Shown::name(&hello.module_id)),
        reason,
    })?;
    let Some(tail) = &hello.tail else { return Ok(()) };
    let module_id = hello.module_id.clone();
    // A higher version is answered as version 1 [H-2].
    if tail.protocol == 0 {
        return Err(AdmissionError::UnsupportedVersion { module_id, version: 0 });
    }
    match tail.unknown_critical {
        Some(record) => Err(AdmissionError::UnknownCritical { module_id, record }),
        None => Ok(()),
    }
}

fn not_granted(hello: &Hello, grants: CapabilitySet) -> Vec<String> {
    let (asked, unknown) = CapabilitySet::from_names(hello.capabilities.iter().map(String::as_str));
    let missing = asked.without(grants);
    let known = missing.iter().map(|capability| capability.name().to_owned());
    known.chain(unknown.into_iter().map(|error| Shown::name(&error.name).to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Credentials, ModulePolicy};
    use modipc_api::Capability;
    use modipc_core::{HelloTail, Refusal, RefusalCode};

    const READS: CapabilitySet = CapabilitySet::of(&[Capability::ReadBlockchain, Capability::ReadChainState]);
    const SENDS: CapabilitySet = CapabilitySet::of(&[Capability::SendTransactions]);
    const USER: u32 = 1000;
    const TOKEN_US: u64 = 1_000_000;

    fn admission() -> Admission {
        let by = |attach| ModulePolicy { grants: READS, attach, ..ModulePolicy::default() };
        let policy = Policy::new()
            .user(USER)
            .module("watcher", by(Attach::Token))
            .module("seed", by(Attach::Credentials))
            .module("own", by(Attach::Never));
        Admission::new(policy, 2, TOKEN_US)
    }

    fn inherited(module_id: &str) -> PeerIdentity {
        PeerIdentity::Inherited { module_id: module_id.into(), grants: READS, requires: CapabilitySet::EMPTY }
    }

    fn attached() -> PeerIdentity {
        PeerIdentity::Attached { credentials: Credentials { uid: USER, gid: USER, pid: Some(7) } }
    }

    fn hello(module_id: &str) -> Hello {
        let tail =
            HelloTail { protocol: 1, token: Vec::new(), x1: true, limits: None, unknown_critical: None };
        Hello { module_id: module_id.into(), capabilities: Vec::new(), version: "1".into(), tail: Some(tail) }
    }

    fn with_token(module_id: &str, token: &Token) -> Hello {
        let mut hello = hello(module_id);
        if let Some(tail) = &mut hello.tail {
            tail.token = token.as_bytes().to_vec();
        }
        hello
    }

    #[track_caller]
    fn refused(
        admission: &mut Admission,
        identity: &PeerIdentity,
        hello: &Hello,
        code: RefusalCode,
        names: &str,
    ) -> AdmissionError {
        let error = admission.handle_hello(0, identity, hello, Token::of(99)).unwrap_err();
        let refusal = Refusal::from(&error);
        assert_eq!(refusal.code, code, "{error}");
        assert!(!refusal.hint.is_empty());
        assert!(
            refusal.message.contains(names) || refusal.hint.contains(names),
            "neither {:?} nor {:?} names {names:?}",
            refusal.message,
            refusal.hint
        );
        error
    }

    #[test]
    fn an_inherited_connection_admits_its_module_with_what_its_launcher_granted() {
        let mut admission = admission();
        let mut asks = hello("a");
        asks.capabilities = vec!["SendTransactions".into(), "ReadBlockchain".into(), "Fly\n".into()];
        let admitted = admission.handle_hello(0, &inherited("a"), &asks, Token::of(1)).unwrap();
        assert_eq!(admitted.grants, READS, "what a module asks for grants nothing");
        assert_eq!(admitted.not_granted, ["SendTransactions", r"Fly\n"]);
        assert!(admitted.next_token.is_none(), "it cannot connect again by itself");
        assert_eq!(admission.grants("a"), Some(READS));
    }

    #[test]
    fn an_inherited_connection_admits_no_other_module() {
        let error = refused(&mut admission(), &inherited("a"), &hello("b"), RefusalCode::NotAllowed, "\"a\"");
        let expected = AdmissionError::NotThisModule { expected: "a".into(), claimed: "b".into() };
        assert_eq!(error, expected);
    }

    #[test]
    fn ids_that_are_empty_or_paths_are_refused() {
        for bad in ["", "../etc/passwd", "a/b", "A", &"x".repeat(4000), "a\n"] {
            let error =
                refused(&mut admission(), &inherited(bad), &hello(bad), RefusalCode::BadModuleId, "id");
            assert!(error.to_string().len() < 300, "{error}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }

    #[test]
    fn version_zero_is_refused_and_a_later_one_is_not() {
        let mut admission = admission();
        let mut hello = hello("a");
        if let Some(tail) = &mut hello.tail {
            tail.protocol = 0;
        }
        refused(&mut admission, &inherited("a"), &hello, RefusalCode::UnsupportedVersion, "version 1");
        if let Some(tail) = &mut hello.tail {
            tail.protocol = 2;
        }
        assert!(admission.handle_hello(0, &inherited("a"), &hello, Token::of(1)).is_ok());
    }

    #[test]
    fn an_unknown_critical_record_is_refused_by_its_id() {
        let mut hello = hello("a");
        if let Some(tail) = &mut hello.tail {
            tail.unknown_critical = Some(77);
        }
        refused(&mut admission(), &inherited("a"), &hello, RefusalCode::UnknownCritical, "record 77");
    }

    #[test]
    fn a_foreign_user_and_a_module_that_the_policy_does_not_let_attach_are_refused() {
        let mut admission = admission();
        let stranger = PeerIdentity::Attached { credentials: Credentials { uid: 31, gid: USER, pid: None } };
        refused(&mut admission, &stranger, &hello("seed"), RefusalCode::NotAllowed, "user 31");
        refused(&mut admission, &attached(), &hello("nobody"), RefusalCode::NotAllowed, "\"nobody\"");
        refused(&mut admission, &attached(), &hello("own"), RefusalCode::NotAllowed, "\"own\"");
    }

    #[test]
    fn a_token_admits_once_and_the_answer_brings_the_next() {
        let mut admission = admission();
        let (first, second, third) = (Token::of(1), Token::of(2), Token::of(3));
        admission.issue_token(0, "watcher", first.clone()).unwrap();
        let hello = with_token("watcher", &first);
        let admitted = admission.handle_hello(0, &attached(), &hello, second.clone()).unwrap();
        assert!(admitted.next_token.is_some_and(|token| token.matches(second.as_bytes())));
        admission.handle_left(0, "watcher");

        refused(&mut admission, &attached(), &hello, RefusalCode::BadToken, "used");
        let hello = with_token("watcher", &second);
        assert!(admission.handle_hello(0, &attached(), &hello, third).is_ok());
    }

    #[test]
    fn a_token_is_demanded_and_belongs_to_one_module_for_a_time() {
        let mut admission = admission();
        let token = Token::of(1);
        refused(&mut admission, &attached(), &hello("watcher"), RefusalCode::BadToken, "no token");
        let plain = Hello { tail: None, ..hello("watcher") };
        refused(&mut admission, &attached(), &plain, RefusalCode::BadToken, "no token");
        refused(
            &mut admission,
            &attached(),
            &with_token("watcher", &token),
            RefusalCode::BadToken,
            "operator",
        );
        assert!(admission.issue_token(0, "seed", token.clone()).is_err(), "the policy wants none of it");
        assert!(admission.issue_token(0, "nobody", token.clone()).is_err());

        admission.issue_token(0, "watcher", token.clone()).unwrap();
        let hello = with_token("watcher", &token);
        let late = admission.handle_hello(TOKEN_US, &attached(), &hello, Token::of(2)).unwrap_err();
        assert_eq!(late, AdmissionError::TokenExpired { module_id: "watcher".into() });
        assert!(admission.handle_hello(TOKEN_US - 1, &attached(), &hello, Token::of(2)).is_ok());
    }

    #[test]
    fn the_time_of_the_next_token_runs_only_while_the_module_is_away() {
        let mut admission = admission();
        admission.issue_token(0, "watcher", Token::of(1)).unwrap();
        let hello = with_token("watcher", &Token::of(1));
        admission.handle_hello(0, &attached(), &hello, Token::of(2)).unwrap();
        admission.handle_left(50 * TOKEN_US, "watcher");
        let hello = with_token("watcher", &Token::of(2));
        assert!(admission.handle_hello(51 * TOKEN_US - 1, &attached(), &hello, Token::of(3)).is_ok());
    }

    #[test]
    fn a_refusal_for_another_reason_does_not_use_up_the_token() {
        let mut admission = admission();
        admission.handle_hello(0, &inherited("watcher"), &hello("watcher"), Token::of(9)).unwrap();
        admission.issue_token(0, "watcher", Token::of(1)).unwrap();
        let hello = with_token("watcher", &Token::of(1));
        refused(&mut admission, &attached(), &hello, RefusalCode::DuplicateId, "\"watcher\"");
        admission.handle_left(0, "watcher");
        assert!(admission.handle_hello(0, &attached(), &hello, Token::of(2)).is_ok());
    }

    #[test]
    fn a_module_that_knows_only_the_seed_is_admitted_where_the_policy_trusts_its_user() {
        let plain = Hello { tail: None, ..hello("seed") };
        let admitted = admission().handle_hello(0, &attached(), &plain, Token::of(1)).unwrap();
        assert_eq!(admitted.grants, READS);
        assert!(admitted.next_token.is_none());
    }

    #[test]
    fn an_id_is_taken_until_its_module_leaves() {
        let mut admission = admission();
        admission.handle_hello(0, &inherited("a"), &hello("a"), Token::of(1)).unwrap();
        refused(&mut admission, &inherited("a"), &hello("a"), RefusalCode::DuplicateId, "\"a\"");
        admission.handle_left(0, "a");
        assert!(admission.handle_hello(0, &inherited("a"), &hello("a"), Token::of(1)).is_ok());
    }

    #[test]
    fn a_module_that_cannot_work_is_told_what_is_missing() {
        let identity =
            PeerIdentity::Inherited { module_id: "a".into(), grants: READS, requires: READS.union(SENDS) };
        refused(&mut admission(), &identity, &hello("a"), RefusalCode::MissingCapability, "SendTransactions");
    }

    #[test]
    fn the_number_of_modules_is_bounded() {
        let mut admission = admission();
        for id in ["a", "b"] {
            admission.handle_hello(0, &inherited(id), &hello(id), Token::of(1)).unwrap();
        }
        refused(&mut admission, &inherited("c"), &hello("c"), RefusalCode::Busy, "modules_max");
    }

    #[test]
    fn nobody_is_admitted_while_the_host_goes_down() {
        let mut admission = admission();
        admission.shut_down();
        refused(&mut admission, &inherited("a"), &hello("a"), RefusalCode::ShuttingDown, "shutting down");
    }

    #[test]
    fn a_revocation_outlives_the_connection() {
        let mut admission = admission();
        admission.handle_hello(0, &inherited("a"), &hello("a"), Token::of(1)).unwrap();
        assert!(admission.set_grants("a", CapabilitySet::EMPTY));
        assert_eq!(admission.grants("a"), Some(CapabilitySet::EMPTY));
        admission.handle_left(0, "a");
        let again = admission.handle_hello(0, &inherited("a"), &hello("a"), Token::of(1)).unwrap();
        assert_eq!(again.grants, CapabilitySet::EMPTY);
        assert!(admission.set_grants("watcher", SENDS), "the policy names it");
        assert!(!admission.set_grants("nobody", SENDS));
    }
}
