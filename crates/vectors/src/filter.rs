//! The filter language of Amazon S3 Vectors, parsed once into a [`Filter`].
//!
//! ```json
//! {"$and": [{"genre": {"$in": ["drama", "comedy"]}}, {"year": {"$gte": 2020, "$lt": 2024}}, {"draft": {"$exists":
//! false}}]} ```
//! Several operators on one field, and several fields in one object, must all hold. A bare value is `$eq`. What the
//! vendor's page leaves open is decided thus:
//! * A list fits `$eq`, `$in`, `$gt`, `$gte`, `$lt`, `$lte` if any of its members does.
//! * `$ne` and `$nin` are the opposites of `$eq` and `$in`; a row without the field fits them.
//! * A value of another type is not equal and not in any order: `"1"` is not `1`. Numbers are compared as `f64`.
//! * `$in` of nothing fits no row, `$nin` of nothing fits every row.
//! * A field that was declared not filterable is refused where it is named.

use serde_json::Value as Json;

use crate::metadata::{Metadata, Scalar, Value, scalar_of};
use crate::{Error, Result};

/// How many tests one filter may hold.
pub const FILTER_TESTS_MAX: usize = 1024;
/// How deep `$and` and `$or` may be nested.
pub const FILTER_DEPTH_MAX: usize = 16;

/// Which rows a query may return.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// Every part holds. Of no parts: every row.
    All(Vec<Filter>),
    /// Some part holds.
    Any(Vec<Filter>),
    /// One field passes one test.
    Field(Box<str>, Test),
}

/// What a field is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// `$eq`
    Equals(Scalar),
    /// `$ne`
    Differs(Scalar),
    /// `$in`
    In(Vec<Scalar>),
    /// `$nin`
    NotIn(Vec<Scalar>),
    /// `$gt`, `$gte`, `$lt`, `$lte`
    Is(Order, f64),
    /// `$exists`
    Exists(bool),
}

/// A relation of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
}

impl Order {
    /// Whether `left` stands in this relation to `right`.
    #[must_use]
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Above => left > right,
            Self::AtLeast => left >= right,
            Self::Below => left < right,
            Self::AtMost => left <= right,
        }
    }
}

impl Filter {
    /// Parses the JSON form.
    ///
    /// # Errors
    /// If it is not in the language, too large, or names a field that is not filterable.
    pub fn parse(json: &Json, not_filterable: &[String]) -> Result<Self> {
        let mut parser = Parser { tests_left: FILTER_TESTS_MAX, not_filterable };
        parser.filter(json, FILTER_DEPTH_MAX)
    }

    /// Whether a row with this metadata fits. The slow and obvious way; segments answer from their filter index.
    #[must_use]
    pub fn matches(&self, metadata: &Metadata) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.matches(metadata)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(metadata)),
            Self::Field(name, test) => test.fits(metadata.get(name)),
        }
    }
}

impl Test {
    fn fits(&self, value: Option<&Value>) -> bool {
        let members = value.map(Value::members).unwrap_or_default();
        match self {
            Self::Equals(wanted) => members.iter().any(|member| equal(member, wanted)),
            Self::Differs(wanted) => !members.iter().any(|member| equal(member, wanted)),
            Self::In(wanted) => members.iter().any(|member| wanted.iter().any(|wanted| equal(member, wanted))),
            Self::NotIn(wanted) => !members.iter().any(|member| wanted.iter().any(|wanted| equal(member, wanted))),
            Self::Is(order, bound) => members.iter().any(|member| match member {
                Scalar::Number(number) => order.holds(number_f64(number), *bound),
                Scalar::Text(_) | Scalar::Bool(_) => false,
            }),
            Self::Exists(wanted) => value.is_some() == *wanted,
        }
    }
}

/// A number of metadata as it is compared.
pub(crate) fn number_f64(number: &serde_json::Number) -> f64 {
    // Without the feature `arbitrary_precision` every JSON number has an `f64`.
    number.as_f64().unwrap_or(f64::NAN)
}

#[expect(clippy::float_cmp, reason = "metadata numbers are equal or not; there is no tolerance to give them")]
fn equal(left: &Scalar, right: &Scalar) -> bool {
    match (left, right) {
        (Scalar::Text(left), Scalar::Text(right)) => left == right,
        (Scalar::Number(left), Scalar::Number(right)) => number_f64(left) == number_f64(right),
        (Scalar::Bool(left), Scalar::Bool(right)) => left == right,
        (Scalar::Text(_) | Scalar::Number(_) | Scalar::Bool(_), _) => false,
    }
}

struct Parser<'a> {
    tests_left: usize,
    not_filterable: &'a [String],
}

impl Parser<'_> {
    fn filter(&mut self, json: &Json, depth_left: usize) -> Result<Filter> {
        let Json::Object(map) = json else { return Err(invalid("a filter is an object")) };
        if depth_left == 0 {
            return Err(invalid(&format!("$and and $or are nested deeper than {FILTER_DEPTH_MAX}")));
        }
        if map.is_empty() {
            return Err(invalid("an object is empty"));
        }
        let mut parts = Vec::new();
        for (name, value) in map {
            match name.as_str() {
                "$and" => parts.push(Filter::All(self.list(name, value, depth_left)?)),
                "$or" => parts.push(Filter::Any(self.list(name, value, depth_left)?)),
                name if name.starts_with('$') => return Err(invalid(&format!("{} is no connective", short(name)))),
                name => self.field(name, value, &mut parts)?,
            }
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Filter::All(parts) })
    }

    fn list(&mut self, name: &str, json: &Json, depth_left: usize) -> Result<Vec<Filter>> {
        match json {
            Json::Array(parts) if !parts.is_empty() => {
                parts.iter().map(|part| self.filter(part, depth_left - 1)).collect()
            }
            _ => Err(invalid(&format!("{name} takes a list of filters that is not empty"))),
        }
    }

    fn field(&mut self, name: &str, json: &Json, parts: &mut Vec<Filter>) -> Result<()> {
        if self.not_filterable.iter().any(|other| other == name) {
            return Err(invalid(&format!("field {} was declared not filterable", short(name))));
        }
        let mut add = |test| {
            self.tests_left = self.tests_left.checked_sub(1).ok_or_else(|| invalid("it has too many tests"))?;
            parts.push(Filter::Field(name.into(), test));
            Ok(())
        };
        match json {
            Json::Object(tests) if tests.is_empty() => Err(invalid(&format!("field {} has no test", short(name)))),
            Json::Object(tests) => tests.iter().try_for_each(|(operator, value)| add(test(operator, value)?)),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => {
                add(Test::Equals(operand("$eq", json)?))
            }
        }
    }
}

fn test(operator: &str, value: &Json) -> Result<Test> {
    let number = || match value {
        Json::Number(number) => Ok(number_f64(number)),
        _ => Err(invalid(&format!("{operator} takes a number"))),
    };
    Ok(match operator {
        "$eq" => Test::Equals(operand(operator, value)?),
        "$ne" => Test::Differs(operand(operator, value)?),
        "$in" => Test::In(operands(operator, value)?),
        "$nin" => Test::NotIn(operands(operator, value)?),
        "$gt" => Test::Is(Order::Above, number()?),
        "$gte" => Test::Is(Order::AtLeast, number()?),
        "$lt" => Test::Is(Order::Below, number()?),
        "$lte" => Test::Is(Order::AtMost, number()?),
        "$exists" => match value {
            Json::Bool(wanted) => Test::Exists(*wanted),
            _ => return Err(invalid("$exists takes true or false")),
        },
        _ => return Err(invalid(&format!("{} is no operator", short(operator)))),
    })
}

fn operand(operator: &str, value: &Json) -> Result<Scalar> {
    scalar_of(operator, value).map_err(|_| invalid(&format!("{operator} takes a text, a number or a boolean")))
}

fn operands(operator: &str, value: &Json) -> Result<Vec<Scalar>> {
    match value {
        Json::Array(values) if values.len() <= FILTER_TESTS_MAX => {
            values.iter().map(|value| operand(operator, value)).collect()
        }
        _ => Err(invalid(&format!("{operator} takes a list of at most {FILTER_TESTS_MAX} values"))),
    }
}

fn short(name: &str) -> String {
    name.chars().take(64).collect()
}

fn invalid(why: &str) -> Error {
    Error::Invalid { field: "filter", why: why.to_owned() }
}

#[cfg(test)]
mod tests;
