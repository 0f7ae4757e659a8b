//! `{"name": …, "arguments": {…}}` up to `</tool_call>`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{CALL_END, Progress, TOOL_CALL_BYTES_MAX};

/// One call whose opening tag has been read.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// All text since the opening tag.
    text: String,
    /// How much of it has been looked at.
    done: usize,
    at: At,
}

#[derive(Debug, Default, Clone, Copy)]
enum At {
    /// Whitespace before the object.
    #[default]
    Before,
    /// Inside the object that began at `start`, `depth` brackets deep.
    Object { start: usize, depth: u32 },
    /// Inside a string of it; `escaped`: after a backslash.
    String { start: usize, depth: u32, escaped: bool },
    /// Whitespace after the object.
    After { start: usize, end: usize },
    /// `matched` bytes of the closing tag have been seen.
    Closing { start: usize, end: usize, matched: usize },
}

#[derive(Deserialize)]
struct Written<'text> {
    name: String,
    #[serde(borrow)]
    arguments: Option<&'text RawValue>,
}

impl Call {
    /// The closing tag is looked for outside of strings only: inside, it is data.
    pub(super) fn push(&mut self, piece: &str) -> Progress {
        let before = self.text.len();
        self.text.push_str(piece);
        if self.text.len() > TOOL_CALL_BYTES_MAX {
            return Progress::Broken { at: self.text.len(), why: "it is too long" };
        }
        while let Some(&byte) = self.text.as_bytes().get(self.done) {
            match next(self.at, self.done, byte) {
                Ok(at) => self.at = at,
                Err(why) => return Progress::Broken { at: self.certain(), why },
            }
            self.done += 1;
            if let At::Closing { start, end, matched } = self.at
                && matched == CALL_END.len()
            {
                return match read(&self.text[start..end]) {
                    Ok((name, arguments)) => Progress::Done { used: self.done - before, name, arguments },
                    Err(why) => Progress::Broken { at: self.done, why },
                };
            }
        }
        Progress::More
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// The text before the byte that cannot be, or before the tag that it does not belong to.
    fn certain(&self) -> usize {
        match self.at {
            At::Closing { matched, .. } => self.done - matched,
            At::Before | At::Object { .. } | At::String { .. } | At::After { .. } => self.done,
        }
    }
}

/// Where the call stands after the byte at `index`. Only what decides where the object ends is looked at here; whether
/// it is JSON is seen when it is read.
fn next(at: At, index: usize, byte: u8) -> Result<At, &'static str> {
    let space = byte.is_ascii_whitespace();
    match (at, byte) {
        (At::Before, b'{') => Ok(At::Object { start: index, depth: 1 }),
        (At::Before, _) if space => Ok(at),
        (At::Before, _) => Err("it is not a JSON object"),
        (At::Object { start, depth }, b'{' | b'[') => Ok(At::Object { start, depth: depth + 1 }),
        (At::Object { start, depth: 1 }, b'}' | b']') => Ok(At::After { start, end: index + 1 }),
        (At::Object { start, depth }, b'}' | b']') => Ok(At::Object { start, depth: depth - 1 }),
        (At::Object { start, depth }, b'"') => Ok(At::String { start, depth, escaped: false }),
        (At::Object { .. }, b'<') => Err("its JSON object has no end"),
        (At::Object { .. }, _) => Ok(at),
        (At::String { start, depth, escaped: true }, _) => Ok(At::String { start, depth, escaped: false }),
        (At::String { start, depth, .. }, b'\\') => Ok(At::String { start, depth, escaped: true }),
        (At::String { start, depth, .. }, b'"') => Ok(At::Object { start, depth }),
        (At::String { .. }, 0..=0x1f) => Err("a JSON string holds a control character"),
        (At::String { .. }, _) => Ok(at),
        (At::After { .. }, _) if space => Ok(at),
        (At::After { start, end }, b'<') => Ok(At::Closing { start, end, matched: 1 }),
        (At::After { .. }, _) => Err("something follows its JSON object"),
        (At::Closing { start, end, matched }, _) if byte == CALL_END.as_bytes()[matched] => {
            Ok(At::Closing { start, end, matched: matched + 1 })
        }
        (At::Closing { .. }, _) => Err("it is not closed"),
    }
}

/// Name and arguments, the arguments as the model wrote them. A call without arguments has none to give.
fn read(object: &str) -> Result<(String, String), &'static str> {
    let written: Written<'_> = serde_json::from_str(object).map_err(|_| "it is not a JSON object with a name")?;
    if written.name.is_empty() {
        return Err("its name is empty");
    }
    match written.arguments.map(RawValue::get) {
        None => Ok((written.name, "{}".to_owned())),
        Some(arguments) if arguments.starts_with('{') => Ok((written.name, arguments.to_owned())),
        Some(_) => Err("its arguments are not a JSON object"),
    }
}
