//! Whole pages: a plan, a study of uplinks, a diagnosis.

use super::{Page, Part, Stage, escape, heat_map, stacked, table, timeline, topology};
use crate::doctor::Diagnosis;
use crate::error::Result;
use crate::model::Model;
use crate::plan::{Cluster, Decode, Failures, ServePlan, ServeRequest};
use crate::route::{Policy, Wire, route};
use crate::study::Uplinks;
use crate::topology::Topology;
use crate::traffic::host_permutation;

/// The most endpoints for which a map of all uplinks is simulated into a plan's page.
const MAPPED_MAX: u32 = 4_096;

/// The page of a serving plan.
///
/// # Errors
/// If the fabric cannot carry traffic between all hosts.
pub fn plan_page(
    model: &Model,
    cluster: &Cluster,
    request: &ServeRequest,
    plan: &ServePlan,
    failures: &Failures,
    fabric: &Topology,
) -> Result<String> {
    let title = format!("{} on {}", model.name, cluster.name);
    let mut page = Page::default();
    let verdict = match (plan.fits, plan.quick_enough) {
        (true, true) => "It fits.",
        (true, false) => "It fits, but no way gives tokens as quickly as asked.",
        (false, _) => "It does not fit.",
    };
    let gpus = cluster.gpus();
    page.heading(&title, &format!("{verdict} {gpus} GPUs, weights of {}.", bytes(plan.weight_bytes)));
    let Some(decode) = &plan.decode else {
        let remark = format!("at least {} GPUs of this kind hold the weights", plan.gpus_min);
        page.figures(&[("GPUs needed", plan.gpus_min.to_string(), remark)]);
        return Ok(page.finish(&title));
    };
    let worst = failures.rows.first();
    page.figures(&[
        ("tokens a second", number(plan.tokens_per_s), format!("{:.0} a GPU", plan.tokens_per_s_per_gpu)),
        (
            "a million tokens",
            format!("${:.2}", plan.usd_per_million),
            format!("at ${}/GPU-hour", cluster.gpu.usd_per_hour),
        ),
        ("between two tokens", format!("{:.1} ms", 1e3 * decode.token_s), format!("batch {}", decode.batch)),
        ("power", format!("{:.0} kW", plan.watts / 1e3), "hosts and network".to_owned()),
        (
            "worst single failure",
            worst.map_or("none".to_owned(), |row| format!("−{:.0} %", lost(plan, row.tokens_per_s))),
            worst.map_or(String::new(), |row| row.what.clone()),
        ),
    ]);
    breakdown(&mut page, cluster, plan, decode);
    let notes = fabric.notes().join("; ");
    page.section("The fabric", &format!("{}. {notes}", fabric.name()), &topology(fabric, &[]));
    if fabric.endpoint_count() <= MAPPED_MAX {
        let demands = host_permutation(fabric, 1, 64e6);
        let routed = route(fabric, &[], &demands, Policy::Planned, &Wire::IDEAL);
        if let Ok(routed) = routed {
            let load = routed.flows.load(fabric.link_count() as usize);
            let heat = heat_map(fabric, &load, 64e6 / (cluster.card_gbps * 1e9 / 8.0));
            let caption = "Time of each uplink for a host permutation of 64 MB a GPU, planned paths.";
            if heat.fullest_s > 0.0 {
                page.section("Uplinks, ToR by aggregation switch", caption, &heat.svg);
            }
        }
    }
    let rows = failure_rows(plan, failures);
    page.section("If one thing fails", "One component at a time; the network is simulated.", &table(&rows));
    page.notes("What stands behind it", &plan_notes(model, cluster, request, failures));
    Ok(page.finish(&title))
}

/// What memory and time are made of.
fn breakdown(page: &mut Page, cluster: &Cluster, plan: &ServePlan, decode: &Decode) {
    let cut = format!(
        "{} tensor × {} pipeline × {} attention replicas = {} GPUs a replica; {} replicas, {}.",
        decode.tensor,
        decode.pipeline,
        decode.attention_replicas,
        decode.gpus,
        plan.replicas,
        split_words(plan)
    );
    let used = cluster.gpu.memory_bytes - decode.weight_bytes - decode.cache_bytes - decode.free_bytes;
    let memory = [
        ("weights", decode.weight_bytes),
        ("keys and values", decode.cache_bytes),
        ("buffers, reserve", used),
        ("room for no further sequence", decode.free_bytes),
    ];
    let parts: Vec<Part> = memory.iter().map(|(name, size)| Part::new(name, *size, bytes(*size))).collect();
    page.section("Memory of one GPU", &cut, &stacked(&parts));
    let times = [
        ("memory and arithmetic", decode.compute_s),
        ("tensor ranks", decode.tensor_s),
        ("experts, not hidden", decode.expert_s),
        ("hand-over of stages", decode.hand_over_s),
        ("kernel starts", decode.other_s),
    ];
    let parts: Vec<Part> =
        times.iter().map(|(name, size)| Part::new(name, *size, format!("{:.2} ms", 1e3 * size))).collect();
    page.section("Time of one token", "What the time between two tokens of an answer is made of.", &stacked(&parts));
    let caption = "A batch moves through the stages; each stage works on another batch as soon as it is free.";
    page.section("One step through the stages", caption, &timeline(&stages(plan)));
}

/// Percent of the tokens that are lost.
fn lost(plan: &ServePlan, left: f64) -> f64 {
    100.0 * (1.0 - left / plan.tokens_per_s.max(f64::MIN_POSITIVE))
}

fn failure_rows(plan: &ServePlan, failures: &Failures) -> Vec<Vec<String>> {
    let header = ["component", "how many", "communication takes", "replicas hit", "tokens a second left", "lost"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for row in &failures.rows {
        let slowdown = if row.slowdown.is_finite() { format!("{:.2}×", row.slowdown) } else { "cut off".to_owned() };
        rows.push(vec![
            row.what.clone(),
            row.count.to_string(),
            slowdown,
            row.replicas_hit.to_string(),
            number(row.tokens_per_s),
            format!("{:.1} %", lost(plan, row.tokens_per_s)),
        ]);
    }
    rows
}

fn split_words(plan: &ServePlan) -> String {
    match plan.split {
        (0, _) => "each reads prompts and writes answers in turns".to_owned(),
        (readers, writers) => format!("{readers} read prompts, {writers} write answers"),
    }
}

fn stages(plan: &ServePlan) -> Vec<Stage> {
    let Some(decode) = &plan.decode else { return Vec::new() };
    let count = f64::from(decode.pipeline);
    let pieces = [
        (decode.compute_s / count, 0, "memory and arithmetic"),
        (decode.tensor_s / count, 1, "tensor ranks"),
        (decode.expert_s / count, 2, "experts"),
        (decode.other_s / count, 4, "kernel starts"),
        (decode.hand_over_s / count, 3, "hand-over"),
    ];
    let shown = decode.pipeline.min(16);
    let mut at_s = 0.0;
    (0..shown)
        .map(|stage| {
            let mut row = Stage { name: format!("stage {stage}"), pieces: Vec::new() };
            for (seconds, colour, name) in pieces {
                if seconds > 0.0 {
                    row.pieces.push((at_s, at_s + seconds, colour, name.to_owned()));
                    at_s += seconds;
                }
            }
            row
        })
        .collect()
}

fn plan_notes(model: &Model, cluster: &Cluster, request: &ServeRequest, failures: &Failures) -> Vec<String> {
    let assumed = &request.assumptions;
    let mut notes = model.notes.clone();
    notes.push(format!(
        "prompts of {} tokens, answers of {}; weights of {} bytes a number, cache of {}",
        request.prompt_tokens, request.answer_tokens, request.weight_bytes, request.kv_bytes
    ));
    notes.push(format!(
        "assumed: {:.0} % of the arithmetic peak, {:.0} % of the memory rate, experts {:.1} times as loaded as the \
         mean, {:.0} % of their traffic hidden; a price of ${} for a GPU-hour",
        100.0 * assumed.arithmetic_share,
        100.0 * assumed.memory_share,
        assumed.expert_imbalance,
        100.0 * assumed.expert_overlap,
        cluster.gpu.usd_per_hour
    ));
    notes.extend(failures.notes.clone());
    notes.push("an estimate by formulas and simulation, not a measurement of this cluster".to_owned());
    notes
}

/// The page of hashed against planned uplinks.
#[must_use]
pub fn uplinks_page(fabric: &Topology, found: &Uplinks, ways: u32) -> String {
    let title = format!("Hashed and planned uplinks on {}", fabric.name());
    let mut page = Page::default();
    let lead = format!(
        "A random permutation of all hosts, {} flows. Left to independent hashes it takes {:.1} times as long as with \
         planned paths.",
        found.flows,
        found.ratio()
    );
    page.heading(&title, &lead);
    let times = |seconds: f64| format!("{:.2}× of what the ports need", seconds / found.ideal_s);
    let ms = |seconds: f64| format!("{:.2} ms", 1e3 * seconds);
    let hashed = found.hashed_mean_s();
    let draws = format!("{}, mean of {} draws", times(hashed), found.hashed_s.len());
    page.figures(&[
        ("hashed", ms(hashed), draws),
        ("planned, one path a port", ms(found.planned_s), times(found.planned_s)),
        (
            "planned, queue pairs apart",
            ms(found.planned_ways_s),
            format!("{ways} a port, {}", times(found.planned_ways_s)),
        ),
        ("the ports alone", ms(found.ideal_s), "nothing can be faster".to_owned()),
    ]);
    let caption = "How many flows are through by when: the last one decides when a collective ends.";
    page.section("Finish of the flows", caption, &finishes(found));
    let scale_s = found.hashed_s.first().copied().unwrap_or(found.ideal_s);
    for (name, load) in [("Hashed uplinks", &found.hashed_load), ("Planned uplinks", &found.planned_load)] {
        let heat = heat_map(fabric, load, scale_s);
        let caption = format!(
            "Time that each uplink needs for what it has to carry: {:.2} ms for the fullest, {:.2} ms on average.",
            1e3 * heat.fullest_s,
            1e3 * heat.mean_s
        );
        page.section(name, &caption, &heat.svg);
    }
    page.section("The fabric", &fabric.notes().join("; "), &topology(fabric, &[]));
    page.finish(&title)
}

/// The page of a fabric, with what a person should look at.
#[must_use]
pub fn fabric_page(fabric: &Topology, findings: &[String]) -> String {
    let counts = fabric.counts();
    let mut page = Page::default();
    page.heading(fabric.name(), &fabric.notes().join("; "));
    page.figures(&[
        ("endpoints", counts.endpoints.to_string(), format!("{} a host", fabric.endpoints_per_host())),
        ("switches", counts.switches.to_string(), format!("{} ToRs, {} planes", counts.tors, counts.planes)),
        (
            "cables",
            (counts.endpoint_cables + counts.switch_cables).to_string(),
            format!("{} between switches", counts.switch_cables),
        ),
    ]);
    page.section("The fabric", "Folded where it is large.", &topology(fabric, &[]));
    if !findings.is_empty() {
        let rows: String = findings.iter().map(|finding| format!("<li>{}</li>", escape(finding))).collect();
        page.section("Look at", "What the file says of this host.", &format!("<ul>{rows}</ul>"));
    }
    page.finish(fabric.name())
}

/// Two curves of how many flows have finished.
fn finishes(found: &Uplinks) -> String {
    use std::fmt::Write as _;
    let end = found.hashed_finish_s.last().copied().unwrap_or(1.0).max(found.planned_ways_s);
    let mut svg = String::from("<svg viewBox=\"0 0 1000 250\" role=img>");
    for (list, colour, name, x) in
        [(&found.hashed_finish_s, 2, "hashed", 60.0), (&found.planned_finish_s, 1, "planned", 180.0)]
    {
        let mut path = String::from("M40 220");
        let step = list.len().div_ceil(400).max(1);
        for (index, seconds) in
            list.iter().enumerate().filter(|(index, _)| index % step == 0 || index + 1 == list.len())
        {
            let share = (index + 1) as f64 / list.len() as f64;
            let _ = write!(path, "L{:.1} {:.1}", 40.0 + 940.0 * seconds / end, 220.0 - 190.0 * share);
        }
        let _ = write!(
            svg,
            "<path d=\"{path}\" fill=none stroke=\"var(--c{colour})\" stroke-width=2.5 /><rect x={x} y=4 width=12 \
             height=12 fill=\"var(--c{colour})\"/><text x={} y=14>{name}</text>",
            x + 17.0
        );
    }
    let _ =
        write!(svg, "<line x1=40 y1=220 x2=980 y2=220 stroke=\"var(--line)\"/><text class=soft x=0 y=34>all</text>");
    for tick in 0..=4 {
        let x = 40.0 + 940.0 * f64::from(tick) / 4.0;
        let anchor = if tick == 4 { "end" } else { "start" };
        let ms = 1e3 * end * f64::from(tick) / 4.0;
        let _ = write!(svg, "<text class=soft x=\"{x:.0}\" y=240 text-anchor={anchor}>{ms:.2} ms</text>");
    }
    svg.push_str("</svg>\n");
    svg
}

/// The page of a diagnosis.
#[must_use]
pub fn doctor_page(found: &Diagnosis) -> String {
    let title = "Diagnosis of a cluster";
    let mut page = Page::default();
    let first = found.findings.first();
    let lead = match first {
        None => "Bandwidth is what it should be.".to_owned(),
        Some(finding) => format!("Most likely: {}.", finding.cause.word()),
    };
    page.heading(title, &lead);
    let mut rows = vec![["size", "expected GB/s", "by", "measured GB/s", "measured share"].map(str::to_owned).to_vec()];
    for row in &found.rows {
        rows.push(vec![
            bytes(row.bytes),
            format!("{:.1}", row.expected * 1e-9),
            row.algorithm.to_owned(),
            format!("{:.1}", row.measured * 1e-9),
            format!("{:.0} %", 100.0 * row.measured / row.expected),
        ]);
    }
    page.section("Expected and measured", "Bus bandwidth as nccl-tests prints it.", &table(&rows));
    for finding in &found.findings {
        let evidence: String =
            finding.evidence.iter().map(|line| format!("<p><code>{}</code></p>", escape(line))).collect();
        let caption = format!("{} (its curve is {:.0} % off)", finding.cause.advice(), 100.0 * finding.off);
        page.section(finding.cause.word(), &caption, &evidence);
    }
    page.notes("To know", &found.notes);
    page.finish(title)
}

/// Bytes in the unit that a person would use; units are decimal.
fn bytes(size: f64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let unit = units.into_iter().find(|(unit, _)| size.abs() >= *unit);
    unit.map_or_else(|| format!("{size:.0} B"), |(unit, name)| format!("{:.1} {name}", size / unit))
}

fn number(value: f64) -> String {
    let whole = format!("{value:.0}");
    let digits = whole.trim_start_matches('-');
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
