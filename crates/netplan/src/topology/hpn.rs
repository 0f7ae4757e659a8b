//! Dual-plane, dual-ToR, rail-optimised fabrics (Alibaba HPN, SIGCOMM 2024) and the DCN+ that came before.
//!
//! Each GPU has one network card with a port in every plane. A segment holds one ToR a rail and plane; a ToR has one
//! uplink to each aggregation switch of its plane, so the planes meet only inside the hosts and in the core's cards.

use super::{Builder, CableSpec, NodeKind, Place, Topology};
use crate::error::{Error, Result, at_most};

/// Latency of one network cable with the switch behind it; htsim's and SimAI's default.
pub(super) const LINK_LATENCY_NS: u32 = 1_000;
/// Latency from a GPU to the switch inside its host, half of what ASTRA-sim's H100 files give for a hop.
pub(super) const SCALE_UP_LATENCY_NS: u32 = 500;

/// The largest count that one field may hold.
const COUNT_MAX: u32 = 16_384;

/// The sizes of an HPN-style fabric. [`Hpn::hpn7`] is the published one.
#[derive(Debug, Clone, PartialEq)]
pub struct Hpn {
    /// Pods, joined by a core if more than one.
    pub pods: u32,
    /// Segments in a pod.
    pub segments_per_pod: u32,
    /// Hosts in use in a segment.
    pub hosts_per_segment: u32,
    /// Hosts that stand by in each segment.
    pub spare_hosts_per_segment: u32,
    /// GPUs in a host: the number of rails.
    pub gpus_per_host: u32,
    /// Separate networks, one port of every card in each.
    pub planes: u32,
    /// Rate of one port of a card.
    pub port_gbps: f64,
    /// Aggregation switches in a plane of a pod: the uplinks of a ToR.
    pub aggregations_per_plane: u32,
    /// Rate of one uplink.
    pub uplink_gbps: f64,
    /// Uplinks of an aggregation switch to the core, each at `uplink_gbps`.
    pub core_uplinks: u32,
    /// Ports of a core switch.
    pub core_ports: u32,
    /// What one GPU can send to the others of its host, bytes a second.
    pub scale_up_bytes_per_s: f64,
    /// Whether the GPU number decides the ToR (rail-optimised) or the host does.
    pub rail_optimised: bool,
    /// One ToR a rail instead of one a rail and plane: both ports of a card end on the same switch.
    pub single_tor: bool,
}

impl Hpn {
    /// HPN 7: 15,360 GPUs a pod at 2 x 200 Gbps, switches of 51.2 Tbps.
    #[must_use]
    pub fn hpn7() -> Self {
        Self {
            pods: 1,
            segments_per_pod: 15,
            hosts_per_segment: 128,
            spare_hosts_per_segment: 8,
            gpus_per_host: 8,
            planes: 2,
            port_gbps: 200.0,
            aggregations_per_plane: 60,
            uplink_gbps: 400.0,
            core_uplinks: 8,
            core_ports: 128,
            scale_up_bytes_per_s: 360e9,
            rail_optimised: true,
            single_tor: false,
        }
    }

    /// The 800 Gbps class: HPN 7's layout at twice the rate, on switches of 102.4 Tbps. **Inferred**, not published.
    #[must_use]
    pub fn hpn8() -> Self {
        Self { port_gbps: 400.0, uplink_gbps: 800.0, scale_up_bytes_per_s: 720e9, ..Self::hpn7() }
    }

    /// The same fabric cut to the smallest whole number of segments (then pods) that holds `gpus`.
    #[must_use]
    pub fn for_gpus(mut self, gpus: u32) -> Self {
        let per_segment = self.hosts_per_segment.saturating_mul(self.gpus_per_host).max(1);
        let segments = gpus.div_ceil(per_segment).max(1);
        if segments <= self.segments_per_pod {
            self.segments_per_pod = segments;
        }
        self.pods = segments.div_ceil(self.segments_per_pod.max(1));
        if gpus < per_segment {
            self.hosts_per_segment = gpus.div_ceil(self.gpus_per_host).max(1);
        }
        self
    }

    fn check(&self) -> Result<()> {
        let counts = [self.pods, self.segments_per_pod, self.hosts_per_segment, self.gpus_per_host, self.planes];
        let others = [self.aggregations_per_plane, self.core_ports];
        let zero_allowed = [self.spare_hosts_per_segment, self.core_uplinks];
        if counts.iter().chain(&others).any(|&count| count == 0 || count > COUNT_MAX)
            || zero_allowed.iter().any(|&count| count > COUNT_MAX)
        {
            return Err(Error::invalid("hpn", format!("every count has to be between 1 and {COUNT_MAX}")));
        }
        at_most("core uplinks", u64::from(self.core_uplinks), u64::from(self.core_ports))?;
        let hosts = u64::from(self.hosts_per_segment + self.spare_hosts_per_segment);
        let gpus = hosts * u64::from(self.gpus_per_host) * u64::from(self.segments_per_pod) * u64::from(self.pods);
        at_most("nodes", gpus, super::NODES_MAX)?;
        let tors = u64::from(self.tors_per_pod()) * u64::from(self.pods);
        at_most("directed links", 2 * tors * u64::from(self.aggregations_per_plane), super::LINKS_MAX)
    }

    fn rails(&self) -> u32 {
        if self.rail_optimised { self.gpus_per_host } else { 1 }
    }

    fn tors_per_pod(&self) -> u32 {
        self.segments_per_pod.saturating_mul(self.rails()).saturating_mul(self.planes)
    }

    /// Builds the network. Endpoints are numbered pod, segment, host, GPU; spares follow in the same order.
    ///
    /// # Errors
    /// If a size is 0 or beyond the limits of [`super::Builder::finish`].
    pub fn build(&self, name: &str) -> Result<Topology> {
        self.check()?;
        let mut builder = Builder::named(name, self.gpus_per_host);
        let segments = self.pods * self.segments_per_pod;
        for hosts in [self.hosts_per_segment, self.spare_hosts_per_segment] {
            for segment in 0..segments {
                for gpu in 0..hosts * self.gpus_per_host {
                    let rail = (gpu % self.gpus_per_host) as u16;
                    builder.node(NodeKind::Endpoint, Place { group: segment, rail, plane: 0 });
                }
            }
        }
        let spares = segments * self.spare_hosts_per_segment * self.gpus_per_host;
        builder.spares(spares);
        let hosts_in_use = segments * self.hosts_per_segment;
        let hosts = hosts_in_use + segments * self.spare_hosts_per_segment;
        let scale_up: Vec<u32> =
            (0..hosts).map(|host| builder.node(NodeKind::ScaleUp, Place { group: host, ..Place::default() })).collect();
        let tors = self.add_switches(&mut builder);
        let scale_up_spec =
            CableSpec { bytes_per_s: self.scale_up_bytes_per_s, latency_ns: SCALE_UP_LATENCY_NS, loss: 0.0 };
        let port = CableSpec::gbps(self.port_gbps, LINK_LATENCY_NS);
        for (host, &switch) in (0..hosts).zip(&scale_up) {
            let segment = self.segment_of_host(host, hosts_in_use);
            for rail in 0..self.gpus_per_host {
                let gpu = host * self.gpus_per_host + rail;
                builder.cable(gpu, switch, scale_up_spec);
                for plane in 0..self.planes {
                    let tor_plane = if self.single_tor { 0 } else { plane };
                    let row = segment * self.rails() + rail.min(self.rails() - 1);
                    builder.cable(gpu, tors[(row * self.planes + tor_plane) as usize], port);
                }
            }
        }
        builder.finish()
    }

    fn segment_of_host(&self, host: u32, hosts_in_use: u32) -> u32 {
        if host < hosts_in_use {
            host / self.hosts_per_segment
        } else {
            (host - hosts_in_use) / self.spare_hosts_per_segment
        }
    }

    /// ToRs `[segment, rail, plane]`, the aggregation tier and, for several pods, the core.
    fn add_switches(&self, builder: &mut Builder) -> Vec<u32> {
        let mut tors = Vec::new();
        for segment in 0..self.pods * self.segments_per_pod {
            for rail in 0..self.rails() as u16 {
                for plane in 0..self.planes as u16 {
                    tors.push(builder.node(NodeKind::Tor, Place { group: segment, rail, plane }));
                }
            }
        }
        let uplink = CableSpec::gbps(self.uplink_gbps, LINK_LATENCY_NS);
        let per_plane = self.aggregations_per_plane;
        let cores_per_plane = (self.pods * per_plane * self.core_uplinks).div_ceil(self.core_ports);
        let cores: Vec<u32> = if self.pods < 2 {
            Vec::new()
        } else {
            (0..self.planes as u16)
                .flat_map(|plane| (0..cores_per_plane).map(move |core| Place { group: core, rail: 0, plane }))
                .map(|place| builder.node(NodeKind::Core, place))
                .collect()
        };
        let tors_per_pod = self.tors_per_pod() as usize;
        for pod in 0..self.pods {
            for plane in 0..self.planes {
                for index in 0..per_plane {
                    let place = Place { group: pod, rail: index as u16, plane: plane as u16 };
                    let aggregation = builder.node(NodeKind::Aggregation, place);
                    let own = tors.iter().skip(pod as usize * tors_per_pod).take(tors_per_pod);
                    for &tor in own.skip(plane as usize).step_by(self.planes as usize) {
                        builder.cable(tor, aggregation, uplink);
                    }
                    for up in 0..if cores.is_empty() { 0 } else { self.core_uplinks } {
                        let core = plane * cores_per_plane + (index * self.core_uplinks + up) % cores_per_plane;
                        builder.cable(aggregation, cores[core as usize], uplink);
                    }
                }
            }
        }
        tors
    }

    /// DCN+, the fabric before HPN: dual-ToR pairs of 16 hosts, all eight GPUs of a host on the same pair.
    #[must_use]
    pub fn dcn_plus() -> Self {
        Self {
            pods: 1,
            segments_per_pod: 4,
            hosts_per_segment: 16,
            spare_hosts_per_segment: 0,
            aggregations_per_plane: 8,
            uplink_gbps: 3_200.0,
            rail_optimised: false,
            ..Self::hpn7()
        }
    }
}
