//! The arguments of `sampan vectors`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use vectors::{Language, Metric, TextField};

use crate::args::Data;

/// Where the buckets lie, and how answers are printed.
#[derive(Args)]
pub(crate) struct Place {
    #[command(flatten)]
    pub(crate) data: Data,
    #[command(flatten)]
    pub(crate) store: crate::buckets::StoreOptions,
    /// Ask this server instead of opening the data folder: http://127.0.0.1:8420.
    #[arg(long, global = true, value_name = "URL", env = "SAMPAN_SERVER")]
    pub(crate) server: Option<String>,
    /// Sign for the server with this access key; default: the pair of the data folder, if there is one.
    #[arg(long, global = true, value_name = "KEY", env = "SAMPAN_ACCESS_KEY")]
    pub(crate) access_key: Option<String>,
    /// The other half of the pair.
    #[arg(long, global = true, value_name = "SECRET", env = "SAMPAN_SECRET", hide_env_values = true)]
    pub(crate) secret: Option<String>,
    /// Bytes of one vector's metadata that filters may use.
    #[arg(long, global = true, value_name = "BYTES", env = "SAMPAN_FILTERABLE_BYTES", default_value_t = 2048)]
    pub(crate) filterable_bytes: usize,
    /// For scripts: a JSON object a line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
pub(crate) enum VectorsCommand {
    /// Buckets.
    Bucket {
        #[command(subcommand)]
        command: BucketCommand,
    },
    /// Indexes of a bucket.
    Index {
        #[command(subcommand)]
        command: IndexCommand,
    },
    /// Write vectors from a file.
    Put(Put),
    /// Find the nearest vectors.
    Query(Query),
    /// List keys.
    Ls(Ls),
    /// Write all vectors as JSON lines, which `put` reads.
    Export(Export),
    /// Read every vector and check its bytes.
    Verify {
        /// BUCKET/INDEX.
        index: String,
    },
    /// Move what was written last into segments, and merge segments.
    Compact {
        /// BUCKET/INDEX.
        index: String,
    },
    /// Count the vectors and segments of an index.
    Stats {
        /// BUCKET/INDEX.
        index: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum BucketCommand {
    /// Create a bucket.
    Create {
        /// 3 to 63 of a-z 0-9 . -
        name: String,
    },
    /// List buckets.
    Ls,
    /// Delete a bucket that holds no index.
    Rm {
        /// Its name.
        name: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum IndexCommand {
    /// Create an index.
    Create(CreateIndex),
    /// List the indexes of a bucket.
    Ls {
        /// Its name.
        bucket: String,
    },
    /// Delete an index with all its vectors.
    Rm {
        /// BUCKET/INDEX.
        index: String,
    },
}

#[derive(Args)]
pub(crate) struct CreateIndex {
    /// BUCKET/INDEX.
    pub(crate) index: String,
    /// How many numbers a vector has.
    #[arg(long)]
    pub(crate) dimension: u32,
    /// How distance is measured.
    #[arg(long, value_enum, default_value = "cosine")]
    pub(crate) metric: MetricName,
    /// Metadata fields that filters do not use, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub(crate) not_filterable: Vec<String>,
    /// Metadata fields that are searched by words, separated by commas: body, or body:en with the code of a language.
    #[arg(long, value_delimiter = ',', value_name = "FIELD[:LANGUAGE]")]
    pub(crate) text: Vec<String>,
    /// The metadata field that holds the second, since 1970, at which a vector is gone.
    #[arg(long, value_name = "FIELD")]
    pub(crate) time_to_live: Option<String>,
}

impl CreateIndex {
    /// The fields that are searched by words.
    pub(crate) fn text_fields(&self) -> anyhow::Result<Vec<TextField>> {
        let field = |text: &String| {
            let Some((field, code)) = text.split_once(':') else {
                return Ok(TextField { field: text.clone(), language: Language::Standard });
            };
            let codes = Language::CODES.map(|(code, _)| code).join(" ");
            let language = Language::of_code(code).with_context(|| format!("{code:?} is none of {codes}"))?;
            Ok(TextField { field: field.to_owned(), language })
        };
        self.text.iter().map(field).collect()
    }
}

/// FIELD=WORDS
pub(crate) fn field_and_words(text: &str) -> anyhow::Result<(&str, &str)> {
    text.split_once('=').with_context(|| format!("--text {text:?} is not FIELD=WORDS"))
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum MetricName {
    Cosine,
    Euclidean,
}

impl MetricName {
    pub(crate) fn of_engine(self) -> Metric {
        match self {
            Self::Cosine => Metric::Cosine,
            Self::Euclidean => Metric::Euclidean,
        }
    }
}

#[derive(Args)]
pub(crate) struct Put {
    /// BUCKET/INDEX.
    pub(crate) index: String,
    /// JSON lines `{"key", "vector", "metadata"}` (`-`: from stdin), Parquet (key or id, vector or embedding, the rest
    /// is metadata), a NumPy array (.npy, f32, two-dimensional), or .fvecs.
    pub(crate) file: PathBuf,
    /// Keys of arrays are their rows' numbers behind this.
    #[arg(long, default_value = "")]
    pub(crate) key_prefix: String,
    /// Pass over so many rows of the file, which an earlier try has written.
    #[arg(long, value_name = "ROWS", default_value_t = 0)]
    pub(crate) skip: u64,
}

impl Put {
    /// How an import that failed goes on.
    pub(crate) fn hint(&self, written: u64) -> String {
        match self.skip + written {
            0 => "nothing was written".to_owned(),
            rows => format!("{written} vectors were written\nhint: --skip {rows} goes on behind them"),
        }
    }
}

#[derive(Args)]
pub(crate) struct Query {
    /// BUCKET/INDEX.
    pub(crate) index: String,
    /// Neighbours of this vector: [0.1, 0.2, ...].
    #[arg(long, required_unless_present_any = ["key", "text"], conflicts_with = "key")]
    pub(crate) vector: Option<String>,
    /// Neighbours of the vector with this key.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Rows whose field fits these words, alone or ranked together with the vector: FIELD=WORDS. May be repeated.
    #[arg(long, value_name = "FIELD=WORDS")]
    pub(crate) text: Vec<String>,
    /// How many.
    #[arg(long, default_value_t = 10)]
    pub(crate) top_k: usize,
    /// How hard to look, in percent: less is quicker and may miss some.
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100))]
    #[arg(conflicts_with = "text")]
    pub(crate) effort: i64,
    /// Among vectors whose metadata fits: {"year": {"$gte": 2020}}.
    #[arg(long)]
    pub(crate) filter: Option<String>,
}

#[derive(Args)]
pub(crate) struct Ls {
    /// BUCKET/INDEX.
    pub(crate) index: String,
    /// Keys at most.
    #[arg(long, default_value_t = 1000)]
    pub(crate) limit: usize,
}

#[derive(Args)]
pub(crate) struct Export {
    /// BUCKET/INDEX.
    pub(crate) index: String,
    /// Write here instead of stdout.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}
