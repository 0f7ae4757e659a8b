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
fn a_file_of_another_format_is_refused() {
    assert!(check("{}").is_err());
    assert!(check("{\"cases\": [{\"capacities_Bps\": 3}]}").is_err());
    assert!(check("[").is_err());
}
