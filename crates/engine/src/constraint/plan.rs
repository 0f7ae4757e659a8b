//! From a request to what its answer is held to.

use chat::{Error, Format, GenerateRequest, OutputOptions, Result, Tool, ToolChoice};
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use llguidance::{Matcher, ParserFactory};

use super::calls::{Calls, Which};
use super::check::{Check, Rule};
use super::schema::{Schema, any_object};
use super::{Held, Tags, When};

/// Bytes of a regular expression or grammar.
const GRAMMAR_BYTES_MAX: usize = 256 << 10;

/// Whether a request asks for anything that an answer must be held to.
///
/// Errors name the tool or the model's property that stands against it.
pub(super) fn asks(request: &GenerateRequest, output: &OutputOptions) -> Result<bool> {
    let is_forced = match &request.tool_choice {
        ToolChoice::Required if request.tools.is_empty() => {
            return Err(wrong_choice("required".to_owned(), "a request with tools"));
        }
        ToolChoice::Named(name) if !request.tools.iter().any(|tool| tool.name == *name) => {
            return Err(wrong_choice(format!("{name:?}"), "the name of one of the tools"));
        }
        ToolChoice::Required | ToolChoice::Named(_) => true,
        ToolChoice::Auto | ToolChoice::None => false,
    };
    let calls = request.tool_choice != ToolChoice::None;
    let is_strict = calls && request.tools.iter().any(Tool::is_strict);
    let is_single = calls && !request.tools.is_empty() && !request.parallel_tool_calls;
    if (is_forced || is_strict) && output.tool_format.is_none() {
        let why = "this model's chat template knows no tools".to_owned();
        return Err(Error::Unsupported { what: "a strict tool or a forced call".to_owned(), why });
    }
    Ok(is_forced || is_strict || (is_single && output.tool_format.is_some()) || request.format != Format::Text)
}

/// What the answer is held to. Called only if the request asks for something.
pub(super) fn held(
    request: &GenerateRequest,
    output: &OutputOptions,
    tags: &Tags,
    factory: &ParserFactory,
) -> Result<Held> {
    let tools: Vec<&Tool> = match &request.tool_choice {
        ToolChoice::None => Vec::new(),
        ToolChoice::Named(name) => request.tools.iter().filter(|tool| tool.name == *name).collect(),
        ToolChoice::Auto | ToolChoice::Required => request.tools.iter().collect(),
    };
    let is_forced = matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
    let format = output.tool_format.filter(|_| !tools.is_empty());
    let answer = if is_forced { None } else { answer(&request.format, factory)? };
    let which = if is_forced { Which::All } else { Which::Strict };
    let calls = format.map(|format| Calls::new(&tools, format, which, factory)).transpose();
    let calls = calls.map_err(|(tool, why)| refused(&format!("the schema of the strict tool {tool:?}"), why))?;
    let is_exact = answer.as_ref().is_none_or(|answer| answer.is_exact) && calls.as_ref().is_none_or(|c| c.is_exact);
    let when = if is_forced || answer.is_some() { When::Whole } else { When::InCalls };
    let is_single = !request.parallel_tool_calls || matches!(request.tool_choice, ToolChoice::Named(_));
    let mut check = Check { needs_call: is_forced, ..Check::default() };
    let mut lark = String::new();
    let mut grammars = Vec::new();
    if let Some(calls) = calls {
        let (open, close) = tags.call.ok_or_else(|| {
            refused("a strict tool or a forced call", "the vocabulary has no token <tool_call>".to_owned())
        })?;
        lark = match when {
            When::InCalls => format!("start: \"\\n\" call <[{close}]>\n"),
            When::Whole => {
                let more = if is_single { "" } else { r#"("\n" one)*"# };
                let other = if answer.is_some() { " | @answer" } else { "" };
                format!("start: one {more}{other}\none: <[{open}]> \"\\n\" call <[{close}]>\n")
            }
        };
        lark.push_str(&calls.rules);
        grammars = calls.grammars;
        check.tools = calls.checks;
    } else if answer.is_some() {
        "start: @answer\n".clone_into(&mut lark);
    }
    if let Some(answer) = answer {
        grammars.push(GrammarWithLexer { name: Some("answer".to_owned()), ..answer.grammar });
        check.answer = answer.check;
    }
    grammars.insert(0, GrammarWithLexer::from_lark(lark));
    let grammar = TopLevelGrammar { grammars, max_tokens: None };
    let parser = factory.create_parser(grammar).map_err(|why| refused("this output format", why.to_string()))?;
    Ok(Held { matcher: Matcher::new(Ok(parser)), when, is_single, is_exact, check })
}

struct Answer {
    grammar: GrammarWithLexer,
    check: Rule,
    is_exact: bool,
}

/// The form of the visible answer; `None` for free text.
fn answer(format: &Format, factory: &ParserFactory) -> Result<Option<Answer>> {
    let answer = match format {
        Format::Text => return Ok(None),
        Format::JsonObject => {
            let grammar = GrammarWithLexer::from_json_schema(any_object());
            Answer { grammar, check: Rule::Object, is_exact: true }
        }
        Format::JsonSchema(schema) => {
            let schema = Schema::new(schema, factory).map_err(|why| refused("this JSON schema", why))?;
            let grammar = GrammarWithLexer::from_json_schema(schema.grammar);
            Answer { grammar, check: Rule::Fits(Box::new(schema.validator)), is_exact: schema.is_exact }
        }
        Format::Regex(text) => from_text("this regular expression", text, GrammarWithLexer::from_regex, factory)?,
        Format::Lark(text) => {
            let lark = |text: &str| GrammarWithLexer::from_lark(text.to_owned());
            from_text("this Lark grammar", text, lark, factory)?
        }
    };
    Ok(Some(answer))
}

fn from_text(
    what: &str,
    text: &str,
    grammar: impl Fn(&str) -> GrammarWithLexer,
    factory: &ParserFactory,
) -> Result<Answer> {
    if text.len() > GRAMMAR_BYTES_MAX {
        return Err(Error::TooMany { what: "bytes in a grammar", count: text.len(), limit: GRAMMAR_BYTES_MAX });
    }
    let parser = factory.create_parser(TopLevelGrammar::from_grammar(grammar(text)));
    parser.map_err(|why| refused(what, why.to_string()))?;
    Ok(Answer { grammar: grammar(text), check: Rule::Free, is_exact: true })
}

fn refused(what: &str, why: String) -> Error {
    Error::Unsupported { what: what.to_owned(), why }
}

fn wrong_choice(value: String, allowed: &str) -> Error {
    Error::OutOfRange { name: "tool_choice", value, allowed: allowed.to_owned() }
}
