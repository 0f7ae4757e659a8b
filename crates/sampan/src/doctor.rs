//! `sampan doctor`: whether this machine is fit to run the platform, and what to do where it is not.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::bail;
use base::Clock as _;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use ledger::calendar::show_time;
use serde::Serialize;

use crate::args::Data;
use crate::{accounts, machine, shelf};

/// Bytes that a small model of a few hundred million parameters takes with its conversations.
const MEMORY_BYTES_MIN: u64 = 2 << 30;
/// Bytes of disk under which a vector bucket or a download soon fails.
const DISK_BYTES_MIN: u64 = 2 << 30;
/// Open files: a connection each, and the segments of buckets.
const OPEN_FILES_MIN: u64 = 4096;
/// 2026-01-01: no copy of this program is older.
const CLOCK_MS_MIN: u64 = 1_767_225_600_000;
/// How far a file of ours may lie in the future: clocks of file servers differ a little.
const CLOCK_SKEW_MS_MAX: u64 = 60_000;
/// How long another Sampan has for saying that it is one.
const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(crate) struct Doctor {
    /// The address that `sampan up` will listen on.
    #[arg(long, default_value = "127.0.0.1:8420", env = "SAMPAN_LISTEN")]
    listen: SocketAddr,
    #[command(flatten)]
    data: Data,
    /// For scripts.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
enum Health {
    Good,
    /// It works, but not as well as it could.
    Warn,
    /// Something will not work.
    Bad,
}

/// What was looked at.
#[derive(Serialize)]
struct Check {
    name: &'static str,
    health: Health,
    found: String,
    /// What to do; nothing where all is well.
    advice: Option<String>,
}

impl Check {
    fn good(name: &'static str, found: String) -> Self {
        Self { name, health: Health::Good, found, advice: None }
    }

    /// `advice` is what to do where it is not good.
    fn of(name: &'static str, found: String, health: Health, advice: &str) -> Self {
        let advice = (health != Health::Good).then(|| advice.to_owned());
        Self { name, health, found, advice }
    }
}

/// `wrong`: why the file of settings is not used.
///
/// # Errors
/// If a check is bad.
pub(crate) fn run(options: &Doctor, wrong: Option<&anyhow::Error>) -> anyhow::Result<()> {
    let data = machine::data_folder(&options.data);
    let mut checks = vec![processor(), instructions(), memory(), port(options.listen), folder(&data)];
    checks.push(settings(&machine::config_file(), wrong));
    checks.extend(disk(&data));
    checks.extend(secret(&data));
    checks.extend([models(&data)]);
    checks.extend(open_files());
    checks.push(clock(&data));
    if options.json {
        machine::print(&format!("{}\n", serde_json::to_string_pretty(&checks)?))?;
    } else {
        machine::print(&told(&checks))?;
    }
    match checks.iter().filter(|check| check.health == Health::Bad).count() {
        0 => Ok(()),
        bad => bail!("{bad} of {} checks failed", checks.len()),
    }
}

fn told(checks: &[Check]) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    for check in checks {
        let word = match check.health {
            Health::Good => "ok",
            Health::Warn => "warn",
            Health::Bad => "BAD",
        };
        table.add_row([word, check.name, &check.found]);
        if let Some(advice) = &check.advice {
            table.add_row(["", "", &format!("hint: {advice}")]);
        }
    }
    format!("{}\n", table.trim_fmt())
}

fn settings(file: &Path, wrong: Option<&anyhow::Error>) -> Check {
    let advice = "correct the file, or move it away: `sampan config path` says where it is";
    match wrong {
        Some(why) => Check::of("settings", format!("{why:#}"), Health::Bad, advice),
        None if file.exists() => Check::good("settings", file.display().to_string()),
        None => Check::good("settings", format!("no file {}: the defaults hold", file.display())),
    }
}

fn processor() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let found = format!("{} on {}, {cores} cores", std::env::consts::OS, std::env::consts::ARCH);
    let health = if cfg!(target_arch = "x86_64") { Health::Good } else { Health::Warn };
    Check::of("machine", found, health, "models run by plain code here, which is slow; serve them from pools")
}

fn instructions() -> Check {
    let best = kernels::Isa::detect();
    let health = if best == kernels::Isa::Scalar { Health::Warn } else { Health::Good };
    Check::of("instructions", format!("{best:?}"), health, "without AVX2 models are slow; serve them from pools")
}

fn memory() -> Check {
    let (Some(all), Some(free)) = (machine::memory_bytes(), machine::memory_free_bytes()) else {
        return Check::of("memory", "/proc does not say".to_owned(), Health::Warn, "set --memory");
    };
    let health = if free < MEMORY_BYTES_MIN { Health::Warn } else { Health::Good };
    let found = format!("{} of {} are free", gigabytes(free), gigabytes(all));
    Check::of("memory", found, health, "only the built-in model is sure to fit; end other programs or set --memory")
}

fn port(address: SocketAddr) -> Check {
    let Err(why) = TcpListener::bind(address) else { return Check::good("port", format!("{address} is free")) };
    if why.kind() == std::io::ErrorKind::AddrInUse && is_sampan(address) {
        return Check::good("port", format!("Sampan runs on {address}"));
    }
    Check::of(
        "port",
        format!("{address}: {why}"),
        Health::Bad,
        "start with --listen 127.0.0.1:0, or end what listens there",
    )
}

fn is_sampan(address: SocketAddr) -> bool {
    let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).build();
    ureq::Agent::new_with_config(config).get(format!("http://{address}/healthz")).call().is_ok()
}

/// Whether files can be made there; the folder itself is made by whoever needs it.
fn folder(data: &Path) -> Check {
    let there = data.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let probe = there.join(format!(".sampan-doctor-{}", std::process::id()));
    let made = fs::OpenOptions::new().write(true).create_new(true).open(&probe);
    let removed = made.and_then(|_| fs::remove_file(&probe));
    match removed {
        Ok(()) => Check::good("data", format!("{} can be written", data.display())),
        Err(why) => {
            let advice = format!("make {} writable, or choose another folder with --data DIR", there.display());
            Check::of("data", format!("{}: {why}", data.display()), Health::Bad, &advice)
        }
    }
}

fn disk(data: &Path) -> Option<Check> {
    let there = data.ancestors().find(|path| path.exists())?;
    let figures = rustix::fs::statvfs(there).ok()?;
    let free = figures.f_bavail.saturating_mul(figures.f_frsize);
    let health = if free < DISK_BYTES_MIN { Health::Warn } else { Health::Good };
    Some(Check::of("disk", format!("{} are free", gigabytes(free)), health, "make room, or set --data to another disk"))
}

/// The first key opens everything, so nobody else may read it.
fn secret(data: &Path) -> Option<Check> {
    let file = accounts::key_file(data);
    let mode = fs::metadata(&file).ok()?.permissions().mode() & 0o777;
    let health = if mode & 0o077 == 0 { Health::Good } else { Health::Bad };
    let advice = format!("chmod 600 {}; then `sampan admin recover` makes another", file.display());
    Some(Check::of("key file", format!("{}: mode {mode:o}", file.display()), health, &advice))
}

fn models(data: &Path) -> Check {
    match shelf::entries(data) {
        Ok(found) => Check::good("models", format!("{}, `sampan ls` lists them", found.len())),
        Err(why) => Check::of("models", format!("{why:#}"), Health::Bad, "make the folder readable"),
    }
}

fn open_files() -> Option<Check> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let soft = line.split_whitespace().next()?;
    // "unlimited" is no number, and enough.
    let is_enough = soft.parse::<u64>().map_or(true, |soft| soft >= OPEN_FILES_MIN);
    let health = if is_enough { Health::Good } else { Health::Warn };
    Some(Check::of("open files", soft.to_owned(), health, "ulimit -n 65536, for many connections and large buckets"))
}

/// Signatures, budgets and expiry need the time.
fn clock(data: &Path) -> Check {
    let now_ms = machine::SystemClock::start().now_ms();
    let advice = "set the clock, for example with `timedatectl set-ntp true`: signatures and budgets need it";
    if now_ms < CLOCK_MS_MIN {
        return Check::of("clock", format!("{}, which is long ago", show_time(now_ms)), Health::Bad, advice);
    }
    let newest = fs::read_dir(data).into_iter().flatten().flatten().filter_map(|entry| {
        let changed = entry.metadata().ok()?.modified().ok()?;
        Some(changed.duration_since(UNIX_EPOCH).ok()?.as_millis() as u64)
    });
    match newest.max() {
        Some(changed_ms) if changed_ms > now_ms + CLOCK_SKEW_MS_MAX => {
            let found = format!("{} s before the newest file of {}", (changed_ms - now_ms) / 1000, data.display());
            Check::of("clock", found, Health::Bad, advice)
        }
        _ => Check::good("clock", show_time(now_ms)),
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Health, clock, folder, port, secret};

    #[test]
    fn a_taken_port_is_bad_unless_we_took_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        // Whoever asks it for its health is hung up on.
        let end = std::thread::spawn(move || drop(taken.accept()));
        let check = port(address);
        assert_eq!(check.health, Health::Bad, "{}", check.found);
        assert!(check.advice.unwrap().contains("--listen"));
        end.join().unwrap();
        assert_eq!(port("127.0.0.1:0".parse().unwrap()).health, Health::Good);
    }

    #[test]
    fn a_folder_is_probed_and_left_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(folder(&place.path().join("not/yet")).health, Health::Good);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
        std::fs::write(place.path().join("file"), "").unwrap();
        let check = folder(&place.path().join("file/below"));
        assert_eq!((check.health, check.advice.is_some()), (Health::Bad, true));
    }

    #[test]
    fn a_key_that_others_can_read_is_bad() {
        let place = tempfile::tempdir().unwrap();
        assert!(secret(place.path()).is_none());
        let file = place.path().join("admin.key");
        std::fs::write(&file, "key").unwrap();
        for (mode, health) in [(0o600, Health::Good), (0o644, Health::Bad)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(secret(place.path()).unwrap().health, health);
        }
    }

    #[test]
    fn a_clock_behind_its_own_files_is_bad() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(clock(place.path()).health, Health::Good);
        let file = std::fs::File::create(place.path().join("late")).unwrap();
        let late = std::time::UNIX_EPOCH + std::time::Duration::from_secs(7_258_118_400);
        file.set_modified(late).unwrap();
        assert_eq!(clock(place.path()).health, Health::Bad);
    }
}
