//! Colours for code: syntect finds what a piece is, and a class of one letter says so.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::{Result, Write};

use comrak::adapters::SyntaxHighlighterAdapter;
use comrak::html::{escape, write_opening_tag};
use syntect::parsing::{ParseState, Scope, ScopeStack, SyntaxReference, SyntaxSet};
use syntect::util::LinesWithEndings;

/// Code that is longer stays plain.
const CODE_BYTES_MAX: usize = 32 << 10;
/// So does code with a longer line: regular expressions get slow there.
const LINE_BYTES_MAX: usize = 1000;

/// Scopes, the more exact before the wider, and the class of each.
const CLASSES: [(&str, &str); 16] = [
    ("comment", "c"),
    ("string", "s"),
    ("constant.numeric", "n"),
    ("constant.character.escape", "n"),
    ("constant", "n"),
    ("entity.name.function", "f"),
    ("support.function", "f"),
    ("variable.function", "f"),
    ("entity.name", "t"),
    ("support.type", "t"),
    ("entity.other.attribute-name", "f"),
    ("storage.type", "k"),
    ("storage", "k"),
    ("keyword.operator", "o"),
    ("keyword", "k"),
    ("variable.language", "k"),
];

/// Languages that the set does not know, by one that reads nearly the same.
const LIKE: [(&str, &str); 9] = [
    ("typescript", "js"),
    ("ts", "js"),
    ("tsx", "js"),
    ("jsx", "js"),
    ("shell", "bash"),
    ("console", "bash"),
    ("jsonc", "json"),
    ("toml", "yaml"),
    ("golang", "go"),
];

/// Writes code blocks for comrak.
pub(super) struct Highlighter {
    syntaxes: SyntaxSet,
    classes: Vec<(Scope, &'static str)>,
}

impl Highlighter {
    pub(super) fn new() -> Self {
        let scope = |name: &str| Scope::new(name).expect("the names are ours");
        Self {
            syntaxes: SyntaxSet::load_defaults_newlines(),
            classes: CLASSES.iter().map(|(name, class)| (scope(name), *class)).collect(),
        }
    }

    /// Whether this is a class that [`Highlighter`] gives.
    pub(super) fn is_class(name: &str) -> bool {
        CLASSES.iter().any(|(_, class)| *class == name)
    }

    fn syntax(&self, language: &str) -> Option<&SyntaxReference> {
        let language = language.to_ascii_lowercase();
        let known = LIKE.iter().find(|(name, _)| *name == language).map_or(language.as_str(), |(_, like)| like);
        self.syntaxes.find_syntax_by_token(known)
    }

    fn class(&self, stack: &ScopeStack) -> Option<&'static str> {
        let of = |scope: &Scope| self.classes.iter().find(|(known, _)| known.is_prefix_of(*scope)).map(|pair| pair.1);
        stack.scopes.iter().rev().find_map(of)
    }

    /// `None` if a rule of the syntax fails on this code.
    fn coloured(&self, syntax: &SyntaxReference, code: &str) -> Option<String> {
        let mut out = String::with_capacity(code.len() * 2);
        let (mut state, mut stack) = (ParseState::new(syntax), ScopeStack::new());
        for line in LinesWithEndings::from(code) {
            let mut begin = 0;
            for (at, change) in state.parse_line(line, &self.syntaxes).ok()? {
                self.piece(&mut out, &stack, &line[begin..at]).ok()?;
                begin = at;
                stack.apply(&change).ok()?;
            }
            self.piece(&mut out, &stack, &line[begin..]).ok()?;
        }
        Some(out)
    }

    fn piece(&self, out: &mut String, stack: &ScopeStack, text: &str) -> Result {
        match self.class(stack) {
            Some(class) if !text.trim().is_empty() => {
                write!(out, "<span class={class}>")?;
                escape(out, text)?;
                out.write_str("</span>")
            }
            Some(_) | None => escape(out, text),
        }
    }
}

impl SyntaxHighlighterAdapter for Highlighter {
    fn write_highlighted(&self, output: &mut dyn Write, language: Option<&str>, code: &str) -> Result {
        let is_short = code.len() <= CODE_BYTES_MAX && code.lines().all(|line| line.len() <= LINE_BYTES_MAX);
        let syntax = language.filter(|_| is_short).and_then(|language| self.syntax(language));
        match syntax.and_then(|syntax| self.coloured(syntax, code)) {
            Some(coloured) => output.write_str(&coloured),
            None => escape(output, code),
        }
    }

    fn write_pre_tag(&self, output: &mut dyn Write, _: HashMap<&'static str, Cow<'_, str>>) -> Result {
        output.write_str("<pre>")
    }

    fn write_code_tag(&self, output: &mut dyn Write, attributes: HashMap<&'static str, Cow<'_, str>>) -> Result {
        write_opening_tag(output, "code", attributes)
    }
}
