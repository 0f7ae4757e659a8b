//! Files that go with a question.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use chat::{ImageSource, Part};

use crate::machine;

/// Bytes of a text at most: more than any model reads at once.
const TEXT_BYTES_MAX: u64 = 4 << 20;
/// Bytes of a picture at most, as over the API.
const PICTURE_BYTES_MAX: u64 = 20 << 20;
/// Fewer backticks than this make no fence.
const FENCE_MIN: usize = 3;

/// A file as a part of a message. `sees`: the model looks at pictures.
///
/// # Errors
/// If it cannot be read, is too large, is neither text nor a picture, or is a picture that nobody would see.
pub(crate) fn read(path: &Path, sees: bool) -> anyhow::Result<Part> {
    let path = &at_home(path);
    let facts = std::fs::metadata(path).with_context(|| format!("read {}", path.display()))?;
    ensure!(facts.is_file(), "{} is no file", path.display());
    ensure!(
        facts.len() <= PICTURE_BYTES_MAX,
        "{} has {} bytes, {PICTURE_BYTES_MAX} allowed",
        path.display(),
        facts.len()
    );
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    if kind(&bytes).is_some() {
        ensure!(sees, "{} is a picture, and this model reads text only", path.display());
        return Ok(Part::Image(ImageSource::Bytes(Arc::from(bytes))));
    }
    let Ok(text) = String::from_utf8(bytes) else {
        bail!("{} is neither text nor a picture (PNG, JPEG, WebP, GIF)", path.display());
    };
    ensure!(facts.len() <= TEXT_BYTES_MAX, "{} has {} bytes, {TEXT_BYTES_MAX} allowed", path.display(), facts.len());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fence = "`".repeat(longest_run(&text).max(FENCE_MIN - 1) + 1);
    Ok(Part::Text(format!("File {name}:\n{fence}\n{}\n{fence}\n\n", text.trim_end_matches('\n'))))
}

/// The media type of a picture, by its first bytes.
pub(crate) fn kind(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// `~/x` as a shell would read it.
fn at_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), machine::variable("HOME")) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path.to_owned(),
    }
}

fn longest_run(text: &str) -> usize {
    text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use chat::Part;

    use super::read;

    #[test]
    fn a_text_cannot_leave_its_fence() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("notes.md");
        std::fs::write(&file, "a\n````\nb\n").unwrap();
        let Part::Text(text) = read(&file, false).unwrap() else { panic!("no text") };
        assert_eq!(text, "File notes.md:\n`````\na\n````\nb\n`````\n\n");
    }

    #[test]
    fn what_nobody_could_read_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let refused = |name: &str, bytes: &[u8], words: &str| {
            let file = place.path().join(name);
            std::fs::write(&file, bytes).unwrap();
            let error = read(&file, false).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(words), "{error}");
        };
        refused("p.png", b"\x89PNG\r\n", "reads text only");
        refused("x.bin", b"\xff\xfe\x00", "neither text nor a picture");
        assert!(read(place.path(), false).unwrap_err().to_string().contains("is no file"));
        assert!(read(&place.path().join("none"), false).unwrap_err().to_string().contains("none"));
        let picture = place.path().join("p.png");
        assert!(matches!(read(&picture, true).unwrap(), Part::Image(_)));
    }
}
