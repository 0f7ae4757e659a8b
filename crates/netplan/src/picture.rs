//! Pictures: one HTML page that needs nothing else, drawings as SVG inside.
//!
//! Colours follow the reader's light or dark setting; none carries a meaning that is not also written. What is too
//! large to draw is folded, and says so.

mod bars;
mod fabric;
mod heat;
mod pages;

#[cfg(test)]
mod tests;

pub use bars::{Part, Stage, stacked, timeline};
pub use fabric::topology;
pub use heat::{Heat, heat_map};
pub use pages::{doctor_page, fabric_page, plan_page, uplinks_page};

use std::fmt::Write as _;

/// A page in the making.
#[derive(Debug, Clone, Default)]
pub struct Page {
    body: String,
}

/// Text with everything escaped that HTML could read.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

impl Page {
    /// A title with a sentence beneath.
    pub fn heading(&mut self, title: &str, lead: &str) {
        let _ = writeln!(self.body, "<h1>{}</h1>\n<p class=lead>{}</p>", escape(title), escape(lead));
    }

    /// A section with a drawing or table; `inner` is markup of this module.
    pub fn section(&mut self, title: &str, caption: &str, inner: &str) {
        let _ =
            writeln!(self.body, "<section><h2>{}</h2>\n<p>{}</p>\n{inner}</section>", escape(title), escape(caption));
    }

    /// Figures side by side: a name, a value and a remark each.
    pub fn figures(&mut self, figures: &[(&str, String, String)]) {
        self.body.push_str("<div class=cards>");
        for (name, value, remark) in figures {
            let _ = write!(
                self.body,
                "<div class=card><div class=name>{}</div><div class=value>{}</div><div class=remark>{}</div></div>",
                escape(name),
                escape(value),
                escape(remark)
            );
        }
        self.body.push_str("</div>\n");
    }

    /// Sentences that a reader has to know.
    pub fn notes(&mut self, title: &str, notes: &[String]) {
        if notes.is_empty() {
            return;
        }
        let items: String = notes.iter().map(|note| format!("<li>{}</li>", escape(note))).collect();
        let _ = writeln!(self.body, "<section><h2>{}</h2><ul>{items}</ul></section>", escape(title));
    }

    /// The whole file.
    #[must_use]
    pub fn finish(self, title: &str) -> String {
        format!(
            "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport \
             content=\"width=device-width\">\n<title>{}</title>\n\
             <style>{STYLE}</style></head>\n<body>{}</body></html>\n",
            escape(title),
            self.body
        )
    }
}

/// A table; the first row is the header, numbers stand right.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let mut out = String::from("<table>");
    for (index, row) in rows.iter().enumerate() {
        out.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let tag = if index == 0 { "th" } else { "td" };
            let class = if column > 0 { " class=n" } else { "" };
            let _ = write!(out, "<{tag}{class}>{}</{tag}>", escape(cell));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table>\n");
    out
}

const STYLE: &str = "
:root{--bg:#fbfbfa;--ink:#1d2329;--soft:#5b6670;--line:#d9dde1;--card:#fff;
--c1:#2b6cb0;--c2:#d97706;--c3:#2f855a;--c4:#9f4aa8;--c5:#b7bfc7;--c6:#c53030;
--h0:#e9eef4;--h1:#c6dbef;--h2:#9ecae1;--h3:#6baed6;--h4:#4292c6;--h5:#2171b5;--h6:#08519c;--h7:#c2410c}
@media(prefers-color-scheme:dark){:root{--bg:#14181c;--ink:#e8ebee;--soft:#9aa5af;--line:#313941;--card:#1b2126;
--c1:#63a4e8;--c2:#f0a83c;--c3:#5cc08a;--c4:#c98ad2;--c5:#566069;--c6:#f27474;
--h0:#20272d;--h1:#1d3650;--h2:#1f4a72;--h3:#236096;--h4:#2f7bbd;--h5:#4f9cdd;--h6:#8cc4f2;--h7:#fb923c}}
body{background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;
max-width:1060px;margin:2rem auto;padding:0 1.2rem}
h1{font-size:1.7rem;margin:0 0 .2rem}h2{font-size:1.1rem;margin:2rem 0 .2rem}p{margin:.2rem 0 .7rem;color:var(--soft)}
.lead{font-size:1.05rem}.cards{display:flex;flex-wrap:wrap;gap:.8rem;margin:1rem 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.7rem 1rem;flex:1 1 9.5rem}
.name,.remark{color:var(--soft);font-size:.85rem}.value{font-size:1.5rem;font-weight:600}
table{border-collapse:collapse;width:100%}
th,td{padding:.35rem .6rem;border-bottom:1px solid var(--line);text-align:left}
th{color:var(--soft);font-weight:500;font-size:.85rem}.n{text-align:right;font-variant-numeric:tabular-nums}
svg{max-width:100%;height:auto;display:block}svg text{fill:var(--ink);font-size:12px}svg .soft{fill:var(--soft)}
ul{margin:.3rem 0;padding-left:1.2rem;color:var(--soft)}
";
