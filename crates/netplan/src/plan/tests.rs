use proptest::prelude::*;

use super::{Cluster, ServeRequest, TrainRequest, failures, serve, train};
use crate::model::preset;

fn cluster(name: &str) -> Cluster {
    Cluster::named(name).unwrap()
}

#[test]
fn the_first_answer_is_sensible() {
    let (model, on) = (preset("qwen3-235b-a22b").unwrap(), cluster("8x8xH100-400G"));
    let plan = serve(&model, &on, &ServeRequest::default()).unwrap();
    assert!(plan.fits && plan.quick_enough, "{plan:?}");
    let decode = plan.decode.as_ref().unwrap();
    assert!(decode.token_s <= 0.05 && decode.weight_bytes + decode.cache_bytes < 80e9, "{decode:?}");
    assert!((100.0..5_000.0).contains(&plan.tokens_per_s_per_gpu), "{}", plan.tokens_per_s_per_gpu);
    assert!((0.05..50.0).contains(&plan.usd_per_million), "{}", plan.usd_per_million);
    assert_eq!(plan.gpus_min, 7);
    let topology = on.topology().unwrap();
    let table = failures(&model, &on, &ServeRequest::default(), &plan, &topology).unwrap();
    assert!(table.rows.len() >= 2 && table.rows[0].tokens_per_s < plan.tokens_per_s, "{table:?}");
}

#[test]
fn what_is_too_large_does_not_fit() {
    let plan = serve(&preset("1t-moe-guessed").unwrap(), &cluster("1x8xH100-400G"), &ServeRequest::default()).unwrap();
    assert!(!plan.fits && plan.decode.is_none() && plan.gpus_min > 8);
    let model = preset("qwen3-235b-a22b").unwrap();
    assert!(train(&model, &cluster("1x8xH100-400G"), &TrainRequest::default()).unwrap().is_none());
}

#[test]
fn a_small_model_fits_on_one_gpu() {
    let plan = serve(&preset("qwen3-8b").unwrap(), &cluster("1x1xH100-400G"), &ServeRequest::default()).unwrap();
    let decode = plan.decode.unwrap();
    assert_eq!((decode.gpus, plan.replicas, plan.split), (1, 1, (0, 0)));
}

#[test]
fn training_uses_a_believable_share_of_the_peak() {
    let model = preset("qwen3-235b-a22b").unwrap();
    let plan = train(&model, &cluster("128x8xH100-400G"), &TrainRequest::default()).unwrap().unwrap();
    assert!((0.2..0.55).contains(&plan.utilisation), "{plan:?}");
    assert!(plan.weight_bytes + plan.optimizer_bytes + plan.activation_bytes < 80e9);
    let parts = plan.compute_s + plan.tensor_s + plan.expert_s + plan.data_s + plan.bubble_s;
    assert!((parts / plan.iteration_s - 1.0).abs() < 1e-9);
}

#[test]
fn a_single_tor_cuts_a_replica_off() {
    let model = preset("qwen3-235b-a22b").unwrap();
    let remaining = |name: &str| {
        let on = cluster(name);
        let plan = serve(&model, &on, &ServeRequest::default()).unwrap();
        let topology = on.topology().unwrap();
        let table = failures(&model, &on, &ServeRequest::default(), &plan, &topology).unwrap();
        let tor = table.rows.iter().find(|row| row.what == "ToR").cloned();
        tor.map(|tor| (tor.slowdown, tor.tokens_per_s / plan.tokens_per_s))
    };
    let (dual, single) = (remaining("16x8xH20-400G"), remaining("16x8xH20-400G@hpn7-single-tor"));
    if let (Some(dual), Some(single)) = (dual, single) {
        assert!(dual.0.is_finite() && dual.1 > 0.5, "{dual:?}");
        assert!(single.0.is_infinite() && single.1 < dual.1, "{single:?}");
    }
}

#[test]
fn clusters_are_read_or_refused() {
    let found = cluster("128x8xH800-200G@rail-only");
    assert_eq!((found.hosts, found.gpus(), found.gpu.name), (128, 1_024, "H800"));
    for name in ["", "8x8", "8x8xH100", "0x8xH100-400G", "8x8xH999-400G", "9999999x8xH100-1G", "8x8xH100--1G"] {
        assert!(Cluster::named(name).is_err(), "{name:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_cluster_name_is_read_or_refused(name in ".{0,40}") {
        let _ = Cluster::named(&name);
    }

    /// Faster cards and more memory are never worse, but for the share that a smaller replica may cost.
    #[test]
    fn better_hardware_is_not_worse(hosts in 1..8_u32, prompt in 100.0..20_000.0_f64) {
        let model = preset("qwen3-30b-a3b").unwrap();
        let request = ServeRequest { prompt_tokens: prompt, ..ServeRequest::default() };
        let rate = |name: String| serve(&model, &cluster(&name), &request).unwrap().tokens_per_s;
        let slow = rate(format!("{hosts}x8xH100-200G"));
        for better in ["H100-400G", "H200-200G"] {
            let found = rate(format!("{hosts}x8x{better}"));
            prop_assert!(found >= 0.9 * slow, "{better}: {found} after {slow}");
        }
    }
}
