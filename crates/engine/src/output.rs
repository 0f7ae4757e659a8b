//! From drawn tokens to events.

use std::sync::Arc;

use chat::{Detokenizer, Event, Logprob, OutputOptions, OutputParser, TokenLogprobs, Tokenizer};

/// The text side of one sequence: detokeniser, parser and stop strings.
pub(crate) struct Output {
    /// Without one there is no text, only log probabilities and counts.
    tokenizer: Option<Arc<Tokenizer>>,
    detokenizer: Detokenizer,
    parser: OutputParser,
    events: Vec<Event>,
    reasoning_tokens: u32,
}

impl Output {
    /// The output of a sequence; `echo` is said before anything else.
    pub(crate) fn new(options: OutputOptions, tokenizer: Option<Arc<Tokenizer>>, echo: String) -> Self {
        let events = if echo.is_empty() { Vec::new() } else { vec![Event::Text(echo)] };
        Self {
            tokenizer,
            detokenizer: Detokenizer::new(true),
            parser: OutputParser::new(options),
            events,
            reasoning_tokens: 0,
        }
    }

    /// Scores of the next tokens of an echoed prompt.
    pub(crate) fn scored_prompt(&mut self, scored: &[Scored]) {
        self.events.push(Event::Logprobs(scored.iter().map(|scored| self.spelled(scored)).collect()));
    }

    /// Takes the next token. The stop string, if it completed one.
    pub(crate) fn push(&mut self, token: u32, logprobs: Option<Scored>) -> Option<String> {
        if let Some(scored) = logprobs {
            self.events.push(Event::Logprobs(vec![self.spelled(&scored)]));
        }
        let piece = match &self.tokenizer {
            Some(tokenizer) => self.detokenizer.push(tokenizer, token),
            None => String::new(),
        };
        self.reasoning_tokens += u32::from(self.parser.in_reasoning());
        self.events.extend(self.parser.push(&piece));
        self.stopped()
    }

    /// The stop string that ended the answer, if one did.
    pub(crate) fn stopped(&self) -> Option<String> {
        self.parser.stopped().map(str::to_owned)
    }

    /// No more tokens come: what was held back is said.
    pub(crate) fn finish(&mut self) {
        let rest = std::mem::take(&mut self.detokenizer).finish();
        if self.parser.stopped().is_none() {
            self.events.extend(self.parser.push(&rest));
        }
        self.events.extend(self.parser.finish());
    }

    /// What there is to say since the last call.
    pub(crate) fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn called_tools(&self) -> bool {
        self.parser.calls() > 0
    }

    /// Whether the next token belongs to the reasoning.
    pub(crate) fn in_reasoning(&self) -> bool {
        self.parser.in_reasoning()
    }

    pub(crate) fn reasoning_tokens(&self) -> u32 {
        self.reasoning_tokens
    }

    fn spelled(&self, scored: &Scored) -> TokenLogprobs {
        let spell = |token: u32, logprob: Option<f32>| {
            let bytes = self.tokenizer.as_ref().and_then(|tokenizer| tokenizer.token_bytes(token));
            Logprob { token, bytes: bytes.unwrap_or_default().to_vec(), logprob }
        };
        let top = scored.top.iter().map(|&(token, logprob)| spell(token, Some(logprob))).collect();
        TokenLogprobs { chosen: spell(scored.token, scored.logprob), top }
    }
}

/// Tokens with the logarithms of their probabilities, before penalties and temperature.
pub(crate) struct Scored {
    token: u32,
    logprob: Option<f32>,
    top: Vec<(u32, f32)>,
}

impl Scored {
    /// The first token of a prompt.
    pub(crate) fn first(token: u32) -> Self {
        Self { token, logprob: None, top: Vec::new() }
    }
}

/// Log probability of a token and of the `top` most likely ones.
///
/// Cost: two passes over the logits and a selection.
pub(crate) fn logprobs_of(logits: &[f32], token: u32, top: usize) -> Scored {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - most).exp()).sum();
    let normaliser = most + sum.ln() as f32;
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let better = |&a: &u32, &b: &u32| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b));
    let top = top.min(order.len());
    if top > 0 && top < order.len() {
        order.select_nth_unstable_by(top - 1, better);
    }
    order.truncate(top);
    order.sort_unstable_by(better);
    let scored = |token: u32| (token, logits[token as usize] - normaliser);
    Scored { token, logprob: Some(scored(token).1), top: order.into_iter().map(scored).collect() }
}

#[cfg(test)]
mod tests {
    use super::logprobs_of;

    #[test]
    fn probabilities_sum_to_one_and_come_best_first() {
        let logits = [1.0, 3.0, 2.0, -5.0];
        let scored = logprobs_of(&logits, 2, 4);
        assert_eq!(scored.top.iter().map(|&(token, _)| token).collect::<Vec<_>>(), [1, 2, 0, 3]);
        assert_eq!((scored.token, scored.logprob), (2, Some(scored.top[1].1)));
        let sum: f32 = scored.top.iter().map(|&(_, logprob)| logprob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        assert!(logprobs_of(&logits, 0, 0).top.is_empty());
    }
}
