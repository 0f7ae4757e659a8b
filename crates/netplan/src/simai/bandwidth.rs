//! Bus bandwidth of a collective, as SimAI's `calbusbw` has it.

use crate::import::aicb::Kind;

/// The machine that the command line of SimAI describes, in its units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    /// GPUs in a host (`-g_p_s`).
    pub gpus_per_host: u32,
    /// Cards in a host (`-n_p_s`).
    pub nics_per_host: u32,
    /// Bus bandwidth of `NVLink` (`-nv`), 2^30 bytes a second.
    pub nvlink: f32,
    /// Bus bandwidth of one card (`-nic`), 2^30 bytes a second.
    pub nic: f32,
    /// Share of data-parallel communication that is hidden (`-dp_o`).
    pub data_overlap: f32,
    /// Share of tensor-parallel communication that is hidden (`-tp_o`).
    pub tensor_overlap: f32,
    /// Share of expert-parallel communication that is hidden (`-ep_o`).
    pub expert_overlap: f32,
    /// Share of pipeline communication that is hidden (`-pp_o`).
    pub pipeline_overlap: f32,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            gpus_per_host: 8,
            nics_per_host: 8,
            nvlink: 360.0,
            nic: 48.5,
            data_overlap: 0.0,
            tensor_overlap: 0.0,
            expert_overlap: 0.0,
            pipeline_overlap: 1.0,
        }
    }
}

/// Who takes part, as SimAI sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shape {
    pub(super) hosts: i32,
    pub(super) gpus_per_host: i32,
    pub(super) nics_per_host: f32,
}

/// A bus bandwidth with what limits it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BusBandwidth {
    /// 2^30 bytes a second.
    pub value: f32,
    /// Whether `NVLink` and not the cards is the narrow place.
    pub by_nvlink: bool,
    /// Whether SimAI calculates at all; it answers 0 for a group of one.
    pub known: bool,
}

pub(super) fn bus_bandwidth(machine: &Machine, kind: Kind, shape: Shape) -> BusBandwidth {
    let Shape { hosts, gpus_per_host, .. } = shape;
    let unknown = BusBandwidth { value: 0.0, by_nvlink: false, known: false };
    if hosts < 1 || gpus_per_host.saturating_mul(hosts) <= 1 {
        return unknown;
    }
    // `nics_pernode` passes through an int on its way.
    let nics = shape.nics_per_host.trunc();
    let (nvlink, nic) = (machine.nvlink, machine.nic);
    if nvlink <= 0.0 || nic <= 0.0 || gpus_per_host < 1 || nics < 1.0 {
        return BusBandwidth { value: -1.0, ..unknown };
    }
    let cards = nic * nics;
    let crossing = cards > nvlink;
    let ranks = hosts.saturating_mul(gpus_per_host);
    if kind == Kind::AllToAll {
        if hosts == 1 {
            return BusBandwidth { value: nvlink, by_nvlink: true, known: true };
        }
        let others = (hosts - 1).saturating_mul(gpus_per_host);
        let value = cards / gpus_per_host as f32 * (ranks - 1) as f32 / others as f32;
        return BusBandwidth { value, by_nvlink: false, known: true };
    }
    if hosts == 1 {
        return BusBandwidth { value: nvlink, by_nvlink: false, known: true };
    }
    if gpus_per_host == 1 {
        return BusBandwidth { value: cards, by_nvlink: false, known: true };
    }
    let inside = if crossing { nvlink * gpus_per_host as f32 / (gpus_per_host - 1) as f32 } else { nvlink };
    BusBandwidth { value: inside.min(cards), by_nvlink: inside < cards, known: true }
}
