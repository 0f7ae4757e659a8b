//! Clusters by name: `8x8xH100-400G` is 8 hosts of 8 H100 with one 400 Gbps card a GPU.

use crate::collective::Machine;
use crate::error::{Error, Result, at_most};
use crate::topology::{Hpn, NODES_MAX, Topology, preset};

/// One kind of GPU: data-sheet numbers, dense, and a price that is an assumption.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gpu {
    /// Its name.
    pub name: &'static str,
    /// BF16 multiply-adds count two.
    pub bf16_flops: f64,
    /// FP8, the same as BF16 where there is none.
    pub fp8_flops: f64,
    /// Memory.
    pub memory_bytes: f64,
    /// Its rate.
    pub memory_bytes_per_s: f64,
    /// Power.
    pub watts: f64,
    /// US dollars an hour: an assumption about rents, not a quotation.
    pub usd_per_hour: f64,
}

/// Known GPUs (data sheets of the vendor).
pub const GPUS: [Gpu; 8] = [
    gpu("A100", 312e12, 312e12, 80e9, 2.039e12, 400.0, 1.3),
    gpu("A800", 312e12, 312e12, 80e9, 2.039e12, 400.0, 1.3),
    gpu("H100", 989e12, 1_979e12, 80e9, 3.35e12, 700.0, 2.5),
    gpu("H200", 989e12, 1_979e12, 141e9, 4.8e12, 700.0, 3.0),
    gpu("H800", 989e12, 1_979e12, 80e9, 3.35e12, 700.0, 2.2),
    gpu("H20", 148e12, 296e12, 96e9, 4.0e12, 400.0, 1.2),
    gpu("B200", 2_250e12, 4_500e12, 180e9, 7.7e12, 1_000.0, 4.5),
    gpu("GB200", 2_500e12, 5_000e12, 186e9, 8.0e12, 1_200.0, 5.0),
];

const fn gpu(
    name: &'static str,
    bf16_flops: f64,
    fp8_flops: f64,
    memory_bytes: f64,
    memory_bytes_per_s: f64,
    watts: f64,
    usd_per_hour: f64,
) -> Gpu {
    Gpu { name, bf16_flops, fp8_flops, memory_bytes, memory_bytes_per_s, watts, usd_per_hour }
}

/// Hosts of one kind on one fabric.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// As it was asked for.
    pub name: String,
    /// Hosts.
    pub hosts: u32,
    /// GPUs in each.
    pub gpus_per_host: u32,
    /// Their kind.
    pub gpu: Gpu,
    /// Rate of the card of each GPU.
    pub card_gbps: f64,
    /// Rates and latencies of collectives.
    pub machine: Machine,
    /// Preset of the fabric.
    pub fabric: String,
}

impl Cluster {
    /// Reads `8x8xH100-400G`, with `@fabric` at the end for another fabric than HPN 7's.
    ///
    /// # Errors
    /// If a part is missing, unknown, 0 or too large.
    pub fn named(name: &str) -> Result<Self> {
        let wrong = |detail: &str| Error::invalid("cluster", format!("{name:?}: {detail}; an example: 8x8xH100-400G"));
        let (shape, fabric) = name.split_once('@').unwrap_or((name, ""));
        let (counts, rate) = shape.rsplit_once('-').ok_or_else(|| wrong("no rate of the cards"))?;
        let rate = rate.trim_end_matches(['G', 'g']).parse::<f64>().map_err(|_| wrong("the rate is no number"))?;
        let parts: Vec<&str> = counts.split('x').collect();
        let [hosts, gpus_per_host, gpu] = parts[..] else { return Err(wrong("hosts x GPUs x kind is expected")) };
        let number = |text: &str| text.parse::<u32>().ok().filter(|&number| number > 0);
        let hosts = number(hosts).ok_or_else(|| wrong("the number of hosts"))?;
        let gpus_per_host = number(gpus_per_host).ok_or_else(|| wrong("the number of GPUs in a host"))?;
        at_most("GPUs", u64::from(hosts) * u64::from(gpus_per_host), NODES_MAX / 2)?;
        at_most("GPUs in a host", u64::from(gpus_per_host), 128)?;
        let mut machine = Machine::named(gpu, rate)?;
        machine.gpus_per_host = gpus_per_host;
        let kind = GPUS.into_iter().find(|known| known.name == machine.name);
        let gpu = kind.ok_or_else(|| wrong("an unknown kind of GPU"))?;
        let fabric = if fabric.is_empty() { "hpn7" } else { fabric };
        Ok(Self {
            name: name.to_owned(),
            hosts,
            gpus_per_host,
            gpu,
            card_gbps: rate,
            machine,
            fabric: fabric.to_owned(),
        })
    }

    /// All GPUs.
    #[must_use]
    pub fn gpus(&self) -> u32 {
        self.hosts * self.gpus_per_host
    }

    /// The network, with as many endpoints as there are GPUs where the fabric can be cut to size.
    ///
    /// # Errors
    /// If the fabric is unknown or its limits are passed.
    pub fn topology(&self) -> Result<Topology> {
        let scaled = |fabric: Hpn| {
            let factor = self.card_gbps / (f64::from(fabric.planes) * fabric.port_gbps);
            let mut fabric = Hpn {
                gpus_per_host: self.gpus_per_host,
                port_gbps: fabric.port_gbps * factor,
                uplink_gbps: fabric.uplink_gbps * factor,
                scale_up_bytes_per_s: self.machine.inside_line * self.machine.inside_share,
                spare_hosts_per_segment: 0,
                ..fabric
            };
            fabric = fabric.for_gpus(self.gpus());
            let segments = fabric.segments_per_pod;
            // A pod keeps its 1.07:1: uplinks shrink with the hosts of a segment.
            let share = f64::from(fabric.hosts_per_segment) / 128.0;
            fabric.aggregations_per_plane = ((60.0 * share).ceil() as u32).max(if segments > 1 { 2 } else { 1 });
            fabric
        };
        match self.fabric.as_str() {
            "hpn7" | "hpn8" => scaled(Hpn::hpn7()).build(&self.name),
            "hpn7-single-tor" => scaled(Hpn { single_tor: true, ..Hpn::hpn7() }).build(&self.name),
            other => preset(other, Some(self.gpus())),
        }
    }

    /// US dollars an hour for all of it.
    #[must_use]
    pub fn usd_per_hour(&self) -> f64 {
        f64::from(self.gpus()) * self.gpu.usd_per_hour
    }
}
