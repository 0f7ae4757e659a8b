//! A network as flat arrays: nodes, directed links in CSR order, and what kind of thing each node is.
//!
//! Endpoints (GPUs, or hosts where a network is drawn without them) are nodes `0..endpoint_count`: first the active
//! ones, then spares. Every cable is two directed links, one each way. A link's number is its place in the CSR order
//! of its source node, so everything that a simulation needs of it is an index into a few flat arrays.
//!
//! Memory: 26 bytes a link and 12 a node; the 15,360-GPU pod of HPN 7 takes about 4 MB.

mod build;
mod counts;
mod fabrics;
mod hpn;
mod preset;

pub use build::{Builder, CableSpec};
pub use counts::Counts;
pub use fabrics::{Dragonfly, EdgeRing, FatTree, LeafSpine, MultiPlane, RailOnly, ScaleUp};
pub use hpn::Hpn;
pub use preset::{PRESETS, preset};

/// The most nodes that a topology may have, whoever describes it.
pub const NODES_MAX: u64 = 2_000_000;
/// The most directed links that a topology may have.
pub const LINKS_MAX: u64 = 16_000_000;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// A GPU with its network card, or a whole host where a network is drawn without GPUs.
    Endpoint,
    /// The switch inside a host or rack that its GPUs share (`NVSwitch`).
    ScaleUp,
    /// A switch that endpoints are plugged into.
    Tor,
    /// The tier above the ToRs (aggregation, spine).
    Aggregation,
    /// The tier above aggregation.
    Core,
    /// A site on a wide-area network.
    Site,
}

impl NodeKind {
    /// The word that reports and pictures use.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Endpoint => "gpu",
            Self::ScaleUp => "nvswitch",
            Self::Tor => "tor",
            Self::Aggregation => "agg",
            Self::Core => "core",
            Self::Site => "site",
        }
    }

    /// Whether packets of the scale-out network pass through nodes of this kind.
    #[must_use]
    pub fn is_switch(self) -> bool {
        matches!(self, Self::Tor | Self::Aggregation | Self::Core | Self::Site)
    }
}

/// Where a node stands: the segment or pod, the rail and the plane, each 0 where the fabric has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Place {
    /// Segment, pod, group or host number, whichever the fabric's tiers count.
    pub group: u32,
    /// Rail: the number of the GPU inside its host.
    pub rail: u16,
    /// Plane: which of the separate networks the switch belongs to.
    pub plane: u16,
}

/// A network. Immutable once built; failures are handed to the simulator beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    pub(crate) name: String,
    pub(crate) notes: Vec<String>,
    pub(crate) kinds: Vec<NodeKind>,
    pub(crate) places: Vec<Place>,
    pub(crate) first_link: Vec<u32>,
    pub(crate) from: Vec<u32>,
    pub(crate) to: Vec<u32>,
    pub(crate) reverse: Vec<u32>,
    pub(crate) capacity_bytes_per_s: Vec<f64>,
    pub(crate) latency_ns: Vec<u32>,
    pub(crate) loss: Vec<f32>,
    pub(crate) endpoint_count: u32,
    pub(crate) spare_count: u32,
    pub(crate) endpoints_per_host: u32,
}

impl Topology {
    /// The name that reports use.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a reader must know before trusting it, for example that a part is inferred and not published.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// All nodes.
    #[must_use]
    pub fn node_count(&self) -> u32 {
        self.kinds.len() as u32
    }

    /// All directed links.
    #[must_use]
    pub fn link_count(&self) -> u32 {
        self.to.len() as u32
    }

    /// Endpoints in use; they are nodes `0..endpoint_count()`.
    #[must_use]
    pub fn endpoint_count(&self) -> u32 {
        self.endpoint_count
    }

    /// Spare endpoints (HPN's backup hosts); they follow the ones in use.
    #[must_use]
    pub fn spare_count(&self) -> u32 {
        self.spare_count
    }

    /// GPUs in one host, at least 1.
    #[must_use]
    pub fn endpoints_per_host(&self) -> u32 {
        self.endpoints_per_host
    }

    /// What `node` is.
    #[must_use]
    pub fn kind(&self, node: u32) -> NodeKind {
        self.kinds[node as usize]
    }

    /// Where `node` stands.
    #[must_use]
    pub fn place(&self, node: u32) -> Place {
        self.places[node as usize]
    }

    /// The links that leave `node`.
    #[must_use]
    pub fn links_of(&self, node: u32) -> std::ops::Range<u32> {
        self.first_link[node as usize]..self.first_link[node as usize + 1]
    }

    /// The node that `link` leaves.
    #[must_use]
    pub fn source(&self, link: u32) -> u32 {
        self.from[link as usize]
    }

    /// The node that `link` enters.
    #[must_use]
    pub fn target(&self, link: u32) -> u32 {
        self.to[link as usize]
    }

    /// The other direction of the same cable.
    #[must_use]
    pub fn reverse(&self, link: u32) -> u32 {
        self.reverse[link as usize]
    }

    /// Capacity of every link in bytes a second, by link number.
    #[must_use]
    pub fn capacities(&self) -> &[f64] {
        &self.capacity_bytes_per_s
    }

    /// One-way latency of a link in nanoseconds.
    #[must_use]
    pub fn latency_ns(&self, link: u32) -> u32 {
        self.latency_ns[link as usize]
    }

    /// Share of packets that a link loses, 0 for data-centre links.
    #[must_use]
    pub fn loss(&self, link: u32) -> f32 {
        self.loss.get(link as usize).copied().unwrap_or(0.0)
    }

    /// How a person would call `node`: its kind and where it stands.
    #[must_use]
    pub fn label(&self, node: u32) -> String {
        let Place { group, rail, plane } = self.place(node);
        match self.kind(node) {
            NodeKind::Endpoint => format!("gpu {node}"),
            NodeKind::Site => format!("site {group}"),
            kind => format!("{} {group}.{rail}.{plane} (#{node})", kind.word()),
        }
    }

    /// All switches of one kind, in order.
    pub fn nodes_of_kind(&self, kind: NodeKind) -> impl Iterator<Item = u32> + '_ {
        (0..self.node_count()).filter(move |&node| self.kind(node) == kind)
    }
}
