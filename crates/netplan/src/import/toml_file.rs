//! Our own description of a fabric: a preset with other sizes, or nodes and cables one by one.
//!
//! ```toml
//! name = "lab"
//! preset = "hpn7"          # and, if wanted, gpus = 2048
//! ```
//! ```toml
//! name = "two switches"
//! endpoints = 4
//! gpus_per_host = 1
//! switches = ["tor", "tor", "agg"]       # nodes 4, 5, 6
//! [[cables]]
//! between = [0, 4]
//! gbps = 100
//! latency_ns = 1000
//! ```

use serde::Deserialize;

use super::TEXT_BYTES_MAX;
use crate::error::{Error, Result, at_most};
use crate::topology::{Builder, CableSpec, NODES_MAX, NodeKind, Place, Topology, preset};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: Option<String>,
    preset: Option<String>,
    gpus: Option<u32>,
    endpoints: Option<u32>,
    gpus_per_host: Option<u32>,
    #[serde(default)]
    switches: Vec<String>,
    #[serde(default)]
    cables: Vec<RawCable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCable {
    between: [u32; 2],
    gbps: f64,
    #[serde(default = "default_latency_ns")]
    latency_ns: u32,
    #[serde(default)]
    loss: f32,
}

fn default_latency_ns() -> u32 {
    1_000
}

/// Reads a topology from TOML.
///
/// # Errors
/// If the text is no TOML, names an unknown field or preset, mixes both forms, or passes a limit.
pub fn toml(text: &str) -> Result<Topology> {
    at_most("bytes of topology", text.len() as u64, TEXT_BYTES_MAX)?;
    let raw: Raw = ::toml::from_str(text).map_err(Error::Toml)?;
    let name = raw.name.clone().unwrap_or_else(|| "topology".to_owned());
    match (&raw.preset, raw.endpoints) {
        (Some(fabric), None) if raw.switches.is_empty() && raw.cables.is_empty() => preset(fabric, raw.gpus),
        (None, Some(endpoints)) => explicit(&raw, &name, endpoints),
        _ => Err(Error::invalid("topology", "either `preset`, or `endpoints` with `switches` and `cables`")),
    }
}

fn explicit(raw: &Raw, name: &str, endpoints: u32) -> Result<Topology> {
    at_most("nodes", u64::from(endpoints) + raw.switches.len() as u64, NODES_MAX)?;
    let gpus_per_host = raw.gpus_per_host.unwrap_or(1).max(1);
    let mut builder = Builder::named(name, gpus_per_host);
    for gpu in 0..endpoints {
        let place = Place { group: gpu / gpus_per_host, rail: (gpu % gpus_per_host) as u16, plane: 0 };
        builder.node(NodeKind::Endpoint, place);
    }
    for (group, word) in raw.switches.iter().enumerate() {
        builder.node(switch_kind(word)?, Place { group: group as u32, ..Place::default() });
    }
    for cable in &raw.cables {
        let spec = CableSpec { loss: cable.loss, ..CableSpec::gbps(cable.gbps, cable.latency_ns) };
        builder.cable(cable.between[0], cable.between[1], spec);
    }
    builder.finish()
}

fn switch_kind(word: &str) -> Result<NodeKind> {
    let kinds = [NodeKind::ScaleUp, NodeKind::Tor, NodeKind::Aggregation, NodeKind::Core, NodeKind::Site];
    kinds.into_iter().find(|kind| kind.word() == word).ok_or_else(|| Error::Unknown {
        what: "kind of switch",
        name: word.to_owned(),
        known: kinds.map(NodeKind::word).join(", "),
    })
}
