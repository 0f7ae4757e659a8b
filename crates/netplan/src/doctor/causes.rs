//! Things that go wrong, what each does to the machine, and what to try.

use super::Patient;
use crate::collective::nccl_tests::Output;
use crate::collective::{Kind, Machine};

/// One thing that can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A rail is down: its GPUs share the card of another.
    RailDown,
    /// One port of dual-port cards is down, or one plane.
    PlaneDown,
    /// Flows meet on uplinks.
    HashCollisions,
    /// The switch inside the host does not add up.
    NvlsOff,
    /// GPUs of a host talk over PCIe.
    PcieFallback,
    /// Too few channels: not all links or cards are used.
    FewChannels,
    /// Cards cannot read GPU memory: everything goes through the host's.
    NoGpuDirect,
    /// Sockets instead of RDMA.
    Sockets,
}

impl Cause {
    pub(super) const ALL: [Self; 8] = [
        Self::RailDown,
        Self::PlaneDown,
        Self::HashCollisions,
        Self::NvlsOff,
        Self::PcieFallback,
        Self::FewChannels,
        Self::NoGpuDirect,
        Self::Sockets,
    ];

    /// What it is.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::RailDown => "a rail is down, two GPUs share a card",
            Self::PlaneDown => "one port of each card, or one plane, is down",
            Self::HashCollisions => "flows collide on hashed uplinks",
            Self::NvlsOff => "NVLS is off, rings do the sum",
            Self::PcieFallback => "GPUs of a host talk over PCIe, not NVLink",
            Self::FewChannels => "too few channels, a quarter of the links is used",
            Self::NoGpuDirect => "no GPUDirect RDMA, data goes through host memory",
            Self::Sockets => "NCCL uses sockets, not RDMA",
        }
    }

    /// What to try.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::RailDown => {
                "look for the port that is not Active (ibstat, ethtool); run sendrecv_perf rail by rail with \
                 NCCL_IB_HCA=mlx5_N; replace the cable or optic of the slow one"
            }
            Self::PlaneDown => {
                "compare port counters of both planes; check the bond (cat /proc/net/bonding/*) and the ToR of the \
                 silent plane"
            }
            Self::HashCollisions => {
                "raise NCCL_IB_QPS_PER_CONNECTION to 4 or more with NCCL_IB_SPLIT_DATA_ON_QPS=1; turn on adaptive \
                 routing, or plan the paths (`sampan net uplinks` shows what that is worth)"
            }
            Self::NvlsOff => {
                "unset NCCL_NVLS_ENABLE=0 and NCCL_ALGO; check that the fabric manager runs (nvidia-smi -q | grep -A2 \
                 Fabric) and that the driver and NCCL (2.18 or later) support it"
            }
            Self::PcieFallback => {
                "nvidia-smi topo -m has to show NV*, nvidia-smi nvlink -s no inactive link; unset NCCL_P2P_DISABLE; \
                 in containers share the IPC namespace and /dev/shm"
            }
            Self::FewChannels => {
                "unset NCCL_MAX_NCHANNELS, NCCL_MAX_CTAS and NCCL_ALGO; NCCL_DEBUG=INFO prints how many channels it \
                 made; check NCCL_TOPO_FILE in virtual machines"
            }
            Self::NoGpuDirect => {
                "load nvidia-peermem (or use DMA-BUF), turn off ACS and the IOMMU on bare metal; NCCL_DEBUG=INFO has \
                 to say GDRDMA; check that each GPU's card is on its PCIe switch (PIX or PXB)"
            }
            Self::Sockets => {
                "NCCL_DEBUG=INFO says NET/Socket: install the RDMA plugin, set NCCL_IB_DISABLE=0 and NCCL_IB_HCA, \
                 give containers /dev/infiniband and unlimited memlock"
            }
        }
    }

    /// Whether the run could show it at all.
    pub(super) fn is_possible(self, patient: &Patient) -> bool {
        let several = patient.group.hosts > 1;
        match self {
            Self::RailDown | Self::PlaneDown | Self::HashCollisions | Self::NoGpuDirect | Self::Sockets => several,
            Self::NvlsOff => {
                patient.machine.in_switch && patient.kind == Kind::AllReduce && !several && patient.group.per_host > 2
            }
            Self::PcieFallback => patient.group.per_host > 1,
            Self::FewChannels => true,
        }
    }

    /// The machine as it would be.
    pub(super) fn machine(self, patient: &Patient) -> Machine {
        let mut machine = patient.machine.clone();
        match self {
            // The collective waits for its slowest rail, and that has half.
            Self::RailDown | Self::PlaneDown => machine.card_line /= 2.0,
            // The fullest uplink of a dozen or more carries three flows where it should carry one or two.
            Self::HashCollisions => machine.card_line /= 3.0,
            Self::NvlsOff => machine.in_switch = false,
            Self::PcieFallback => {
                // x16 of the fourth or fifth generation reaches 20 to 50 GB/s; transfers share host bridges.
                machine.inside_line = 40e9;
                machine.in_switch = false;
            }
            Self::FewChannels => {
                machine.inside_line /= 4.0;
                machine.card_line /= 4.0;
            }
            Self::NoGpuDirect => machine.card_line = machine.card_line.min(14e9),
            Self::Sockets => {
                machine.card_line = machine.card_line.min(2.5e9);
                machine.outside_hop_s = 30e-6;
            }
        }
        machine
    }

    /// Lines of the log that say so.
    pub(super) fn evidence(self, output: &Output) -> Vec<String> {
        let lines = |wanted: &dyn Fn(&str) -> bool| -> Vec<String> {
            output.debug.iter().filter(|line| wanted(line)).take(2).cloned().collect()
        };
        match self {
            Self::Sockets => lines(&|line| line.contains("NET/Socket") && line.contains("via")),
            Self::NoGpuDirect => {
                let direct = output.debug.iter().any(|line| line.contains("GDRDMA"));
                if direct { Vec::new() } else { lines(&|line| line.contains("via NET/IB")) }
            }
            Self::PcieFallback => lines(&|line| line.contains("via SHM")),
            Self::NvlsOff => lines(&|line| line.contains("NVLS multicast support is not available")),
            Self::RailDown | Self::PlaneDown | Self::HashCollisions | Self::FewChannels => Vec::new(),
        }
    }
}
