//! The other fabrics: trees, planes, rails, dragonfly, scale-up racks and rings of sites.

use super::hpn::{LINK_LATENCY_NS, SCALE_UP_LATENCY_NS};
use super::{Builder, CableSpec, LINKS_MAX, NODES_MAX, NodeKind, Place, Topology};
use crate::error::{Error, Result, at_most};

/// Two tiers: every ToR has one cable to every spine.
#[derive(Debug, Clone, PartialEq)]
pub struct LeafSpine {
    /// Leaf switches.
    pub tors: u32,
    /// Endpoints of a leaf.
    pub down: u32,
    /// Spine switches, so uplinks of a leaf.
    pub spines: u32,
    /// Rate of every cable.
    pub link_gbps: f64,
    /// One-way latency of every cable.
    pub link_latency_ns: u32,
}

impl LeafSpine {
    /// Builds the network, endpoints numbered leaf by leaf.
    ///
    /// # Errors
    /// If a size is 0 or beyond the limits.
    pub fn build(&self, name: &str) -> Result<Topology> {
        at_most("nodes", u64::from(self.tors) * u64::from(self.down), NODES_MAX)?;
        at_most("directed links", 2 * u64::from(self.tors) * u64::from(self.spines), LINKS_MAX)?;
        let mut builder = Builder::named(name, 1);
        let cable = CableSpec::gbps(self.link_gbps, self.link_latency_ns);
        for host in 0..self.tors * self.down {
            builder.node(NodeKind::Endpoint, Place { group: host / self.down, ..Place::default() });
        }
        let tors = add_leaf_spine(&mut builder, self.tors, self.spines, cable, 0);
        for host in 0..self.tors * self.down {
            builder.cable(host, tors[(host / self.down) as usize], cable);
        }
        builder.finish()
    }
}

/// Adds leaves and spines, fully meshed, and returns the leaves.
fn add_leaf_spine(builder: &mut Builder, leaves: u32, spines: u32, cable: CableSpec, plane: u16) -> Vec<u32> {
    let tors: Vec<u32> =
        (0..leaves).map(|group| builder.node(NodeKind::Tor, Place { group, rail: 0, plane })).collect();
    for group in 0..spines {
        let spine = builder.node(NodeKind::Aggregation, Place { group, rail: 0, plane });
        for &tor in &tors {
            builder.cable(tor, spine, cable);
        }
    }
    tors
}

/// The k-ary fat tree of switches with `k` ports, two or three tiers.
#[derive(Debug, Clone, PartialEq)]
pub struct FatTree {
    /// Ports of every switch, even.
    pub k: u32,
    /// 2 or 3.
    pub tiers: u32,
    /// Endpoint ports over uplink ports of a ToR, 1 for a full tree; uplinks are taken away, never endpoints.
    pub oversubscription: u32,
    /// Rate of every cable.
    pub link_gbps: f64,
    /// One-way latency of every cable.
    pub link_latency_ns: u32,
}

impl FatTree {
    /// Builds the network: `k*k/2` endpoints on two tiers, `k^3/4` on three.
    ///
    /// # Errors
    /// If `k` is odd or too large, the tiers are not 2 or 3, or `k/2` is no multiple of the oversubscription.
    pub fn build(&self, name: &str) -> Result<Topology> {
        let half = self.k / 2;
        if self.k < 2 || self.k % 2 == 1 || self.k > 256 || self.oversubscription == 0 {
            return Err(Error::invalid("fat tree", format!("k is {}: an even number from 2 to 256 is needed", self.k)));
        }
        if !half.is_multiple_of(self.oversubscription) {
            return Err(Error::invalid("fat tree", format!("{half} uplinks over {}", self.oversubscription)));
        }
        let up = half / self.oversubscription;
        match self.tiers {
            2 => LeafSpine {
                tors: self.k,
                down: half,
                spines: up,
                link_gbps: self.link_gbps,
                link_latency_ns: self.link_latency_ns,
            }
            .build(name),
            3 => self.three_tiers(name, half, up),
            tiers => Err(Error::invalid("fat tree", format!("{tiers} tiers; 2 or 3 are built"))),
        }
    }

    fn three_tiers(&self, name: &str, half: u32, up: u32) -> Result<Topology> {
        at_most("nodes", u64::from(self.k).pow(3) / 4, NODES_MAX)?;
        let mut builder = Builder::named(name, 1);
        let cable = CableSpec::gbps(self.link_gbps, self.link_latency_ns);
        for host in 0..self.k * half * half {
            builder.node(NodeKind::Endpoint, Place { group: host / half, ..Place::default() });
        }
        let cores: Vec<u32> =
            (0..up * half).map(|group| builder.node(NodeKind::Core, Place { group, ..Place::default() })).collect();
        for pod in 0..self.k {
            let tors: Vec<u32> = (0..half)
                .map(|tor| builder.node(NodeKind::Tor, Place { group: pod * half + tor, ..Place::default() }))
                .collect();
            for index in 0..up {
                let place = Place { group: pod, rail: index as u16, plane: 0 };
                let aggregation = builder.node(NodeKind::Aggregation, place);
                for &tor in &tors {
                    builder.cable(tor, aggregation, cable);
                }
                for core in 0..half {
                    builder.cable(aggregation, cores[(index * half + core) as usize], cable);
                }
            }
            for (tor, &switch) in (pod * half..).zip(&tors) {
                for host in tor * half..(tor + 1) * half {
                    builder.cable(host, switch, cable);
                }
            }
        }
        builder.finish()
    }
}

/// Several two-tier fat trees side by side; GPU `i` of every host is in plane `i` (DeepSeek, ISCA 2025).
#[derive(Debug, Clone, PartialEq)]
pub struct MultiPlane {
    /// Planes, and GPUs of a host.
    pub planes: u32,
    /// Ports of every switch.
    pub k: u32,
    /// Rate of every cable.
    pub link_gbps: f64,
    /// What one GPU can send to the others of its host, bytes a second.
    pub scale_up_bytes_per_s: f64,
}

impl MultiPlane {
    /// Builds the network of `planes * k * k / 2` endpoints.
    ///
    /// # Errors
    /// If a size is 0 or beyond the limits.
    pub fn build(&self, name: &str) -> Result<Topology> {
        let (planes, half) = (self.planes, self.k / 2);
        if self.k % 2 == 1 || self.k > 1024 || planes == 0 || planes > 64 {
            return Err(Error::invalid("multi-plane", format!("{planes} planes of {}-port switches", self.k)));
        }
        let hosts = self.k * half;
        at_most("nodes", u64::from(hosts) * u64::from(planes), NODES_MAX)?;
        let mut builder = Builder::named(name, planes);
        let cable = CableSpec::gbps(self.link_gbps, LINK_LATENCY_NS);
        for gpu in 0..hosts * planes {
            let place = Place { group: gpu / planes / half, rail: (gpu % planes) as u16, plane: 0 };
            builder.node(NodeKind::Endpoint, place);
        }
        add_scale_up(&mut builder, hosts, planes, self.scale_up_bytes_per_s);
        for plane in 0..planes {
            let tors = add_leaf_spine(&mut builder, self.k, half, cable, plane as u16);
            for host in 0..hosts {
                builder.cable(host * planes + plane, tors[(host / half) as usize], cable);
            }
        }
        builder.finish()
    }
}

/// Adds one switch inside each host, with a cable to each of its GPUs.
fn add_scale_up(builder: &mut Builder, hosts: u32, gpus_per_host: u32, bytes_per_s: f64) {
    let spec = CableSpec { bytes_per_s, latency_ns: SCALE_UP_LATENCY_NS, loss: 0.0 };
    for group in 0..hosts {
        let switch = builder.node(NodeKind::ScaleUp, Place { group, ..Place::default() });
        for gpu in group * gpus_per_host..(group + 1) * gpus_per_host {
            builder.cable(gpu, switch, spec);
        }
    }
}

/// One switch a rail and nothing above: traffic between rails goes through the hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct RailOnly {
    /// Hosts.
    pub hosts: u32,
    /// GPUs of a host: the number of rails.
    pub gpus_per_host: u32,
    /// Rate of a card.
    pub link_gbps: f64,
    /// What one GPU can send to the others of its host, bytes a second.
    pub scale_up_bytes_per_s: f64,
}

impl RailOnly {
    /// Builds the network.
    ///
    /// # Errors
    /// If a size is 0 or beyond the limits.
    pub fn build(&self, name: &str) -> Result<Topology> {
        at_most("nodes", u64::from(self.hosts) * u64::from(self.gpus_per_host), NODES_MAX)?;
        let mut builder = Builder::named(name, self.gpus_per_host);
        for gpu in 0..self.hosts * self.gpus_per_host {
            let rail = (gpu % self.gpus_per_host) as u16;
            builder.node(NodeKind::Endpoint, Place { group: 0, rail, plane: 0 });
        }
        add_scale_up(&mut builder, self.hosts, self.gpus_per_host, self.scale_up_bytes_per_s);
        for rail in 0..self.gpus_per_host {
            let switch = builder.node(NodeKind::Tor, Place { group: 0, rail: rail as u16, plane: 0 });
            for host in 0..self.hosts {
                let gpu = host * self.gpus_per_host + rail;
                builder.cable(gpu, switch, CableSpec::gbps(self.link_gbps, LINK_LATENCY_NS));
            }
        }
        builder.finish()
    }
}

/// The canonical dragonfly: `a` routers a group, `p` endpoints and `h` global cables a router, `a*h + 1` groups.
#[derive(Debug, Clone, PartialEq)]
pub struct Dragonfly {
    /// Routers in a group.
    pub a: u32,
    /// Endpoints of a router.
    pub p: u32,
    /// Global cables of a router.
    pub h: u32,
    /// Rate of every cable.
    pub link_gbps: f64,
}

impl Dragonfly {
    /// Builds the network of `a * p * (a*h + 1)` endpoints.
    ///
    /// # Errors
    /// If a size is 0 or beyond the limits.
    pub fn build(&self, name: &str) -> Result<Topology> {
        let Self { a, p, h, link_gbps } = *self;
        if [a, p, h].iter().any(|&size| size == 0 || size > 64) {
            return Err(Error::invalid("dragonfly", format!("a {a}, p {p}, h {h}: each from 1 to 64")));
        }
        let groups = a * h + 1;
        at_most("nodes", u64::from(a) * u64::from(p) * u64::from(groups), NODES_MAX)?;
        let mut builder = Builder::named(name, 1);
        let cable = CableSpec::gbps(link_gbps, LINK_LATENCY_NS);
        for endpoint in 0..a * p * groups {
            builder.node(NodeKind::Endpoint, Place { group: endpoint / (a * p), ..Place::default() });
        }
        let first = a * p * groups;
        for router in 0..a * groups {
            let place = Place { group: router / a, rail: (router % a) as u16, plane: 0 };
            builder.node(NodeKind::Tor, place);
            for endpoint in router * p..(router + 1) * p {
                builder.cable(endpoint, first + router, cable);
            }
        }
        for group in 0..groups {
            for left in 0..a {
                for right in left + 1..a {
                    builder.cable(first + group * a + left, first + group * a + right, cable);
                }
            }
            // Global cable `slot` of a group goes to the group `slot + 1` further on; each pair is drawn once.
            for slot in 0..a * h {
                let other = (group + slot + 1) % groups;
                if group < other {
                    let back = groups - 2 - slot;
                    builder.cable(first + group * a + slot / h, first + other * a + back / h, cable);
                }
            }
        }
        builder.finish()
    }
}

/// Racks of GPUs on one scale-up switch (NVL72 class), joined by a leaf and spine network.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaleUp {
    /// Racks.
    pub racks: u32,
    /// GPUs of a rack.
    pub gpus_per_rack: u32,
    /// What one GPU can send inside the rack, bytes a second.
    pub scale_up_bytes_per_s: f64,
    /// Rate of a card and of every cable above it.
    pub link_gbps: f64,
    /// Spines above the racks' leaves, 0 for a single rack.
    pub spines: u32,
}

impl ScaleUp {
    /// Builds the network: one leaf a rack.
    ///
    /// # Errors
    /// If a size is 0 or beyond the limits.
    pub fn build(&self, name: &str) -> Result<Topology> {
        at_most("nodes", u64::from(self.racks) * u64::from(self.gpus_per_rack), NODES_MAX)?;
        at_most("directed links", 2 * u64::from(self.racks) * u64::from(self.spines), LINKS_MAX)?;
        let mut builder = Builder::named(name, self.gpus_per_rack);
        let cable = CableSpec::gbps(self.link_gbps, LINK_LATENCY_NS);
        for gpu in 0..self.racks * self.gpus_per_rack {
            let rail = (gpu % self.gpus_per_rack) as u16;
            builder.node(NodeKind::Endpoint, Place { group: gpu / self.gpus_per_rack, rail, plane: 0 });
        }
        add_scale_up(&mut builder, self.racks, self.gpus_per_rack, self.scale_up_bytes_per_s);
        let tors = add_leaf_spine(&mut builder, self.racks, self.spines, cable, 0);
        for gpu in 0..self.racks * self.gpus_per_rack {
            builder.cable(gpu, tors[(gpu / self.gpus_per_rack) as usize], cable);
        }
        builder.finish()
    }
}

/// Sites on a ring of wide-area links, a few hosts at each.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeRing {
    /// Sites.
    pub sites: u32,
    /// Hosts at each site.
    pub hosts_per_site: u32,
    /// Rate of a host's link.
    pub host_gbps: f64,
    /// Rate of a link between neighbouring sites.
    pub wan_gbps: f64,
    /// One-way latency between neighbouring sites.
    pub wan_latency_us: u32,
    /// Share of packets that a link between sites loses.
    pub wan_loss: f32,
}

impl EdgeRing {
    /// Builds the network.
    ///
    /// # Errors
    /// If there are fewer than two sites or a size is beyond the limits.
    pub fn build(&self, name: &str) -> Result<Topology> {
        if self.sites < 2 {
            return Err(Error::invalid("edge ring", "fewer than two sites"));
        }
        at_most("nodes", u64::from(self.sites) * u64::from(self.hosts_per_site.max(1)), NODES_MAX)?;
        let mut builder = Builder::named(name, 1);
        let host_cable = CableSpec::gbps(self.host_gbps, LINK_LATENCY_NS);
        let wan = CableSpec {
            latency_ns: self.wan_latency_us.saturating_mul(1_000),
            loss: self.wan_loss,
            ..CableSpec::gbps(self.wan_gbps, 0)
        };
        for host in 0..self.sites * self.hosts_per_site {
            builder.node(NodeKind::Endpoint, Place { group: host / self.hosts_per_site, ..Place::default() });
        }
        let sites: Vec<u32> =
            (0..self.sites).map(|group| builder.node(NodeKind::Site, Place { group, ..Place::default() })).collect();
        for host in 0..self.sites * self.hosts_per_site {
            builder.cable(host, sites[(host / self.hosts_per_site) as usize], host_cable);
        }
        let rings = if self.sites == 2 { 1 } else { sites.len() };
        for site in 0..rings {
            builder.cable(sites[site], sites[(site + 1) % sites.len()], wan);
        }
        builder.finish()
    }
}
