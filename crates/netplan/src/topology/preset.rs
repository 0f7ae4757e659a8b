//! Fabrics by name, for people and for scripts.

use super::{Dragonfly, EdgeRing, FatTree, Hpn, MultiPlane, RailOnly, ScaleUp, Topology};
use crate::error::{Error, Result};

/// The names that [`preset`] knows, with what each is.
pub const PRESETS: [(&str, &str); 11] = [
    ("hpn7", "HPN 7: dual-plane, dual-ToR, rail-optimised, 2 x 200 Gbps a GPU, 15,360 GPUs a pod"),
    ("hpn8", "HPN 7 at 800 Gbps a GPU on 102.4T switches; the switch layout is inferred"),
    ("hpn7-single-tor", "HPN 7 with both ports of a card on one ToR, to see what dual-ToR buys"),
    ("dcn-plus", "the fabric before HPN: dual-ToR, 16 hosts a segment, not rail-optimised"),
    ("rail-only", "one switch a rail, no spine"),
    ("fat-tree-2", "k-ary fat tree, two tiers, k = 64, 400 Gbps"),
    ("fat-tree-3", "k-ary fat tree, three tiers, k = 64, 400 Gbps"),
    ("multi-plane", "eight two-tier fat trees of 64-port switches side by side, 400 Gbps"),
    ("dragonfly", "canonical dragonfly, a = 16, p = 8, h = 8, 400 Gbps"),
    ("nvl72", "eight racks of 72 GPUs on scale-up switches, 800 Gbps a GPU between racks"),
    ("edge-ring", "eight sites of four hosts on a ring of 10 Gbps links, 8 ms and 0.01 % loss each"),
];

/// The fabric of this name; with `gpus`, cut or grown to hold so many where the fabric can be.
///
/// # Errors
/// If the name is unknown or the size beyond the limits.
pub fn preset(name: &str, gpus: Option<u32>) -> Result<Topology> {
    let sized = |fabric: Hpn| if let Some(gpus) = gpus { fabric.for_gpus(gpus) } else { fabric };
    let mut topology = match name {
        "hpn7" => sized(Hpn::hpn7()).build(name)?,
        "hpn8" => sized(Hpn::hpn8()).build(name)?,
        "hpn7-single-tor" => sized(Hpn { single_tor: true, ..Hpn::hpn7() }).build(name)?,
        "dcn-plus" => sized(Hpn::dcn_plus()).build(name)?,
        "rail-only" => {
            let hosts = gpus.unwrap_or(1_024).div_ceil(8).max(1);
            RailOnly { hosts, gpus_per_host: 8, link_gbps: 400.0, scale_up_bytes_per_s: 360e9 }.build(name)?
        }
        "fat-tree-2" => fat_tree(2, k_for(gpus, |k| k * k / 2)).build(name)?,
        "fat-tree-3" => fat_tree(3, k_for(gpus, |k| k * k * k / 4)).build(name)?,
        "multi-plane" => {
            let k = k_for(gpus, |k| 4 * k * k);
            MultiPlane { planes: 8, k, link_gbps: 400.0, scale_up_bytes_per_s: 360e9 }.build(name)?
        }
        "dragonfly" => Dragonfly { a: 16, p: 8, h: 8, link_gbps: 400.0 }.build(name)?,
        "nvl72" => {
            let racks = gpus.unwrap_or(8 * 72).div_ceil(72).max(1);
            let spines = if racks > 1 { 72 } else { 0 };
            let scale_up_bytes_per_s = 900e9;
            ScaleUp { racks, gpus_per_rack: 72, scale_up_bytes_per_s, link_gbps: 800.0, spines }.build(name)?
        }
        "edge-ring" => EdgeRing {
            sites: 8,
            hosts_per_site: 4,
            host_gbps: 10.0,
            wan_gbps: 10.0,
            wan_latency_us: 8_000,
            wan_loss: 1e-4,
        }
        .build(name)?,
        _ => {
            let known: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
            return Err(Error::Unknown { what: "fabric", name: name.to_owned(), known: known.join(", ") });
        }
    };
    topology.notes.extend(caveat(name).map(str::to_owned));
    Ok(topology)
}

fn caveat(name: &str) -> Option<&'static str> {
    match name {
        "hpn8" => Some("the switch layout of hpn8 is inferred by doubling HPN 7 on 102.4T chips; it is not published"),
        "dcn-plus" => Some("the uplinks of dcn-plus are drawn as one trunk to each of 8 aggregation switches a plane"),
        _ => None,
    }
}

fn fat_tree(tiers: u32, k: u32) -> FatTree {
    FatTree { k, tiers, oversubscription: 1, link_gbps: 400.0, link_latency_ns: super::hpn::LINK_LATENCY_NS }
}

/// The smallest even `k`, at least 4, whose tree holds `gpus`; 64 if nobody asks.
fn k_for(gpus: Option<u32>, endpoints: impl Fn(u64) -> u64) -> u32 {
    let Some(gpus) = gpus else { return 64 };
    (2..=512_u32).map(|half| 2 * half).find(|&k| endpoints(u64::from(k)) >= u64::from(gpus)).unwrap_or(1_026)
}
