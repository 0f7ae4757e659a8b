//! Arguments of `sampan net`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(crate) enum NetCommand {
    /// Hold the simulator against a file of reference results: the error of every case beside its tolerance.
    Check(Check),
    /// Will this model fit this cluster, how fast, at what price, and what breaks.
    Plan(Plan),
    /// Count what a fabric consists of, from a preset or a file, and draw it.
    Fabric(Fabric),
    /// What independently hashed uplinks cost against planned ones.
    Uplinks(Uplinks),
    /// Find out what ails a cluster from the output of nccl-tests.
    Doctor(Doctor),
    /// Print SimAI-Analytical's table of an AICB workload.
    Simai(Simai),
    /// Send a file or a folder to a machine where `sampan net recv` runs; repeated, it goes on where it ended.
    Send(Send),
    /// Receive what `sampan net send` sends, into a folder.
    Recv(Recv),
}

#[derive(Args)]
pub(crate) struct Send {
    /// A file or a folder.
    pub(crate) path: PathBuf,
    /// Addresses of the receiver, HOST or HOST:PORT, one a plane: when one dies the others carry on.
    #[arg(required = true, value_name = "ADDRESS")]
    pub(crate) addresses: Vec<String>,
    #[command(flatten)]
    pub(crate) token: TokenSource,
    /// TCP streams on each plane.
    #[arg(long, default_value_t = 2)]
    pub(crate) streams: u32,
    /// What a stream sends at once, and at most sends again: a power of two from 64K to 64M.
    #[arg(long, value_name = "BYTES", default_value = "4M", value_parser = super::transfer::chunk_bytes)]
    pub(crate) chunk: u32,
    /// The most that is sent in a second, for example 10Gbit or 800MB.
    #[arg(long, value_parser = super::transfer::rate)]
    pub(crate) rate: Option<u64>,
    /// Send as fast as the planner says that two hosts of this fabric may, one port of a card for each address: a
    /// preset or a file as in `net fabric`.
    #[arg(long, value_name = "FABRIC", conflicts_with = "rate")]
    pub(crate) across: Option<String>,
    /// Give up after so many seconds without any progress.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) patience: u32,
    /// For scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Recv {
    /// Where files arrive; it is made if it does not exist.
    pub(crate) folder: PathBuf,
    /// Where to listen; give it once for each plane.
    #[arg(long, value_name = "ADDRESS", default_values = ["127.0.0.1:8430"])]
    pub(crate) listen: Vec<String>,
    #[command(flatten)]
    pub(crate) token: TokenSource,
    /// End after one transfer.
    #[arg(long)]
    pub(crate) once: bool,
    /// Check what arrives and throw it away, to measure a path.
    #[arg(long)]
    pub(crate) discard: bool,
    /// The most gigabytes of one transfer; default: what is free on the disk.
    #[arg(long, value_name = "GB")]
    pub(crate) max: Option<u32>,
    /// For scripts: one line an event.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What both ends know. On the command line itself it could be read by everybody on the machine.
#[derive(Args)]
pub(crate) struct TokenSource {
    /// A file that holds the token; otherwise it is SAMPAN_NET_TOKEN in the environment.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Check {
    /// A file in one of the formats of fixtures/hpn; `-` is stdin.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// For scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Plan {
    /// A preset such as qwen3-235b-a22b, or the path of a Hugging Face config.json; `list` names the presets.
    pub(crate) model: String,
    /// Hosts x GPUs x kind - rate of a card, for example 8x8xH100-400G; @FABRIC at the end for another than HPN 7, by
    /// name or a file as in `net fabric`.
    #[arg(long, value_name = "CLUSTER", default_value = "8x8xH100-400G")]
    pub(crate) on: String,
    /// Tokens of a prompt.
    #[arg(long, default_value_t = 2_048.0)]
    pub(crate) prompt: f64,
    /// Tokens of an answer.
    #[arg(long, default_value_t = 1_024.0)]
    pub(crate) answer: f64,
    /// The longest time between two tokens, in milliseconds.
    #[arg(long, default_value_t = 50.0)]
    pub(crate) token_ms: f64,
    /// Output of nccl-tests on such hosts: rates and latencies are taken from it, and how well they foretell is said.
    #[arg(long, value_name = "FILE")]
    pub(crate) measured: Option<PathBuf>,
    /// Weights in FP8 instead of BF16.
    #[arg(long)]
    pub(crate) fp8: bool,
    /// US dollars for a GPU-hour, instead of the assumed price.
    #[arg(long)]
    pub(crate) usd: Option<f64>,
    /// Plan an iteration of training instead, with so many sequences.
    #[arg(long, value_name = "SEQUENCES")]
    pub(crate) train: Option<u32>,
    /// Tokens of a sequence in training.
    #[arg(long, default_value_t = 4_096.0)]
    pub(crate) sequence: f64,
    /// Where the picture goes.
    #[arg(long, value_name = "FILE", default_value = "plan.html")]
    pub(crate) picture: PathBuf,
    /// For scripts; writes no picture.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Fabric {
    /// A preset (`list` names them), or a file: our TOML, a topology of SimAI, or what `nvidia-smi topo -m` prints;
    /// `-` is stdin.
    pub(crate) fabric: String,
    /// Cut or grow a preset to so many GPUs.
    #[arg(long)]
    pub(crate) gpus: Option<u32>,
    /// Draw it into a page.
    #[arg(long, value_name = "FILE")]
    pub(crate) picture: Option<PathBuf>,
    /// For scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Uplinks {
    /// A fabric by name, or a file as in `net fabric`; `list` names them.
    #[arg(long, value_name = "FABRIC", default_value = "hpn7")]
    pub(crate) on: String,
    /// Cut the fabric to so many GPUs.
    #[arg(long)]
    pub(crate) gpus: Option<u32>,
    /// The same seed gives the same answer.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How many times hashes are drawn.
    #[arg(long, default_value_t = 5)]
    pub(crate) draws: u32,
    /// Queue pairs of a port that a plan may lay apart.
    #[arg(long, default_value_t = 8)]
    pub(crate) ways: u32,
    /// Where the picture goes.
    #[arg(long, value_name = "FILE", default_value = "uplinks.html")]
    pub(crate) picture: PathBuf,
    /// For scripts; writes no picture.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Doctor {
    /// Output of nccl-tests, with NCCL_DEBUG=INFO if you have it; `-` is stdin.
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// The GPU, if the output does not name it.
    #[arg(long)]
    pub(crate) gpu: Option<String>,
    /// Rate of the card of each GPU, in Gbps.
    #[arg(long, default_value_t = 400.0)]
    pub(crate) card: f64,
    /// Hosts, if the output does not name them.
    #[arg(long)]
    pub(crate) hosts: Option<u32>,
    /// Write a page too.
    #[arg(long, value_name = "FILE")]
    pub(crate) picture: Option<PathBuf>,
    /// For scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Simai {
    /// A workload that AICB wrote.
    pub(crate) workload: PathBuf,
    /// All GPUs; default: what the workload says.
    #[arg(long)]
    pub(crate) gpus: Option<u32>,
    /// Bus bandwidth of NVLink, in SimAI's GB/s of 2^30 bytes.
    #[arg(long, default_value_t = 360.0)]
    pub(crate) nvlink: f32,
    /// Bus bandwidth of a card, in the same unit.
    #[arg(long, default_value_t = 48.5)]
    pub(crate) nic: f32,
    /// For scripts.
    #[arg(long)]
    pub(crate) json: bool,
}
