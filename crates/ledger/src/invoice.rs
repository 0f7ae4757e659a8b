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

impl Ledger {
    /// The invoice of a project for the month of this time, as HTML.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn invoice(&self, project: &str, at_ms: u64) -> Result<String> {
        let (from_ms, to_ms) = (month_start(at_ms), next_month(at_ms));
        let filter = Filter { from_ms, to_ms: Some(to_ms), project: Some(project.to_owned()), ..Filter::default() };
        let lines = totals(&self.database, &filter, By::All).await?;
        let paid = paid(self, project, from_ms, to_ms).await?;
        Ok(page(project, from_ms, to_ms, self.clock.now_ms(), &lines, paid))
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

fn page(project: &str, from_ms: u64, to_ms: u64, now_ms: u64, lines: &[Total], paid: (i64, i64)) -> String {
    let (month, last) = (show_month(from_ms), show_day(to_ms - 1));
    let project = escaped(project);
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Invoice {month}</title><style>{STYLE}</style>\
         <h1>Invoice {month}</h1><p>Project <b>{project}</b>, {} to {last} (UTC). Written {}.</p>\
         <table><thead><tr><th>Model<th>Region<th>What<th class=n>Requests<th class=n>Tokens in<th class=n>cached\
         <th class=n>Tokens out<th class=n>Other units<th class=n>Dollars<tbody>",
        show_day(from_ms),
        show_time(now_ms),
    );
    let mut sum_micro = 0;
    for line in lines {
        sum_micro += line.price_micro;
        let (model, region, activity) = (escaped(&line.model), escaped(&line.region), escaped(&line.activity));
        write!(page, "<tr><td>{model}<td>{region}<td>{activity}").expect("a string takes everything");
        let counts = [line.requests, line.tokens_in, line.tokens_cached, line.tokens_out, line.units];
        for count in counts {
            write!(page, "<td class=n>{count}").expect("a string takes everything");
        }
        write!(page, "<td class=n>{}", dollars(line.price_micro)).expect("a string takes everything");
    }
    let (micro, tokens) = paid;
    writeln!(
        page,
        "<tfoot><tr><td colspan=8>Sum<td class=n>{}</table>\
         <p>Paid in money: {} dollars, in granted tokens: {}.</p></html>",
        dollars(sum_micro),
        dollars(micro),
        Unit::Token.show(tokens),
    )
    .expect("a string takes everything");
    page
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
    use super::page;
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
        let lines = [line("<script>", 1_500_000), line("other", 250_000)];
        let page = page("p&q", day("2026-11-01"), day("2026-12-01"), day("2026-12-02"), &lines, (1_000_000, 5));
        assert!(page.contains("Invoice 2026-11") && page.contains("2026-11-30") && page.contains("<td class=n>1.75<"));
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script") && page.contains("p&amp;q"));
        assert!(page.contains("1.00 dollars, in granted tokens: 5 tokens"));
    }
}
