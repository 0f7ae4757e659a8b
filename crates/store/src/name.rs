use std::fmt;
use std::sync::Arc;

use crate::{Error, Result};

/// The name of an object: parts of `[A-Za-z0-9._-]` joined by `/`, at most [`Name::BYTES_MAX`] bytes.
///
/// A part is never empty, never `.` or `..`, and at most [`Name::PART_BYTES_MAX`] bytes, so every name is also a valid
/// relative path and a valid S3 key. Names order as their bytes do, which is the order of [`crate::Store::list_after`].
///
/// One name must not be a folder of another (`a` and `a/b`): a local folder cannot hold both.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The longest name. S3 allows 1,024 bytes; the rest is left to a prefix in the bucket.
    pub const BYTES_MAX: usize = 768;
    /// The longest part, from the file systems that hold it (255 bytes) less room for a suffix.
    pub const PART_BYTES_MAX: usize = 200;

    /// Parses a name.
    ///
    /// # Errors
    /// [`Error::BadName`] if the text breaks a rule.
    pub fn parse(text: &str) -> Result<Self> {
        match broken_rule(text) {
            None => Ok(Self(text.into())),
            Some(why) => Err(Error::BadName { text: text.chars().take(100).collect(), why }),
        }
    }

    /// The name `self/part`.
    ///
    /// # Errors
    /// [`Error::BadName`] if the part breaks a rule.
    pub fn join(&self, part: &str) -> Result<Self> {
        Self::parse(&format!("{}/{part}", self.0))
    }

    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part.
    #[must_use]
    pub fn last_part(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Whether the name lies in the folder, at any depth.
    #[must_use]
    pub fn is_below(&self, folder: &Self) -> bool {
        self.0.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }
}

fn broken_rule(text: &str) -> Option<&'static str> {
    if text.len() > Name::BYTES_MAX {
        return Some("it is too long");
    }
    for part in text.split('/') {
        if part.is_empty() || part == "." || part == ".." {
            return Some("a part is empty or a dot");
        }
        if part.len() > Name::PART_BYTES_MAX {
            return Some("a part is too long");
        }
        if !part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
            return Some("a part has a character other than A-Z a-z 0-9 . _ -");
        }
    }
    None
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn names_that_could_leave_the_folder_are_refused() {
        for text in ["", "/", "a/", "/a", "a//b", "..", "a/../b", ".", "a b", "a\\b", "a\0", "ä", &"a".repeat(201)] {
            assert!(Name::parse(text).is_err(), "{text:?}");
        }
        for text in ["a", "a/b", "log/00000000000000000001", "a..b", ".hidden", &"a".repeat(200)] {
            assert_eq!(Name::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_folder_holds_what_lies_below_it_and_not_its_namesakes() {
        let folder = Name::parse("a/b").unwrap();
        assert!(Name::parse("a/b/c/d").unwrap().is_below(&folder));
        assert!(!Name::parse("a/bc").unwrap().is_below(&folder));
        assert!(!folder.is_below(&folder));
        assert_eq!(folder.join("c").unwrap().last_part(), "c");
    }
}
