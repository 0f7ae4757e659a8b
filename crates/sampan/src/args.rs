//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// An operating system for large AI models, in one program.
#[derive(Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Arguments {
    /// What to write to stderr: error, warn, info, debug, or a filter such as `engine=debug`.
    #[arg(long, global = true, env = "SAMPAN_LOG", default_value = "warn")]
    pub(crate) log: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Start the platform: serve models on http://127.0.0.1:8420.
    Up(Box<Up>),
    /// Talk to a model in the terminal.
    Chat(Chat),
    /// Ask about a picture, and get what the answer points at in the picture's own pixels.
    See(crate::see::See),
    /// Watch what a server does: requests, tokens per second, memory for keys and values, spend.
    Top(crate::top::Top),
    /// Fetch a model from a hub, a mirror or another machine, or what of it is missing.
    Pull(crate::depot::args::Pull),
    /// List the models that can be served by name, and those in Hugging Face's cache.
    Ls(Ls),
    /// Take pulled models away, and the files that no other model needs.
    Rm(crate::depot::args::Rm),
    /// Read pulled models whole and say whether they are what was pulled.
    Verify(crate::depot::args::Verify),
    /// Look at models.
    Model {
        #[command(subcommand)]
        command: ModelCommand,
    },
    /// Measure a model on this machine: tokens per second, load time, memory.
    Bench(Bench),
    /// Plan networks: does it fit, how fast is it, what breaks when a switch dies.
    Net {
        #[command(subcommand)]
        command: crate::net::args::NetCommand,
    },
    /// Look at a policy of pools and routes, and ask why a request goes where it goes.
    Route {
        #[command(subcommand)]
        command: crate::route_commands::RouteCommand,
    },
    /// Look at vector buckets, fill and query them.
    Vectors {
        #[command(flatten)]
        place: crate::vector_commands::args::Place,
        #[command(subcommand)]
        command: crate::vector_commands::args::VectorsCommand,
    },
    /// Look after projects and keys, and the books: accounts, usage, prices, programmes, audit.
    Admin(crate::books::args::Admin),
    /// Check whether this machine is fit to run the platform, and say what to do where it is not.
    Doctor(crate::doctor::Doctor),
    /// Look at the settings and where they come from.
    Config {
        #[command(subcommand)]
        command: crate::config::ConfigCommand,
    },
    /// Write manual pages: one of every command.
    Man {
        /// Folder that they are written to; without one the page of `sampan` goes to stdout.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Print shell completions.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Subcommand)]
pub(crate) enum ModelCommand {
    /// List the models that can be served by name.
    Ls(Ls),
    /// Show what a model consists of.
    Show(Show),
    /// Print the logits of every position, to compare with another implementation.
    Logits(Logits),
    /// Say what fits on a machine: which format, how much context, how many at once, and why not.
    Plan(crate::model::plan::Plan),
    /// Write a model in another form: a Hugging Face folder as GGUF, a GGUF file as a folder.
    Convert(crate::model::convert::Convert),
    /// Write a model in fewer bits as GGUF, and measure what that does to it.
    Quantize(crate::model::quantize::Quantize),
}

/// How weights and activations are multiplied.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Precision {
    /// f32 activations against the exact weights.
    Exact,
    /// BF16 or int8 activations: what `up` uses.
    Fast,
}

/// How keys and values are stored.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum KvFormat {
    F32,
    Bf16,
    Int8,
}

/// Which instructions to use.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Isa {
    Scalar,
    Avx2,
    Avx512,
    /// That and its products of BF16.
    #[value(name = "avx512bf16")]
    Avx512Bf16,
    /// That and AMX tiles.
    Amx,
}

/// How the processor is used.
#[derive(Args, Clone)]
pub(crate) struct Processor {
    /// Threads that compute; default: one a core.
    #[arg(long, env = "SAMPAN_THREADS")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Use these instructions instead of the best that the processor has.
    #[arg(long, env = "SAMPAN_ISA")]
    pub(crate) isa: Option<Isa>,
}

/// Where data lies.
#[derive(Args, Clone)]
pub(crate) struct Data {
    /// Folder of everything that is kept; models lie in DIR/models. Default: ~/.local/share/sampan.
    #[arg(long = "data", global = true, value_name = "DIR", env = "SAMPAN_DATA")]
    pub(crate) folder: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Up {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8420", env = "SAMPAN_LISTEN")]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) data: Data,
    /// For scripts: the line that says where it listens is a JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// Load a model at once: a Hugging Face folder or a GGUF file, NAME=PATH gives it a name. May be repeated.
    #[arg(long = "model", value_name = "[NAME=]PATH")]
    pub(crate) models: Vec<String>,
    /// Route requests among this machine's models and upstream pools, as this policy says (docs/routing.md).
    #[arg(long, value_name = "FILE", env = "SAMPAN_POOLS")]
    pub(crate) pools: Option<PathBuf>,
    /// Serve all models in a folder, each loaded when it is asked for. May be repeated; DATA/models is served anyway.
    #[arg(long = "models", value_name = "FOLDER")]
    pub(crate) folders: Vec<PathBuf>,
    /// A further name of a model. May be repeated.
    #[arg(long = "alias", value_name = "NAME=MODEL")]
    pub(crate) aliases: Vec<String>,
    /// Serve a LoRA adapter, a folder that PEFT wrote, under a name of its own, beside its model and without a second
    /// copy of it. Which model that is the adapter says, or BASE does. May be repeated.
    #[arg(long = "adapter", value_name = "NAME=[BASE@]FOLDER")]
    pub(crate) adapters: Vec<String>,
    /// Let a smaller model with the same tokenizer guess ahead for a model: answers stay the same and come sooner where
    /// it guesses right. May be repeated.
    #[arg(long = "draft", value_name = "MODEL=PATH")]
    pub(crate) drafts: Vec<String>,
    /// Memory of all models that are loaded at one time, in MiB: weights, keys and values. Idle models make room for
    /// others. Default: three quarters of the machine's.
    #[arg(long = "memory", value_name = "MIB", env = "SAMPAN_MEMORY_MIB")]
    pub(crate) memory_mib: Option<u64>,
    /// How long a model stays loaded after its last request: `30s`, `5m`, `2h`; 0: not at all. Default: until its
    /// memory is needed.
    #[arg(long, value_name = "TIME", value_parser = keep_alive, default_value = "needed", hide_default_value = true)]
    pub(crate) keep_alive: chat::KeepAlive,
    /// Ask nobody for a key; on loopback addresses only. Otherwise every request needs one: the first start makes an
    /// owner's and keeps it in DIR/admin.key.
    #[arg(long, env = "SAMPAN_OPEN")]
    pub(crate) open: bool,
    /// Keys are asked for, which is so without it.
    #[arg(long, env = "SAMPAN_KEYS", conflicts_with = "open", hide = true)]
    pub(crate) keys: bool,
    /// Fetch pictures from this server too, wherever it stands: `http://10.0.0.5:9000`. May be repeated. Without it
    /// only https on public addresses is fetched.
    #[arg(long = "picture-origin", value_name = "ORIGIN")]
    pub(crate) picture_origins: Vec<String>,
    /// Send a span of every generation to this collector of OpenTelemetry: OTLP over HTTP, http://HOST:PORT.
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub(crate) otlp: Option<String>,
    /// Memory for the experts of one model, in MiB: those of a mixture that has more are read from its files when they
    /// are chosen, and what is used stays. Default: all are loaded.
    #[arg(long = "expert-memory", value_name = "MIB", env = "SAMPAN_EXPERT_MIB")]
    pub(crate) expert_mib: Option<u64>,
    /// Disk for packed weights, in MiB, in DIR/packed: a model that was loaded before is there at once. What was not
    /// used for longest goes first; 0 keeps nothing. Default: a quarter of what is free.
    #[arg(long = "weight-cache", value_name = "MIB", env = "SAMPAN_WEIGHT_CACHE_MIB")]
    pub(crate) weight_cache_mib: Option<u64>,
    /// Memory for keys and values of one model, in MiB; default: a quarter of --memory.
    #[arg(long, value_name = "MIB", env = "SAMPAN_KV_MIB")]
    pub(crate) kv_mib: Option<u64>,
    /// How keys and values are stored.
    #[arg(long, value_enum, default_value = "bf16")]
    pub(crate) kv_format: KvFormat,
    /// How weights and activations are multiplied.
    #[arg(long, value_enum, default_value = "fast")]
    pub(crate) precision: Precision,
    #[command(flatten)]
    pub(crate) sign_in: crate::sign_in::SignIn,
    #[command(flatten)]
    pub(crate) books: crate::books::args::BookOptions,
    #[command(flatten)]
    pub(crate) vectors: crate::buckets::VectorOptions,
    #[command(flatten)]
    pub(crate) processor: Processor,
}

#[derive(Args)]
pub(crate) struct Chat {
    /// A name from `sampan ls`, a folder or a GGUF file; default: the built-in model.
    #[arg(long)]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) data: Data,
    /// Instructions that stand before the conversation.
    #[arg(long)]
    pub(crate) system: Option<String>,
    /// Go on with the last conversation. `/chats` lists the others.
    #[arg(long = "continue")]
    pub(crate) is_continued: bool,
    /// A text or a picture that goes with the first question. May be repeated.
    #[arg(long = "file", value_name = "PATH")]
    pub(crate) files: Vec<PathBuf>,
    /// 0 always picks the most likely word.
    #[arg(long)]
    pub(crate) temperature: Option<f32>,
    /// The same seed gives the same answers.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Tokens of one answer at most.
    #[arg(long, default_value_t = 1024)]
    pub(crate) max_tokens: u32,
    /// For scripts: each line of stdin is a question, each answer one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) processor: Processor,
}

#[derive(Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    pub(crate) data: Data,
    /// For scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Show {
    /// A name from `sampan ls`, a folder or a GGUF file.
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) data: Data,
    /// List every tensor.
    #[arg(long)]
    pub(crate) tensors: bool,
    /// For scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Logits {
    /// A name from `sampan ls`, a folder or a GGUF file.
    #[arg(long)]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) data: Data,
    /// Token ids, separated by commas.
    #[arg(long, value_delimiter = ',', required = true)]
    pub(crate) tokens: Vec<u32>,
    /// A picture (PNG, JPEG, WebP, GIF) for the next placeholder among the tokens: one token of the model's image
    /// placeholder, or as many as the picture takes. May be repeated.
    #[arg(long = "image", value_name = "FILE")]
    pub(crate) images: Vec<PathBuf>,
    /// How weights and activations are multiplied.
    #[arg(long, value_enum, default_value = "exact")]
    pub(crate) precision: Precision,
    /// Memory for experts, in MiB; the others are read from the model's files when they are chosen.
    #[arg(long = "expert-memory", value_name = "MIB", value_parser = expert_mib)]
    pub(crate) expert_mib: Option<usize>,
    /// Write a safetensors file with the tensor `logits` [positions, vocabulary] instead of text.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) out: Option<PathBuf>,
    /// Print JSON: {"logits": [[…], …]}.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) processor: Processor,
}

#[derive(Args)]
pub(crate) struct Bench {
    /// A name from `sampan ls`, a folder or a GGUF file.
    #[arg(long)]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) data: Data,
    /// Lengths of prompts.
    #[arg(long, value_delimiter = ',', default_value = "512")]
    pub(crate) prompt: Vec<usize>,
    /// Tokens that each decode test generates.
    #[arg(long, default_value_t = 64)]
    pub(crate) decode: usize,
    /// Lengths of the context before decoding begins.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    pub(crate) depth: Vec<usize>,
    /// Load the model, compute one token, and end: what a start takes, measured from outside.
    #[arg(long)]
    pub(crate) first_token: bool,
    /// Sequences that decode together.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub(crate) batch: Vec<usize>,
    /// Sizes of pictures that the vision tower looks at, for example 1024x1024.
    #[arg(long = "picture", value_name = "WIDTHxHEIGHT", value_delimiter = ',', value_parser = picture_size)]
    pub(crate) pictures: Vec<(usize, usize)>,
    /// Memory for experts, in MiB; the others are read from the model's files when they are chosen. Tells what the disk
    /// can do, and how much of it decoding uses.
    #[arg(long = "expert-memory", value_name = "MIB", value_parser = expert_mib)]
    pub(crate) expert_mib: Option<usize>,
    /// Disk for packed weights, in MiB, as `sampan up` has: what was loaded before is mapped and not packed again.
    #[arg(long = "weight-cache", value_name = "MIB", default_value_t = 0)]
    pub(crate) weight_cache_mib: u64,
    /// Times that each test runs; the median is printed.
    #[arg(long, default_value_t = 3)]
    pub(crate) repeat: usize,
    /// How keys and values are stored.
    #[arg(long, value_enum, default_value = "bf16")]
    pub(crate) kv_format: KvFormat,
    /// How weights and activations are multiplied.
    #[arg(long, value_enum, default_value = "fast")]
    pub(crate) precision: Precision,
    /// For scripts.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) processor: Processor,
}

/// Mebibytes that have an address.
fn expert_mib(text: &str) -> Result<usize, String> {
    let mib: Option<usize> = text.parse().ok();
    mib.filter(|&mib| mib <= usize::MAX >> 20).ok_or_else(|| format!("it is 0 to {} MiB", usize::MAX >> 20))
}

/// Width and height.
fn picture_size(text: &str) -> Result<(usize, usize), String> {
    let (width, height) = text.split_once('x').ok_or("it is WIDTHxHEIGHT, for example 1024x1024")?;
    let side = |text: &str| text.parse().ok().filter(|side| (1..=PICTURE_SIDE_MAX).contains(side));
    side(width).zip(side(height)).ok_or_else(|| format!("both are 1 to {PICTURE_SIDE_MAX}"))
}

/// The longest side of a picture that is measured.
const PICTURE_SIDE_MAX: usize = 8192;

/// A number with a unit, `needed` or `forever`.
fn keep_alive(text: &str) -> Result<chat::KeepAlive, String> {
    match text {
        "needed" => return Ok(chat::KeepAlive::UntilNeeded),
        "forever" => return Ok(chat::KeepAlive::Forever),
        _ => {}
    }
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit_ms = match &text[digits.len()..] {
        "ms" => Some(1),
        "" | "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let milliseconds = unit_ms.and_then(|unit_ms| digits.parse::<u64>().ok()?.checked_mul(unit_ms));
    milliseconds.map(chat::KeepAlive::Milliseconds).ok_or_else(|| "allowed: 0, 30s, 5m, 2h, needed, forever".to_owned())
}

impl Precision {
    pub(crate) fn kernel(self) -> kernels::Precision {
        match self {
            Self::Exact => kernels::Precision::Exact,
            Self::Fast => kernels::Precision::Fast,
        }
    }
}

impl KvFormat {
    pub(crate) fn kernel(self) -> kernels::KvFormat {
        match self {
            Self::F32 => kernels::KvFormat::F32,
            Self::Bf16 => kernels::KvFormat::Bf16,
            Self::Int8 => kernels::KvFormat::Int8,
        }
    }
}

impl Isa {
    pub(crate) fn kernel(self) -> kernels::Isa {
        match self {
            Self::Scalar => kernels::Isa::Scalar,
            Self::Avx2 => kernels::Isa::Avx2,
            Self::Avx512 => kernels::Isa::Avx512,
            Self::Avx512Bf16 => kernels::Isa::Avx512Bf16,
            Self::Amx => kernels::Isa::Amx,
        }
    }
}
