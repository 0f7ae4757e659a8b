//! Vectors from Parquet files: a column of keys (`key` or `id`), one of vectors (`vector` or `embedding`), and whatever
//! else there is as metadata.

use std::fs::File;

use anyhow::{Context as _, bail, ensure};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use serde_json::{Map, Number, Value};

use super::source::Found;

const KEYS: [&str; 2] = ["key", "id"];
const VECTORS: [&str; 2] = ["vector", "embedding"];
/// A column that holds metadata by itself: a group, or the text of a JSON object.
const METADATA: &str = "metadata";

/// The rows of a file.
pub(super) struct Rows {
    rows: RowIter<'static>,
    key: Option<&'static str>,
    vector: &'static str,
}

/// Opens a file; says how many rows it has.
pub(super) fn open(file: File) -> anyhow::Result<(Rows, u64)> {
    let reader = SerializedFileReader::new(file)?;
    let facts = reader.metadata().file_metadata();
    let rows = u64::try_from(facts.num_rows()).context("it has less than no rows")?;
    let columns: Vec<String> = facts.schema().get_fields().iter().map(|field| field.name().to_owned()).collect();
    let has = |name: &&&str| columns.iter().any(|column| column == **name);
    let key = KEYS.iter().find(has).copied();
    let no_vector = || format!("it has no column vector or embedding, but {}", columns.join(", "));
    let vector = VECTORS.iter().find(has).copied().with_context(no_vector)?;
    Ok((Rows { rows: reader.into_iter(), key, vector }, rows))
}

impl Rows {
    /// The next row; without a column of keys it is called by its number behind the prefix.
    pub(super) fn next(&mut self, key_prefix: &str, number: u64) -> anyhow::Result<Option<Found>> {
        let Some(row) = self.rows.next() else { return Ok(None) };
        self.found(&row?, key_prefix, number).map(Some)
    }

    fn found(&self, row: &Row, key_prefix: &str, number: u64) -> anyhow::Result<Found> {
        let (mut key, mut numbers) = (None, None);
        let mut metadata = Map::new();
        for (name, field) in row.get_column_iter() {
            if Some(name.as_str()) == self.key {
                key = Some(key_of(field).with_context(|| format!("column {name}"))?);
            } else if name == self.vector {
                numbers = Some(vector_of(field).with_context(|| format!("column {name}"))?);
            } else if name == METADATA {
                add_whole(field, &mut metadata).with_context(|| format!("column {name}"))?;
            } else if let Some(value) = value_of(field).with_context(|| format!("column {name}"))? {
                metadata.insert(name.clone(), value);
            }
        }
        let key = key.unwrap_or_else(|| format!("{key_prefix}{number}"));
        let vector = numbers.context("the row has no vector")?;
        Ok(Found { key, vector, metadata: (!metadata.is_empty()).then_some(Value::Object(metadata)) })
    }
}

fn key_of(field: &Field) -> anyhow::Result<String> {
    match value_of(field)? {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => bail!("a key is a text or a number"),
    }
}

fn vector_of(field: &Field) -> anyhow::Result<Vec<f32>> {
    let Field::ListInternal(list) = field else { bail!("a vector is a list of numbers") };
    let count = list.elements().len();
    ensure!(count <= vectors::DIMENSION_MAX as usize, "{count} numbers, {} allowed", vectors::DIMENSION_MAX);
    let number = |field: &Field| match field {
        Field::Float(number) => Ok(*number),
        Field::Double(number) => Ok(*number as f32),
        Field::Float16(number) => Ok(number.to_f32()),
        other => bail!("a vector is a list of numbers, this one holds {other}"),
    };
    list.elements().iter().map(number).collect()
}

/// The metadata of a column that holds nothing else.
fn add_whole(field: &Field, metadata: &mut Map<String, Value>) -> anyhow::Result<()> {
    match field {
        Field::Null => {}
        Field::Group(row) => {
            for (name, field) in row.get_column_iter() {
                metadata.extend(value_of(field)?.map(|value| (name.clone(), value)));
            }
        }
        Field::Str(text) => match serde_json::from_str(text) {
            Ok(Value::Object(map)) => metadata.extend(map),
            Ok(Value::Null) => {}
            _ => bail!("its text is no JSON object"),
        },
        _ => bail!("it is neither a group nor the text of a JSON object"),
    }
    Ok(())
}

/// A value of metadata; `None` for one that is not there.
fn value_of(field: &Field) -> anyhow::Result<Option<Value>> {
    let float = |number: f64| Number::from_f64(number).map(Value::Number).context("a number is not finite");
    Ok(Some(match field {
        Field::Null => return Ok(None),
        Field::Bool(value) => Value::Bool(*value),
        Field::Byte(number) => Value::from(*number),
        Field::Short(number) => Value::from(*number),
        Field::Int(number) | Field::Date(number) | Field::TimeMillis(number) => Value::from(*number),
        Field::Long(number) | Field::TimeMicros(number) => Value::from(*number),
        Field::TimestampMillis(number) | Field::TimestampMicros(number) => Value::from(*number),
        Field::UByte(number) => Value::from(*number),
        Field::UShort(number) => Value::from(*number),
        Field::UInt(number) => Value::from(*number),
        Field::ULong(number) => Value::from(*number),
        // The shortest text that is this number, so that 0.1 stays 0.1.
        Field::Float(number) => float(number.to_string().parse().unwrap_or(f64::from(*number)))?,
        Field::Double(number) => float(*number)?,
        Field::Str(text) => Value::String(text.clone()),
        Field::ListInternal(list) => {
            let members = list.elements().iter().map(value_of).collect::<anyhow::Result<Vec<_>>>()?;
            Value::Array(members.into_iter().flatten().collect())
        }
        _ => bail!("its type is not one of texts, numbers, booleans, times and lists of them"),
    }))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use parquet::column::writer::ColumnWriter;
    use parquet::data_type::ByteArray;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use serde_json::json;

    use super::open;

    /// A file of two rows: texts, a list of two numbers each, and a number that the second row lacks.
    fn written(vector: &str) -> File {
        let schema = format!(
            "message rows {{ required binary id (STRING); required group {vector} (LIST) {{ repeated group list {{ \
             required float element; }} }} optional int64 year; }}"
        );
        let schema = Arc::new(parse_message_type(&schema).unwrap());
        let file = tempfile::tempfile().unwrap();
        let properties = Arc::new(WriterProperties::builder().build());
        let mut writer = SerializedFileWriter::new(file.try_clone().unwrap(), schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        while let Some(mut column) = group.next_column().unwrap() {
            match column.untyped() {
                ColumnWriter::ByteArrayColumnWriter(keys) => {
                    keys.write_batch(&[ByteArray::from("a"), ByteArray::from("b")], None, None).map(drop)
                }
                ColumnWriter::FloatColumnWriter(numbers) => {
                    numbers.write_batch(&[1.0, 2.0, 3.0, 4.0], Some(&[1, 1, 1, 1]), Some(&[0, 1, 0, 1])).map(drop)
                }
                ColumnWriter::Int64ColumnWriter(years) => years.write_batch(&[1979], Some(&[1, 0]), None).map(drop),
                _ => panic!("there is no such column"),
            }
            .unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        file
    }

    #[test]
    fn columns_become_keys_vectors_and_metadata() {
        let (mut rows, count) = open(written("embedding")).unwrap();
        let first = rows.next("", 0).unwrap().unwrap();
        assert_eq!((count, first.key.as_str(), &first.vector[..]), (2, "a", &[1.0, 2.0][..]));
        assert_eq!(first.metadata, Some(json!({"year": 1979})));
        let second = rows.next("", 1).unwrap().unwrap();
        assert_eq!((second.key.as_str(), &second.vector[..], second.metadata), ("b", &[3.0, 4.0][..], None));
        assert!(rows.next("", 2).unwrap().is_none());
    }

    #[test]
    fn what_is_no_such_file_says_why() {
        let why = open(written("other")).err().unwrap().to_string();
        assert!(why.contains("id, other, year"), "{why}");
        assert!(open(tempfile::tempfile().unwrap()).is_err());
    }
}
