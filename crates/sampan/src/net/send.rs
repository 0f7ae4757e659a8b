//! `sampan net send`.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use fabric::{Progress, SendOptions, Sent};
use netplan::study::between;
use serde_json::json;

use super::args::Send;
use super::transfer::{DRAW_EVERY, PORT, address, bar, bytes, hex, known_token, machine};
use crate::machine::{print, say};

pub(super) fn run(arguments: &Send) -> anyhow::Result<()> {
    // Whoever mistypes a name should hear of that first, and not look for a token before.
    let sending = || format!("send {}", arguments.path.display());
    std::fs::metadata(&arguments.path).with_context(sending)?;
    let token = known_token(&arguments.token)?;
    let planes = arguments.addresses.iter().map(|text| address(text, PORT)).collect::<anyhow::Result<Vec<_>>>()?;
    let options = SendOptions {
        planes,
        streams_per_plane: arguments.streams,
        chunk_bytes: arguments.chunk,
        rate_bytes_per_s: match &arguments.across {
            Some(fabric) => Some(planned_rate(fabric, arguments.addresses.len(), arguments.json)?),
            None => arguments.rate,
        },
        patience_ms: 1_000 * u64::from(arguments.patience),
    };
    let progress = Progress::default();
    let over = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        scope.spawn(|| draw(&arguments.path.display().to_string(), &progress, &over));
        let sent = fabric::send(&arguments.path, &options, &token, &machine(), &progress);
        over.store(true, Ordering::Release);
        sent
    });
    let sent = sent.with_context(sending)?;
    print(&if arguments.json { json_of(&sent) } else { text_of(&sent) })
}

/// Bytes a second that the planner foretells between two hosts of a fabric, one port for each address.
fn planned_rate(fabric: &str, addresses: usize, quiet: bool) -> anyhow::Result<u64> {
    let topology = super::fabric::find(fabric, None)?.topology;
    let found = between(&topology, u32::try_from(addresses).unwrap_or(u32::MAX))?;
    if !quiet {
        say(&format!(
            "planned: {}/s over {} ports of {}, round trip {:.3} ms, {:.3} % lost",
            bytes(found.bytes_per_s as u64),
            found.ports,
            topology.name(),
            1e3 * found.round_trip_s,
            100.0 * found.loss
        ));
    }
    Ok(found.bytes_per_s as u64)
}

fn draw(name: &str, progress: &Progress, over: &AtomicBool) {
    let bar = bar(name);
    while !over.load(Ordering::Acquire) {
        if progress.bytes() > 0 {
            bar.set_length(progress.bytes());
            bar.set_position(progress.received());
        }
        std::thread::park_timeout(DRAW_EVERY);
    }
    bar.finish_and_clear();
}

fn text_of(sent: &Sent) -> String {
    let seconds = sent.elapsed_us as f64 / 1e6;
    let files = if sent.files == 1 { "1 file".to_owned() } else { format!("{} files", sent.files) };
    let mut text = format!(
        "sent {files}, {} in {seconds:.2} s, {}/s\n",
        bytes(sent.bytes),
        bytes((sent.sent_bytes as f64 / seconds.max(1e-6)) as u64)
    );
    if sent.had_bytes > 0 {
        text += &format!("{} were there already\n", bytes(sent.had_bytes));
    }
    if sent.resent_bytes > 0 {
        text += &format!("{} went twice\n", bytes(sent.resent_bytes));
    }
    text + &format!("root {}\n", hex(&sent.root))
}

fn json_of(sent: &Sent) -> String {
    let value = json!({
        "files": sent.files,
        "bytes": sent.bytes,
        "had_bytes": sent.had_bytes,
        "sent_bytes": sent.sent_bytes,
        "resent_bytes": sent.resent_bytes,
        "elapsed_us": sent.elapsed_us,
        "stall_us_max": sent.stall_us_max,
        "root": hex(&sent.root),
    });
    format!("{value}\n")
}
