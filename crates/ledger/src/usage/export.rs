//! Usage as comma-separated values (RFC 4180).

use super::{Record, Total};
use crate::calendar::show_time;
use crate::money::dollars;

/// Records with a line of names before them.
#[must_use]
pub fn csv_of_records(records: &[Record]) -> String {
    let mut text = String::from(
        "id,at,project,key,model,region,activity,outcome,tariff,tokens_in,tokens_cached,tokens_out,units,price_dollars,\
         paid_dollars,paid_tokens,latency_ms,trace,prices\r\n",
    );
    for record in records {
        let fields = [
            record.id.clone(),
            show_time(record.at_ms as u64),
            record.project.clone(),
            record.key.clone(),
            record.model.clone(),
            record.region.clone(),
            record.activity.clone(),
            record.outcome.clone(),
            record.tariff.clone(),
            record.tokens_in.to_string(),
            record.tokens_cached.to_string(),
            record.tokens_out.to_string(),
            record.units.to_string(),
            dollars(record.price_micro),
            dollars(record.paid_micro),
            record.paid_tokens.to_string(),
            record.latency_ms.to_string(),
            record.trace.clone(),
            record.prices.clone(),
        ];
        line(&mut text, &fields);
    }
    text
}

/// Sums with a line of names before them.
#[must_use]
pub fn csv_of_totals(totals: &[Total]) -> String {
    let mut text = String::from(
        "start,project,key,model,region,activity,requests,tokens_in,tokens_cached,tokens_out,units,price_dollars\r\n",
    );
    for total in totals {
        let start = if total.start_ms == 0 { String::new() } else { show_time(total.start_ms as u64) };
        let fields = [
            start,
            total.project.clone(),
            total.key.clone(),
            total.model.clone(),
            total.region.clone(),
            total.activity.clone(),
            total.requests.to_string(),
            total.tokens_in.to_string(),
            total.tokens_cached.to_string(),
            total.tokens_out.to_string(),
            total.units.to_string(),
            dollars(total.price_micro),
        ];
        line(&mut text, &fields);
    }
    text
}

fn line(text: &mut String, fields: &[String]) {
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&quoted(field));
    }
    text.push_str("\r\n");
}

/// A field as a table program reads it: quoted where it must be, and never taken for a formula.
fn quoted(field: &str) -> String {
    let is_formula = field.starts_with(['=', '+', '@', '\t', '\r'])
        || (field.starts_with('-') && field.parse::<i64>().is_err() && !is_amount(field));
    let field = if is_formula { format!("'{field}") } else { field.to_owned() };
    if field.contains([',', '"', '\n', '\r']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

fn is_amount(field: &str) -> bool {
    field.strip_prefix('-').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_field_is_neither_cut_nor_computed() {
        for (field, expected) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"no\"\n", "\"say \"\"no\"\"\n\""),
            ("=1+1", "'=1+1"),
            ("-1.50", "-1.50"),
            ("-cmd", "'-cmd"),
        ] {
            assert_eq!(quoted(field), expected);
        }
    }
}
