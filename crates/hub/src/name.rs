//! Names of models and of their files, checked once.

use crate::error::{Error, Result};

/// The longest part of a name.
const PART_BYTES_MAX: usize = 96;
/// The longest revision.
const REVISION_BYTES_MAX: usize = 200;
/// The longest path of a file inside a model.
const PATH_BYTES_MAX: usize = 512;

/// A model at a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// `OWNER/NAME`, or `NAME` alone.
    pub id: String,
    /// A branch, a tag or a commit; `None`: the hub's main branch.
    pub revision: Option<String>,
}

impl Repository {
    /// The last part of the name.
    #[must_use]
    pub fn short_name(&self) -> &str {
        self.id.rsplit('/').next().unwrap_or(&self.id)
    }
}

/// What somebody asks for: `OWNER/NAME[:TAG][@REVISION]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The model.
    pub repository: Repository,
    /// Which of several GGUF files, by a part of its name such as `Q4_K_M`.
    pub tag: Option<String>,
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, form: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        form.write_str(&self.repository.id)?;
        if let Some(tag) = &self.tag {
            write!(form, ":{tag}")?;
        }
        self.repository.revision.as_ref().map_or(Ok(()), |revision| write!(form, "@{revision}"))
    }
}

impl Wanted {
    /// Reads `Qwen/Qwen3-0.6B`, `Qwen/Qwen3-0.6B-GGUF:Q4_K_M`, `Qwen/Qwen3-0.6B@main`, or the address of a model's page
    /// at a hub.
    ///
    /// # Errors
    /// [`Error::Name`] if it is none of these.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why| Error::Name { name: text.to_owned(), why };
        let bare = match text.split_once("://") {
            // https://HOST/OWNER/NAME, and ModelScope's https://HOST/models/OWNER/NAME.
            Some((_, rest)) => {
                let path = rest.split_once('/').map_or("", |(_, path)| path).trim_end_matches('/');
                path.strip_prefix("models/").unwrap_or(path)
            }
            None => text,
        };
        let (bare, revision) = match bare.split_once('@') {
            Some((bare, revision)) => (bare, Some(revision)),
            None => (bare, None),
        };
        let (id, tag) = match bare.split_once(':') {
            Some((id, tag)) => (id, Some(tag)),
            None => (bare, None),
        };
        let parts: Vec<&str> = id.split('/').collect();
        if parts.len() > 2 {
            return Err(refuse("it is written OWNER/NAME"));
        }
        if !parts.iter().copied().all(is_plain) || tag.is_some_and(|tag| !is_plain(tag)) {
            return Err(refuse("letters, digits and ._- are allowed, a letter or a digit first"));
        }
        let is_revision = |revision: &str| {
            revision.len() <= REVISION_BYTES_MAX && revision.split('/').all(|part| is_plain(part) && part != "..")
        };
        if revision.is_some_and(|revision| !is_revision(revision)) {
            return Err(refuse("the revision is none"));
        }
        let repository = Repository { id: id.to_owned(), revision: revision.map(str::to_owned) };
        Ok(Self { repository, tag: tag.map(str::to_owned) })
    }
}

/// Whether this may name a model here: it is one folder's name and no option of a command.
pub(crate) fn is_plain(part: &str) -> bool {
    let is_allowed = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'.' | b'_' | b'-');
    (1..=PART_BYTES_MAX).contains(&part.len())
        && part.bytes().all(is_allowed)
        && part.as_bytes()[0].is_ascii_alphanumeric()
}

/// Refuses names of files that would leave the model's folder or cannot be told from ours.
pub(crate) fn check_path(path: &str) -> Result<()> {
    let refuse = |why| Err(Error::FileName { name: path.to_owned(), why });
    if path.len() > PATH_BYTES_MAX {
        return refuse("it is too long");
    }
    if path.chars().any(|letter| letter.is_control() || letter == '\\') {
        return refuse("it holds a control character or a backslash");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return refuse("it is not relative and plain");
    }
    if path.starts_with(".sampan") {
        return refuse("the name is ours");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Wanted, check_path};

    #[test]
    fn a_name_has_an_owner_a_tag_and_a_revision() {
        let check = |text: &str, expected: (&str, Option<&str>, Option<&str>)| {
            let wanted = Wanted::parse(text).unwrap();
            let found = (wanted.repository.id.as_str(), wanted.tag.as_deref(), wanted.repository.revision.as_deref());
            assert_eq!(found, expected, "{text}");
        };
        check("Qwen/Qwen3-0.6B", ("Qwen/Qwen3-0.6B", None, None));
        check("gpt2", ("gpt2", None, None));
        check("Qwen/Qwen3-0.6B-GGUF:Q4_K_M", ("Qwen/Qwen3-0.6B-GGUF", Some("Q4_K_M"), None));
        check("Qwen/Qwen3-0.6B@refs/pr/3", ("Qwen/Qwen3-0.6B", None, Some("refs/pr/3")));
        check("https://huggingface.co/Qwen/Qwen3-0.6B", ("Qwen/Qwen3-0.6B", None, None));
        check("https://modelscope.cn/models/Qwen/Qwen3-0.6B/", ("Qwen/Qwen3-0.6B", None, None));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for wrong in ["", "/", "a/b/c", "../x", "a/..", "-x/y", "a b", "a/b@", "a/b:", "a/b@../c", "ä/b", "https://x"]
        {
            assert!(Wanted::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_path_stays_in_its_folder() {
        for fine in ["config.json", "1_Pooling/config.json", ".gitattributes", "model-00001-of-00002.safetensors"] {
            check_path(fine).unwrap();
        }
        for wrong in ["", "/etc/passwd", "a//b", "../a", "a/../b", "a\\b", "a\nb", ".sampan.json", "a/."] {
            assert!(check_path(wrong).is_err(), "{wrong:?}");
        }
    }
}
