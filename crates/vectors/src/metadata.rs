use serde_json::{Map, Number, Value as Json};

use crate::{Error, Result};

/// Limits of one row's metadata. The defaults are those of Amazon S3 Vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetadataLimits {
    /// All fields together, as JSON.
    pub bytes_max: usize,
    /// The fields that can be filtered by, as JSON.
    pub filterable_bytes_max: usize,
    /// How many fields.
    pub fields_max: usize,
}

impl Default for MetadataLimits {
    fn default() -> Self {
        Self { bytes_max: 40 << 10, filterable_bytes_max: 2 << 10, fields_max: 50 }
    }
}

impl MetadataLimits {
    /// What the formats on disk can hold; a configuration may not go beyond.
    pub const CEILING: Self = Self { bytes_max: 1 << 20, filterable_bytes_max: 1 << 20, fields_max: 1024 };
}

/// A single value.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// Text.
    Text(Box<str>),
    /// A number. It is returned as it was sent and compared as `f64`.
    Number(Number),
    /// True or false.
    Bool(bool),
}

/// The value of a metadata field.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// One value.
    One(Scalar),
    /// Several. A filter asks whether any of them fits.
    Many(Box<[Scalar]>),
}

impl Value {
    /// The values in it, one or several.
    #[must_use]
    pub fn members(&self) -> &[Scalar] {
        match self {
            Self::One(scalar) => std::slice::from_ref(scalar),
            Self::Many(scalars) => scalars,
        }
    }
}

/// Fields with values, in the order of their names.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata(Box<[(Box<str>, Value)]>);

impl Metadata {
    /// Takes a JSON object whose values are texts, numbers, booleans or lists of those.
    ///
    /// # Errors
    /// If it is something else, holds something else, or is larger than the limits.
    pub fn from_json(json: &Json, not_filterable: &[String], limits: MetadataLimits) -> Result<Self> {
        let Json::Object(map) = json else { return Err(invalid("it is not an object".to_owned())) };
        if map.len() > limits.fields_max {
            return Err(invalid(format!("{} fields, {} allowed", map.len(), limits.fields_max)));
        }
        let metadata = Self::from_map(map)?;
        check_size("bytes", metadata.to_json_text().len(), limits.bytes_max)?;
        let filterable = metadata.0.iter().filter(|(name, _)| !not_filterable.iter().any(|other| **other == **name));
        let filterable = Self(filterable.cloned().collect());
        check_size("bytes that can be filtered by", filterable.to_json_text().len(), limits.filterable_bytes_max)?;
        Ok(metadata)
    }

    /// Reads what [`Self::to_json_text`] wrote.
    pub(crate) fn from_json_text(text: &[u8]) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let map: Map<String, Json> = serde_json::from_slice(text).map_err(|error| invalid(error.to_string()))?;
        Self::from_map(&map)
    }

    fn from_map(map: &Map<String, Json>) -> Result<Self> {
        let mut fields = Vec::with_capacity(map.len());
        for (name, value) in map {
            if name.is_empty() || name.len() > 1024 {
                return Err(invalid(format!("a field's name has {} bytes, 1 to 1024 allowed", name.len())));
            }
            fields.push((name.as_str().into(), value_of(name, value)?));
        }
        fields.sort_unstable_by(|left: &(Box<str>, Value), right| left.0.cmp(&right.0));
        Ok(Self(fields.into()))
    }

    /// The fields as a JSON object.
    #[must_use]
    pub fn to_json(&self) -> Json {
        Json::Object(self.0.iter().map(|(name, value)| (name.as_ref().to_owned(), json_of(value))).collect())
    }

    /// The fields as JSON text; nothing at all if there are none. This is how they lie on disk.
    pub(crate) fn to_json_text(&self) -> String {
        if self.0.is_empty() { String::new() } else { self.to_json().to_string() }
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        let found = self.0.binary_search_by(|(other, _)| other.as_ref().cmp(name)).ok()?;
        Some(&self.0[found].1)
    }

    /// All fields, in the order of their names.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }
}

fn invalid(why: String) -> Error {
    Error::Invalid { field: "metadata", why }
}

fn check_size(what: &str, size: usize, limit: usize) -> Result<()> {
    if size > limit {
        return Err(invalid(format!("{size} {what}, {limit} allowed")));
    }
    Ok(())
}

fn value_of(name: &str, json: &Json) -> Result<Value> {
    match json {
        Json::Array(members) => {
            let scalars = members.iter().map(|member| scalar_of(name, member)).collect::<Result<Vec<_>>>()?;
            Ok(Value::Many(scalars.into()))
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_) => {
            Ok(Value::One(scalar_of(name, json)?))
        }
    }
}

/// The single value that a JSON value is.
pub(crate) fn scalar_of(name: &str, json: &Json) -> Result<Scalar> {
    match json {
        Json::String(text) => Ok(Scalar::Text(text.as_str().into())),
        Json::Number(number) => Ok(Scalar::Number(number.clone())),
        Json::Bool(value) => Ok(Scalar::Bool(*value)),
        Json::Null | Json::Array(_) | Json::Object(_) => {
            let name: String = name.chars().take(64).collect();
            Err(invalid(format!("{name:?} is not a text, a number, a boolean or a list of those")))
        }
    }
}

fn json_of(value: &Value) -> Json {
    let one = |scalar: &Scalar| match scalar {
        Scalar::Text(text) => Json::String(text.as_ref().to_owned()),
        Scalar::Number(number) => Json::Number(number.clone()),
        Scalar::Bool(value) => Json::Bool(*value),
    };
    match value {
        Value::One(scalar) => one(scalar),
        Value::Many(scalars) => Json::Array(scalars.iter().map(one).collect()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Metadata, MetadataLimits};

    fn parse(json: &serde_json::Value) -> crate::Result<Metadata> {
        Metadata::from_json(json, &["text".to_owned()], MetadataLimits::default())
    }

    #[test]
    fn values_come_back_as_they_were_sent() {
        let sent =
            json!({"a": "x", "b": 9_007_199_254_740_993_i64, "c": 1.5, "d": true, "e": ["x", 1, false], "f": []});
        let metadata = parse(&sent).unwrap();
        assert_eq!(metadata.to_json(), sent);
        assert_eq!(Metadata::from_json_text(metadata.to_json_text().as_bytes()).unwrap(), metadata);
        assert_eq!(Metadata::from_json_text(b"").unwrap(), parse(&json!({})).unwrap());
    }

    #[test]
    fn what_cannot_be_filtered_by_has_the_larger_limit() {
        assert!(parse(&json!({"text": "x".repeat(39_000)})).is_ok());
        assert!(parse(&json!({"other": "x".repeat(2_048)})).is_err());
        assert!(parse(&json!({"text": "x".repeat(41_000)})).is_err());
        let fields: serde_json::Map<_, _> = (0..51).map(|number| (number.to_string(), json!(1))).collect();
        assert!(parse(&fields.into()).is_err());
    }

    #[test]
    fn other_json_is_refused() {
        for bad in
            [json!(1), json!([1]), json!({"a": null}), json!({"a": {"b": 1}}), json!({"a": [[1]]}), json!({"": 1})]
        {
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }
}
