//! The output of nccl-tests: sizes, times and bandwidths, and what its header says of the machine.
//!
//! ```text
//! #  Rank  0 Group  0 Pid 100 on host1 device  0 [0x18] NVIDIA H100 80GB HBM3
//! #       size  count  type  redop  root   time  algbw  busbw #wrong   time  algbw  busbw #wrong
//!      8388608  2097152  float  sum   -1  112.3  74.7  140.1   0   110.9  75.6  141.8   0
//! # Avg bus bandwidth    : 140.9
//! ```

use super::Kind;
use crate::error::{Error, Result, at_most};

const FORMAT: &str = "nccl-tests output";
/// The longest output that is read.
pub const TEXT_BYTES_MAX: u64 = 16 << 20;
/// The most rows.
pub const ROWS_MAX: u64 = 100_000;

/// What the output says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// The collective, if a command line or title names it.
    pub kind: Option<Kind>,
    /// Ranks by the lines of the header.
    pub ranks: u32,
    /// Hosts by the lines of the header.
    pub hosts: u32,
    /// GPU as the header names it.
    pub gpu: String,
    /// Sizes, rising.
    pub rows: Vec<Row>,
    /// Rows in which results were wrong.
    pub wrong: u64,
    /// Lines of `NCCL_DEBUG=INFO` that say something of transports or channels.
    pub debug: Vec<String>,
}

/// One size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Bytes.
    pub bytes: f64,
    /// Seconds, out of place.
    pub seconds: f64,
    /// Bus bandwidth, bytes a second, the better of out of place and in place.
    pub bus_bytes_per_s: f64,
}

/// Reads the output; lines that are not its own are passed over.
///
/// # Errors
/// If there is no row, or a limit is passed.
pub fn read(text: &str) -> Result<Output> {
    at_most("bytes of nccl-tests output", text.len() as u64, TEXT_BYTES_MAX)?;
    let mut output = Output::default();
    let mut hosts: Vec<&str> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some(kind) = words.iter().take(6).find_map(|word| program(word)) {
            output.kind = output.kind.or(Some(kind));
        }
        if words.contains(&"NCCL") && words.contains(&"INFO") {
            let telling = ["via NET", "NVLS", "channels", "Channel", "P2P", "SHM", "NET/"];
            if output.debug.len() < 10_000 && telling.iter().any(|word| line.contains(word)) {
                output.debug.push(line.to_owned());
            }
        } else if words.starts_with(&["#", "Rank"]) {
            output.ranks += 1;
            if let Some(at) = words.iter().position(|word| *word == "on") {
                hosts.extend(words.get(at + 1).filter(|host| !hosts.contains(host)));
            }
            if let Some(at) = words.iter().position(|word| word.starts_with("[0x")) {
                output.gpu = words[at + 1..].join(" ");
            }
        } else if words.first().is_some_and(|word| word.parse::<u64>().is_ok()) && words.len() >= 8 {
            at_most("rows of nccl-tests output", output.rows.len() as u64 + 1, ROWS_MAX)?;
            let (row, wrong) = row(&words).ok_or_else(|| syntax(index, line))?;
            output.rows.push(row);
            output.wrong += u64::from(wrong);
        }
    }
    if output.rows.is_empty() {
        return Err(Error::Syntax { format: FORMAT, line: 1, detail: "there is no row of sizes and times".to_owned() });
    }
    output.hosts = hosts.len() as u32;
    output.rows.sort_by(|left, right| left.bytes.total_cmp(&right.bytes));
    Ok(output)
}

fn program(word: &str) -> Option<Kind> {
    let name = word.rsplit('/').next()?;
    name.strip_suffix("_perf").and_then(Kind::from_word)
}

/// `size count type [redop] [root] time algbw busbw wrong` twice; words that are no numbers are the columns between.
fn row(words: &[&str]) -> Option<(Row, bool)> {
    let bytes = words[0].parse::<f64>().ok()?;
    // After the type only numbers follow: root, then twice four.
    let tail: Vec<&str> = words[3..].iter().copied().filter(|word| number(word).is_some() || *word == "N/A").collect();
    let four = |from: usize| -> Option<(f64, f64, bool)> {
        let cells = tail.get(from..from + 4)?;
        let wrong = number(cells[3]).is_some_and(|count| count > 0.0);
        Some((number(cells[0])?, number(cells[2])?, wrong))
    };
    let both = tail.len() >= 8;
    let first = four(tail.len().checked_sub(if both { 8 } else { 4 })?)?;
    let second = if both { four(tail.len() - 4) } else { None };
    let bus = second.map_or(first.1, |second| second.1.max(first.1));
    let wrong = first.2 || second.is_some_and(|second| second.2);
    let sound = first.0 >= 0.0 && first.0.is_finite() && bus.is_finite() && bus >= 0.0;
    sound.then_some((Row { bytes, seconds: first.0 * 1e-6, bus_bytes_per_s: bus * 1e9 }, wrong))
}

fn number(word: &str) -> Option<f64> {
    word.parse().ok()
}

fn syntax(index: usize, line: &str) -> Error {
    let line: String = line.chars().take(80).collect();
    Error::Syntax { format: FORMAT, line: index + 1, detail: format!("{line:?} is no row of results") }
}
