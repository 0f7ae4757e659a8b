//! The tokens that stand where a picture is: from the one that a template writes to as many as the picture has.

use chat::{Error, Rendered, Result, Tokenizer};
use models::config::Vision;

use crate::eyes::Look;

const VISION_START: &str = "<|vision_start|>";
const VISION_END: &str = "<|vision_end|>";

/// The placeholders of a model.
pub(crate) struct Placeholders {
    image: u32,
    video: u32,
    /// The video's, as the template spells it.
    video_text: String,
}

impl Placeholders {
    /// `None` if the tokenizer has no such tokens.
    pub(crate) fn new(vision: &Vision, tokenizer: &Tokenizer) -> Option<Self> {
        tokenizer.token_bytes(vision.image_token)?;
        let video_text = String::from_utf8(tokenizer.token_bytes(vision.video_token)?.to_vec()).ok()?;
        Some(Self { image: vision.image_token, video: vision.video_token, video_text })
    }

    pub(crate) fn is_placeholder(&self, token: u32) -> bool {
        token == self.image || token == self.video
    }

    /// The prompt with a time before every pair of frames: where the template writes one placeholder between start and
    /// end for a whole clip, each pair gets its own, as transformers 4.57 does.
    pub(crate) fn timed(&self, rendered: &Rendered, looks: &[Look<'_>]) -> Result<Rendered> {
        let mut clips = looks.iter().filter_map(|look| look.seconds.as_ref());
        let mut timed = Rendered::default();
        let mut done = 0;
        for control in rendered.control.iter().filter(|&control| rendered.text[control.clone()] == self.video_text) {
            let seconds = clips.next().ok_or_else(|| mismatch("more videos than there are"))?;
            let before = rendered.text[..control.start].strip_suffix(VISION_START).map(str::len);
            let start = before.filter(|&start| start >= done).ok_or_else(|| mismatch("a video without its start"))?;
            if !rendered.text[control.end..].starts_with(VISION_END) {
                return Err(mismatch("a video without its end"));
            }
            timed.push_stretch(rendered, done..start);
            for second in seconds {
                timed.push_text(&format!("<{second:.1} seconds>"));
                [VISION_START, &self.video_text, VISION_END].iter().for_each(|token| timed.push_control(token));
            }
            done = control.end + VISION_END.len();
        }
        if clips.next().is_some() {
            return Err(mismatch("fewer videos than there are"));
        }
        timed.push_stretch(rendered, done..rendered.text.len());
        Ok(timed)
    }

    /// The tokens with as many placeholders for each picture and each pair of frames as it takes.
    pub(crate) fn expanded(&self, tokens: &[u32], looks: &[Look<'_>]) -> Result<Vec<u32>> {
        let mut runs = looks.iter().flat_map(|look| {
            let placeholder = if look.seconds.is_some() { self.video } else { self.image };
            std::iter::repeat_n((placeholder, look.tokens_per_pair()), look.grid[0])
        });
        let added: usize = looks.iter().map(|look| look.tokens_per_pair() * look.grid[0]).sum();
        let mut expanded = Vec::with_capacity(tokens.len() + added);
        for &token in tokens {
            if !self.is_placeholder(token) {
                expanded.push(token);
                continue;
            }
            match runs.next() {
                Some((placeholder, count)) if placeholder == token => {
                    expanded.extend(std::iter::repeat_n(token, count));
                }
                Some(_) => return Err(mismatch("pictures and videos in another order")),
                None => return Err(mismatch("more pictures than there are")),
            }
        }
        match runs.next() {
            Some(_) => Err(mismatch("fewer pictures than there are: they may stand in messages of users only")),
            None => Ok(expanded),
        }
    }
}

fn mismatch(what: &str) -> Error {
    Error::TemplateRefused { reason: format!("it shows {what}") }
}
