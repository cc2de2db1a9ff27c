//! Text that a module wrote, on its way into the operator's log or into a refusal.
//!
//! A module is not trusted: what it writes may hold line breaks that forge further log lines, escape sequences that move the
//! operator's cursor, and direction marks that make a line read otherwise than it is.

use std::fmt::{self, Write as _};

/// Shows untrusted text: characters that control a terminal are escaped, and what exceeds `bytes_max` is left out and
/// counted.
#[derive(Clone, Copy)]
pub(crate) struct Shown<'a> {
    text: &'a str,
    bytes_max: usize,
}

impl<'a> Shown<'a> {
    pub(crate) fn new(text: &'a str, bytes_max: usize) -> Self {
        Shown { text, bytes_max }
    }

    /// A name: an id, a target, a capability.
    pub(crate) fn name(text: &'a str) -> Self {
        Shown::new(text, 64)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, character) in self.text.char_indices() {
            if at + character.len_utf8() > self.bytes_max {
                return write!(f, "… ({} bytes more)", self.text.len() - at);
            }
            if forges(character) {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Whether a character changes how the rest of a line reads: controls, line and paragraph separators, and marks that turn
/// the direction of writing.
fn forges(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_cannot_be_forged() {
        let forged = "ok\n2030-01-01 ERROR node: wallet lost\x1b[2K\u{202e}abc";
        assert_eq!(
            Shown::new(forged, 1000).to_string(),
            r"ok\n2030-01-01 ERROR node: wallet lost\u{1b}[2K\u{202e}abc"
        );
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters_and_counted() {
        assert_eq!(Shown::new("aüb", 2).to_string(), "a… (3 bytes more)");
        assert_eq!(Shown::new("aüb", 3).to_string(), "aü… (1 bytes more)");
        assert_eq!(Shown::new("aüb", 4).to_string(), "aüb");
        assert_eq!(Shown::name(&"x".repeat(100)).to_string().len(), 64 + "… (36 bytes more)".len());
    }
}
