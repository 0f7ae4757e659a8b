//! Vectors and keys as both vendors write them, and the faster forms that are ours.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vectors::{IndexEntry, Key, Metadata, MetadataLimits, Position, Row};

/// The numbers of a vector. Exactly one field is there.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct WireData {
    float32: Option<Vec<Number>>,
    /// Ours: little-endian `f32`s in base64.
    #[serde(rename = "float32Base64")]
    base64: Option<String>,
    /// Ours: a text that the platform embeds.
    text: Option<String>,
}

/// A number as JSON writes it. One that no `f32` holds becomes infinite, for which a vector is refused by name.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(from = "f64")]
struct Number(f32);

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Self(number as f32)
    }
}

/// A vector that is put.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct WireVector {
    pub(crate) key: Option<String>,
    pub(crate) data: Option<WireData>,
    pub(crate) metadata: Option<Value>,
}

/// What is known of a vector's numbers.
#[derive(Debug, PartialEq)]
pub(crate) enum Numbers {
    Known(Vec<f32>),
    /// Those of the text's embedding.
    OfText(String),
}

/// A vector that is returned.
#[derive(Debug, Serialize)]
pub(crate) struct WireRow {
    pub(crate) key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<WireNumbers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<Value>,
}

/// The numbers of a vector that is returned.
#[derive(Debug, Serialize)]
pub(crate) enum WireNumbers {
    #[serde(rename = "float32")]
    Numbers(Box<[f32]>),
    #[serde(rename = "float32Base64")]
    Base64(String),
}

/// How the numbers of returned vectors are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum DataFormat {
    #[default]
    Float32,
    Float32Base64,
}

impl WireData {
    /// The numbers; the error is a sentence.
    pub(crate) fn numbers(self) -> Result<Numbers, String> {
        match (self.float32, self.base64, self.text) {
            (Some(numbers), None, None) => Ok(Numbers::Known(numbers.into_iter().map(|number| number.0).collect())),
            (None, Some(text), None) => {
                let bytes = BASE64_STANDARD.decode(text).map_err(|why| format!("float32Base64: {why}"))?;
                floats(&bytes)
                    .map(Numbers::Known)
                    .ok_or_else(|| format!("float32Base64 holds {} bytes, four a number are needed", bytes.len()))
            }
            (None, None, Some(text)) => Ok(Numbers::OfText(text)),
            _ => Err("exactly one of float32, float32Base64 and text must be given".to_owned()),
        }
    }
}

/// Little-endian `f32`s; `None` if a number is cut.
pub(crate) fn floats(bytes: &[u8]) -> Option<Vec<f32>> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| numbers.iter().map(|&number| f32::from_le_bytes(number)).collect())
}

pub(crate) fn float_bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A row for an index; the error is a sentence.
pub(crate) fn row(
    key: &str,
    numbers: Vec<f32>,
    metadata: Option<&Value>,
    entry: &IndexEntry,
    limits: MetadataLimits,
) -> Result<Row, String> {
    let told = |error: vectors::Error| error.to_string();
    let key = Key::parse(key).map_err(told)?;
    entry.shape.check_vector(&numbers).map_err(told)?;
    let metadata = match metadata {
        None | Some(Value::Null) => Metadata::default(),
        Some(json) => Metadata::from_json(json, &entry.shape.not_filterable, limits).map_err(told)?,
    };
    Ok(Row { key, vector: numbers.into(), metadata })
}

/// A row as it is returned.
pub(crate) fn returned(row: &Row, data: Option<DataFormat>, metadata: bool) -> WireRow {
    let data = data.map(|format| match format {
        DataFormat::Float32 => WireNumbers::Numbers(row.vector.clone()),
        DataFormat::Float32Base64 => WireNumbers::Base64(BASE64_STANDARD.encode(float_bytes(&row.vector))),
    });
    WireRow { key: row.key.as_str().to_owned(), data, metadata: metadata.then(|| row.metadata.to_json()) }
}

/// Where a listing goes on, as an opaque text.
pub(crate) fn token(text: &str) -> String {
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text)
}

/// What was made a token; `None` if it is none of ours.
pub(crate) fn untoken(token: &str) -> Option<String> {
    String::from_utf8(base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(token).ok()?).ok()
}

/// The position behind a key that was made a token.
pub(crate) fn position(token: &str) -> Option<Position> {
    Key::parse(&untoken(token)?).ok().map(Position::of)
}

#[cfg(test)]
mod tests {
    use super::{Numbers, WireData, position, token};

    fn numbers(json: &str) -> Result<Numbers, String> {
        serde_json::from_str::<WireData>(json).unwrap().numbers()
    }

    #[test]
    fn numbers_come_in_three_forms() {
        assert_eq!(numbers(r#"{"float32": [1, -2.5]}"#), Ok(Numbers::Known(vec![1.0, -2.5])));
        assert_eq!(numbers(r#"{"float32Base64": "AACAPwAAIMA="}"#), Ok(Numbers::Known(vec![1.0, -2.5])));
        assert_eq!(numbers(r#"{"float32": [1e39]}"#), Ok(Numbers::Known(vec![f32::INFINITY])));
        assert_eq!(numbers(r#"{"text": "a"}"#), Ok(Numbers::OfText("a".to_owned())));
        for bad in
            ["{}", r#"{"float32": [1], "text": "a"}"#, r#"{"float32Base64": "AAC"}"#, r#"{"float32Base64": "AAA="}"#]
        {
            assert!(numbers(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tokens_say_where_to_go_on() {
        assert_eq!(position(&token("ключ")).unwrap().key().as_str(), "ключ");
        for bad in ["", "!", "_w"] {
            assert!(position(bad).is_none(), "{bad}");
        }
    }
}
