//! The matrix that `nvidia-smi topo -m` prints: how the GPUs and cards of one host reach each other.

use crate::error::{Error, Result, at_most};
use crate::topology::{Builder, CableSpec, NodeKind, Place, Topology};

const FORMAT: &str = "nvidia-smi topo -m";
const TEXT_BYTES_MAX: u64 = 1 << 20;
const DEVICES_MAX: u64 = 256;
/// One `NVLink` of generation 3 to 5 carries 25 GB/s each way (NVIDIA, data sheets of A100 and H100).
const NVLINK_BYTES_PER_S: f64 = 25e9;

/// How two devices of a host reach each other, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// So many bonded `NVLink`s.
    NvLink(u8),
    /// One PCIe switch.
    Pix,
    /// Several PCIe switches.
    Pxb,
    /// The host bridge of one socket.
    Phb,
    /// Several host bridges of one NUMA node.
    Node,
    /// The link between sockets.
    Sys,
}

/// What the matrix says of one host.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuHost {
    /// GPUs.
    pub gpu_count: u32,
    /// Names of the network cards, as printed (`NIC0`, `mlx5_0`).
    pub nics: Vec<String>,
    /// Reach between devices, `[device, device]`, GPUs first, `None` on the diagonal.
    reach: Vec<Option<Reach>>,
}

impl GpuHost {
    /// How device `left` reaches device `right`; cards follow the GPUs. `None` for the same device.
    #[must_use]
    pub fn reach(&self, left: usize, right: usize) -> Option<Reach> {
        let devices = self.gpu_count as usize + self.nics.len();
        self.reach.get(left * devices + right).copied().flatten()
    }

    /// The card that a GPU reaches best, the first among equals, and how.
    #[must_use]
    pub fn nearest_nic(&self, gpu: usize) -> Option<(usize, Reach)> {
        let first = self.gpu_count as usize;
        (0..self.nics.len())
            .filter_map(|nic| self.reach(gpu, first + nic).map(|reach| (nic, reach)))
            .min_by_key(|&(nic, reach)| (reach, nic))
    }

    /// `NVLink`s of a GPU to the switch, if every other GPU is reached by the same number; `None` for PCIe hosts.
    #[must_use]
    pub fn nvlinks_per_gpu(&self) -> Option<u8> {
        let gpus = self.gpu_count as usize;
        let mut pairs = (0..gpus).flat_map(|left| (0..gpus).map(move |right| (left, right)));
        let Some(Reach::NvLink(first)) = self.reach(0, 1) else { return None };
        let same = pairs.all(|(left, right)| left == right || self.reach(left, right) == Some(Reach::NvLink(first)));
        same.then_some(first)
    }

    /// What a person should know: GPUs without a near card, cards shared by GPUs, uneven `NVLink`.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut users = vec![0_u32; self.nics.len()];
        for gpu in 0..self.gpu_count as usize {
            let Some((nic, reach)) = self.nearest_nic(gpu) else { continue };
            users[nic] += 1;
            if reach >= Reach::Node {
                let name = &self.nics[nic];
                found.push(format!(
                    "gpu {gpu}: its nearest card {name} is behind {reach:?}; GPUDirect RDMA is slow there"
                ));
            }
        }
        for (nic, count) in users.iter().enumerate().filter(|(_, count)| **count > 1) {
            found.push(format!("card {} is the nearest of {count} GPUs", self.nics[nic]));
        }
        if self.gpu_count > 1 && self.nvlinks_per_gpu().is_none() {
            found.push("the GPUs do not all reach each other by the same number of NVLinks".to_owned());
        }
        found
    }

    /// One host as a network: its GPUs on one switch, or on the PCIe root where there is no even `NVLink`.
    ///
    /// # Errors
    /// If the host has no GPU.
    pub fn topology(&self) -> Result<Topology> {
        let mut builder = Builder::named("host", self.gpu_count);
        for rail in 0..self.gpu_count as u16 {
            builder.node(NodeKind::Endpoint, Place { group: 0, rail, plane: 0 });
        }
        let switch = builder.node(NodeKind::ScaleUp, Place::default());
        // Without NVLink: 16 lanes of PCIe 5 carry about 51 GB/s of the 64 (SimAI's constant H100_PCIE_BW).
        let bytes_per_s = self.nvlinks_per_gpu().map_or(51.2e9, |links| f64::from(links) * NVLINK_BYTES_PER_S);
        for gpu in 0..self.gpu_count {
            builder.cable(gpu, switch, CableSpec { bytes_per_s, latency_ns: 500, loss: 0.0 });
        }
        builder.finish()
    }
}

/// Reads the output of `nvidia-smi topo -m`, with or without its legend.
///
/// # Errors
/// If there is no header of GPUs, a row is short, or a cell is none of the documented words.
pub fn nvidia_smi(text: &str) -> Result<GpuHost> {
    at_most("bytes of nvidia-smi output", text.len() as u64, TEXT_BYTES_MAX)?;
    let text = &without_escapes(text);
    let mut lines = text.lines().enumerate();
    let header = lines.by_ref().map(|(_, line)| line).find(|line| line.contains("GPU0"));
    let header = header.ok_or_else(|| syntax(0, "no header with GPU0"))?;
    let devices: Vec<String> =
        header.split_whitespace().take_while(|word| is_device(word)).map(str::to_owned).collect();
    at_most("devices of a host", devices.len() as u64, DEVICES_MAX)?;
    let gpu_count = devices.iter().take_while(|name| name.starts_with("GPU")).count();
    let mut reach = vec![None; devices.len() * devices.len()];
    let mut rows = 0;
    for (index, line) in lines {
        if rows == devices.len() {
            break;
        }
        let mut words = line.split_whitespace();
        if words.next() != Some(devices[rows].as_str()) {
            continue;
        }
        for column in 0..devices.len() {
            let word = words.next().ok_or_else(|| syntax(index, format!("{column} cells in a row")))?;
            reach[rows * devices.len() + column] = cell(word).map_err(|()| syntax(index, format!("cell {word:?}")))?;
        }
        rows += 1;
    }
    if rows < devices.len() {
        return Err(syntax(0, format!("{rows} rows for {} devices", devices.len())));
    }
    let nics = name_nics(&devices[gpu_count..], text);
    Ok(GpuHost { gpu_count: gpu_count as u32, nics, reach })
}

/// The tool underlines its header with terminal escapes, also into a pipe.
fn without_escapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            letters.by_ref().find(char::is_ascii_alphabetic);
        } else {
            out.push(letter);
        }
    }
    out
}

fn is_device(word: &str) -> bool {
    let numbered = |prefix: &str| {
        word.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    numbered("GPU") || numbered("NIC") || word.starts_with("mlx") || word.starts_with("bnxt")
}

fn cell(word: &str) -> std::result::Result<Option<Reach>, ()> {
    Ok(Some(match word {
        "X" => return Ok(None),
        "PIX" => Reach::Pix,
        "PXB" => Reach::Pxb,
        "PHB" => Reach::Phb,
        "NODE" => Reach::Node,
        "SYS" | "SOC" => Reach::Sys,
        _ => Reach::NvLink(word.strip_prefix("NV").and_then(|count| count.parse().ok()).ok_or(())?),
    }))
}

/// Replaces `NIC0` by the name that the legend gives it (`NIC0: mlx5_0`).
fn name_nics(devices: &[String], text: &str) -> Vec<String> {
    let legend = |device: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(device)?.strip_prefix(':').map(|name| name.trim().to_owned()))
    };
    devices.iter().map(|device| legend(device).unwrap_or_else(|| device.clone())).collect()
}

fn syntax(index: usize, detail: impl Into<String>) -> Error {
    Error::Syntax { format: FORMAT, line: index + 1, detail: detail.into() }
}
