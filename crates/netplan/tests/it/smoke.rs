//! Every reader of foreign text is fed broken files: it may refuse them, and never panics.

use base::Rng;
use netplan::fuzz;

const SIMAI: &str = "10 4 2 2 12 H100\n8 9 6 7\n0 8 2880Gbps 0.000025ms 0\n1 8 2880Gbps 0.000025ms 0\n\
    2 9 2880Gbps 0.000025ms 0\n3 9 2880Gbps 0.000025ms 0\n4 9 2880Gbps 0.000025ms 0\n0 6 200Gbps 0.0005ms 0\n\
    1 6 200Gbps 0.0005ms 0\n2 6 200Gbps 0.0005ms 0\n3 6 200Gbps 0.0005ms 0\n4 6 200Gbps 0.0005ms 0\n\
    5 6 200Gbps 0.0005ms 0\n6 7 400Gbps 0.0005ms 0.001\n";
const SMI: &str = "\tGPU0\tGPU1\tNIC0\tNIC1\tCPU Affinity\nGPU0\t X \tNV18\tPIX\tSYS\t0-51\t0\n\
    GPU1\tNV18\t X \tSYS\tNODE\t52-103\t1\nNIC0\tPIX\tSYS\t X \tSYS\nNIC1\tSYS\tNODE\tSYS\t X\n\n\
    NIC Legend:\n\n  NIC0: mlx5_0\n  NIC1: mlx5_1\n";
const TOML: &str = "endpoints = 2\nswitches = ['tor']\n[[cables]]\nbetween = [0, 2]\ngbps = 100\n";
const PRESET: &str = "preset = 'hpn7'\ngpus = 64\n";
const AICB: &str = "HYBRID_TRANSFORMER_FWD_IN_BCKWD model_parallel_NPU_group: 8 ep: 4 pp: 2 vpp: 1 ga: 3 all_gpus: 128 \
    checkpoints: 0 pp_comm: 1048576\n3\n\
    a -1 556000 ALLREDUCE 1048576 1 NONE 0 1 ALLGATHER_DP_EP 4096 100\n\
    b -1 556000 ALLTOALL_EP 16777216 1 REDUCESCATTER 99 1 NONE 0 100\n\
    c -1 556000 NONE 0 1 NONE 0 1 REDUCESCATTER 5615517696 100\n";
const RATIOS: &str = "size,1,2,4\n1048576,0.1,0.2,0.3\n16777216,0.5,0.6,0.7\n";
const NCCL: &str = "# nccl-tests all_reduce_perf\n\
    #  Rank  0 Group  0 Pid  1 on a device  0 [0x1b] NVIDIA H100 80GB HBM3\n\
    #  Rank  1 Group  0 Pid  1 on b device  0 [0x43] NVIDIA H100 80GB HBM3\n\
    a:1 NCCL INFO Channel 00/0 : 0 -> 8 via NET/Socket/0\n\
    2147483648 536870912 float sum -1 10296 208.6 365.0 0 10290 208.7 365.2 0\n\
    4294967296 1073741824 float sum -1 20314 211.4 370.0 0 20310 211.5 370.1 N/A\n";
const CONFIG: &str = "{\"model_type\": \"qwen3_moe\", \"num_hidden_layers\": 94, \"hidden_size\": 4096, \
    \"vocab_size\": 151936, \"num_attention_heads\": 64, \"num_key_value_heads\": 4, \"head_dim\": 128, \
    \"intermediate_size\": 12288, \"moe_intermediate_size\": 1536, \"num_experts\": 128, \
    \"num_experts_per_tok\": 8, \"tie_word_embeddings\": false}";
const MAXMIN: &str = "{\"what\": \"w\", \"cases\": [{\"name\": \"a\", \"capacities_Bps\": [100.0, 50.0], \"flows\": \
    [{\"bytes\": 1000.0, \"start_s\": 0.0, \"links\": [0, 1]}], \"finish_s\": [20.0], \"makespan_s\": 20.0}]}";

/// What means something in one of the formats.
const LETTERS: &[u8] = b"0123456789 \n\t.-GNX[]{}\",:";

/// Cuts, repeats and swaps pieces of a good text: most of what comes out is broken in a new way.
fn mutated(rng: &mut Rng, good: &str) -> Vec<u8> {
    let mut bytes = good.as_bytes().to_vec();
    for _ in 0..=rng.below(6) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        match rng.below(7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.next_u64() as u8),
            2 => bytes.splice(at..at, *b"99999999999").for_each(drop),
            3 => bytes.splice(at..at, *b" -1e308 ").for_each(drop),
            4 => {
                let piece = bytes[at..(at + 20).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece).for_each(drop);
            }
            _ if at < bytes.len() => bytes[at] = LETTERS[rng.below(LETTERS.len() as u64) as usize],
            _ => {}
        }
    }
    bytes
}

/// The good text, then two thousand that are not.
fn smoke(read: fn(&[u8]), good: &str) {
    let mut rng = Rng::seeded(good.len() as u64);
    read(good.as_bytes());
    for _ in 0..2_000 {
        read(&mutated(&mut rng, good));
    }
}

#[test]
fn smoke_of_simai_topologies() {
    smoke(fuzz::simai_topology, SIMAI);
}

#[test]
fn smoke_of_nvidia_smi() {
    smoke(fuzz::nvidia_smi, SMI);
}

#[test]
fn smoke_of_toml() {
    smoke(fuzz::toml, TOML);
    smoke(fuzz::toml, PRESET);
}

#[test]
fn smoke_of_aicb_workloads() {
    smoke(fuzz::aicb, AICB);
}

#[test]
fn smoke_of_ratio_tables() {
    smoke(fuzz::ratio_table, RATIOS);
}

#[test]
fn smoke_of_nccl_tests() {
    smoke(fuzz::nccl_tests, NCCL);
}

#[test]
fn smoke_of_model_configs() {
    smoke(fuzz::model_config, CONFIG);
}

#[test]
fn smoke_of_cluster_names() {
    smoke(fuzz::cluster, "8x8xH100-400G@hpn7");
}

#[test]
fn smoke_of_reference_files() {
    smoke(fuzz::reference, MAXMIN);
    for file in ["topology_counts", "published_measurements", "simai_measured_efficiency"] {
        let path = format!("{}/../../fixtures/hpn/{file}.json", env!("CARGO_MANIFEST_DIR"));
        let good = std::fs::read_to_string(path).unwrap();
        let mut rng = Rng::seeded(9);
        for _ in 0..60 {
            fuzz::reference(&mutated(&mut rng, &good));
        }
    }
}

/// What is too large is refused by the limit's name, before memory is taken for it.
#[test]
fn hostile_sizes_are_refused_by_a_named_limit() {
    let refused = |found: Result<(), netplan::Error>, limit: &str| {
        let said = found.expect_err(limit).to_string();
        assert!(said.contains(limit), "{limit}: {said}");
    };
    let simai = |text: &str| netplan::import::simai(text).map(drop);
    refused(simai(&SIMAI.replace("10 4 2 2 12", "4000000000 4 2 2 12")), "nodes");
    refused(simai(&SIMAI.replace("10 4 2 2 12", "10 4 2 2 4000000000")), "directed links");
    refused(netplan::import::toml("endpoints = 4000000000").map(drop), "nodes");
    refused(netplan::import::toml("preset = 'hpn7'\ngpus = 4000000000").map(drop), "16384");
    refused(netplan::import::toml("preset = 'fat-tree-3'\ngpus = 4000000000").map(drop), "from 2 to 256");
    let many = format!("{}\n", (0..300).map(|gpu| format!("GPU{gpu}\t")).collect::<String>());
    refused(netplan::import::nvidia_smi(&many).map(drop), "devices of a host");
    let layers = AICB.replace("\n3\n", "\n4000000000\n");
    refused(netplan::import::aicb::aicb(&layers).map(drop), "layers");
    let rows = "8 2 float sum -1 1 1 1 0 1 1 1 0\n".repeat(100_001);
    refused(netplan::collective::nccl_tests::read(&rows).map(drop), "rows of nccl-tests output");
    let config = CONFIG.replace("94", "4000000000");
    refused(netplan::model::from_config("x", &config).map(drop), "num_hidden_layers");
    refused(netplan::plan::Cluster::named("4000000000x64xH100-400G").map(drop), "GPUs");
}
