//! `sampan net fabric`: a fabric by name, or from a file of ours or of others.

use std::path::Path;

use netplan::import;
use netplan::picture::fabric_page;
use netplan::plan::Cluster;
use netplan::topology::{PRESETS, Topology, preset};
use serde_json::json;

use super::args::Fabric;
use crate::machine::print;

/// A fabric, and what its file says besides.
pub(super) struct Found {
    pub(super) topology: Topology,
    /// What a person should look at.
    findings: Vec<String>,
}

pub(super) fn run(arguments: &Fabric) -> anyhow::Result<()> {
    if arguments.fabric == "list" {
        return list();
    }
    let found = find(&arguments.fabric, arguments.gpus)?;
    print(&if arguments.json { as_json(&found)? } else { words(&found) })?;
    match &arguments.picture {
        Some(path) => super::write_picture(path, &fabric_page(&found.topology, &found.findings)),
        None => Ok(()),
    }
}

pub(super) fn list() -> anyhow::Result<()> {
    let lines: String = PRESETS.iter().map(|(name, what)| format!("{name:16} {what}\n")).collect();
    print(&lines)
}

/// A preset, or the fabric in a file: our TOML, SimAI's topology, or what `nvidia-smi topo -m` printed.
pub(super) fn find(name: &str, gpus: Option<u32>) -> anyhow::Result<Found> {
    let path = Path::new(name);
    if name != "-" && !path.is_file() {
        return Ok(Found { topology: preset(name, gpus)?, findings: Vec::new() });
    }
    anyhow::ensure!(gpus.is_none(), "--gpus cuts presets; the file {name} says itself how many there are");
    let text = super::read_text(path)?;
    // The matrix has a header of GPUs, and SimAI's file begins with a number; TOML does neither.
    if text.contains("GPU0") {
        let host = import::nvidia_smi(&text)?;
        return Ok(Found { topology: host.topology()?, findings: host.findings() });
    }
    let is_simai = text.trim_start().starts_with(|first: char| first.is_ascii_digit());
    let topology = if is_simai { import::simai(&text)? } else { import::toml(&text)? };
    Ok(Found { topology, findings: Vec::new() })
}

/// The network of a cluster, whose fabric may be a file.
pub(super) fn of(cluster: &Cluster) -> anyhow::Result<Topology> {
    if !Path::new(&cluster.fabric).is_file() {
        return Ok(cluster.topology()?);
    }
    let topology = find(&cluster.fabric, None)?.topology;
    let (gpus, per_host) = (topology.endpoint_count(), topology.endpoints_per_host());
    anyhow::ensure!(
        gpus >= cluster.gpus() && per_host == cluster.gpus_per_host,
        "{} has {gpus} GPUs, {per_host} a host; {} are needed, {} a host",
        cluster.fabric,
        cluster.gpus(),
        cluster.gpus_per_host
    );
    Ok(topology)
}

fn words(found: &Found) -> String {
    use std::fmt::Write as _;
    let Found { topology, findings } = found;
    let counts = topology.counts();
    let per_host = topology.endpoints_per_host();
    let mut out = format!(
        "{}: {} endpoints, {per_host} a host, and {} spare\n  \
         switches  {}: {} ToRs, {} aggregation, {} core; {} planes\n  \
         cables    {} to endpoints, {} between switches\n",
        topology.name(),
        counts.endpoints,
        counts.spare_endpoints,
        counts.switches,
        counts.tors,
        counts.aggregations,
        counts.cores,
        counts.planes,
        counts.endpoint_cables,
        counts.switch_cables
    );
    if counts.tors > 0 {
        let _ = writeln!(
            out,
            "  a ToR     {} ports down, {} up, {:.2}:1",
            counts.tor_down_ports, counts.tor_up_ports, counts.tor_oversubscription
        );
    }
    for note in topology.notes() {
        let _ = writeln!(out, "  note      {note}");
    }
    for finding in findings {
        let _ = writeln!(out, "  look at   {finding}");
    }
    out
}

fn as_json(found: &Found) -> anyhow::Result<String> {
    let Found { topology, findings } = found;
    let counts = topology.counts();
    let finite = Some(counts.tor_oversubscription).filter(|share| share.is_finite());
    let value = json!({
        "name": topology.name(),
        "endpoints": counts.endpoints,
        "endpoints_per_host": topology.endpoints_per_host(),
        "spare_endpoints": counts.spare_endpoints,
        "switches": counts.switches,
        "tors": counts.tors,
        "aggregations": counts.aggregations,
        "cores": counts.cores,
        "planes": counts.planes,
        "endpoint_cables": counts.endpoint_cables,
        "switch_cables": counts.switch_cables,
        "tor_oversubscription": finite,
        "notes": topology.notes(),
        "findings": findings,
    });
    Ok(format!("{}\n", serde_json::to_string_pretty(&value)?))
}
