//! `sampan see`: a question about a picture; what the answer points at, in the picture's own pixels.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use base::{Clock, RequestId, Rng};
use base64::Engine as _;
use chat::grounding::{self, Place, Scale, Shape};
use chat::{Answer, Content, FinishReason, GenerateRequest, ImageSource, Message, Part, Prompt, Role, Thinking};
use clap::Args;
use models::picture;
use serde_json::{Value, json};

use crate::args::{Data, Processor};
use crate::conversation::attached;
use crate::machine::{self, SystemClock, harmless, print, say};
use crate::{shelf, up};

#[derive(Args)]
pub(crate) struct See {
    /// A picture: PNG, JPEG, WebP or GIF.
    pub(crate) image: PathBuf,
    /// What is asked, for example "find the red cup, answer in JSON with bbox_2d and label".
    pub(crate) prompt: String,
    /// A model that sees: a name from `sampan ls`, a folder or a GGUF file.
    #[arg(long)]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) data: Data,
    /// Draw the boxes and points of the answer over the picture.
    #[arg(long, value_name = "SVG")]
    pub(crate) boxes: Option<PathBuf>,
    /// Tokens of the answer at most.
    #[arg(long, default_value_t = 1024)]
    pub(crate) max_tokens: u32,
    /// Print JSON: the answer, and every place in it in pixels of the picture.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) processor: Processor,
}

pub(crate) fn run(see: &See) -> anyhow::Result<()> {
    let part = attached::read(&see.image, true)?;
    let Part::Image(ImageSource::Bytes(bytes)) = &part else {
        bail!("{} is no picture (PNG, JPEG, WebP, GIF)", see.image.display());
    };
    let looked = picture::decode(bytes).with_context(|| format!("read the picture {}", see.image.display()))?;
    let size = [looked.width, looked.height];
    let answer = answer(see, &part)?;
    let text = answer.message.plain_text();
    let places = grounding::places(&text, Scale::Thousandths, size.map(|edge| edge as f64));
    if let Some(path) = &see.boxes {
        let media = attached::kind(bytes).expect("it was decoded, so its kind is known");
        std::fs::write(path, drawing(&places, size, media, bytes))
            .with_context(|| format!("write {}", path.display()))?;
    }
    if answer.finish.reason == FinishReason::Length {
        say("(the answer reached its limit; --max-tokens sets it)");
    }
    if see.json {
        let places: Vec<Value> = places.iter().map(row).collect();
        let told = json!({"answer": text, "width": size[0], "height": size[1], "places": places});
        return print(&format!("{}\n", serde_json::to_string_pretty(&told)?));
    }
    print(&format!("{}\n", harmless(&text)))?;
    for place in &places {
        say(&format!("{}: {}", place.label.as_deref().unwrap_or("-"), said(&place.shape)));
    }
    if let Some(path) = &see.boxes {
        say(&format!("{} places drawn in {}", places.len(), path.display()));
    }
    Ok(())
}

fn answer(see: &See, part: &Part) -> anyhow::Result<Answer> {
    let entry = shelf::find(&machine::data_folder(&see.data), &see.model)?;
    let clock: Arc<dyn Clock> = SystemClock::start();
    let engine = up::start_alone(&entry, &machine::processor(&see.processor)?, &clock)?;
    if !engine.card().facts.vision {
        bail!("the model {} reads text only\nhint: Qwen3-VL and Qwen3.5 checkpoints see", entry.name);
    }
    let parts = vec![part.clone(), Part::Text(see.prompt.clone())];
    let message = Message { content: Content::Parts(parts), ..Message::text(Role::User, "") };
    let id = RequestId::random(&mut Rng::seeded(machine::random_seed()?));
    let mut request = GenerateRequest::new(id, engine.card().id.as_str(), Prompt::Messages(vec![message]));
    // Coordinates are read off, not invented: the most likely answer.
    request.sampling.temperature = Some(0.0);
    request.max_tokens = Some(see.max_tokens);
    request.thinking = Thinking::Off;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let events = engine.start_generation(request).await?;
        Ok(chat::collect(events).await?)
    })
}

/// Two decimals: a hundredth of a pixel is more than any model knows.
fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

fn row(place: &Place) -> Value {
    let mut row = json!({"label": place.label});
    match place.shape {
        Shape::Box(corners) => row["box"] = json!(corners.map(rounded)),
        Shape::Point(point) => row["point"] = json!(point.map(rounded)),
    }
    row
}

fn said(shape: &Shape) -> String {
    match shape {
        Shape::Box([left, top, right, bottom]) => {
            format!("box from {left:.0}, {top:.0} to {right:.0}, {bottom:.0}")
        }
        Shape::Point([x, y]) => format!("point at {x:.0}, {y:.0}"),
    }
}

/// The picture with what was found over it, in one file.
fn drawing(places: &[Place], [width, height]: [usize; 2], media: &str, bytes: &[u8]) -> String {
    let data = base64::engine::general_purpose::STANDARD.encode(bytes);
    // Lines and letters that can be seen at the size of the picture.
    let line = (width.max(height) as f64 / 400.0).max(1.0);
    let letters = 7.0 * line;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\">\n<image width=\"{width}\" height=\"{height}\" href=\"data:{media};base64,{data}\"/>\n\
         <g fill=\"none\" stroke-width=\"{line}\" font-family=\"sans-serif\" font-size=\"{letters}\">\n"
    );
    for (number, place) in places.iter().enumerate() {
        // Steps of the golden angle: neighbours never look alike.
        let colour = format!("hsl({:.0} 90% 45%)", number as f64 * 137.508 % 360.0);
        let (x, y) = match place.shape {
            Shape::Box([left, top, right, bottom]) => {
                let (wide, high) = (right - left, bottom - top);
                // Writing to a string cannot fail, here and below.
                let _ = writeln!(
                    svg,
                    "<rect x=\"{left:.2}\" y=\"{top:.2}\" width=\"{wide:.2}\" height=\"{high:.2}\" \
                     stroke=\"{colour}\"/>"
                );
                (left, top - 2.0 * line)
            }
            Shape::Point([x, y]) => {
                let radius = 3.0 * line;
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"{radius:.2}\" fill=\"{colour}\" stroke=\"white\"/>"
                );
                (x + 5.0 * line, y)
            }
        };
        if let Some(label) = &place.label {
            // A label at the upper edge stands inside.
            let y = y.max(letters);
            let _ = writeln!(
                svg,
                "<text x=\"{x:.2}\" y=\"{y:.2}\" fill=\"{colour}\" stroke=\"white\" stroke-width=\"{:.2}\" \
                 paint-order=\"stroke\">{}</text>",
                line / 2.0,
                escaped(label)
            );
        }
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// A label is the model's, so anything: as text in XML.
fn escaped(text: &str) -> String {
    let letter = |letter: char| match letter {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        letter if letter.is_control() => " ".to_owned(),
        letter => letter.to_string(),
    };
    text.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use chat::grounding::{Place, Shape};

    use super::drawing;

    #[test]
    fn places_are_drawn_in_pixels_and_labels_are_text() {
        let places = [
            Place { label: Some("<b> & \"c\"".to_owned()), shape: Shape::Box([10.0, 0.0, 30.5, 40.0]) },
            Place { label: None, shape: Shape::Point([5.0, 6.0]) },
        ];
        let svg = drawing(&places, [800, 600], "image/png", b"\x89PNG");
        assert!(svg.contains("viewBox=\"0 0 800 600\""), "{svg}");
        assert!(svg.contains("<rect x=\"10.00\" y=\"0.00\" width=\"20.50\" height=\"40.00\""), "{svg}");
        assert!(svg.contains("<circle cx=\"5.00\" cy=\"6.00\""), "{svg}");
        assert!(svg.contains(">&lt;b&gt; &amp; &quot;c&quot;</text>") && !svg.contains("<b>"), "{svg}");
        assert!(svg.contains("href=\"data:image/png;base64,iVBORw==\""), "{svg}");
    }
}
