//! Answers that must have a form: JSON of a schema, a regular expression, a grammar, calls of certain tools.
//!
//! A [`Constrainer`] belongs to a model, what a request asks for becomes a [`Held`], and each sequence has a
//! [`Constraint`], which says which tokens may come next. Reasoning before the answer is free, but cannot end the turn.
//! Whatever a grammar cannot express is checked when the answer is whole ([`Constraint::verdict`]); the caller tries
//! again or reports an error, and never hands out an answer that does not fit as if it did.

mod calls;
mod check;
mod plan;
mod schema;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::sync::{Arc, OnceLock};

use chat::{Error, Event, GenerateRequest, Opening, OutputOptions, Result, Specials, Tokenizer};
use llguidance::toktrie::SimpleVob;
use llguidance::{Matcher, ParserFactory};

use check::{Check, Said};

/// The tags around reasoning and calls, where the vocabulary has them as single tokens.
#[derive(Debug, Clone, Copy, Default)]
struct Tags {
    think: Option<u32>,
    call: Option<(u32, u32)>,
}

/// Makes constraints for one model.
pub(crate) struct Constrainer {
    tokenizer: Option<Arc<Tokenizer>>,
    /// The tokens that end a turn.
    ends: Vec<u32>,
    tags: Tags,
    /// Made when it is first needed.
    factory: OnceLock<std::result::Result<ParserFactory, String>>,
}

/// What the answers to one request are held to.
pub(crate) struct Held {
    matcher: Matcher,
    when: When,
    /// One call is all.
    is_single: bool,
    is_exact: bool,
    check: Check,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// The grammar is that of the whole visible answer.
    Whole,
    /// Text is free; the grammar is that of a call behind its opening tag.
    InCalls,
}

impl Held {
    /// Whether the grammar allows nothing that must be refused in the end, so that one attempt is enough.
    pub(crate) fn is_exact(&self) -> bool {
        self.is_exact
    }
}

/// Which tokens may come next, as bits: token `t` is bit `t % 32` of word `t / 32`.
pub(crate) struct Mask(SimpleVob);

impl Mask {
    pub(crate) fn words(&self) -> &[u32] {
        self.0.as_slice()
    }
}

/// What follows a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    More,
    /// Nothing may follow: the answer is over.
    Over,
}

/// Holds one sequence to what was asked for.
pub(crate) struct Constraint {
    held: Arc<Held>,
    phase: Phase,
    tags: Tags,
    /// Tokens of blank lines, which a model likes to put between its reasoning and its answer.
    blanks: Vec<u32>,
    /// Everything but the end of the turn.
    thinking: Arc<SimpleVob>,
    said: Said,
}

enum Phase {
    /// Nothing has been said: reasoning may begin, or the answer.
    Opening,
    Reasoning,
    /// The reasoning is over, and blank lines may follow.
    Before,
    /// Text between calls.
    Free,
    Inside(Box<Matcher>),
}

impl Constrainer {
    pub(crate) fn new(tokenizer: Option<Arc<Tokenizer>>, ends: &[u32]) -> Self {
        let id = |text: &str| tokenizer.as_ref().and_then(|tokenizer| tokenizer.token_id(text));
        let tags = Tags { think: id("<think>"), call: id("<tool_call>").zip(id("</tool_call>")) };
        Self { tokenizer, ends: ends.to_vec(), tags, factory: OnceLock::new() }
    }

    /// What the answer to this request is held to; `None`: to nothing.
    ///
    /// Cost: about a millisecond for a common schema, and once a model some hundred for its vocabulary.
    ///
    /// # Errors
    /// [`Error::Unsupported`] and [`Error::OutOfRange`] name what cannot be held and why.
    pub(crate) fn held(&self, request: &GenerateRequest, output: &OutputOptions) -> Result<Option<Arc<Held>>> {
        if !plan::asks(request, output)? {
            return Ok(None);
        }
        Ok(Some(Arc::new(plan::held(request, output, &self.tags, self.factory()?)?)))
    }

    fn factory(&self) -> Result<&ParserFactory> {
        let make = || match &self.tokenizer {
            Some(tokenizer) => vocabulary::factory(Arc::clone(tokenizer), &self.ends),
            None => Err("it has no tokenizer".to_owned()),
        };
        let unsupported = |why: &String| {
            let what = "an output format with this model".to_owned();
            Error::Unsupported { what, why: why.clone() }
        };
        self.factory.get_or_init(make).as_ref().map_err(unsupported)
    }

    /// The constraint of one answer that begins so.
    pub(crate) fn start(&self, held: Arc<Held>, opening: Opening) -> Constraint {
        let phase = match (held.when, opening) {
            (When::InCalls, _) => Phase::Free,
            (When::Whole, Opening::Text) => Phase::Inside(Box::new(held.matcher.clone())),
            (When::Whole, Opening::MayReason) => Phase::Opening,
            (When::Whole, Opening::Reasoning) => Phase::Reasoning,
        };
        let blank = |text: &&str| {
            let tokens = self.tokenizer.as_ref()?.encode(text, Specials::AsText).ok()?;
            <[u32; 1]>::try_from(tokens).ok().map(|[token]| token)
        };
        let count = self.tokenizer.as_ref().map_or(0, |tokenizer| tokenizer.vocabulary_size());
        let mut thinking = SimpleVob::alloc_ones(count);
        self.ends.iter().filter(|&&end| (end as usize) < count).for_each(|&end| thinking.disallow_token(end));
        Constraint {
            held,
            phase,
            tags: self.tags,
            blanks: ["\n", "\n\n"].iter().filter_map(blank).collect(),
            thinking: Arc::new(thinking),
            said: Said::default(),
        }
    }
}

impl Constraint {
    /// The tokens that may come next; `None`: all.
    ///
    /// Cost: tens of microseconds for 150,000 tokens, rarely a millisecond; it runs beside the forward pass.
    ///
    /// # Errors
    /// A line that says why the grammar has no way on.
    pub(crate) fn mask(&mut self) -> std::result::Result<Option<Mask>, String> {
        let mut mask = match &mut self.phase {
            Phase::Free => return Ok(None),
            Phase::Reasoning => return Ok(Some(Mask(SimpleVob::clone(&self.thinking)))),
            Phase::Opening | Phase::Before => self.held.matcher.clone().compute_mask(),
            Phase::Inside(matcher) => matcher.compute_mask(),
        }
        .map_err(|why| why.to_string())?;
        match self.phase {
            Phase::Opening => self.tags.think.into_iter().for_each(|think| mask.allow_token(think)),
            Phase::Before => self.blanks.iter().for_each(|&blank| mask.allow_token(blank)),
            Phase::Reasoning | Phase::Free | Phase::Inside(_) => {}
        }
        if mask.is_zero() { Err("the grammar allows no token".to_owned()) } else { Ok(Some(Mask(mask))) }
    }

    /// Takes note of a token that does not end the turn. `reasons`: whether the next token belongs to the reasoning.
    ///
    /// # Errors
    /// A line that says why the token does not fit.
    pub(crate) fn accept(&mut self, token: u32, reasons: bool) -> std::result::Result<Next, String> {
        match &mut self.phase {
            Phase::Opening if self.tags.think == Some(token) => {
                self.phase = Phase::Reasoning;
                return Ok(Next::More);
            }
            Phase::Reasoning => {
                if !reasons {
                    self.phase = Phase::Before;
                }
                return Ok(Next::More);
            }
            Phase::Free => {
                if !reasons && self.tags.call.is_some_and(|(open, _)| open == token) {
                    self.phase = Phase::Inside(Box::new(self.held.matcher.clone()));
                }
                return Ok(Next::More);
            }
            Phase::Before if self.blanks.contains(&token) && !begins_with(&self.held.matcher, token) => {
                return Ok(Next::More);
            }
            Phase::Opening | Phase::Before => self.phase = Phase::Inside(Box::new(self.held.matcher.clone())),
            Phase::Inside(_) => {}
        }
        let Phase::Inside(matcher) = &mut self.phase else { return Ok(Next::More) };
        matcher.consume_token(token).map_err(|why| why.to_string())?;
        if !matcher.is_stopped() {
            return Ok(Next::More);
        }
        if self.held.when == When::InCalls && !self.held.is_single {
            self.phase = Phase::Free;
            return Ok(Next::More);
        }
        Ok(Next::Over)
    }

    /// Takes note of what is said.
    pub(crate) fn hears(&mut self, event: &Event) {
        self.said.add(event);
    }

    /// Why the answer, which is over, is not what was asked for.
    pub(crate) fn verdict(&self) -> std::result::Result<(), String> {
        self.held.check.verdict(&self.said)
    }
}

fn begins_with(grammar: &Matcher, token: u32) -> bool {
    grammar.clone().validate_tokens(&[token]).is_ok_and(|accepted| accepted == 1)
}
