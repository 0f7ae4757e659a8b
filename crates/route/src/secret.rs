//! What only an upstream may see.

use std::fmt;

use crate::{Error, Result};

/// Characters of a secret.
const SECRET_CHARS_MAX: usize = 4_096;

/// A key for an upstream. It shows itself in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret of printable ASCII, as a header can carry it. White space around it is cut off, as files end in a line
    /// feed.
    ///
    /// # Errors
    /// [`Error::Secret`] if it is empty, too long or holds other characters; the message does not show it.
    pub fn new(text: &str) -> Result<Self> {
        let text = text.trim();
        let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        match !text.is_empty() && text.len() <= SECRET_CHARS_MAX && is_printable {
            true => Ok(Self(text.to_owned())),
            false => Err(Error::Secret { limit: SECRET_CHARS_MAX }),
        }
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("sk-abc\n").unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(secret.expose(), "sk-abc");
        for wrong in ["", " \n", "two words", "line\r\nx-injected: 1", "ключ"] {
            let error = Secret::new(wrong).unwrap_err().to_string();
            assert!(wrong.trim().is_empty() || !error.contains(wrong), "{error}");
        }
    }
}
