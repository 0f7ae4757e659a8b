//! From a request to token ids: the text side of a model.

use std::sync::Arc;

use chat::{
    Error, GenerateRequest, GgufVocabulary, OutputOptions, Prompt, Result, Role, Specials, Template, Tokenizer,
};
use models::Checkpoint;
use models::text::{GenerationDefaults, TokenizerSource};

use crate::budget::{Budget, CLOSING};
use crate::eyes::{Eyes, Look, gathered};
use crate::fill;
use crate::placeholders::Placeholders;

/// What ends every turn in the templates of this family, the system's first.
const END_OF_TURN: &str = "<|im_end|>";

/// Tokenizer, template and sampling defaults of one model.
pub(crate) struct TextSide {
    pub(crate) tokenizer: Option<Arc<Tokenizer>>,
    pub(crate) template: Option<Template>,
    pub(crate) defaults: GenerationDefaults,
    /// `None`: the model reads text only.
    pub(crate) eyes: Option<Eyes>,
    placeholders: Option<Placeholders>,
}

/// An encoded prompt, and how the answer to it is read.
pub(crate) struct Encoded {
    pub(crate) tokens: Vec<u32>,
    pub(crate) output: OutputOptions,
    /// The pictures and clips whose placeholders stand among the tokens, in order.
    pub(crate) looks: Vec<Look<'static>>,
}

impl Encoded {
    fn text(tokens: Vec<u32>, output: OutputOptions) -> Self {
        Self { tokens, output, looks: Vec::new() }
    }
}

impl TextSide {
    pub(crate) fn new(checkpoint: &Checkpoint, eyes: Option<Eyes>) -> Result<Self> {
        let assets = checkpoint.text.clone();
        let tokenizer = assets.tokenizer.map(tokenizer_of).transpose()?.map(Arc::new);
        let template = match (&assets.chat_template, &tokenizer) {
            (Some(source), Some(tokenizer)) => Some(Template::new(source, tokenizer.added_tokens(), &[])?),
            (Some(_) | None, _) => None,
        };
        let placeholders = match (&checkpoint.config.vision, &tokenizer) {
            (Some(vision), Some(tokenizer)) => Placeholders::new(vision, tokenizer),
            _ => None,
        };
        Ok(Self { tokenizer, template, defaults: assets.generation, eyes, placeholders })
    }

    /// Cost: linear in the text; milliseconds for long prompts, so it is called off the async threads.
    pub(crate) fn encode(&self, request: &GenerateRequest, now_ms: u64) -> Result<Encoded> {
        if let Some(suffix) = &request.suffix {
            let Prompt::Text(text) = &request.prompt else {
                let why = "the prompt is not text".to_owned();
                return Err(Error::Unsupported { what: "a suffix".to_owned(), why });
            };
            let tokens = fill::prompt(self.tokenizer()?, text, suffix, &request.files)?;
            return Ok(Encoded::text(tokens, OutputOptions::completion(request)));
        }
        match &request.prompt {
            Prompt::Tokens(tokens) => Ok(Encoded::text(tokens.clone(), OutputOptions::completion(request))),
            Prompt::Text(text) => {
                let tokens = self.tokenizer()?.encode(text, Specials::Parse)?;
                Ok(Encoded::text(tokens, OutputOptions::completion(request)))
            }
            Prompt::Messages(_) => self.encode_conversation(request, now_ms),
        }
    }

    fn encode_conversation(&self, request: &GenerateRequest, now_ms: u64) -> Result<Encoded> {
        let template = self.template.as_ref().ok_or_else(|| Error::Unsupported {
            what: "a conversation".to_owned(),
            why: "this model has no chat template; send a prompt to the completions route".to_owned(),
        })?;
        let Some((request, media)) = gathered(request)? else {
            let rendered = template.render_request(request, now_ms)?;
            let tokens = self.tokenizer()?.encode_rendered(&rendered)?;
            return Ok(Encoded::text(tokens, OutputOptions::chat(request, template, &rendered)));
        };
        let (Some(eyes), Some(placeholders)) = (&self.eyes, &self.placeholders) else {
            let why = "this model reads text only".to_owned();
            return Err(Error::Unsupported { what: "a picture".to_owned(), why });
        };
        let rendered = template.render_request(&request, now_ms)?;
        let project = request.caller.as_ref().map_or("", |caller| &*caller.project);
        let looks = media.into_iter().map(|media| eyes.look(media, project)).collect::<Result<Vec<_>>>()?;
        let rendered = placeholders.timed(&rendered, &looks)?;
        let tokens = placeholders.expanded(&self.tokenizer()?.encode_rendered(&rendered)?, &looks)?;
        Ok(Encoded { tokens, output: OutputOptions::chat(&request, template, &rendered), looks })
    }

    /// How many of the first tokens are the system prompt and the tools, with which other prompts may begin too.
    pub(crate) fn head(&self, request: &GenerateRequest, tokens: &[u32]) -> usize {
        let Prompt::Messages(messages) = &request.prompt else { return 0 };
        let has_head = messages.first().is_some_and(|first| first.role == Role::System) || !request.tools.is_empty();
        let Some(end) = self.tokenizer.as_ref().filter(|_| has_head).and_then(|text| text.token_id(END_OF_TURN)) else {
            return 0;
        };
        // What people write never becomes this token.
        tokens.iter().position(|&token| token == end).map_or(0, |last| last + 1)
    }

    /// Whether features of a picture stand in the place of this token.
    pub(crate) fn is_placeholder(&self, token: u32) -> bool {
        self.placeholders.as_ref().is_some_and(|placeholders| placeholders.is_placeholder(token))
    }

    /// How long the answer may reason.
    pub(crate) fn budget(&self, request: &GenerateRequest) -> Result<Option<Budget>> {
        let Some(most) = request.thinking_tokens_max else { return Ok(None) };
        Ok(Some(Budget::new(most, self.tokenizer()?.encode(CLOSING, Specials::Parse)?)))
    }

    fn tokenizer(&self) -> Result<&Tokenizer> {
        let why = "this model has no tokenizer; send token ids to the completions route".to_owned();
        self.tokenizer.as_deref().ok_or(Error::Unsupported { what: "text".to_owned(), why })
    }
}

/// The tokenizer that a checkpoint brings.
///
/// # Errors
/// If it is none that is encoded exactly.
pub fn tokenizer_of(source: TokenizerSource) -> Result<Tokenizer> {
    match source {
        TokenizerSource::Json(bytes) => Tokenizer::from_json(&bytes),
        TokenizerSource::Gguf { pre, tokens, kinds, merges } => {
            let kinds = kinds.into_iter().map(u32::cast_signed).collect();
            let (tokens, merges) = (tokens.to_vec(), merges.to_vec());
            Tokenizer::from_gguf(GgufVocabulary { model: "gpt2", pre: &pre, tokens, kinds, merges })
        }
    }
}
