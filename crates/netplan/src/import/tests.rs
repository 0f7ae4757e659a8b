use super::{Reach, nvidia_smi, simai, toml};
use crate::topology::NodeKind;

const SIMAI: &str = "10 4 2 2 12 H100
8 9 6 7
0 8 2880Gbps 0.000025ms 0
1 8 2880Gbps 0.000025ms 0
2 9 2880Gbps 0.000025ms 0
3 9 2880Gbps 0.000025ms 0
4 9 2880Gbps 0.000025ms 0
0 6 200Gbps 0.0005ms 0
1 6 200Gbps 0.0005ms 0
2 6 200Gbps 0.0005ms 0
3 6 200Gbps 0.0005ms 0
4 6 200Gbps 0.0005ms 0
5 6 200Gbps 0.0005ms 0
6 7 400Gbps 0.0005ms 0.001
";

#[test]
fn a_simai_file_becomes_a_network_with_its_tiers_named() {
    let found = simai(SIMAI).unwrap();
    let counts = found.counts();
    assert_eq!((counts.endpoints, counts.tors, counts.aggregations, counts.switch_cables), (6, 1, 1, 1));
    let tor = found.nodes_of_kind(NodeKind::Tor).next().unwrap();
    let up = found.links_of(tor).find(|&link| found.kind(found.target(link)) == NodeKind::Aggregation).unwrap();
    assert!((found.capacities()[up as usize] - 50e9).abs() < 1.0);
    assert_eq!((found.latency_ns(up), found.loss(up)), (500, 0.001));
}

#[test]
fn a_simai_file_that_contradicts_itself_is_refused() {
    let refused = |from: &str, to: &str| {
        let text = SIMAI.replace(from, to);
        assert!(simai(&text).is_err(), "{from} -> {to}");
    };
    refused("10 4 2 2 12", "4000000000 4 2 2 12");
    refused("10 4 2 2 12", "10 4 2 2 11");
    refused("10 4 2 2 12", "10 4 2 2 13");
    refused("10 4 2 2 12", "10 4 9 9 12");
    refused("8 9 6 7", "8 9 6");
    refused("8 9 6 7", "8 9 6 6");
    refused("0 8 2880Gbps", "0 8 2880");
    refused("0 8 2880Gbps", "0 8 -1Gbps");
    refused("5 6 200Gbps", "5 77 200Gbps");
    refused("5 6 200Gbps", "5 5 200Gbps");
}

const SMI: &str = "\t\u{1b}[4mGPU0\tGPU1\tNIC0\tNIC1\tCPU Affinity\tNUMA Affinity\u{1b}[0m
GPU0\t X \tNV18\tPIX\tSYS\t0-51\t0
GPU1\tNV18\t X \tSYS\tNODE\t52-103\t1
NIC0\tPIX\tSYS\t X \tSYS
NIC1\tSYS\tNODE\tSYS\t X

Legend:

  X    = Self
  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes

NIC Legend:

  NIC0: mlx5_0
  NIC1: mlx5_1
";

#[test]
fn the_matrix_of_nvidia_smi_tells_which_card_is_near() {
    let host = nvidia_smi(SMI).unwrap();
    assert_eq!((host.gpu_count, host.nics.clone()), (2, vec!["mlx5_0".to_owned(), "mlx5_1".to_owned()]));
    assert_eq!(host.nvlinks_per_gpu(), Some(18));
    assert_eq!(host.nearest_nic(0), Some((0, Reach::Pix)));
    assert_eq!(host.nearest_nic(1), Some((1, Reach::Node)));
    assert_eq!(host.findings().len(), 1, "{:?}", host.findings());
    assert!((host.topology().unwrap().capacities()[0] - 450e9).abs() < 1.0);
}

#[test]
fn our_toml_names_a_preset_or_lists_cables() {
    assert_eq!(toml("preset = 'hpn7'\ngpus = 1024").unwrap().endpoint_count(), 1_024);
    let text = "endpoints = 2\nswitches = ['tor']\n[[cables]]\nbetween = [0, 2]\ngbps = 100\n\
                [[cables]]\nbetween = [1, 2]\ngbps = 100\n";
    assert_eq!(toml(text).unwrap().link_count(), 4);
    assert!(toml("endpoints = 4000000000").is_err());
    assert!(toml("endpoints = 2\npreset = 'hpn7'").is_err());
    assert!(toml("endpoints = 2\nswitches = ['hub']").is_err());
    assert!(toml("preset = 'hpn7'\ngpus = 4000000000").is_err());
    assert!(toml("endpoints = 2\nspeed = 3").is_err());
}
