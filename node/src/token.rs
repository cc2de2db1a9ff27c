//! One-time tokens for modules that connect by themselves.

use std::fmt;

use modipc_driver::Runtime;
use subtle::ConstantTimeEq as _;

/// A secret that admits one module, once.
///
/// `Display` shows it, as the 64 hexadecimal digits that a module is configured with; `Debug` does not.
#[derive(Clone)]
pub struct Token([u8; Token::BYTES]);

impl Token {
    /// Its length in bytes.
    pub const BYTES: usize = 32;

    /// Draws a token from the runtime's randomness: in production that is the operating system's, which an attacker cannot
    /// guess, and under a simulated runtime it is the run's seed, so that a run with tokens in it replays to the byte.
    pub(crate) fn draw(runtime: &dyn Runtime) -> Token {
        let mut bytes = [0; Token::BYTES];
        for chunk in bytes.as_chunks_mut::<8>().0 {
            *chunk = runtime.seed().to_le_bytes();
        }
        Token(bytes)
    }

    /// The bytes that go into the Hello.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether a peer presented this token. Takes as long for a token that is almost right as for one that is all wrong.
    pub(crate) fn matches(&self, presented: &[u8]) -> bool {
        self.0.ct_eq(presented).into()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(secret)")
    }
}

#[cfg(test)]
impl Token {
    pub(crate) fn of(byte: u8) -> Token {
        Token([byte; Token::BYTES])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_matches_itself_only_and_is_not_shown_by_accident() {
        let token = Token::of(7);
        assert!(token.matches(&[7; 32]));
        for wrong in [&[7; 31][..], &[7; 33], &[], &[8; 32]] {
            assert!(!token.matches(wrong));
        }
        assert_eq!(format!("{token:?}"), "Token(secret)");
        assert_eq!(token.to_string(), "07".repeat(32));
    }
}
