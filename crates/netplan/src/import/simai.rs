//! SimAI's topology file, as `gen_Topo_Template.py` writes it.
//!
//! ```text
//! nodes gpus_per_server nv_switches other_switches links gpu_type
//! ids of all switches, NVSwitches first
//! node node bandwidth latency error_rate        one line a cable, for example: 0 16 200Gbps 0.0005ms 0
//! ```

use super::TEXT_BYTES_MAX;
use crate::error::{Error, Result, at_most};
use crate::topology::{Builder, CableSpec, LINKS_MAX, NODES_MAX, NodeKind, Place, Topology};

const FORMAT: &str = "SimAI topology";

/// Reads a SimAI topology file. Which switch is a ToR and which an aggregation switch follows from the cables.
///
/// # Errors
/// If a line cannot be read, a number contradicts another, or a limit is passed.
pub fn simai(text: &str) -> Result<Topology> {
    at_most("bytes of topology", text.len() as u64, TEXT_BYTES_MAX)?;
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let header = Header::read(lines.next())?;
    let switches = header.switches(lines.next())?;
    let mut cables = Vec::new();
    for (index, line) in lines {
        if cables.len() as u64 == header.cables {
            return Err(syntax(index, format!("more than the {} cables of the first line", header.cables)));
        }
        cables.push(cable(line).map_err(|detail| syntax(index, detail))?);
    }
    if (cables.len() as u64) < header.cables {
        return Err(syntax(0, format!("{} cables are announced, {} follow", header.cables, cables.len())));
    }
    assemble(&header, &switches, &cables)
}

struct Header {
    nodes: u32,
    gpus_per_server: u32,
    nv_switches: u32,
    switches: u32,
    cables: u64,
    gpu_type: String,
}

impl Header {
    fn read(line: Option<(usize, &str)>) -> Result<Self> {
        let (index, line) = line.ok_or_else(|| syntax(0, "the file is empty"))?;
        let fields: Vec<&str> = line.split_whitespace().collect();
        if fields.len() < 5 {
            return Err(syntax(index, "five numbers and a GPU type are expected"));
        }
        let number =
            |field: usize| fields[field].parse::<u32>().map_err(|_| syntax(index, format!("{:?}", fields[field])));
        let header = Self {
            nodes: number(0)?,
            gpus_per_server: number(1)?,
            nv_switches: number(2)?,
            switches: number(3)?,
            cables: u64::from(number(4)?),
            gpu_type: fields.get(5).copied().unwrap_or("unknown").to_owned(),
        };
        at_most("nodes", u64::from(header.nodes), NODES_MAX)?;
        at_most("directed links", 2 * header.cables, LINKS_MAX)?;
        let all = u64::from(header.nv_switches) + u64::from(header.switches);
        if all >= u64::from(header.nodes) {
            return Err(syntax(index, format!("{all} of {} nodes are switches", header.nodes)));
        }
        Ok(header)
    }

    fn switches(&self, line: Option<(usize, &str)>) -> Result<Vec<u32>> {
        let expected = (self.nv_switches + self.switches) as usize;
        let (index, line) = line.ok_or_else(|| syntax(1, "the line of switch numbers is missing"))?;
        let mut found = Vec::new();
        for field in line.split_whitespace() {
            let switch: u32 = field.parse().map_err(|_| syntax(index, format!("switch {field:?}")))?;
            if switch >= self.nodes {
                return Err(syntax(index, format!("switch {switch} of {} nodes", self.nodes)));
            }
            found.push(switch);
        }
        if found.len() != expected {
            return Err(syntax(index, format!("{} switches, {expected} announced", found.len())));
        }
        Ok(found)
    }
}

fn cable(line: &str) -> std::result::Result<([u32; 2], CableSpec), String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if fields.len() < 4 {
        return Err("two nodes, a bandwidth and a latency are expected".to_owned());
    }
    let node = |field: usize| fields[field].parse::<u32>().map_err(|_| format!("node {:?}", fields[field]));
    let loss: f32 = fields.get(4).map_or(Ok(0.0), |text| text.parse().map_err(|_| format!("error rate {text:?}")))?;
    let gbps = gigabits(fields[2]).ok_or_else(|| format!("bandwidth {:?}", fields[2]))?;
    let latency_ns = nanoseconds(fields[3]).ok_or_else(|| format!("latency {:?}", fields[3]))?;
    Ok(([node(0)?, node(1)?], CableSpec { loss, ..CableSpec::gbps(gbps, latency_ns) }))
}

/// Splits `200Gbps` and its like into the number and the unit.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let split = text.find(|letter: char| letter.is_ascii_alphabetic() && letter != 'e' && letter != 'E')?;
    let value: f64 = text[..split].parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some((value, &text[split..]))
}

fn gigabits(text: &str) -> Option<f64> {
    let (value, unit) = number_and_unit(text)?;
    let scale = match unit {
        "bps" => 1e-9,
        "Kbps" | "kbps" => 1e-6,
        "Mbps" => 1e-3,
        "Gbps" => 1.0,
        "Tbps" => 1e3,
        _ => return None,
    };
    (value > 0.0).then_some(value * scale)
}

fn nanoseconds(text: &str) -> Option<u32> {
    let (value, unit) = number_and_unit(text)?;
    let scale = match unit {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    let nanoseconds = (value * scale).round();
    (nanoseconds <= f64::from(u32::MAX)).then_some(nanoseconds as u32)
}

const UNKNOWN: u32 = u32::MAX;

fn assemble(header: &Header, switches: &[u32], cables: &[([u32; 2], CableSpec)]) -> Result<Topology> {
    let nodes = header.nodes as usize;
    let mut kinds: Vec<Option<NodeKind>> = vec![Some(NodeKind::Endpoint); nodes];
    for (place, &switch) in switches.iter().enumerate() {
        kinds[switch as usize] = (place < header.nv_switches as usize).then_some(NodeKind::ScaleUp);
    }
    if kinds.iter().filter(|kind| **kind == Some(NodeKind::Endpoint)).count() + switches.len() != nodes {
        return Err(syntax(1, "a switch is named twice"));
    }
    for (below, tier) in [
        (NodeKind::Endpoint, NodeKind::Tor),
        (NodeKind::Tor, NodeKind::Aggregation),
        (NodeKind::Aggregation, NodeKind::Core),
    ] {
        name_tier(&mut kinds, cables, below, tier);
    }
    let mut builder = Builder::named(format!("SimAI {}", header.gpu_type), header.gpus_per_server);
    let mut numbers = vec![UNKNOWN; nodes];
    for pass in [true, false] {
        for (node, kind) in kinds.iter().enumerate() {
            let kind = kind.unwrap_or(NodeKind::Core);
            if (kind == NodeKind::Endpoint) == pass {
                numbers[node] = builder.node(kind, Place { group: node as u32, ..Place::default() });
            }
        }
    }
    for &([left, right], spec) in cables {
        if left.max(right) >= header.nodes {
            return Err(Error::invalid("cable", format!("{left} to {right} in a network of {} nodes", header.nodes)));
        }
        builder.cable(numbers[left as usize], numbers[right as usize], spec);
    }
    builder.finish()
}

/// Names every switch without a kind that has a cable to `below`.
fn name_tier(kinds: &mut [Option<NodeKind>], cables: &[([u32; 2], CableSpec)], below: NodeKind, tier: NodeKind) {
    let touched: Vec<u32> = cables
        .iter()
        .flat_map(|&([left, right], _)| [(left, right), (right, left)])
        .filter(|&(lower, upper)| {
            let kind = |node: u32| kinds.get(node as usize).copied();
            kind(lower) == Some(Some(below)) && kind(upper) == Some(None)
        })
        .map(|(_, upper)| upper)
        .collect();
    for switch in touched {
        kinds[switch as usize] = Some(tier);
    }
}

fn syntax(index: usize, detail: impl Into<String>) -> Error {
    Error::Syntax { format: FORMAT, line: index + 1, detail: detail.into() }
}
