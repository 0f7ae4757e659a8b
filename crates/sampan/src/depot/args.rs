//! Arguments of `sampan pull`, `rm` and `verify`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use crate::args::Data;

#[derive(Args)]
pub(crate) struct Pull {
    /// OWNER/NAME, OWNER/NAME:TAG for one GGUF file of several, with @REVISION if not the newest; or the address of the
    /// model's page.
    pub(crate) model: String,
    /// Where from: `hf` (Hugging Face), `modelscope`, the address of whoever speaks Hugging Face's protocol, or a
    /// folder with models.
    #[arg(long, value_name = "SOURCE", env = "SAMPAN_PULL_FROM")]
    pub(crate) from: Option<String>,
    /// An address of this machine, IP or IP:PORT, to which the Sampan of --from sends by the mover; once for each
    /// network that leads there. Without it, everything comes over HTTP.
    #[arg(long = "plane", value_name = "ADDRESS", requires = "from")]
    pub(crate) planes: Vec<String>,
    /// Its name here; default: the last part of its name there, for a GGUF file the file's name.
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Only files whose names are like this; `*` stands for anything, `?` for one character. May be repeated. Default:
    /// what is needed to run the model.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) include: Vec<String>,
    /// Threads that fetch.
    #[arg(long, default_value = "8")]
    pub(crate) jobs: NonZeroUsize,
    /// A file that holds the token for the hub; otherwise it is HF_TOKEN or MODELSCOPE_API_TOKEN in the environment,
    /// which go to those hubs only.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: Data,
    /// Print what happens as one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Rm {
    /// Names from `sampan ls`.
    #[arg(required_unless_present = "unfinished")]
    pub(crate) models: Vec<String>,
    /// Take away what pulls left behind that never became whole.
    #[arg(long)]
    pub(crate) unfinished: bool,
    #[command(flatten)]
    pub(crate) data: Data,
    /// For scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Verify {
    /// Names from `sampan ls`; default: every model that was pulled.
    pub(crate) models: Vec<String>,
    #[command(flatten)]
    pub(crate) data: Data,
    /// For scripts.
    #[arg(long)]
    pub(crate) json: bool,
}
