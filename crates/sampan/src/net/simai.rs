//! `sampan net simai`.

use netplan::import::aicb::aicb;
use netplan::simai::{FAULTS, Machine, shipped_ratios, table};

use super::args::Simai;
use crate::machine::{print, say};

pub(super) fn run(arguments: &Simai) -> anyhow::Result<()> {
    let workload = aicb(&super::read_text(&arguments.workload)?)?;
    let machine = Machine { nvlink: arguments.nvlink, nic: arguments.nic, ..Machine::default() };
    let gpus = arguments.gpus.unwrap_or(workload.gpus);
    let found = table(&workload, &machine, gpus, &shipped_ratios()?)?;
    print(&found.to_csv())?;
    for missing in &found.missing {
        say(&format!("warning: no measured efficiency for {missing}: taken as 1"));
    }
    say(&format!("SimAI's table, its known faults kept: {}", FAULTS.join("; ")));
    Ok(())
}
