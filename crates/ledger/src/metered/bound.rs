//! How many tokens a prompt has at most, without a tokenizer.

use chat::{Content, GenerateRequest, Message, Part, Prompt};

/// What a template puts around a message: roles, turns, markers.
const MESSAGE_TOKENS: u64 = 32;
/// What a template says about tools, before it lists them.
const TOOLS_TOKENS: u64 = 1024;
/// What a template says in any case.
const TEMPLATE_TOKENS: u64 = 256;

/// The repository's and the own file's names around a gap with other files.
const FILES_TOKENS: usize = 32;

/// Every token of text is a byte at least. `None`: there are pictures, whose tokens only the model knows.
pub(crate) fn prompt(request: &GenerateRequest) -> Option<u64> {
    let messages = match &request.prompt {
        Prompt::Tokens(tokens) => return Some(tokens.len() as u64),
        // A tokenizer may put a token of its own before text.
        Prompt::Text(text) => {
            let suffix = request.suffix.as_ref().map_or(0, |suffix| suffix.len() + 3);
            // Each file has a tag, its name on a line of its own, and its text.
            let files: usize = request.files.iter().map(|file| file.name.len() + file.text.len() + 2).sum();
            return Some((text.len() + suffix + files + FILES_TOKENS) as u64 + 1);
        }
        Prompt::Messages(messages) => messages,
    };
    let mut bound = TEMPLATE_TOKENS;
    for message in messages {
        bound += MESSAGE_TOKENS + content(message)?;
        bound += message.reasoning.as_ref().map_or(0, String::len) as u64;
        for call in &message.tool_calls {
            bound += MESSAGE_TOKENS + (call.name.len() + call.arguments.len()) as u64;
        }
    }
    if !request.tools.is_empty() {
        bound += TOOLS_TOKENS;
        for tool in &request.tools {
            bound += MESSAGE_TOKENS + tool.definition.to_string().len() as u64;
        }
    }
    Some(bound)
}

fn content(message: &Message) -> Option<u64> {
    match &message.content {
        Content::None => Some(0),
        Content::Text(text) => Some(text.len() as u64),
        Content::Parts(parts) => parts.iter().map(part).sum(),
    }
}

fn part(part: &Part) -> Option<u64> {
    match part {
        Part::Text(text) => Some(text.len() as u64),
        Part::Image(_) | Part::Video(_) => None,
    }
}
