//! Vectors from files: JSON lines, Parquet, NumPy arrays and .fvecs, read row by row.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::parquet;

/// The longest line of JSON: 4,096 numbers and 40 KB of metadata are far below.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// The longest header of a NumPy file.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// A vector as a file has it.
#[derive(Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) key: String,
    pub(crate) vector: Vec<f32>,
    pub(crate) metadata: Option<Value>,
}

#[derive(Deserialize)]
struct Line {
    key: String,
    vector: Option<Vec<f32>>,
    /// As the vendors write it.
    data: Option<LineData>,
    metadata: Option<Value>,
}

#[derive(Deserialize)]
struct LineData {
    float32: Vec<f32>,
}

/// The rows of a file, and how many there are if the file says.
pub(crate) struct Source {
    pub(crate) rows: Option<u64>,
    reader: Box<dyn BufRead>,
    form: Form,
    key_prefix: String,
    next: u64,
}

enum Form {
    Lines,
    /// Rows of so many numbers.
    Npy(usize),
    Fvecs,
    Parquet(Box<parquet::Rows>),
}

impl Source {
    /// Opens a file; its name says what it is. `-` is JSON lines from stdin.
    pub(crate) fn open(path: &Path, key_prefix: &str) -> anyhow::Result<Self> {
        let key_prefix = key_prefix.to_owned();
        if path == Path::new("-") {
            let reader = Box::new(BufReader::new(std::io::stdin()));
            return Ok(Self { rows: None, reader, form: Form::Lines, key_prefix, next: 0 });
        }
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let bytes = file.metadata().with_context(|| format!("look at {}", path.display()))?.len();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension == Some("parquet") {
            let (rows, count) = parquet::open(file).with_context(|| format!("read {}", path.display()))?;
            let (form, reader) = (Form::Parquet(Box::new(rows)), Box::new(std::io::empty()));
            return Ok(Self { rows: Some(count), reader, form, key_prefix, next: 0 });
        }
        let mut reader: Box<dyn BufRead> = Box::new(BufReader::with_capacity(1 << 20, file));
        let (form, rows) = match extension {
            Some("npy") => {
                let (rows, columns) = npy_shape(&mut reader).with_context(|| format!("read {}", path.display()))?;
                (Form::Npy(columns), Some(rows))
            }
            Some("fvecs") => {
                let first = reader.fill_buf()?.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
                (Form::Fvecs, Some(bytes / (4 + 4 * u64::from(first))))
            }
            Some("jsonl" | "ndjson" | "json") => (Form::Lines, None),
            _ => bail!("{}: .jsonl, .parquet, .npy and .fvecs are read", path.display()),
        };
        Ok(Self { rows, reader, form, key_prefix, next: 0 })
    }

    /// The next row; an error names it.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Found>> {
        let found = match &mut self.form {
            Form::Parquet(rows) => rows.next(&self.key_prefix, self.next),
            Form::Lines => self.line(),
            Form::Npy(columns) => {
                let columns = *columns;
                self.numbers(columns)
            }
            Form::Fvecs => self.fvec(),
        };
        let found = found.with_context(|| format!("row {}", self.next))?;
        self.next += u64::from(found.is_some());
        Ok(found)
    }

    /// Passes over rows that were written before.
    pub(crate) fn skip(&mut self, count: u64) -> anyhow::Result<()> {
        for _ in 0..count {
            ensure!(self.next()?.is_some(), "--skip {count}: the file has {} rows", self.next);
        }
        Ok(())
    }

    fn line(&mut self) -> anyhow::Result<Option<Found>> {
        let mut text = String::new();
        // Ends: each round reads a line, and an empty one is the end only with nothing read.
        loop {
            text.clear();
            let read = self.reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut text)?;
            if read == 0 {
                return Ok(None);
            }
            ensure!(read as u64 != LINE_BYTES_MAX, "the line is longer than {LINE_BYTES_MAX} bytes");
            if !text.trim().is_empty() {
                break;
            }
        }
        let line: Line = serde_json::from_str(&text)?;
        let vector = line.vector.or(line.data.map(|data| data.float32)).context("neither vector nor data.float32")?;
        Ok(Some(Found { key: line.key, vector, metadata: line.metadata }))
    }

    fn numbers(&mut self, count: usize) -> anyhow::Result<Option<Found>> {
        if self.rows.is_some_and(|rows| self.next == rows) {
            return Ok(None);
        }
        let mut bytes = vec![0; count * 4];
        self.reader.read_exact(&mut bytes).context("the file is cut")?;
        let (numbers, _) = bytes.as_chunks::<4>();
        let vector = numbers.iter().map(|&number| f32::from_le_bytes(number)).collect();
        Ok(Some(Found { key: format!("{}{}", self.key_prefix, self.next), vector, metadata: None }))
    }

    fn fvec(&mut self) -> anyhow::Result<Option<Found>> {
        if self.reader.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut count = [0; 4];
        self.reader.read_exact(&mut count).context("the file is cut")?;
        let count = u32::from_le_bytes(count);
        ensure!(count <= vectors::DIMENSION_MAX, "{count} numbers, {} allowed", vectors::DIMENSION_MAX);
        self.rows = None;
        self.numbers(count as usize)
    }
}

/// Rows and columns from the head of a NumPy file (numpy.org/neps/nep-0001-npy-format.html).
fn npy_shape(reader: &mut impl Read) -> anyhow::Result<(u64, usize)> {
    let mut start = [0; 8];
    reader.read_exact(&mut start)?;
    ensure!(start.starts_with(b"\x93NUMPY"), "it is no NumPy file");
    let length = if start[6] == 1 {
        let mut length = [0; 2];
        reader.read_exact(&mut length)?;
        usize::from(u16::from_le_bytes(length))
    } else {
        let mut length = [0; 4];
        reader.read_exact(&mut length)?;
        u32::from_le_bytes(length) as usize
    };
    ensure!(length <= HEADER_BYTES_MAX, "its header has {length} bytes, {HEADER_BYTES_MAX} allowed");
    let mut header = vec![0; length];
    reader.read_exact(&mut header)?;
    let header = String::from_utf8_lossy(&header);
    ensure!(header.contains("'<f4'"), "its numbers are not little-endian f32");
    ensure!(header.contains("'fortran_order': False"), "its rows do not lie one behind the other");
    let shape = header.split("'shape': (").nth(1).and_then(|rest| rest.split(')').next()).context("it has no shape")?;
    let sizes: Vec<u64> = shape.split(',').filter_map(|size| size.trim().parse().ok()).collect();
    let [rows, columns] = sizes[..] else { bail!("its shape is ({shape}), two sizes are needed") };
    ensure!((1..=u64::from(vectors::DIMENSION_MAX)).contains(&columns), "its rows have {columns} numbers");
    Ok((rows, columns as usize))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use serde_json::json;

    use super::{Found, Source};

    fn read(name: &str, bytes: &[u8]) -> anyhow::Result<Vec<Found>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        let mut source = Source::open(&path, "row-")?;
        let mut all = Vec::new();
        while let Some(found) = source.next()? {
            all.push(found);
        }
        Ok(all)
    }

    fn npy(kind: &str, shape: &str, numbers: &[f32]) -> Vec<u8> {
        let head = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((head.len() as u16).to_le_bytes());
        bytes.extend(head.bytes());
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        bytes
    }

    #[test]
    fn lines_have_keys_vectors_and_metadata() {
        let first = r#"{"key": "a", "vector": [1, 2], "metadata": {"n": 1}}"#;
        let text = format!("{first}\n\n{}", r#"{"key": "b", "data": {"float32": [3]}}"#);
        let found = read("a.jsonl", text.as_bytes()).unwrap();
        assert_eq!(found[0], Found { key: "a".to_owned(), vector: vec![1.0, 2.0], metadata: Some(json!({"n": 1})) });
        assert_eq!((found[1].key.as_str(), &found[1].vector[..]), ("b", &[3.0][..]));
        assert!(read("a.jsonl", b"{\"key\": \"a\"}").unwrap_err().to_string().contains("row 0"));
        assert!(read("a.jsonl", b"{").is_err() && read("a.txt", b"").is_err());
    }

    #[test]
    fn arrays_have_their_rows_numbers_for_keys() {
        let found = read("a.npy", &npy("<f4", "(2, 2)", &[1.0, 2.0, 3.0, 4.0])).unwrap();
        assert_eq!((found.len(), found[1].key.as_str(), &found[1].vector[..]), (2, "row-1", &[3.0, 4.0][..]));
        for bad in [npy("<f8", "(1, 1)", &[1.0]), npy("<f4", "(4,)", &[1.0]), npy("<f4", "(2, 1)", &[1.0]), vec![0; 3]]
        {
            assert!(read("a.npy", &bad).is_err());
        }
        let mut fvecs = Vec::new();
        for row in [[1.0_f32, 2.0], [3.0, 4.0]] {
            fvecs.extend(2_u32.to_le_bytes());
            fvecs.extend(row.iter().flat_map(|number| number.to_le_bytes()));
        }
        let found = read("a.fvecs", &fvecs).unwrap();
        assert_eq!((found.len(), &found[1].vector[..]), (2, &[3.0, 4.0][..]));
        assert!(read("a.fvecs", &fvecs[..15]).is_err() && read("a.fvecs", &[0xff; 8]).is_err());
    }
}
