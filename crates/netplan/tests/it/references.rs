//! Every reference file has to pass as `sampan net check` would run it.

use netplan::check::{Report, check};

fn report(file: &str) -> Report {
    let path = format!("{}/../../fixtures/hpn/{file}", env!("CARGO_MANIFEST_DIR"));
    check(&std::fs::read_to_string(&path).unwrap()).unwrap()
}

#[track_caller]
fn passes(file: &str, figures_at_least: usize) {
    let report = report(file);
    assert_eq!(report.failed(), 0, "{report}");
    assert!(report.passed() >= figures_at_least, "{report}");
}

#[test]
fn finish_times_are_those_of_simgrid() {
    passes("maxmin_simgrid.json", 10);
}

#[test]
fn fabrics_have_the_published_counts() {
    passes("topology_counts.json", 32);
}

#[test]
fn flows_finish_as_packets_do() {
    passes("packet_htsim.json", 9);
}

#[test]
fn tables_are_those_of_simai() {
    passes("simai_analytical.json", 70);
}

#[test]
fn rings_take_as_long_as_in_astra_sim() {
    passes("astra_analytical.json", 5);
}

#[test]
fn measured_efficiency_is_calibrated() {
    passes("simai_measured_efficiency.json", 3);
}

#[test]
fn published_bandwidths_are_met() {
    passes("published_measurements.json", 14);
}

#[test]
fn a_file_of_another_format_is_refused() {
    assert!(check("{}").is_err());
    assert!(check("{\"cases\": [{\"capacities_Bps\": 3}]}").is_err());
    assert!(check("[").is_err());
}
