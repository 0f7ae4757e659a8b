//! `sampan net simai`.

use netplan::import::aicb::aicb;
use netplan::simai::{FAULTS, LayerRow, Machine, PassRow, Summary, shipped_ratios, table};
use serde_json::{Value, json};

use super::args::Simai;
use crate::machine::{print, say};

pub(super) fn run(arguments: &Simai) -> anyhow::Result<()> {
    let workload = aicb(&super::read_text(&arguments.workload)?)?;
    let machine = Machine { nvlink: arguments.nvlink, nic: arguments.nic, ..Machine::default() };
    let gpus = arguments.gpus.unwrap_or(workload.gpus);
    let found = table(&workload, &machine, gpus, &shipped_ratios()?)?;
    let missing: Vec<&String> = found.missing.iter().collect();
    if arguments.json {
        let value = json!({
            "layers": found.layers.iter().map(layer).collect::<Vec<_>>(),
            "summary_us": summary(&found.summary),
            "missing": missing,
            "faults": FAULTS,
        });
        return print(&format!("{}\n", serde_json::to_string_pretty(&value)?));
    }
    print(&found.to_csv())?;
    for missing in missing {
        say(&format!("warning: no measured efficiency for {missing}: taken as 1"));
    }
    say(&format!("SimAI's table, its known faults kept: {}", FAULTS.join("; ")));
    Ok(())
}

fn layer(row: &LayerRow) -> Value {
    json!({
        "name": row.name,
        "forward": pass(&row.forward),
        "weight_gradient": pass(&row.weight_gradient),
        "input_gradient": pass(&row.input_gradient),
    })
}

fn pass(row: &PassRow) -> Value {
    json!({
        "compute_us": row.compute_us,
        "exposed_us": row.exposed_us,
        "communication_us": row.communication_us,
        "algorithm_gib_per_s": Some(row.algorithm).filter(|rate| rate.is_finite()),
        "bus_gib_per_s": row.bus,
    })
}

fn summary(sums: &Summary) -> Value {
    json!({
        "data": sums.data_us,
        "data_expert": sums.data_expert_us,
        "tensor": sums.tensor_us,
        "expert": sums.expert_us,
        "pipeline": sums.pipeline_us,
        "bubble": sums.bubble_us,
        "compute": sums.compute_us,
        "exposed": sums.exposed_us,
        "total": sums.total_us,
    })
}
