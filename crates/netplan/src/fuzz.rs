//! What reads text that may come from anywhere, as plain functions: whatever the bytes, they return.
//!
//! Each also asks of what was read what a user would, so that a file that is accepted cannot make a later step panic.

use crate::check::check;
use crate::collective::Machine;
use crate::collective::nccl_tests;
use crate::doctor::{Patient, diagnose};
use crate::import;
use crate::model::from_config;
use crate::plan::Cluster;
use crate::simai;

/// Networks of more nodes are read, and not looked at further: that would only cost time.
const NODES_MAX: u32 = 10_000;

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn look_at(topology: &crate::topology::Topology) {
    if topology.node_count() <= NODES_MAX {
        let _ = (topology.counts(), crate::picture::topology(topology, &[]));
    }
}

/// Reads bytes as SimAI's topology file.
pub fn simai_topology(bytes: &[u8]) {
    if let Ok(found) = import::simai(&text(bytes)) {
        look_at(&found);
    }
}

/// Reads bytes as the output of `nvidia-smi topo -m`.
pub fn nvidia_smi(bytes: &[u8]) {
    if let Ok(host) = import::nvidia_smi(&text(bytes)) {
        let _ = host.findings();
        if let Ok(found) = host.topology() {
            look_at(&found);
        }
    }
}

/// Reads bytes as our own description of a fabric.
pub fn toml(bytes: &[u8]) {
    if let Ok(found) = import::toml(&text(bytes)) {
        look_at(&found);
    }
}

/// Reads bytes as an AICB workload, and prints SimAI's table of it.
pub fn aicb(bytes: &[u8]) {
    let Ok(workload) = import::aicb::aicb(&text(bytes)) else { return };
    let Ok(ratios) = simai::shipped_ratios() else { return };
    if let Ok(table) = simai::table(&workload, &simai::Machine::default(), workload.gpus, &ratios) {
        let _ = table.to_csv();
    }
}

/// Reads bytes as one of SimAI's tables of efficiency.
pub fn ratio_table(bytes: &[u8]) {
    if let Ok(table) = simai::Table::from_csv(&text(bytes)) {
        let _ = (0..table.columns.len()).filter_map(|column| table.hosts(column)).max();
    }
}

/// Reads bytes as the output of nccl-tests, and looks for causes in it.
pub fn nccl_tests(bytes: &[u8]) {
    let Ok(output) = nccl_tests::read(&text(bytes)) else { return };
    for gpu in [None, Some("H100")] {
        if let Ok(patient) = Patient::from_output(&output, gpu, 400.0, None) {
            let _ = diagnose(&patient, &output);
        }
    }
}

/// Reads bytes as a Hugging Face `config.json`.
pub fn model_config(bytes: &[u8]) {
    if let Ok(model) = from_config("fuzzed", &text(bytes)) {
        let _ = (model.parameters(), model.kv_bytes_per_token(2.0), model.attention_flops(1e6), model.state_bytes());
    }
}

/// Reads bytes as the name of a cluster.
pub fn cluster(bytes: &[u8]) {
    if let Ok(cluster) = Cluster::named(&text(bytes)) {
        let _ = (cluster.gpus(), cluster.usd_per_hour(), Machine::named(cluster.gpu.name, cluster.card_gbps).is_ok());
    }
}

/// Reads bytes as a file of reference results, and runs its cases.
pub fn reference(bytes: &[u8]) {
    let _ = check(&text(bytes));
}
