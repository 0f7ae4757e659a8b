//! What `sampan net send` and `sampan net recv` share: the token, sizes, addresses, bars.

use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base::Entropy as _;
use fabric::manifest::STATE_FOLDER;
use fabric::{Machine, Nonces, Token};
use indicatif::{ProgressBar, ProgressStyle};

use super::args::TokenSource;
use crate::machine::{SystemClock, SystemEntropy, say, variable};

/// Where a receiver listens, and a sender looks, if no port is named.
pub(super) const PORT: u16 = 8430;
/// The variable that holds the token.
const VARIABLE: &str = "SAMPAN_NET_TOKEN";
/// How often a bar is drawn.
pub(super) const DRAW_EVERY: Duration = Duration::from_millis(100);

pub(crate) fn machine() -> Machine {
    let mut seed = [0; 32];
    SystemEntropy.fill(&mut seed);
    Machine { clock: SystemClock::start(), nonces: Arc::new(Nonces::seeded(seed)) }
}

/// The token of a sender, which must have one.
pub(super) fn known_token(source: &TokenSource) -> anyhow::Result<Token> {
    match given(source)? {
        Some(token) => Ok(token),
        None => bail!("no token\nhint: --token-file FILE or {VARIABLE}, the same as at the receiver"),
    }
}

/// The token of a receiver: given, or kept in its folder, where it is made the first time.
pub(super) fn kept_token(source: &TokenSource, folder: &Path) -> anyhow::Result<Token> {
    if let Some(token) = given(source)? {
        return Ok(token);
    }
    let state = folder.join(STATE_FOLDER);
    let path = state.join("token");
    if !path.exists() {
        std::fs::create_dir_all(&state).with_context(|| format!("make {}", state.display()))?;
        let mut bytes = [0; 32];
        SystemEntropy.fill(&mut bytes);
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut options = std::fs::OpenOptions::new();
        let made = options.write(true).create_new(true).mode(0o600).open(&path);
        made.and_then(|mut file| writeln!(file, "{text}")).with_context(|| format!("write {}", path.display()))?;
    }
    say(&format!("token: {} (the sender needs it: --token-file or {VARIABLE})", path.display()));
    read(&path)
}

fn given(source: &TokenSource) -> anyhow::Result<Option<Token>> {
    if let Some(path) = &source.token_file {
        return read(path).map(Some);
    }
    variable(VARIABLE).map(|text| Token::new(&text).with_context(|| format!("the token in {VARIABLE}"))).transpose()
}

fn read(path: &Path) -> anyhow::Result<Token> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read the token in {}", path.display()))?;
    Token::new(&text).with_context(|| format!("the token in {}", path.display()))
}

/// HOST, HOST:PORT, an IPv6 address with or without brackets; on this port if none is named.
pub(crate) fn address(text: &str, port: u16) -> anyhow::Result<SocketAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let found = match bare.parse() {
        Ok(ip) => Ok(Some(SocketAddr::new(ip, port))),
        Err(_) if text.contains(':') => text.to_socket_addrs().map(|mut found| found.next()),
        Err(_) => (text, port).to_socket_addrs().map(|mut found| found.next()),
    };
    found.with_context(|| format!("find the address {text:?}"))?.with_context(|| format!("{text:?} has no address"))
}

/// A size such as 4M, 512K or 65536.
pub(super) fn chunk_bytes(text: &str) -> Result<u32, String> {
    let (number, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        _ => (text, 0),
    };
    let bytes = number.parse::<u32>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| "a size such as 4M, 512K or 65536 is needed".to_owned())
}

/// Bytes a second of a rate such as 10Gbit or 800MB.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    let wanted = || "a number and a unit are needed, such as 10Gbit, 250Mbit, 800MB or 1.2GB".to_owned();
    let (rest, bits) = match text.strip_suffix("bit") {
        Some(rest) => (rest, 1.0),
        None => (text.strip_suffix('B').ok_or_else(wanted)?, 8.0),
    };
    let (number, scale) = match rest.as_bytes().last() {
        Some(b'k' | b'K') => (&rest[..rest.len() - 1], 1e3),
        Some(b'M') => (&rest[..rest.len() - 1], 1e6),
        Some(b'G') => (&rest[..rest.len() - 1], 1e9),
        Some(b'T') => (&rest[..rest.len() - 1], 1e12),
        _ => (rest, 1.0),
    };
    let bytes = number.parse::<f64>().map_err(|_| wanted())? * scale * bits / 8.0;
    if (1.0..=1e15).contains(&bytes) { Ok(bytes as u64) } else { Err(wanted()) }
}

/// A bar that counts bytes.
pub(super) fn bar(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{msg} [{bar:30}] {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left",
    )
    .expect("the template is valid")
    .progress_chars("=> ");
    ProgressBar::new(0).with_style(style).with_message(name.to_owned())
}

/// Bytes as a person reads them.
pub(super) fn bytes(count: u64) -> String {
    indicatif::DecimalBytes(count).to_string()
}

pub(super) fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{PORT, address, chunk_bytes, rate};

    #[test]
    fn sizes_and_rates_have_units() {
        assert_eq!(
            (chunk_bytes("4M"), chunk_bytes("64K"), chunk_bytes("65536")),
            (Ok(4 << 20), Ok(65_536), Ok(65_536))
        );
        assert_eq!((rate("10Gbit"), rate("800MB"), rate("1.5kB")), (Ok(1_250_000_000), Ok(800_000_000), Ok(1_500)));
        for wrong in ["", "M", "-1M", "9999M", "4X", "ä"] {
            assert!(chunk_bytes(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "10", "bit", "10Xbit", "-1MB", "NaNB", "infB", "0B", "ä"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_without_a_port_gets_ours() {
        for (text, expected) in [
            ("127.0.0.1", "127.0.0.1:8430"),
            ("127.0.0.1:9", "127.0.0.1:9"),
            ("::1", "[::1]:8430"),
            ("[::1]:9", "[::1]:9"),
        ] {
            assert_eq!(address(text, PORT).unwrap(), expected.parse().unwrap(), "{text}");
        }
        assert!(address("127.0.0.1:99999", PORT).unwrap_err().to_string().contains("99999"));
    }
}
