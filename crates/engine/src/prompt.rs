//! From a request to token ids: the text side of a model.

use std::sync::Arc;

use chat::{Error, GenerateRequest, GgufVocabulary, OutputOptions, Prompt, Result, Specials, Template, Tokenizer};
use models::text::{GenerationDefaults, TextAssets, TokenizerSource};

/// Tokenizer, template and sampling defaults of one model.
pub(crate) struct TextSide {
    pub(crate) tokenizer: Option<Arc<Tokenizer>>,
    pub(crate) template: Option<Template>,
    pub(crate) defaults: GenerationDefaults,
}

/// An encoded prompt, and how the answer to it is read.
pub(crate) struct Encoded {
    pub(crate) tokens: Vec<u32>,
    pub(crate) output: OutputOptions,
}

impl TextSide {
    pub(crate) fn new(assets: TextAssets) -> Result<Self> {
        let tokenizer = assets.tokenizer.map(tokenizer_of).transpose()?.map(Arc::new);
        let template = match (&assets.chat_template, &tokenizer) {
            (Some(source), Some(tokenizer)) => Some(Template::new(source, tokenizer.added_tokens(), &[])?),
            (Some(_) | None, _) => None,
        };
        Ok(Self { tokenizer, template, defaults: assets.generation })
    }

    /// Cost: linear in the text; milliseconds for long prompts, so it is called off the async threads.
    pub(crate) fn encode(&self, request: &GenerateRequest, now_ms: u64) -> Result<Encoded> {
        match &request.prompt {
            Prompt::Tokens(tokens) => {
                Ok(Encoded { tokens: tokens.clone(), output: OutputOptions::completion(request) })
            }
            Prompt::Text(text) => {
                let tokens = self.tokenizer()?.encode(text, Specials::Parse)?;
                Ok(Encoded { tokens, output: OutputOptions::completion(request) })
            }
            Prompt::Messages(_) => self.encode_conversation(request, now_ms),
        }
    }

    fn encode_conversation(&self, request: &GenerateRequest, now_ms: u64) -> Result<Encoded> {
        let template = self.template.as_ref().ok_or_else(|| Error::Unsupported {
            what: "a conversation".to_owned(),
            why: "this model has no chat template; send a prompt to the completions route".to_owned(),
        })?;
        let rendered = template.render_request(request, now_ms)?;
        let tokens = self.tokenizer()?.encode_rendered(&rendered)?;
        Ok(Encoded { tokens, output: OutputOptions::chat(request, template, &rendered) })
    }

    fn tokenizer(&self) -> Result<&Tokenizer> {
        let why = "this model has no tokenizer; send token ids to the completions route".to_owned();
        self.tokenizer.as_deref().ok_or(Error::Unsupported { what: "text".to_owned(), why })
    }
}

fn tokenizer_of(source: TokenizerSource) -> Result<Tokenizer> {
    match source {
        TokenizerSource::Json(bytes) => Tokenizer::from_json(&bytes),
        TokenizerSource::Gguf { pre, tokens, kinds, merges } => {
            let kinds = kinds.into_iter().map(u32::cast_signed).collect();
            Tokenizer::from_gguf(GgufVocabulary { model: "gpt2", pre: &pre, tokens, kinds, merges })
        }
    }
}
