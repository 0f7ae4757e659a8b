//! Bars: what a whole is made of, and a time line of stages.

use std::fmt::Write as _;

use super::escape;

/// A part of a bar: name, size and the text that stands for the size.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its size; parts below a thousandth of the whole are listed and not drawn.
    pub size: f64,
    /// The size in words.
    pub text: String,
}

impl Part {
    /// A part.
    #[must_use]
    pub fn new(name: &str, size: f64, text: String) -> Self {
        Self { name: name.to_owned(), size: size.max(0.0), text }
    }
}

/// One bar of all parts with a legend that names each size.
#[must_use]
pub fn stacked(parts: &[Part]) -> String {
    let whole: f64 = parts.iter().map(|part| part.size).sum();
    let mut out = format!("<svg viewBox=\"0 0 1000 {}\" role=img>", 62 + 22 * parts.len().div_ceil(3));
    let mut left = 0.0;
    for (index, part) in parts.iter().enumerate() {
        let width = if whole > 0.0 { 1_000.0 * part.size / whole } else { 0.0 };
        if width >= 1.0 {
            let _ = write!(
                out,
                "<rect x=\"{left:.1}\" y=0 width=\"{:.1}\" height=42 rx=2 \
                 fill=\"var(--c{})\"><title>{} {}</title></rect>",
                (width - 2.0).max(1.0),
                index % 6 + 1,
                escape(&part.name),
                escape(&part.text)
            );
        }
        left += width;
    }
    for (index, part) in parts.iter().enumerate() {
        let (x, y) = (333 * (index % 3), 66 + 22 * (index / 3));
        let _ = write!(
            out,
            "<rect x={x} y={} width=11 height=11 rx=2 fill=\"var(--c{})\"/><text x={} y={y}>{} <tspan class=soft>{}\
             </tspan></text>",
            y - 10,
            index % 6 + 1,
            x + 17,
            escape(&part.name),
            escape(&part.text)
        );
    }
    out.push_str("</svg>\n");
    out
}

/// A row of a time line: its name, and what happens from when to when.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Start, end, colour (0 to 5) and name of each piece.
    pub pieces: Vec<(f64, f64, usize, String)>,
}

/// Rows over a common axis of seconds.
#[must_use]
pub fn timeline(stages: &[Stage]) -> String {
    let end = stages.iter().flat_map(|stage| &stage.pieces).map(|piece| piece.1).fold(0.0, f64::max);
    if end <= 0.0 {
        return String::new();
    }
    let height = 26 * stages.len();
    let mut out = format!("<svg viewBox=\"0 0 1000 {}\" role=img>", height + 26);
    let x = |seconds: f64| 110.0 + 885.0 * seconds / end;
    for (row, stage) in stages.iter().enumerate() {
        let y = 26 * row;
        let _ = write!(out, "<text x=0 y={}>{}</text>", y + 15, escape(&stage.name));
        for (from, to, colour, name) in &stage.pieces {
            let _ = write!(
                out,
                "<rect x=\"{:.1}\" y={y} width=\"{:.1}\" height=20 \
                 fill=\"var(--c{})\"><title>{} {:.3} ms</title></rect>",
                x(*from),
                (x(*to) - x(*from)).max(0.3),
                colour % 6 + 1,
                escape(name),
                1e3 * (to - from)
            );
        }
    }
    for tick in 0..=4 {
        let seconds = end * f64::from(tick) / 4.0;
        let _ = write!(
            out,
            "<text class=soft x=\"{:.0}\" y={} text-anchor={}>{:.3} ms</text>",
            x(seconds),
            height + 16,
            if tick == 4 { "end" } else { "start" },
            1e3 * seconds
        );
    }
    out.push_str("</svg>\n");
    out
}
