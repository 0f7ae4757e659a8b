//! The schema of a fusion index, and how its vectors lie in an index of one vector a row.
//!
//! A vector of the API is one *main* row, under its own key, and one more row for each further vector field that it
//! has: all are written and deleted in one step. Shorter vectors are filled up with zeros, which changes no distance. A
//! hidden metadata field says whose vector a row holds, so that a search of a field is a search with a filter. Texts
//! that are searched by words stand in main rows only, so that each counts once; those that are also compared as a
//! whole stand beside under a hidden name.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use vectors::{
    DIMENSION_MAX, Filter, IndexSettings, Key, Language, Metadata, MetadataLimits, Metric, Op, Row, Scalar, Shape,
    TEXT_FIELDS_MAX, Test, TextField,
};

use crate::ossvectors::error::Failure;

/// Begins every name that is ours; no name or key of a caller does.
const HIDDEN: char = '\u{1}';
/// The hidden field: the vector fields whose vectors a row holds, and [`MAIN`].
const MARK: &str = "\u{1}of";
const MAIN: &str = "*";
/// Vector fields of an index: each makes a row more.
const VECTOR_FIELDS_MAX: usize = 4;
/// Fields of an index.
const FIELDS_MAX: usize = 100;

/// What a fusion index holds.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    pub(super) vectors: Vec<VectorField>,
    pub(super) scalars: Vec<ScalarField>,
    pub(super) metric: Metric,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VectorField {
    pub(super) name: String,
    pub(super) dimension: u32,
}

#[derive(Debug, Clone)]
pub(super) struct ScalarField {
    pub(super) name: String,
    kind: ScalarKind,
    is_array: bool,
    is_partition_key: bool,
    is_text: bool,
    is_exact: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScalarKind {
    Text,
    Long,
    Double,
    Bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSchema {
    fields: Vec<WireField>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireField {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    data_type: Option<String>,
    dimension: Option<i64>,
    distance_metric: Option<String>,
    is_array: Option<bool>,
    is_partition_key: Option<bool>,
    exact_match: Option<bool>,
    text: Option<WireText>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireText {
    enabled: Option<bool>,
    analyzer: Option<String>,
    analyzer_parameters: Option<Map<String, Value>>,
}

impl Schema {
    /// Reads a schema as the vendor writes it.
    pub(super) fn parse(json: &Value) -> Result<Self, Failure> {
        let wire =
            WireSchema::deserialize(json).map_err(|why| Failure::invalid(format!("schemaConfiguration: {why}")))?;
        if !(1..=FIELDS_MAX).contains(&wire.fields.len()) {
            let count = wire.fields.len();
            return Err(Failure::invalid(format!("schemaConfiguration has {count} fields, 1 to {FIELDS_MAX} allowed")));
        }
        let mut schema = Self { vectors: Vec::new(), scalars: Vec::new(), metric: Metric::Euclidean };
        let mut metrics = Vec::new();
        for field in &wire.fields {
            let is_known = schema.vectors.iter().any(|other| other.name == field.name)
                || schema.scalars.iter().any(|other| other.name == field.name);
            if !(1..=63).contains(&field.name.len()) || field.name.starts_with([HIDDEN, '$', '_']) || is_known {
                let rule = "1 to 63 bytes, no $ or _ first, each once";
                return Err(Failure::invalid(format!(
                    "the field name {:?} breaks the rule: {rule}",
                    short(&field.name)
                )));
            }
            if field.kind == "vector" {
                schema.vectors.push(vector_field(field)?);
                metrics.push(metric(field)?);
            } else {
                schema.scalars.push(scalar_field(field)?);
            }
        }
        if let Some(first) = metrics.first() {
            schema.metric = *first;
            if metrics.iter().any(|other| other != first) {
                return Err(Failure::not_implemented("another distanceMetric for each vector field"));
            }
        }
        if schema.vectors.len() > VECTOR_FIELDS_MAX || schema.texts().count() > TEXT_FIELDS_MAX {
            let rule = format!("{VECTOR_FIELDS_MAX} vector fields and {TEXT_FIELDS_MAX} texts are allowed");
            return Err(Failure::invalid(format!("schemaConfiguration: {rule}")));
        }
        if schema.scalars.iter().filter(|field| field.is_partition_key).count() > 1 {
            return Err(Failure::invalid("schemaConfiguration: one field may be the partition key"));
        }
        Ok(schema)
    }

    /// The schema of an index; `None` if it is a standard one.
    pub(super) fn of(settings: &IndexSettings) -> Option<Result<Self, Failure>> {
        let text = settings.fusion.as_ref()?;
        let json = serde_json::from_str::<Value>(text);
        let json = json.map_err(|_| Failure::invalid("the schema of the index cannot be read"));
        Some(json.and_then(|json| Self::parse(&json)))
    }

    /// What the index below is made for.
    pub(super) fn shape(&self) -> Shape {
        let dimension = self.vectors.iter().map(|field| field.dimension).max().unwrap_or(1);
        Shape { dimension, metric: self.metric, not_filterable: self.texts().map(|text| text.field).collect() }
    }

    /// The fields that are searched by words.
    pub(super) fn texts(&self) -> impl Iterator<Item = TextField> {
        let texts = self.scalars.iter().filter(|field| field.is_text);
        texts.map(|field| TextField { field: field.name.clone(), language: Language::Standard })
    }

    pub(super) fn vector(&self, name: &str) -> Result<&VectorField, String> {
        let found = self.vectors.iter().find(|field| field.name == name);
        found.ok_or_else(|| format!("{:?} is no vector field of the index", short(name)))
    }

    /// Under which name a field is compared as a whole.
    pub(super) fn compared(&self, name: &str) -> Result<String, String> {
        let found = self.scalars.iter().find(|field| field.name == name);
        match found.ok_or_else(|| format!("{:?} is no field of the schema that a query may name", short(name)))? {
            field if !field.is_text => Ok(field.name.clone()),
            field if field.is_exact => Ok(field.copy_name()),
            field => Err(format!("{:?} is not compared as a whole: its exactMatch is false", field.name)),
        }
    }

    /// The filter of some partitions.
    pub(super) fn partitions(&self, keys: &[String]) -> Result<Filter, String> {
        let field = self.scalars.iter().find(|field| field.is_partition_key);
        let field = field.ok_or_else(|| "partitionKeys: the index has no partition key".to_owned())?;
        let keys = keys.iter().map(|key| Scalar::Text(key.as_str().into())).collect();
        Ok(Filter::Field(self.compared(&field.name)?.into(), Test::In(keys)))
    }

    /// A vector as long as those of the index.
    pub(super) fn padded(&self, field: &VectorField, mut numbers: Vec<f32>) -> Result<Vec<f32>, String> {
        if numbers.len() != field.dimension as usize {
            let (count, wanted) = (numbers.len(), field.dimension);
            return Err(format!("{:?} has {count} numbers, its dimension is {wanted}", field.name));
        }
        numbers.resize(self.shape().dimension as usize, 0.0);
        Ok(numbers)
    }

    /// The changes that make a vector what is given, whatever it was before.
    pub(super) fn put(
        &self,
        key: &str,
        mut data: BTreeMap<String, Vec<f32>>,
        metadata: Option<&Value>,
        limits: MetadataLimits,
    ) -> Result<Vec<Op>, String> {
        let shape = self.shape();
        let mut held = Vec::new();
        for field in &self.vectors {
            if let Some(numbers) = data.remove(&field.name) {
                let numbers = self.padded(field, numbers)?;
                shape.check_vector(&numbers).map_err(|why| format!("{:?}: {why}", field.name))?;
                held.push((field, numbers));
            }
        }
        if let Some(unknown) = data.keys().next() {
            return Err(format!("{:?} is no vector field of the index", short(unknown)));
        }
        let sent = self.metadata(metadata, &shape, limits)?;
        let mut held = held.into_iter();
        let first = held.next();
        let mut marks = vec![MAIN];
        marks.extend(first.iter().map(|(field, _)| field.name.as_str()));
        let vector = first.as_ref().map_or_else(|| placeholder(shape.dimension), |(_, numbers)| numbers.clone());
        let main = Row { key: own_key(key)?, vector: vector.into(), metadata: self.marked(&sent, &marks)? };
        let mut ops = vec![Op::Put(Arc::new(main))];
        if self.vectors.len() < 2 {
            return Ok(ops);
        }
        let without_texts: Map<String, Value> = sent.into_iter().filter(|(name, _)| !self.is_text(name)).collect();
        let others: BTreeMap<&str, Vec<f32>> = held.map(|(field, numbers)| (field.name.as_str(), numbers)).collect();
        for field in &self.vectors {
            let key = further_key(field, key)?;
            ops.push(match others.get(field.name.as_str()) {
                Some(numbers) => {
                    let metadata = self.marked(&without_texts, &[field.name.as_str()])?;
                    Op::Put(Arc::new(Row { key, vector: numbers.clone().into(), metadata }))
                }
                None => Op::Delete(key),
            });
        }
        Ok(ops)
    }

    /// The keys of all rows that a vector may have, the main one first.
    pub(super) fn keys(&self, key: &str) -> Result<Vec<Key>, String> {
        let mut keys = vec![own_key(key)?];
        if self.vectors.len() > 1 {
            for field in &self.vectors {
                keys.push(further_key(field, key)?);
            }
        }
        Ok(keys)
    }

    /// Whose vector a row holds, as long as it was sent.
    pub(super) fn vector_of<'a>(&'a self, row: &'a Row) -> Option<(&'a str, &'a [f32])> {
        let marks = row.metadata.get(MARK)?.members();
        let is_marked =
            |field: &&VectorField| marks.iter().any(|mark| *mark == Scalar::Text(field.name.as_str().into()));
        let field = self.vectors.iter().find(is_marked)?;
        Some((&field.name, &row.vector[..field.dimension as usize]))
    }

    /// Metadata as it was sent, checked, with the hidden copies.
    fn metadata(
        &self,
        json: Option<&Value>,
        shape: &Shape,
        limits: MetadataLimits,
    ) -> Result<Map<String, Value>, String> {
        let map = match json {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(map)) => map.clone(),
            Some(_) => return Err("metadata is not an object".to_owned()),
        };
        if map.keys().any(|name| name.starts_with(HIDDEN)) {
            return Err("the name of a metadata field begins with a control character".to_owned());
        }
        for field in &self.scalars {
            if let Some(value) = map.get(&field.name) {
                field.check(value)?;
            }
        }
        let whole = Value::Object(map);
        Metadata::from_json(&whole, &shape.not_filterable, limits).map_err(|why| why.to_string())?;
        let Value::Object(mut map) = whole else { return Ok(Map::new()) };
        for field in self.scalars.iter().filter(|field| field.is_text && field.is_exact) {
            if let Some(value) = map.get(&field.name).cloned() {
                map.insert(field.copy_name(), value);
            }
        }
        Ok(map)
    }

    fn marked(&self, map: &Map<String, Value>, marks: &[&str]) -> Result<Metadata, String> {
        let mut map = map.clone();
        map.insert(MARK.to_owned(), json!(marks));
        Metadata::from_json(&Value::Object(map), &[], MetadataLimits::CEILING).map_err(|why| why.to_string())
    }

    fn is_text(&self, name: &str) -> bool {
        self.scalars.iter().any(|field| field.is_text && field.name == name)
    }
}

impl ScalarField {
    fn copy_name(&self) -> String {
        format!("{HIDDEN}{}", self.name)
    }

    fn check(&self, value: &Value) -> Result<(), String> {
        let fits = |value: &Value| match self.kind {
            ScalarKind::Text => value.is_string(),
            ScalarKind::Long => value.is_i64() || value.is_u64(),
            ScalarKind::Double => value.is_number(),
            ScalarKind::Bool => value.is_boolean(),
        };
        let is_right = match value {
            Value::Array(members) => self.is_array && members.iter().all(fits),
            one => fits(one),
        };
        let (kind, many) = (self.kind.name(), if self.is_array { " or a list of them" } else { "" });
        if is_right { Ok(()) } else { Err(format!("{:?} is no value of type {kind}{many}", self.name)) }
    }
}

impl ScalarKind {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Long => "long",
            Self::Double => "double",
            Self::Bool => "bool",
        }
    }
}

/// The rows of one vector field.
pub(super) fn with_vector(field: &str) -> Filter {
    Filter::Field(MARK.into(), Test::Equals(Scalar::Text(field.into())))
}

/// The main rows.
pub(super) fn is_main() -> Filter {
    with_vector(MAIN)
}

/// Whether a key or a metadata field is ours and is not shown.
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with(HIDDEN)
}

/// The vector that a row belongs to.
pub(super) fn owner(key: &Key) -> Key {
    let text = key.as_str().strip_prefix(HIDDEN).and_then(|rest| rest.split_once(HIDDEN)).map(|(_, key)| key);
    text.and_then(|text| Key::parse(text).ok()).unwrap_or_else(|| key.clone())
}

fn own_key(key: &str) -> Result<Key, String> {
    if is_hidden(key) {
        return Err("the key begins with a control character".to_owned());
    }
    Key::parse(key).map_err(|why| why.to_string())
}

fn further_key(field: &VectorField, key: &str) -> Result<Key, String> {
    let text = format!("{HIDDEN}{}{HIDDEN}{key}", field.name);
    Key::parse(&text).map_err(|_| format!("the key is too long beside the field {:?}", field.name))
}

/// Stands where a vector of the API has none: never found, since no mark names it.
fn placeholder(dimension: u32) -> Vec<f32> {
    let mut numbers = vec![0.0; dimension as usize];
    numbers[0] = 1.0;
    numbers
}

fn vector_field(wire: &WireField) -> Result<VectorField, Failure> {
    let name = &wire.name;
    if wire.data_type.as_deref().is_some_and(|kind| kind != "float32") {
        return Err(Failure::invalid(format!("dataType of {name:?} must be float32")));
    }
    let dimension = wire.dimension.unwrap_or_default();
    let fits = u32::try_from(dimension).ok().filter(|it| (1..=DIMENSION_MAX).contains(it));
    let rule = || Failure::invalid(format!("dimension of {name:?} is {dimension}, it must be 1 to {DIMENSION_MAX}"));
    if wire.text.is_some() || wire.exact_match.is_some() || wire.is_array == Some(true) {
        return Err(Failure::invalid(format!("{name:?} is a vector: it takes no text, exactMatch and isArray")));
    }
    Ok(VectorField { name: name.clone(), dimension: fits.ok_or_else(rule)? })
}

fn metric(wire: &WireField) -> Result<Metric, Failure> {
    match wire.distance_metric.as_deref() {
        Some("euclidean") | None => Ok(Metric::Euclidean),
        Some("cosine") => Ok(Metric::Cosine),
        Some(other) => {
            let (name, shown) = (&wire.name, short(other));
            Err(Failure::invalid(format!("distanceMetric of {name:?} is {shown:?}, it must be euclidean or cosine")))
        }
    }
}

fn scalar_field(wire: &WireField) -> Result<ScalarField, Failure> {
    let name = &wire.name;
    let kind = match wire.kind.as_str() {
        "string" => ScalarKind::Text,
        "long" => ScalarKind::Long,
        "double" => ScalarKind::Double,
        "bool" => ScalarKind::Bool,
        other => return Err(Failure::not_implemented(&format!("the type {:?} of {name:?}", short(other)))),
    };
    if wire.data_type.is_some() || wire.dimension.is_some() || wire.distance_metric.is_some() {
        let rule = "only vectors have dataType, dimension and distanceMetric";
        return Err(Failure::invalid(format!("{name:?}: {rule}")));
    }
    let is_text = wire.text.as_ref().is_some_and(|text| text.enabled == Some(true));
    let (is_exact, is_partition_key) = (wire.exact_match.unwrap_or(true), wire.is_partition_key == Some(true));
    if kind != ScalarKind::Text && (is_text || is_partition_key || wire.exact_match.is_some()) {
        let rule = "only a string may have text, exactMatch and isPartitionKey";
        return Err(Failure::invalid(format!("{name:?}: {rule}")));
    }
    if !is_text && !is_exact {
        return Err(Failure::invalid(format!("{name:?} can be found by nothing: neither exactMatch nor text")));
    }
    if let Some(text) = wire.text.as_ref().filter(|_| is_text) {
        check_analyzer(name, text)?;
    }
    Ok(ScalarField {
        name: name.clone(),
        kind,
        is_array: wire.is_array == Some(true),
        is_partition_key,
        is_text,
        is_exact,
    })
}

fn check_analyzer(name: &str, text: &WireText) -> Result<(), Failure> {
    match text.analyzer.as_deref() {
        None | Some("standard") => {}
        Some(other) => return Err(Failure::not_implemented(&format!("the analyzer {:?} of {name:?}", short(other)))),
    }
    for (parameter, value) in text.analyzer_parameters.iter().flatten() {
        if *value != Value::Bool(false) {
            let shown = short(parameter);
            return Err(Failure::not_implemented(&format!("the analyzer's parameter {shown:?} of {name:?}")));
        }
    }
    Ok(())
}

pub(super) fn short(text: &str) -> String {
    text.chars().take(64).collect()
}
