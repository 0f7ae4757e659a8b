//! What a project used in a month, as a page to print.

use std::fmt::Write as _;

use crate::Result;
use crate::calendar::{month_start, next_month, show_day, show_month, show_time};
use crate::money::dollars;
use crate::usage::{By, Filter, Total, totals};
use crate::{Ledger, Unit};

/// A page with its own style and no script, which prints as it stands.
const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;max-width:60em;margin:3em auto;padding:0 1em;color:#111}\
     table{border-collapse:collapse;width:100%}th,td{padding:.4em .6em;border-bottom:1px solid #ccc;text-align:left}\
     .n{text-align:right;font-variant-numeric:tabular-nums}tfoot td{font-weight:600;border-top:2px solid #111}";

/// What a project used in a month, and what of it was paid.
#[derive(Debug, Clone)]
pub struct Invoice {
    /// The project.
    pub project: String,
    /// When the month begins.
    pub from_ms: u64,
    /// When the next one does.
    pub to_ms: u64,
    /// When it was written.
    pub written_ms: u64,
    /// A line for each model, region and activity.
    pub lines: Vec<Total>,
    /// Micro-dollars that were paid in money.
    pub paid_micro: i64,
    /// Tokens that grants paid.
    pub paid_tokens: i64,
}

impl Ledger {
    /// The invoice of a project for the month of this time.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn invoice(&self, project: &str, at_ms: u64) -> Result<Invoice> {
        let (from_ms, to_ms) = (month_start(at_ms), next_month(at_ms));
        let filter = Filter { from_ms, to_ms: Some(to_ms), project: Some(project.to_owned()), ..Filter::default() };
        let lines = totals(&self.database, &filter, By::All).await?;
        let (paid_micro, paid_tokens) = paid(self, project, from_ms, to_ms).await?;
        let (project, written_ms) = (project.to_owned(), self.clock.now_ms());
        Ok(Invoice { project, from_ms, to_ms, written_ms, lines, paid_micro, paid_tokens })
    }
}

/// Micro-dollars that were paid, and tokens that grants paid.
async fn paid(ledger: &Ledger, project: &str, from_ms: u64, to_ms: u64) -> Result<(i64, i64)> {
    let mut connection = ledger.database.read().await?;
    let query = "SELECT CAST(COALESCE(SUM(paid_micro), 0) AS BIGINT), CAST(COALESCE(SUM(paid_tokens), 0) AS BIGINT)
                 FROM usage_records WHERE project = $1 AND at_ms >= $2 AND at_ms < $3";
    let query = meta::query(query).bind(project).bind(from_ms as i64).bind(to_ms as i64);
    let row = query.fetch_one(&mut *connection).await?;
    Ok((meta::Row::try_get(&row, 0)?, meta::Row::try_get(&row, 1)?))
}

impl Invoice {
    /// Micro-dollars of all lines.
    #[must_use]
    pub fn sum_micro(&self) -> i64 {
        self.lines.iter().map(|line| line.price_micro).sum()
    }

    /// What was paid, in words.
    #[must_use]
    pub fn payment(&self) -> String {
        let tokens = Unit::Token.show(self.paid_tokens);
        format!("Paid in money: {} dollars, in granted tokens: {tokens}.", dollars(self.paid_micro))
    }

    /// As a page to print.
    ///
    /// # Panics
    /// Never: a string takes everything.
    #[must_use]
    pub fn html(&self) -> String {
        let (month, last) = (show_month(self.from_ms), show_day(self.to_ms - 1));
        let project = escaped(&self.project);
        let mut page = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Invoice {month}</title>\
             <style>{STYLE}</style><h1>Invoice {month}</h1>\
             <p>Project <b>{project}</b>, {} to {last} (UTC). Written {}.</p>\
             <table><thead><tr><th>Model<th>Region<th>What<th class=n>Requests<th class=n>Tokens in<th class=n>cached\
             <th class=n>Tokens out<th class=n>Other units<th class=n>Dollars<tbody>",
            show_day(self.from_ms),
            show_time(self.written_ms),
        );
        for line in &self.lines {
            let (model, region, activity) = (escaped(&line.model), escaped(&line.region), escaped(&line.activity));
            write!(page, "<tr><td>{model}<td>{region}<td>{activity}").expect("a string takes everything");
            let counts = [line.requests, line.tokens_in, line.tokens_cached, line.tokens_out, line.units];
            for count in counts {
                write!(page, "<td class=n>{count}").expect("a string takes everything");
            }
            write!(page, "<td class=n>{}", dollars(line.price_micro)).expect("a string takes everything");
        }
        let (sum, payment) = (dollars(self.sum_micro()), self.payment());
        writeln!(page, "<tfoot><tr><td colspan=8>Sum<td class=n>{sum}</table><p>{payment}</p></html>")
            .expect("a string takes everything");
        page
    }
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::Invoice;
    use crate::calendar::parse_day;
    use crate::usage::Total;

    #[test]
    fn an_invoice_sums_its_lines_and_takes_no_markup_from_names() {
        let line = |model: &str, price_micro| Total {
            start_ms: 0,
            project: "p".to_owned(),
            key: "k".to_owned(),
            model: model.to_owned(),
            region: "home".to_owned(),
            activity: "generate".to_owned(),
            requests: 2,
            tokens_in: 10,
            tokens_cached: 4,
            tokens_out: 20,
            units: 0,
            price_micro,
        };
        let day = |text| parse_day("day", text).unwrap();
        let lines = vec![line("<script>", 1_500_000), line("other", 250_000)];
        let [from_ms, to_ms, written_ms] = [day("2026-11-01"), day("2026-12-01"), day("2026-12-02")];
        let (project, paid_micro, paid_tokens) = ("p&q".to_owned(), 1_000_000, 5);
        let page = Invoice { project, from_ms, to_ms, written_ms, lines, paid_micro, paid_tokens }.html();
        assert!(page.contains("Invoice 2026-11") && page.contains("2026-11-30") && page.contains("<td class=n>1.75<"));
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script") && page.contains("p&amp;q"));
        assert!(page.contains("1.00 dollars, in granted tokens: 5 tokens"));
    }
}
