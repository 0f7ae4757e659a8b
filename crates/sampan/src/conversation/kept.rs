//! Conversations across runs: a JSON file each in `DATA/chats`, for this user's eyes only.
//!
//! ```json
//! {"model": "…", "messages": [{"role": "user", "parts": [{"text": "…"}, {"image": "data:image/png;base64,…"}]}]}
//! ```

use std::cmp::Reverse;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chat::{Content, ImageSource, Message, Part, Role};
use serde::{Deserialize, Serialize};

use super::attached;

/// Conversations that are kept; older ones make room.
const KEPT_MAX: usize = 1000;
/// Bytes of a file at most: a few pictures and a long talk.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Letters of the first question that a list shows.
const TITLE_LETTERS: usize = 60;

#[derive(Serialize, Deserialize)]
struct Written {
    model: String,
    messages: Vec<Said>,
}

#[derive(Serialize, Deserialize)]
struct Said {
    role: String,
    parts: Vec<Piece>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reasoning: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Piece {
    Text(String),
    Image(String),
}

/// A conversation that can be gone on with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) file: PathBuf,
    /// When it began, by its file's name.
    pub(super) began_ms: u64,
}

/// The file of a conversation that begins now.
pub(super) fn fresh(folder: &Path, now_ms: u64) -> PathBuf {
    let name = |at_ms: u64| folder.join(format!("{at_ms:013}.json"));
    // Ends: a folder does not hold a file of every millisecond.
    (now_ms..).map(name).find(|file| !file.exists()).unwrap_or_else(|| name(now_ms))
}

/// All conversations, newest first; none where there is no folder.
pub(super) fn list(folder: &Path) -> Vec<Known> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<Known> = files
        .filter(|file| file.extension().is_some_and(|ending| ending == "json"))
        .filter_map(|file| Some(Known { began_ms: file.file_stem()?.to_str()?.parse().ok()?, file }))
        .collect();
    found.sort_by_key(|known| Reverse(known.began_ms));
    found
}

/// Writes a conversation, whole or not at all, and lets go of the oldest where there are too many.
pub(super) fn save(file: &Path, model: &str, messages: &[Message]) -> anyhow::Result<()> {
    let folder = file.parent().context("a conversation lies in a folder")?;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("make {}", folder.display()))?;
    let written = Written { model: model.to_owned(), messages: messages.iter().map(written).collect() };
    let fresh = file.with_extension("new");
    let out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh);
    out.and_then(|mut out| out.write_all(&serde_json::to_vec(&written)?))
        .and_then(|()| std::fs::rename(&fresh, file))
        .with_context(|| format!("write {}", file.display()))?;
    for old in list(folder).iter().skip(KEPT_MAX) {
        std::fs::remove_file(&old.file).with_context(|| format!("remove {}", old.file.display()))?;
    }
    Ok(())
}

/// Reads a conversation again.
pub(super) fn open(file: &Path) -> anyhow::Result<Vec<Message>> {
    let read = || format!("read {}", file.display());
    let size = std::fs::metadata(file).with_context(read)?.len();
    if size > FILE_BYTES_MAX {
        bail!("{} has {size} bytes, {FILE_BYTES_MAX} allowed", file.display());
    }
    let bytes = std::fs::read(file).with_context(read)?;
    let written: Written = serde_json::from_slice(&bytes).with_context(read)?;
    written.messages.into_iter().map(message).collect::<anyhow::Result<_>>().with_context(read)
}

/// How a conversation began, for a list.
pub(super) fn title(messages: &[Message]) -> String {
    let first = messages.iter().find(|message| message.role == Role::User).map(Message::plain_text);
    let words: Vec<&str> = first.as_deref().unwrap_or_default().split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(TITLE_LETTERS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn written(message: &Message) -> Said {
    let text = |text: &String| Piece::Text(text.clone());
    let parts = match &message.content {
        Content::None => Vec::new(),
        Content::Text(whole) => vec![text(whole)],
        Content::Parts(parts) => parts
            .iter()
            .filter_map(|part| match part {
                Part::Text(piece) => Some(text(piece)),
                Part::Image(source) => address(source).map(Piece::Image),
                // Nothing here makes one.
                Part::Video(_) => None,
            })
            .collect(),
    };
    Said { role: message.role.as_str().to_owned(), parts, reasoning: message.reasoning.clone() }
}

fn address(source: &ImageSource) -> Option<String> {
    let bytes = source.bytes().ok()?;
    Some(format!("data:{};base64,{}", attached::kind(&bytes)?, STANDARD.encode(&bytes)))
}

fn message(said: Said) -> anyhow::Result<Message> {
    let role = match said.role.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        other => bail!("role is {other:?}, allowed: system, user, assistant"),
    };
    let parts = said.parts.into_iter().map(|piece| match piece {
        Piece::Text(text) => Part::Text(text),
        Piece::Image(url) => Part::Image(ImageSource::Url(url)),
    });
    Ok(Message { reasoning: said.reasoning, content: content(parts.collect()), ..Message::text(role, "") })
}

/// Text alone is text; with a picture among it, it is parts.
pub(super) fn content(parts: Vec<Part>) -> Content {
    let texts: Option<String> = parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Image(_) | Part::Video(_) => None,
        })
        .collect();
    texts.map_or(Content::Parts(parts), Content::Text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use chat::{Content, ImageSource, Message, Part, Role};

    use super::{content, fresh, list, open, save, title};

    #[test]
    fn a_conversation_comes_back_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("chats");
        let picture = ImageSource::Url("data:image/png;base64,iVBORw0K".to_owned());
        let parts = vec![Part::Image(picture), Part::Text("What is it?\u{1f600}".to_owned())];
        let asked = Message { content: content(parts), ..Message::text(Role::User, "") };
        let answer = Message { reasoning: Some("hm".to_owned()), ..Message::text(Role::Assistant, "A \"boat\"\n") };
        let messages = vec![Message::text(Role::System, "Be brief."), asked, answer];
        let file = fresh(&folder, 5);
        save(&file, "m", &messages).unwrap();
        assert_eq!(open(&file).unwrap(), messages);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn the_newest_is_first_and_two_do_not_share_a_file() {
        let place = tempfile::tempdir().unwrap();
        assert!(list(&place.path().join("none")).is_empty());
        for at_ms in [7, 7, 9_000_000_000_000] {
            save(&fresh(place.path(), at_ms), "m", &[]).unwrap();
        }
        std::fs::write(place.path().join("notes.txt"), "").unwrap();
        let began: Vec<u64> = list(place.path()).iter().map(|known| known.began_ms).collect();
        assert_eq!(began, [9_000_000_000_000, 8, 7]);
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_named() {
        let place = tempfile::tempdir().unwrap();
        for text in ["", "{}", "{\"model\": \"m\", \"messages\": [{\"role\": \"king\", \"parts\": []}]}"] {
            let file = place.path().join("1.json");
            std::fs::write(&file, text).unwrap();
            let error = format!("{:#}", open(&file).unwrap_err());
            assert!(error.contains("1.json"), "{error}");
        }
    }

    #[test]
    fn a_title_is_one_short_line() {
        let said = |text: &str| title(&[Message::text(Role::System, "x"), Message::text(Role::User, text)]);
        assert_eq!(said("a\n  b"), "a b");
        assert_eq!(said(&"ä".repeat(200)).chars().count(), 61);
        assert_eq!(title(&[]), "");
        assert_eq!(content(vec![Part::Text("a".into()), Part::Text("b".into())]), Content::Text("ab".into()));
    }
}
