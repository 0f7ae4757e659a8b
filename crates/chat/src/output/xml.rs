//! `<function=…><parameter=…>…</parameter>…</function>` up to `</tool_call>`.
//!
//! The format has no escapes. A value ends at the first `</parameter>` after which the call goes on as a call, so a
//! value may spell any of the tags. One newline after the opening tag of a parameter and one before its closing tag
//! belong to the format, all other whitespace to the value.

use indexmap::IndexMap;

use super::{CALL_END, Progress, TOOL_CALL_BYTES_MAX, schema};
use crate::Tool;

const FUNCTION: &str = "<function=";
const FUNCTION_END: &str = "</function>";
const PARAMETER: &str = "<parameter=";
const PARAMETER_END: &str = "</parameter>";

/// Bytes of the name of a function or parameter.
const NAME_BYTES_MAX: usize = 1024;

/// One call whose opening tag has been read.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// All text since the opening tag.
    text: String,
    /// How much of it has been looked at.
    done: usize,
    at: At,
    name: String,
    /// Raw values by name; a name that comes again replaces the first.
    values: IndexMap<String, String>,
}

#[derive(Debug, Default, Clone)]
enum At {
    /// `<function=` must follow.
    #[default]
    Function,
    FunctionName,
    /// A parameter or the end of the function must follow.
    Parameter,
    ParameterName,
    Value {
        name: String,
        start: usize,
    },
    /// After what closes the value, unless the text goes on otherwise.
    AfterValue {
        name: String,
        start: usize,
        end: usize,
    },
    /// The closing tag must follow.
    Closing,
}

/// How a step ended.
enum Step {
    On,
    Wait,
    Done,
    Broken(&'static str),
}

/// Which of several texts follows.
enum Follows {
    This(&'static str),
    /// What is there may become one of them.
    Maybe,
    Neither,
}

impl Call {
    pub(super) fn push(&mut self, piece: &str, tools: &[Tool]) -> Progress {
        let before = self.text.len();
        self.text.push_str(piece);
        if self.text.len() > TOOL_CALL_BYTES_MAX {
            return Progress::Broken { at: self.text.len(), why: "it is too long" };
        }
        loop {
            match self.step() {
                Step::On => {}
                Step::Wait => return Progress::More,
                Step::Broken(why) => return Progress::Broken { at: self.done, why },
                Step::Done => {
                    let arguments = schema::arguments(&self.name, &self.values, tools);
                    let name = std::mem::take(&mut self.name);
                    return Progress::Done { used: self.done - before, name, arguments };
                }
            }
        }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn step(&mut self) -> Step {
        match self.at.clone() {
            At::Function => match self.tag(&[FUNCTION]) {
                Follows::This(_) => self.go(At::FunctionName),
                Follows::Maybe => Step::Wait,
                Follows::Neither => Step::Broken("it does not begin with a function"),
            },
            At::FunctionName => match self.name() {
                Ok(Some(name)) => {
                    self.name = name;
                    self.go(At::Parameter)
                }
                Ok(None) => Step::Wait,
                Err(why) => Step::Broken(why),
            },
            At::Parameter => match self.tag(&[PARAMETER, FUNCTION_END]) {
                Follows::This(PARAMETER) => self.go(At::ParameterName),
                Follows::This(_) => self.go(At::Closing),
                Follows::Maybe => Step::Wait,
                Follows::Neither => Step::Broken("neither a parameter nor the end of the function follows"),
            },
            At::ParameterName => match self.name() {
                Ok(Some(name)) => self.go(At::Value { name, start: self.done }),
                Ok(None) => Step::Wait,
                Err(why) => Step::Broken(why),
            },
            At::Value { name, start } => self.value(name, start),
            At::AfterValue { name, start, end } => self.after_value(name, start, end),
            At::Closing => match self.tag(&[CALL_END]) {
                Follows::This(_) => Step::Done,
                Follows::Maybe => Step::Wait,
                Follows::Neither => Step::Broken("it is not closed"),
            },
        }
    }

    fn go(&mut self, at: At) -> Step {
        self.at = at;
        Step::On
    }

    /// Skips whitespace and one of the tags, if it follows.
    fn tag(&mut self, tags: &[&'static str]) -> Follows {
        let rest = self.text[self.done..].trim_start();
        self.done = self.text.len() - rest.len();
        if let Some(&tag) = tags.iter().find(|tag| rest.starts_with(**tag)) {
            self.done += tag.len();
            return Follows::This(tag);
        }
        if tags.iter().any(|tag| tag.starts_with(rest)) { Follows::Maybe } else { Follows::Neither }
    }

    /// The name up to `>`; `None` if it is not there yet.
    fn name(&mut self) -> Result<Option<String>, &'static str> {
        let rest = &self.text[self.done..];
        let Some(end) = rest.find(['>', '\n']) else {
            return if rest.len() > NAME_BYTES_MAX { Err("a name is too long") } else { Ok(None) };
        };
        let name = rest[..end].trim();
        if name.is_empty() || end > NAME_BYTES_MAX || rest[end..].starts_with('\n') {
            return Err("a name is empty or broken");
        }
        let name = name.to_owned();
        self.done += end + 1;
        Ok(Some(name))
    }

    fn value(&mut self, name: String, start: usize) -> Step {
        match self.text[self.done..].find(PARAMETER_END) {
            Some(found) => {
                let end = self.done + found;
                self.done = end + PARAMETER_END.len();
                self.go(At::AfterValue { name, start, end })
            }
            None => {
                // The beginning of the tag may be there already; all before it has been looked at.
                let whole = self.text.len() - super::held_back(&self.text[self.done..], PARAMETER_END);
                self.done = whole;
                Step::Wait
            }
        }
    }

    fn after_value(&mut self, name: String, start: usize, end: usize) -> Step {
        match self.tag(&[PARAMETER, FUNCTION_END]) {
            Follows::This(tag) => {
                let value = &self.text[start..end];
                let value = value.strip_prefix('\n').unwrap_or(value);
                let value = value.strip_suffix('\n').unwrap_or(value).to_owned();
                self.values.insert(name, value);
                self.go(if tag == PARAMETER { At::ParameterName } else { At::Closing })
            }
            Follows::Maybe => Step::Wait,
            Follows::Neither => self.go(At::Value { name, start }),
        }
    }
}
