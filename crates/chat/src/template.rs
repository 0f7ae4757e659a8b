//! A model's own chat template, as Hugging Face's `apply_chat_template` would render it.
//!
//! Templates are Jinja with Python's string methods and Python's way to print values; `python` holds those.
//!
//! **Whose control tokens?** A rendered prompt is one string, and a user who writes `<|im_end|>` must not end his own
//! turn. So the template is rendered with every control token of its *own* literals between two marks (`mark`), and
//! only marked ones become control tokens. Nothing is done to the messages: trimming, splitting and comparing work on
//! them as ever, and no concatenation of harmless pieces makes a control token, since the letters alone never do. The
//! marks are characters that no message of the request contains.

mod context;
mod mark;
mod python;

use std::io;

use aho_corasick::{AhoCorasick, MatchKind};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind};
use serde_json::{Map, Value};

use crate::{Error, GenerateRequest, Message, Prompt, Rendered, Result, Thinking, Tool, ToolChoice};
use mark::Marks;

/// Size of a template that is compiled. The largest of Qwen's has 9 KB.
const SOURCE_BYTES_MAX: usize = 1 << 20;
/// Size of a rendered prompt. The tokenizer's limit is the tighter one.
const RENDERED_BYTES_MAX: usize = 32 << 20;
/// Work of one rendering in minijinja's units: instructions, and 64 bytes of any string or list it makes. Ten thousand
/// messages take about three million.
const FUEL: u64 = 20_000_000;
/// Depth of blocks and macro calls; a macro counts as ten.
const RECURSION_MAX: usize = 200;

const NAME: &str = "chat";

/// How the model writes tool calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ToolFormat {
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`: Qwen3, Qwen3-VL.
    Json,
    /// `<tool_call><function=…><parameter=…>…`: Qwen3-Coder, Qwen3.5 and later.
    Xml,
}

/// What is rendered beside the messages.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RenderOptions {
    /// End the prompt where the assistant speaks next.
    pub add_generation_prompt: bool,
    /// The template's `enable_thinking`.
    pub thinking: Thinking,
    /// Further variables by name, for example `preserve_thinking` or `reasoning_effort`.
    pub variables: Map<String, Value>,
    /// The time of `strftime_now`, milliseconds since the Unix epoch, UTC.
    pub now_ms: u64,
}

/// A compiled chat template.
pub struct Template {
    source: String,
    /// Finds control tokens in the template's literals.
    finder: AhoCorasick,
    /// Variables that are ours, such as `eos_token`.
    trusted: Vec<(String, String)>,
    /// The template with [`Marks::FIRST`].
    compiled: Environment<'static>,
    tool_format: Option<ToolFormat>,
}

impl Template {
    /// Compiles a template.
    ///
    /// `control_tokens` are the tokenizer's added tokens; `trusted` are variables whose control tokens count, such as
    /// `("eos_token", "<|im_end|>")`.
    ///
    /// # Errors
    /// [`Error::TemplateBroken`] if it is not a template.
    pub fn new(source: &str, control_tokens: &[String], trusted: &[(String, String)]) -> Result<Self> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(Error::TooMany {
                what: "bytes in the chat template",
                count: source.len(),
                limit: SOURCE_BYTES_MAX,
            });
        }
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(control_tokens.iter().filter(|token| !token.is_empty()))
            .map_err(|cause| Error::TemplateBroken { reason: cause.to_string() })?;
        let compiled = compile(mark::template(source, &finder, Marks::FIRST))?;
        let tool_format = if source.contains("<function=") {
            Some(ToolFormat::Xml)
        } else {
            source.contains("<tool_call>").then_some(ToolFormat::Json)
        };
        Ok(Self { source: source.to_owned(), finder, trusted: trusted.to_vec(), compiled, tool_format })
    }

    /// How this template shows tool calls to the model; `None` if it knows no tools.
    #[must_use]
    pub fn tool_format(&self) -> Option<ToolFormat> {
        self.tool_format
    }

    /// Renders the conversation of a request, ready for the model's answer. With [`ToolChoice::None`] the tools are not
    /// shown.
    ///
    /// # Errors
    /// As [`Template::render`]; [`Error::Unsupported`] if the prompt is not a conversation.
    pub fn render_request(&self, request: &GenerateRequest, now_ms: u64) -> Result<Rendered> {
        let Prompt::Messages(messages) = &request.prompt else {
            return Err(Error::Unsupported {
                what: "a chat template".to_owned(),
                why: "the prompt is not a conversation".to_owned(),
            });
        };
        let tools = if request.tool_choice == ToolChoice::None { &[][..] } else { &request.tools };
        let options = RenderOptions {
            add_generation_prompt: true,
            thinking: request.thinking,
            variables: request.template_variables.clone(),
            now_ms,
        };
        self.render(messages, tools, &options)
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// [`Error::TemplateRefused`] if the template does not take this conversation, [`Error::TemplateBroken`] if it
    /// fails for its own reasons, [`Error::Unsupported`] if it would leave out tools or pictures.
    pub fn render(&self, messages: &[Message], tools: &[Tool], options: &RenderOptions) -> Result<Rendered> {
        if !tools.is_empty() && self.tool_format.is_none() {
            return Err(unsupported("tools"));
        }
        if !self.source.contains("image") && messages.iter().any(Message::has_media) {
            return Err(unsupported("pictures"));
        }
        let tools = (!tools.is_empty()).then(|| tools.iter().map(|tool| tool.definition.clone()).collect());
        self.render_values(context::messages(messages), tools, options)
    }

    /// Renders messages and tools in the form that templates see. Keys that are absent are undefined there.
    fn render_values(&self, messages: Value, tools: Option<Value>, options: &RenderOptions) -> Result<Rendered> {
        if messages.as_array().is_none_or(Vec::is_empty) {
            return Err(Error::TemplateRefused { reason: "the conversation has no message".to_owned() });
        }
        let mut variables = options.variables.clone();
        variables.insert("messages".to_owned(), messages);
        variables.insert("tools".to_owned(), tools.unwrap_or(Value::Null));
        variables.insert("add_generation_prompt".to_owned(), Value::Bool(options.add_generation_prompt));
        match options.thinking {
            Thinking::Default => None,
            Thinking::On => variables.insert("enable_thinking".to_owned(), Value::Bool(true)),
            Thinking::Off => variables.insert("enable_thinking".to_owned(), Value::Bool(false)),
        };
        let marks = Marks::absent_from(&variables)?;
        for (name, text) in &self.trusted {
            variables.insert(name.clone(), Value::String(mark::text(text, &self.finder, marks)));
        }
        let rendered = if marks == Marks::FIRST {
            run(&self.compiled, &variables, options.now_ms)?
        } else {
            run(&compile(mark::template(&self.source, &self.finder, marks))?, &variables, options.now_ms)?
        };
        Ok(mark::read(&rendered, &self.finder, marks))
    }
}

impl std::fmt::Debug for Template {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Template")
            .field("bytes", &self.source.len())
            .field("tool_format", &self.tool_format)
            .finish_non_exhaustive()
    }
}

fn unsupported(what: &str) -> Error {
    Error::Unsupported { what: what.to_owned(), why: "this model's chat template does not show them".to_owned() }
}

/// As transformers sets Jinja up: blocks eat their line, loop controls, no escaping.
fn compile(source: String) -> Result<Environment<'static>> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|cause| broken(&cause))?);
    environment.set_recursion_limit(RECURSION_MAX);
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    python::install(&mut environment);
    environment.add_template_owned(NAME, source).map_err(|cause| broken(&cause))?;
    Ok(environment)
}

fn run(environment: &Environment<'_>, variables: &Map<String, Value>, now_ms: u64) -> Result<String> {
    let template = environment.get_template(NAME).map_err(|cause| broken(&cause))?;
    let now = minijinja::Value::from_function(move |format: &str| python::strftime(now_ms, format));
    let values = minijinja::Value::from(Serde(variables));
    let context = minijinja::context! { strftime_now => now, ..values };
    let mut out = Bounded { text: Vec::new() };
    template.render_captured_to(context, &mut out).map_err(|cause| failure(&cause))?;
    String::from_utf8(out.text).map_err(|cause| Error::TemplateBroken { reason: cause.to_string() })
}

/// Output that stops growing at [`RENDERED_BYTES_MAX`].
struct Bounded {
    text: Vec<u8>,
}

impl io::Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.text.len() + piece.len() > RENDERED_BYTES_MAX {
            return Err(io::Error::other(format!("the prompt has more than {RENDERED_BYTES_MAX} bytes")));
        }
        self.text.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What fails for any conversation is the template's fault; the rest is between it and this conversation.
fn failure(cause: &minijinja::Error) -> Error {
    match cause.kind() {
        ErrorKind::SyntaxError
        | ErrorKind::UnknownFilter
        | ErrorKind::UnknownFunction
        | ErrorKind::UnknownTest
        | ErrorKind::OutOfFuel
        | ErrorKind::TemplateNotFound => broken(cause),
        _ => Error::TemplateRefused { reason: reason(cause) },
    }
}

fn broken(cause: &minijinja::Error) -> Error {
    Error::TemplateBroken { reason: reason(cause) }
}

/// The innermost words, without the listing of the source.
fn reason(cause: &minijinja::Error) -> String {
    match (cause.detail(), cause.line()) {
        (Some(detail), Some(line)) => format!("{detail} (line {line})"),
        (Some(detail), None) => detail.to_owned(),
        (None, _) => cause.kind().to_string(),
    }
}

#[cfg(test)]
mod tests;
