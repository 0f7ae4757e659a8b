//! What collectives need to know of a machine.

use crate::error::{Error, Result};

/// Rates and latencies of one kind of host. The defaults of [`Machine::named`] say where each comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Its name in reports.
    pub name: String,
    /// GPUs in a host.
    pub gpus_per_host: u32,
    /// What a GPU can send to the others of its host by the data sheet, bytes a second, one way.
    pub inside_line: f64,
    /// Share of it that a ring reaches.
    pub inside_share: f64,
    /// What a GPU can send to other hosts by the data sheet, bytes a second.
    pub card_line: f64,
    /// Share of it that one card reaches.
    pub card_share: f64,
    /// What is left where hosts take part in one ring or tree together.
    pub several_hosts_share: f64,
    /// Whether the switch inside the host can add up (NVLS).
    pub in_switch: bool,
    /// Share of `inside_line` that in-switch sums reach.
    pub in_switch_share: f64,
    /// Start of an in-switch sum.
    pub in_switch_s: f64,
    /// One step inside a host.
    pub inside_hop_s: f64,
    /// One step between hosts.
    pub outside_hop_s: f64,
    /// One message of an all-to-all.
    pub message_s: f64,
}

impl Machine {
    /// Known hosts by the name of their GPU, each with one card of `card_gbps` a GPU.
    ///
    /// # Errors
    /// If the name is unknown or the rate is not positive.
    pub fn named(gpu: &str, card_gbps: f64) -> Result<Self> {
        if !(card_gbps.is_finite() && card_gbps > 0.0) {
            return Err(Error::invalid("machine", format!("a card of {card_gbps} Gbps")));
        }
        // Data sheets, NVLink one way: A100 300, H100, H200 and H20 450, H800 200, B200 and GB200 900 GB/s.
        let (inside_line, in_switch, gpus_per_host) = match gpu.to_ascii_uppercase().as_str() {
            "A100" => (300e9, false, 8),
            "A800" => (200e9, false, 8),
            "H100" | "H200" | "H20" => (450e9, true, 8),
            "H800" => (200e9, true, 8),
            "B200" => (900e9, true, 8),
            "GB200" => (900e9, true, 72),
            _ => {
                let known = "A100, A800, H100, H200, H20, H800, B200, GB200".to_owned();
                return Err(Error::Unknown { what: "GPU", name: gpu.to_owned(), known });
            }
        };
        Ok(Self {
            name: gpu.to_ascii_uppercase(),
            gpus_per_host,
            inside_line,
            // A ring on 8 H100 gives 365 to 370 of 450 GB/s (NVIDIA/nccl issue 1455).
            inside_share: 0.822,
            card_line: card_gbps * 1e9 / 8.0,
            // 46 to 48 GB/s of a 400 Gbps card inside collectives (NVIDIA/nccl-tests issue 290), 48.5 in SimAI.
            card_share: 0.97,
            // The plateau of the measured tables for several hosts (SimAI, nvlink_ratio).
            several_hosts_share: 0.88,
            in_switch,
            // 480 GB/s of bus bandwidth on 8 H100 is 308.6 GB/s over each GPU's links (NVIDIA/nccl issue 1455).
            in_switch_share: 0.686,
            in_switch_s: 20e-6,
            inside_hop_s: 1.5e-6,
            // About 4.6 µs a step of a ring in SimAI's measured tables.
            outside_hop_s: 4.6e-6,
            message_s: 0.7e-6,
        })
    }

    pub(super) fn inside_bytes_per_s(&self) -> f64 {
        self.inside_line * self.inside_share
    }

    pub(super) fn in_switch_bytes_per_s(&self) -> f64 {
        self.inside_line * self.in_switch_share
    }

    pub(super) fn card_bytes_per_s(&self) -> f64 {
        self.card_line * self.card_share
    }
}
