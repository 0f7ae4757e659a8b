//! Usage as Parquet, for programs that read tables: the columns of the CSV, but for amounts, which are whole
//! micro-dollars here, and times, which are UTC in milliseconds.

use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::{Record, Total};
use crate::Result;

/// Values of one column.
enum Column<'a, T> {
    Text(&'a str, fn(&T) -> &str),
    Number(&'a str, fn(&T) -> i64),
    /// Milliseconds since 1970.
    Time(&'a str, fn(&T) -> i64),
}

use Column::{Number, Text, Time};

/// Records, one a row.
///
/// # Errors
/// If the format cannot hold them.
pub fn parquet_of_records(records: &[Record]) -> Result<Vec<u8>> {
    let columns: [Column<'_, Record>; 19] = [
        Text("id", |record| &record.id),
        Time("at", |record| record.at_ms),
        Text("project", |record| &record.project),
        Text("key", |record| &record.key),
        Text("model", |record| &record.model),
        Text("region", |record| &record.region),
        Text("activity", |record| &record.activity),
        Text("outcome", |record| &record.outcome),
        Text("tariff", |record| &record.tariff),
        Number("tokens_in", |record| record.tokens_in),
        Number("tokens_cached", |record| record.tokens_cached),
        Number("tokens_out", |record| record.tokens_out),
        Number("units", |record| record.units),
        Number("price_micro", |record| record.price_micro),
        Number("paid_micro", |record| record.paid_micro),
        Number("paid_tokens", |record| record.paid_tokens),
        Number("latency_ms", |record| record.latency_ms),
        Text("trace", |record| &record.trace),
        Text("prices", |record| &record.prices),
    ];
    written(&columns, records)
}

/// Sums, one a row. Where everything is summed at once, `start` is the beginning of 1970.
///
/// # Errors
/// If the format cannot hold them.
pub fn parquet_of_totals(totals: &[Total]) -> Result<Vec<u8>> {
    let columns: [Column<'_, Total>; 12] = [
        Time("start", |total| total.start_ms),
        Text("project", |total| &total.project),
        Text("key", |total| &total.key),
        Text("model", |total| &total.model),
        Text("region", |total| &total.region),
        Text("activity", |total| &total.activity),
        Number("requests", |total| total.requests),
        Number("tokens_in", |total| total.tokens_in),
        Number("tokens_cached", |total| total.tokens_cached),
        Number("tokens_out", |total| total.tokens_out),
        Number("units", |total| total.units),
        Number("price_micro", |total| total.price_micro),
    ];
    written(&columns, totals)
}

/// One row group: what a list holds at most is far below what a reader takes at once.
fn written<T>(columns: &[Column<'_, T>], rows: &[T]) -> Result<Vec<u8>> {
    let described: String = columns.iter().map(described).collect();
    let schema = parse_message_type(&format!("message usage {{ {described}}}"))?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    for column in columns {
        let mut next = group.next_column()?.expect("the schema has a column for each of ours");
        match column {
            Text(_, get) => {
                let values: Vec<ByteArray> = rows.iter().map(|row| ByteArray::from(get(row))).collect();
                next.typed::<ByteArrayType>().write_batch(&values, None, None)
            }
            Number(_, get) | Time(_, get) => {
                let values: Vec<i64> = rows.iter().map(get).collect();
                next.typed::<Int64Type>().write_batch(&values, None, None)
            }
        }?;
        next.close()?;
    }
    group.close()?;
    Ok(writer.into_inner()?)
}

fn described<T>(column: &Column<'_, T>) -> String {
    match column {
        Text(name, _) => format!("REQUIRED BYTE_ARRAY {name} (UTF8); "),
        Number(name, _) => format!("REQUIRED INT64 {name}; "),
        Time(name, _) => format!("REQUIRED INT64 {name} (TIMESTAMP(MILLIS, true)); "),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::RowAccessor as _;

    use super::super::{Record, Total};
    use super::{parquet_of_records, parquet_of_totals};

    fn record(index: i64) -> Record {
        let text = |name: &str| format!("{name} {index} \u{6a5f}\"',\r\n\u{0}");
        Record {
            id: text("id"),
            at_ms: 1_793_491_200_123 + index,
            project: text("project"),
            key: text("key"),
            model: text("model"),
            region: String::new(),
            activity: "generate".to_owned(),
            outcome: "finished".to_owned(),
            tariff: "full".to_owned(),
            tokens_in: index,
            tokens_cached: index + 1,
            tokens_out: index + 2,
            units: index + 3,
            price_micro: i64::MAX - index,
            paid_micro: i64::MIN + index,
            paid_tokens: -index,
            latency_ms: index + 4,
            trace: text("trace"),
            prices: text("prices"),
        }
    }

    #[test]
    fn every_record_is_read_back_as_it_was() {
        for count in [0, 1, 3_000] {
            let records: Vec<Record> = (0..count).map(record).collect();
            let file = SerializedFileReader::new(Bytes::from(parquet_of_records(&records).unwrap())).unwrap();
            let rows: Vec<_> = file.get_row_iter(None).unwrap().map(Result::unwrap).collect();
            assert_eq!(rows.len(), records.len());
            for (row, record) in rows.iter().zip(&records) {
                let text = |column| row.get_string(column).unwrap().clone();
                let number = |column| row.get_long(column).unwrap();
                let read = Record {
                    id: text(0),
                    at_ms: row.get_timestamp_millis(1).unwrap(),
                    project: text(2),
                    key: text(3),
                    model: text(4),
                    region: text(5),
                    activity: text(6),
                    outcome: text(7),
                    tariff: text(8),
                    tokens_in: number(9),
                    tokens_cached: number(10),
                    tokens_out: number(11),
                    units: number(12),
                    price_micro: number(13),
                    paid_micro: number(14),
                    paid_tokens: number(15),
                    latency_ms: number(16),
                    trace: text(17),
                    prices: text(18),
                };
                assert_eq!(&read, record);
            }
        }
    }

    #[test]
    fn sums_have_the_columns_of_the_csv() {
        let total = Total {
            start_ms: 1_793_491_200_000,
            project: "p".to_owned(),
            key: "k".to_owned(),
            model: "m".to_owned(),
            region: "home".to_owned(),
            activity: "embed".to_owned(),
            requests: 1,
            tokens_in: 2,
            tokens_cached: 3,
            tokens_out: 4,
            units: 5,
            price_micro: 6,
        };
        let file = SerializedFileReader::new(Bytes::from(parquet_of_totals(&[total]).unwrap())).unwrap();
        let names: Vec<String> =
            file.metadata().file_metadata().schema_descr().columns().iter().map(|one| one.name().to_owned()).collect();
        let csv = super::super::csv_of_totals(&[]);
        assert_eq!(names.join(","), csv.trim_end().replace("price_dollars", "price_micro"));
        let row = file.get_row_iter(None).unwrap().next().unwrap().unwrap();
        assert_eq!(row.get_timestamp_millis(0).unwrap(), 1_793_491_200_000);
        assert_eq!((6..12).map(|column| row.get_long(column).unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    }
}
