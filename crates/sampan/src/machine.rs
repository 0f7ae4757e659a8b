//! The machine: the one place that reads clocks, randomness, the environment and the size of the memory.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use base::{Clock, Entropy};
use kernels::{Cpu, CpuOptions};
use models::WeightCache;

use crate::args::{Data, Processor};

/// Models that take less memory are packed faster than anybody notices.
const PACKED_BYTES_MIN: u64 = 128 << 20;

/// The real time.
pub(crate) struct SystemClock {
    start: Instant,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where time enters the program")]
    pub(crate) fn start() -> Arc<Self> {
        Arc::new(Self { start: Instant::now() })
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where time enters the program")]
    fn now_ms(&self) -> u64 {
        // A clock before 1970 is not set at all.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    fn monotonic_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

/// 64 random bits from the operating system.
pub(crate) fn random_seed() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).context("read randomness from the operating system")?;
    Ok(u64::from_le_bytes(bytes))
}

/// The operating system's randomness, for secrets.
pub(crate) struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        // A system without randomness can keep no secret: there is nothing to go on with.
        getrandom::fill(bytes).expect("the operating system has randomness");
    }
}

/// The command line, the program's name first.
pub(crate) fn arguments() -> Vec<OsString> {
    std::env::args_os().collect()
}

/// A variable of the environment that says something.
#[expect(clippy::disallowed_methods, reason = "this is where the environment enters the program")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The folder of everything that is kept.
#[expect(clippy::disallowed_methods, reason = "this is where the environment enters the program")]
pub(crate) fn data_folder(data: &Data) -> PathBuf {
    let named = data
        .folder
        .clone()
        .or_else(|| std::env::var_os("XDG_DATA_HOME").map(|path| PathBuf::from(path).join("sampan")));
    named.unwrap_or_else(|| match std::env::var_os("HOME") {
        Some(home) => PathBuf::from(home).join(".local/share/sampan"),
        None => PathBuf::from("sampan-data"),
    })
}

/// Where Hugging Face's own tools keep models: HF_HUB_CACHE, HF_HOME/hub, or a folder of the user's cache.
#[expect(clippy::disallowed_methods, reason = "this is where the environment enters the program")]
pub(crate) fn huggingface_cache() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
    let tools = || folder("HF_HOME").or_else(|| Some(home()?.join("huggingface")));
    folder("HF_HUB_CACHE").or_else(|| Some(tools()?.join("hub")))
}

/// The file of settings: what SAMPAN_CONFIG names, or the one in the user's folder of settings.
#[expect(clippy::disallowed_methods, reason = "this is where the environment enters the program")]
pub(crate) fn config_file() -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    folder("SAMPAN_CONFIG").unwrap_or_else(|| crate::config::default_file(folder("XDG_CONFIG_HOME"), folder("HOME")))
}

/// The processor with its threads.
pub(crate) fn processor(processor: &Processor) -> anyhow::Result<Arc<Cpu>> {
    let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let threads = processor.threads.unwrap_or_else(cores);
    // A thread that is pinned where another program computes waits for it: only threads that fill the machine are.
    let options =
        CpuOptions { isa: processor.isa.map(crate::args::Isa::kernel), threads, is_pinned: threads >= cores() };
    Ok(Arc::new(Cpu::new(options).context("start the processor's threads")?))
}

/// Has the threads that will be started share heaps, so that what they free can be given back.
pub(crate) fn share_heaps() {
    kernels::share_heaps(std::thread::available_parallelism().map_or(1, usize::from));
}

/// Bytes of memory that the machine has; `None` where `/proc` does not say.
pub(crate) fn memory_bytes() -> Option<u64> {
    proc_kib("/proc/meminfo", "MemTotal:").map(|kib| kib << 10)
}

/// Bytes of memory that nobody needs; `None` where `/proc` does not say.
pub(crate) fn memory_free_bytes() -> Option<u64> {
    proc_kib("/proc/meminfo", "MemAvailable:").map(|kib| kib << 10)
}

/// Where packed weights are kept, unless no disk is given for them.
pub(crate) fn weight_cache(data: &Path, mib: Option<u64>) -> Option<WeightCache> {
    let folder = data.join("packed");
    let limit_bytes = match mib {
        Some(mib) => mib.saturating_mul(1 << 20),
        None => {
            // What lies in the folder already is not free, and may go.
            let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let used: u64 = files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
            (disk_free_bytes(data)? + used) / 4
        }
    };
    (limit_bytes > 0).then_some(WeightCache { folder, limit_bytes, least_bytes: PACKED_BYTES_MIN })
}

/// Bytes that are free where a folder is, or will be; `None` if the system does not say.
fn disk_free_bytes(folder: &Path) -> Option<u64> {
    let there = folder.ancestors().find(|folder| folder.is_dir())?;
    let found = rustix::fs::statvfs(there).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

/// The most memory that this process ever held, in bytes.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    proc_kib("/proc/self/status", "VmHWM:").map(|kib| kib << 10)
}

fn proc_kib(file: &str, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Sends log lines to stderr.
pub(crate) fn start_log(filter: &str) {
    use tracing_subscriber::EnvFilter;
    let parsed = EnvFilter::try_new(filter).unwrap_or_else(|why| {
        say(&format!("warning: --log {filter:?} is not a filter ({why}); warnings are shown"));
        EnvFilter::new("warn")
    });
    tracing_subscriber::fmt().with_env_filter(parsed).with_writer(std::io::stderr).with_target(false).init();
}

/// A line for the person at the terminal.
pub(crate) fn say(line: &str) {
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// What a model wrote. A terminal shows the signs that would steer it; a file gets them as they are.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if std::io::stdout().is_terminal() { pictured(text) } else { Cow::Borrowed(text) }
}

fn pictured(text: &str) -> Cow<'_, str> {
    match text.chars().any(steers) {
        true => Cow::Owned(text.chars().map(|sign| if steers(sign) { picture(sign) } else { sign }).collect()),
        false => Cow::Borrowed(text),
    }
}

/// Whether a terminal obeys this sign rather than showing it.
fn steers(sign: char) -> bool {
    sign.is_control() && !matches!(sign, '\n' | '\t')
}

/// Unicode's picture of a control character.
fn picture(sign: char) -> char {
    match u32::from(sign) {
        code @ 0..0x20 => char::from_u32(0x2400 + code).unwrap_or(char::REPLACEMENT_CHARACTER),
        0x7f => '\u{2421}',
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// Data for whoever reads stdout. A reader that went away (`sampan … | head`) is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    print_bytes(text.as_bytes())
}

/// As [`print`], of what is no text.
pub(crate) fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(bytes).and_then(|()| std::io::stdout().flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("write to stdout"),
    }
}

#[cfg(test)]
mod tests {
    use super::{pictured, weight_cache};

    #[test]
    fn a_terminal_is_not_steered_by_a_model() {
        assert_eq!(pictured("\u{1b}]0;title\u{7}\u{9b}2J\u{7f}"), "\u{241b}]0;title\u{2407}\u{fffd}2J\u{2421}");
        assert_eq!(pictured("lines\n\tand 中文 🙂"), "lines\n\tand 中文 🙂");
    }

    #[test]
    fn packed_weights_have_a_limit() {
        let data = tempfile::tempdir().unwrap();
        assert!(weight_cache(data.path(), Some(0)).is_none());
        let limit = |mib| weight_cache(data.path(), mib).unwrap().limit_bytes;
        assert_eq!(limit(Some(3)), 3 << 20);
        assert_eq!(limit(Some(u64::MAX)), u64::MAX);
        let free = limit(None);
        // What lies there counts as room.
        std::fs::create_dir(data.path().join("packed")).unwrap();
        std::fs::File::create(data.path().join("packed/a.weights")).unwrap().set_len(1 << 40).unwrap();
        assert!(limit(None) > free + (1 << 37));
        assert!(weight_cache(&data.path().join("not/yet/there"), None).is_some());
    }
}
