//! `sampan net uplinks`.

use netplan::picture::uplinks_page;
use netplan::study::{UplinksRequest, uplinks};
use serde_json::json;

use super::args::Uplinks;
use crate::machine::print;

pub(super) fn run(arguments: &Uplinks) -> anyhow::Result<()> {
    if arguments.on == "list" {
        return super::fabric::list();
    }
    let fabric = super::fabric::find(&arguments.on, arguments.gpus)?.topology;
    let request = UplinksRequest {
        seed: arguments.seed,
        draws: arguments.draws,
        ways: arguments.ways,
        rails_planned: fabric.endpoints_per_host(),
        ..UplinksRequest::default()
    };
    let bar = super::working("hashing and planning");
    let found = uplinks(&fabric, &request)?;
    bar.finish_and_clear();
    let times = |seconds: f64| seconds / found.ideal_s;
    if arguments.json {
        let value = json!({
            "fabric": fabric.name(),
            "gpus": fabric.endpoint_count(),
            "flows": found.flows,
            "ideal_s": found.ideal_s,
            "hashed_s": found.hashed_s,
            "planned_s": found.planned_s,
            "planned_ways_s": found.planned_ways_s,
            "ratio": found.ratio(),
        });
        return print(&format!("{}\n", serde_json::to_string_pretty(&value)?));
    }
    print(&format!(
        "{}, {} GPUs, a random permutation of hosts in {} flows\n  the ports alone            {:8.3} ms\n  planned, {} \
         queue pairs apart {:7.3} ms  {:.2}x\n  planned, one path a port   {:8.3} ms  \
         {:.2}x\n  hashed, mean of {:<3} draws  \
         {:8.3} ms  {:.2}x\nhashed takes {:.1} times as long as planned\n",
        fabric.name(),
        fabric.endpoint_count(),
        found.flows,
        1e3 * found.ideal_s,
        arguments.ways,
        1e3 * found.planned_ways_s,
        times(found.planned_ways_s),
        1e3 * found.planned_s,
        times(found.planned_s),
        found.hashed_s.len(),
        1e3 * found.hashed_mean_s(),
        times(found.hashed_mean_s()),
        found.ratio()
    ))?;
    super::write_picture(&arguments.picture, &uplinks_page(&fabric, &found, arguments.ways))
}
