//! What templates expect of Python: string methods, `str()`, `json.dumps()`, `strftime()`.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};

/// Depth of a value that is written as JSON. JSON that came from outside is never deeper (`serde_json` stops at 128).
const DEPTH_MAX: usize = 256;

pub(super) fn install(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(format);
    environment.add_filter("tojson", to_json);
    environment.add_filter("string", |value: &Value| to_str(value));
    environment.add_test("iterable", is_iterable);
    environment.add_function("raise_exception", raise_exception);
}

fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()))
}

/// As in Jinja: `none` is not (minijinja says it is), what is undefined is.
fn is_iterable(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Iterable
    )
}

/// How `{{ value }}` is printed.
fn format(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.write_str(text).map_err(Error::from),
        None => out.write_str(&to_str(value)).map_err(Error::from),
    }
}

/// Python's `str(value)`.
fn to_str(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
        }
        _ => value.to_string(),
    }
}

/// Python's `repr` of a float: the shortest digits that read back the same, an exponent below 1e-4 and from 1e16 on.
pub(super) fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("the format {:e} writes an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent of an f64 is a small number");
    if (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// `json.dumps` as transformers' `tojson` calls it: non-ASCII and HTML stay as they are, keys in their order.
#[expect(clippy::needless_pass_by_value, reason = "the signature of a filter")]
fn to_json(value: &Value, kwargs: Kwargs) -> Result<String, Error> {
    let style = Style {
        indent: kwargs.get::<Option<usize>>("indent")?.map(|indent| indent.min(16)),
        ensure_ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    let _: Option<Value> = kwargs.get("separators")?;
    kwargs.assert_all_used()?;
    let mut json = String::new();
    write_json(value, style, 0, &mut json)?;
    Ok(json)
}

#[derive(Clone, Copy)]
struct Style {
    indent: Option<usize>,
    ensure_ascii: bool,
    sort_keys: bool,
}

fn write_json(value: &Value, style: Style, depth: usize, json: &mut String) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("a value is nested deeper than {DEPTH_MAX}")));
    }
    match value.kind() {
        ValueKind::None => json.push_str("null"),
        ValueKind::Bool => json.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => json.push_str(&to_str(value)),
        ValueKind::String => write_string(value.as_str().unwrap_or_default(), style.ensure_ascii, json),
        ValueKind::Seq | ValueKind::Iterable => write_list(value, style, depth, json)?,
        ValueKind::Map => write_map(value, style, depth, json)?,
        other => {
            return Err(Error::new(ErrorKind::InvalidOperation, format!("{other} is not JSON serializable")));
        }
    }
    Ok(())
}

fn write_list(value: &Value, style: Style, depth: usize, json: &mut String) -> Result<(), Error> {
    json.push('[');
    let mut empty = true;
    for item in value.try_iter()? {
        separate(empty, style, depth + 1, json);
        empty = false;
        write_json(&item, style, depth + 1, json)?;
    }
    close(']', empty, style, depth, json);
    Ok(())
}

fn write_map(value: &Value, style: Style, depth: usize, json: &mut String) -> Result<(), Error> {
    let mut keys: Vec<Value> = value.try_iter()?.collect();
    if style.sort_keys {
        keys.sort();
    }
    json.push('{');
    let empty = keys.is_empty();
    for (index, key) in keys.iter().enumerate() {
        separate(index == 0, style, depth + 1, json);
        match key.as_str() {
            Some(key) => write_string(key, style.ensure_ascii, json),
            None => write_string(&to_str(key), style.ensure_ascii, json),
        }
        json.push_str(": ");
        write_json(&value.get_item(key)?, style, depth + 1, json)?;
    }
    close('}', empty, style, depth, json);
    Ok(())
}

fn separate(first: bool, style: Style, depth: usize, json: &mut String) {
    match style.indent {
        Some(indent) => {
            json.push_str(if first { "\n" } else { ",\n" });
            json.extend(std::iter::repeat_n(' ', indent * depth));
        }
        None if first => {}
        None => json.push_str(", "),
    }
}

fn close(bracket: char, empty: bool, style: Style, depth: usize, json: &mut String) {
    if let Some(indent) = style.indent.filter(|_| !empty) {
        json.push('\n');
        json.extend(std::iter::repeat_n(' ', indent * depth));
    }
    json.push(bracket);
}

fn write_string(text: &str, ensure_ascii: bool, json: &mut String) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '\u{8}' => json.push_str("\\b"),
            '\u{c}' => json.push_str("\\f"),
            '\0'..='\u{1f}' => write_escape(c, json),
            '\u{7f}'.. if ensure_ascii => write_escape(c, json),
            _ => json.push(c),
        }
    }
    json.push('"');
}

fn write_escape(c: char, json: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        write!(json, "\\u{unit:04x}").expect("writing to a string does not fail");
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The time in Python's `strftime` format, UTC, names in English. A directive that is not known stays as it is.
pub(super) fn strftime(now_ms: u64, format: &str) -> String {
    let seconds = now_ms / 1000;
    let days = seconds / 86_400;
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let date = date_of(days);
    let (month, weekday) = (MONTHS[date.month as usize - 1], DAYS[((days + 4) % 7) as usize]);
    let hour_of_12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let directive = rest.next();
        match directive {
            Some('Y') => text += &date.year.to_string(),
            Some('y') => text += &format!("{:02}", date.year % 100),
            Some('m') => text += &format!("{:02}", date.month),
            Some('d') => text += &format!("{:02}", date.day),
            Some('H') => text += &format!("{hour:02}"),
            Some('I') => text += &format!("{hour_of_12:02}"),
            Some('M') => text += &format!("{minute:02}"),
            Some('S') => text += &format!("{second:02}"),
            Some('p') => text += if hour < 12 { "AM" } else { "PM" },
            Some('B') => text += month,
            Some('b') => text += &month[..3],
            Some('A') => text += weekday,
            Some('a') => text += &weekday[..3],
            Some('%') => text.push('%'),
            other => text.extend(std::iter::once('%').chain(other)),
        }
    }
    text
}

struct Date {
    year: u64,
    month: u64,
    day: u64,
}

/// The Gregorian date of a day since 1970-01-01.
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn date_of(days: u64) -> Date {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    Date { year: year_of_era + era * 400 + u64::from(month <= 2), month, day }
}

#[cfg(test)]
mod tests {
    use minijinja::Value;
    use minijinja::value::Serde;
    use serde_json::json;

    use super::{float, strftime, to_str};

    #[test]
    fn floats_are_written_as_python_does() {
        let cases = [
            (0.5, "0.5"),
            (3.0, "3.0"),
            (-0.0, "-0.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::NAN, "NaN"),
        ];
        for (value, expected) in cases {
            assert_eq!(float(value), expected);
        }
    }

    #[test]
    fn values_are_printed_as_python_does() {
        let check = |value: serde_json::Value, expected: &str| {
            assert_eq!(to_str(&Value::from(Serde(&value))), expected);
        };
        check(json!(true), "True");
        check(json!(null), "None");
        check(json!("é'"), "é'");
        check(json!(["integer", null, 1, false]), "['integer', None, 1, False]");
        check(json!({"a": "b"}), "{'a': 'b'}");
    }

    #[test]
    fn json_is_written_as_python_does() {
        let check = |source: &str, expected: &str| {
            let mut environment = minijinja::Environment::new();
            super::install(&mut environment);
            let value = json!({"z": "é\u{7f}<\"\\\n\u{1}🙂", "a": [1, 2.0, {}, []]});
            let shown = environment.render_str(source, minijinja::context! { value => Value::from(Serde(&value)) });
            assert_eq!(shown.unwrap(), expected);
        };
        check("{{ value|tojson }}", "{\"z\": \"é\u{7f}<\\\"\\\\\\n\\u0001🙂\", \"a\": [1, 2.0, {}, []]}");
        check("{{ ['é🙂']|tojson(ensure_ascii=true) }}", r#"["\u00e9\ud83d\ude42"]"#);
        check("{{ value.a|tojson(indent=2) }}", "[\n  1,\n  2.0,\n  {},\n  []\n]");
        check(
            "{{ {'b': 1, 'a': {'c': 2}}|tojson(indent=1, sort_keys=true) }}",
            "{\n \"a\": {\n  \"c\": 2\n },\n \"b\": 1\n}",
        );
    }

    #[test]
    fn dates() {
        let format = "%Y-%m-%d %H:%M:%S %A %a %B %b %y %I%p %% %Q %";
        assert_eq!(strftime(0, format), "1970-01-01 00:00:00 Thursday Thu January Jan 70 12AM % %Q %");
        assert_eq!(strftime(1_709_208_000_000, format), "2024-02-29 12:00:00 Thursday Thu February Feb 24 12PM % %Q %");
        assert_eq!(strftime(4_107_542_399_999, "%Y %B %d"), "2100 February 28");
    }
}
