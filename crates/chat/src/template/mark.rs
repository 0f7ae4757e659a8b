//! Marks around the control tokens that a template writes itself.

use aho_corasick::AhoCorasick;
use serde_json::{Map, Value};

use crate::{Error, Rendered, Result};

/// A pair of characters that stand around a control token while a template is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    open: char,
    close: char,
}

impl Marks {
    /// Noncharacters of Unicode, which are "intended for process-internal uses" (The Unicode Standard, 23.7).
    pub(super) const FIRST: Self = Self { open: '\u{fdd0}', close: '\u{fdd1}' };

    /// All noncharacters of that block, in pairs.
    fn all() -> impl Iterator<Item = Self> {
        let pair = |first: u32| Some(Self { open: char::from_u32(first)?, close: char::from_u32(first + 1)? });
        (0xfdd0..0xfdf0).step_by(2).filter_map(pair)
    }

    /// The first pair that no text of these values contains.
    pub(super) fn absent_from(values: &Map<String, Value>) -> Result<Self> {
        let mut seen = 0;
        values.iter().for_each(|(key, value)| {
            note(key, &mut seen);
            note_all(value, &mut seen);
        });
        let free = Self::all().find(|marks| seen & (bit(marks.open) | bit(marks.close)) == 0);
        free.ok_or_else(|| Error::Unsupported {
            what: "this conversation".to_owned(),
            why: "it contains all of Unicode's noncharacters U+FDD0 to U+FDEF".to_owned(),
        })
    }
}

fn bit(mark: char) -> u32 {
    1 << (u32::from(mark) - 0xfdd0)
}

fn note_all(value: &Value, seen: &mut u32) {
    match value {
        Value::String(text) => note(text, seen),
        Value::Array(items) => items.iter().for_each(|item| note_all(item, seen)),
        Value::Object(fields) => fields.iter().for_each(|(key, field)| {
            note(key, seen);
            note_all(field, seen);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Sets the bits of the noncharacters in a text. In UTF-8 they are EF B7 90 to EF B7 AF.
fn note(text: &str, seen: &mut u32) {
    for window in text.as_bytes().windows(3) {
        if let [0xef, 0xb7, last @ 0x90..=0xaf] = window {
            *seen |= 1 << (last - 0x90);
        }
    }
}

/// Puts marks around every control token of a text.
pub(super) fn text(text: &str, finder: &AhoCorasick, marks: Marks) -> String {
    let mut marked = String::with_capacity(text.len());
    let mut done = 0;
    for found in finder.find_iter(text) {
        marked.push_str(&text[done..found.start()]);
        marked.push(marks.open);
        marked.push_str(&text[found.range()]);
        marked.push(marks.close);
        done = found.end();
    }
    marked.push_str(&text[done..]);
    marked
}

/// Takes the marks out of a rendered prompt and remembers where they stood.
pub(super) fn read(rendered: &str, finder: &AhoCorasick, marks: Marks) -> Rendered {
    let mut prompt = Rendered { text: String::with_capacity(rendered.len()), control: Vec::new() };
    let mut opened = None;
    let mut rest = rendered;
    while let Some(at) = rest.find([marks.open, marks.close]) {
        prompt.text.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with(marks.open) {
            opened = Some(prompt.text.len());
        } else if let Some(start) = opened.take() {
            // A template may cut its own literals up; only a token that is still whole counts.
            let token = &prompt.text[start..];
            if finder.find(token).is_some_and(|found| found.range() == (0..token.len())) {
                prompt.control.push(start..prompt.text.len());
            }
        }
        rest = &rest[marks.open.len_utf8()..];
    }
    prompt.text.push_str(rest);
    prompt
}

/// Puts marks around the control tokens in a template's literals and in the text between its blocks.
///
/// Literals that the template only compares with (`startswith('<tool_response>')`, `split('</think>')`,
/// `'</think>' in content`) stay as they are: they must match the letters in a message.
pub(super) fn template(source: &str, finder: &AhoCorasick, marks: Marks) -> String {
    let mut marked = String::with_capacity(source.len() + source.len() / 4);
    let mut rest = source;
    while let Some(at) = next_block(rest) {
        marked.push_str(&text(&rest[..at], finder, marks));
        rest = &rest[at..];
        let length = if rest.starts_with("{#") {
            rest.find("#}").map_or(rest.len(), |end| end + 2)
        } else {
            Block { rest, finder, marks, frames: Vec::new(), before: Before::Other }.copy(&mut marked)
        };
        if rest.starts_with("{#") {
            marked.push_str(&rest[..length]);
        }
        rest = &rest[length..];
    }
    marked.push_str(&text(rest, finder, marks));
    marked
}

fn next_block(text: &str) -> Option<usize> {
    text.as_bytes().windows(2).position(|pair| matches!(pair, b"{{" | b"{%" | b"{#"))
}

/// Methods and filters that look for their argument in a message.
const SEARCHES: [&str; 16] = [
    "split",
    "rsplit",
    "startswith",
    "endswith",
    "strip",
    "lstrip",
    "rstrip",
    "find",
    "rfind",
    "index",
    "rindex",
    "count",
    "partition",
    "rpartition",
    "removeprefix",
    "removesuffix",
];

/// What stands just before a literal, as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before<'source> {
    /// `==`, `!=` or `in`.
    Comparison,
    Word(&'source str),
    Other,
}

/// An open bracket.
#[derive(Clone, Copy)]
struct Frame {
    searches: bool,
    /// `replace(old, new)`: only `old` is searched for.
    replaces: bool,
}

/// One `{{ … }}` or `{% … %}`.
struct Block<'source> {
    rest: &'source str,
    finder: &'source AhoCorasick,
    marks: Marks,
    frames: Vec<Frame>,
    before: Before<'source>,
}

impl Block<'_> {
    /// Copies the block with its literals marked and returns its length in the source.
    fn copy(mut self, marked: &mut String) -> usize {
        let length = self.rest.len();
        let end = if self.rest.starts_with("{{") { "}}" } else { "%}" };
        marked.push_str(&self.rest[..2]);
        self.rest = &self.rest[2..];
        while !self.rest.is_empty() {
            if self.frames.is_empty() && self.rest.starts_with(end) {
                break;
            }
            let taken = self.token(marked);
            self.rest = &self.rest[taken..];
        }
        marked.push_str(&self.rest[..end.len().min(self.rest.len())]);
        length - self.rest.len().saturating_sub(end.len())
    }

    /// Copies one token and returns its length in the source.
    fn token(&mut self, marked: &mut String) -> usize {
        let rest = self.rest;
        let first = rest.chars().next().expect("the caller checked that something is left");
        let length = match first {
            '\'' | '"' => return self.literal(first, marked),
            '(' | '[' | '{' => {
                self.frames.push(self.frame());
                1
            }
            ')' | ']' | '}' => {
                self.frames.pop();
                1
            }
            _ if first.is_alphanumeric() || first == '_' => {
                rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
            }
            '=' | '!' if rest[1..].starts_with('=') => 2,
            _ => first.len_utf8(),
        };
        let token = &rest[..length];
        if token == ","
            && let Some(frame) = self.frames.last_mut()
        {
            frame.searches &= !frame.replaces;
        }
        self.before = match token {
            "==" | "!=" | "in" => Before::Comparison,
            _ if first.is_whitespace() => self.before,
            _ if first.is_alphanumeric() || first == '_' => Before::Word(token),
            _ => Before::Other,
        };
        marked.push_str(token);
        length
    }

    fn frame(&self) -> Frame {
        let outer = self.frames.last().is_some_and(|frame| frame.searches);
        match self.before {
            Before::Comparison => Frame { searches: true, replaces: false },
            Before::Word("replace") => Frame { searches: true, replaces: true },
            Before::Word(word) => Frame { searches: outer || SEARCHES.contains(&word), replaces: false },
            Before::Other => Frame { searches: outer, replaces: false },
        }
    }

    fn literal(&mut self, quote: char, marked: &mut String) -> usize {
        let length = literal_length(self.rest, quote);
        let literal = &self.rest[..length];
        let compared = self.before == Before::Comparison
            || self.frames.last().is_some_and(|frame| frame.searches)
            || is_comparison(self.rest[length..].trim_start());
        if compared {
            marked.push_str(literal);
        } else {
            marked.push_str(&text(literal, self.finder, self.marks));
        }
        self.before = Before::Other;
        length
    }
}

/// Whether what follows a literal compares it with something.
fn is_comparison(after: &str) -> bool {
    ["==", "!=", "in ", "not in "].iter().any(|operator| after.starts_with(operator))
}

/// Length of a quoted literal with its quotes; a backslash takes the next character along.
fn literal_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use aho_corasick::AhoCorasick;
    use serde_json::json;

    use super::{Marks, read, template, text};

    fn finder() -> AhoCorasick {
        AhoCorasick::new(["<|e|>", "</t>"]).unwrap()
    }

    /// `[` and `]` stand for the marks.
    fn check(source: &str, expected: &str) {
        let marked = template(source, &finder(), Marks::FIRST);
        let shown = marked.replace(Marks::FIRST.open, "[").replace(Marks::FIRST.close, "]");
        assert_eq!(shown, expected);
    }

    #[test]
    fn written_tokens_are_marked() {
        check("a<|e|>b{{ '<|e|>x' }}", "a[<|e|>]b{{ '[<|e|>]x' }}");
        check("{%- set end = \"</t>\\n\" %}", "{%- set end = \"[</t>]\\n\" %}");
        check("{{ x.replace('</t>', '<|e|>') }}", "{{ x.replace('</t>', '[<|e|>]') }}");
        check("{{ f('</t>') ~ {'a': '<|e|>'} }}</t>", "{{ f('[</t>]') ~ {'a': '[<|e|>]'} }}[</t>]");
        check("{{ 'it\\'s }} <|e|>' }}", "{{ 'it\\'s }} [<|e|>]' }}");
    }

    #[test]
    fn compared_tokens_are_not() {
        for source in [
            "{% if '</t>' in x %}",
            "{% if '</t>' not in x %}",
            "{% if x == '</t>' or '</t>' != y %}",
            "{% if x in ['</t>', '<|e|>'] %}",
            "{{ x.split('</t>')[0].rstrip('\\n').split('</t>')[-1] }}",
            "{% if x.startswith(('</t>', '<|e|>')) and x.endswith( '</t>') %}",
            "{# '<|e|>' #}",
        ] {
            check(source, source);
        }
    }

    #[test]
    fn reading_takes_the_marks_out_and_counts_whole_tokens_only() {
        let marked = format!("u<|e|>{}{}", text("<|e|>", &finder(), Marks::FIRST), "\u{fdd0}<|e\u{fdd1}|>\u{fdd1}");
        let rendered = read(&marked, &finder(), Marks::FIRST);
        assert_eq!(rendered.text, "u<|e|><|e|><|e|>");
        assert_eq!(rendered.control, vec![6..11]);
    }

    #[test]
    fn the_marks_are_not_in_the_messages() {
        let with = |text: &str| Marks::absent_from(json!({"a": [{"b": text}]}).as_object().unwrap());
        assert_eq!(with("plain ﷐?").unwrap().open, '\u{fdd2}');
        assert_eq!(with("plain").unwrap(), Marks::FIRST);
        assert_eq!(with("\u{fdd1}\u{fdd2}").unwrap().open, '\u{fdd4}');
        let all: String = ('\u{fdd0}'..='\u{fdef}').collect();
        with(&all).unwrap_err();
    }
}
