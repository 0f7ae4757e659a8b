//! Tables of SimAI-Analytical (`simai_analytical.json`): every cell, to the microsecond that it prints.

use serde::Deserialize;
use serde_json::Value;

use super::{Line, Report, typed};
use crate::error::{Error, Result};
use crate::import::aicb::{Kind, aicb};
use crate::simai::{FAULTS, LayerRow, Machine, PassRow, RatioTables, SimaiTable, shipped_ratios, table};

/// The file's tolerances: cells are printed as whole microseconds, bandwidths with two digits, shares with six.
const CELL_US: f64 = 1.0;
const TOTAL_SHARE: f64 = 1e-3;
const BANDWIDTH: f64 = 0.01;
const RATIO: f64 = 1e-5;

#[derive(Deserialize)]
struct File {
    what: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    args: Vec<String>,
    workload: String,
    expect: Expect,
}

#[derive(Deserialize)]
struct Expect {
    summary_csv: Vec<String>,
    layers_csv: Vec<String>,
    #[serde(default)]
    collectives: Vec<Collective>,
}

#[derive(Deserialize)]
struct Collective {
    coll: String,
    group: String,
    ranks: u32,
    bytes: u64,
    theoretical_busbw: f64,
    ratio: f64,
    nvlink_bound: bool,
}

pub(super) fn check(value: Value) -> Result<Report> {
    let file: File = typed("SimAI cases", value)?;
    let mut report = Report { what: file.what, ..Report::default() };
    let tables = shipped_ratios()?;
    for case in &file.cases {
        let found = run(case, &tables)?;
        layers(&mut report, case, &found)?;
        summary(&mut report, case, &found)?;
        bandwidths(&mut report, case, &found);
        for missing in &found.missing {
            let note = format!("{}: no measured efficiency for {missing}: taken as 1", case.name);
            report.notes.push(note);
        }
    }
    let faults = FAULTS.join("; ");
    report.notes.push(format!("compatibility mode, known faults of SimAI kept: {faults}"));
    Ok(report)
}

fn run(case: &Case, tables: &RatioTables) -> Result<SimaiTable> {
    let workload = aicb(&case.workload)?;
    let mut machine = Machine::default();
    let mut gpus = workload.gpus;
    for pair in case.args.chunks(2) {
        let [name, text] = pair else { return Err(argument(case, &pair[0])) };
        let number: f32 = text.parse().map_err(|_| argument(case, text))?;
        match name.as_str() {
            "-g" | "--gpus" => gpus = number as u32,
            "-nv" | "--nvlink" => machine.nvlink = number,
            "-nic" | "--nic_busbw" => machine.nic = number,
            "-n_p_s" | "--nic_per_server" => machine.nics_per_host = number as u32,
            "-g_p_s" | "--gpus-per-server" => machine.gpus_per_host = number as u32,
            "-dp_o" | "--dp_overlap" => machine.data_overlap = number,
            "-tp_o" | "--tp_overlap" => machine.tensor_overlap = number,
            "-ep_o" | "--ep_overlap" => machine.expert_overlap = number,
            "-pp_o" | "--pp_overlap" => machine.pipeline_overlap = number,
            _ => return Err(argument(case, name)),
        }
    }
    table(&workload, &machine, gpus, tables)
}

fn argument(case: &Case, word: &str) -> Error {
    Error::invalid("SimAI case", format!("{}: argument {word:?}", case.name))
}

fn layers(report: &mut Report, case: &Case, found: &SimaiTable) -> Result<()> {
    let rows = case.expect.layers_csv.iter().skip(1);
    let (mut times, mut bandwidths) = (Vec::new(), Vec::new());
    let mut count = 0;
    for (row, layer) in rows.zip(&found.layers) {
        let cells: Vec<&str> = row.split(',').collect();
        let expected: Vec<f64> = cells.iter().skip(2).map(|cell| cell.parse().unwrap_or(f64::NAN)).collect();
        if cells[0] != layer.name || expected.len() != 15 {
            return Err(Error::invalid("SimAI case", format!("{}: row {row:?}", case.name)));
        }
        for (column, (found, expected)) in cells_of(layer).into_iter().zip(expected).enumerate() {
            let is_bandwidth = column >= 6 && column % 3 != 0;
            if found.is_nan() && expected.is_nan() {
                continue;
            }
            let name = format!("layer {} column {}", layer.name, column + 2);
            if is_bandwidth {
                bandwidths.push(Line::absolute(&case.name, &name, found, expected, BANDWIDTH + 0.005));
            } else {
                times.push(Line::absolute(&case.name, &name, found.round(), expected, CELL_US));
            }
        }
        count += 1;
    }
    report.push_worst(times);
    report.push_worst(bandwidths);
    let wanted = case.expect.layers_csv.len() as f64 - 1.0;
    report.lines.push(Line::absolute(&case.name, "layers", f64::from(count), wanted, 0.0));
    Ok(())
}

/// In SimAI's order: three computations, three exposed times, three times with two bandwidths each.
fn cells_of(layer: &LayerRow) -> [f64; 15] {
    let LayerRow { forward, weight_gradient, input_gradient, .. } = layer;
    let passes = [forward, weight_gradient, input_gradient];
    let mut cells = [0.0; 15];
    for (at, pass) in passes.into_iter().enumerate() {
        let PassRow { compute_us, exposed_us, communication_us, algorithm, bus } = *pass;
        cells[at] = compute_us;
        cells[3 + at] = exposed_us;
        cells[6 + 3 * at] = communication_us;
        cells[7 + 3 * at] = algorithm;
        cells[8 + 3 * at] = bus;
    }
    cells
}

fn summary(report: &mut Report, case: &Case, found: &SimaiTable) -> Result<()> {
    let lines = &case.expect.summary_csv;
    let [titles, row] = &lines[..] else {
        return Err(Error::invalid("SimAI case", format!("{}: {} lines of summary", case.name, lines.len())));
    };
    let sums = &found.summary;
    let figures = [
        sums.data_us,
        sums.data_expert_us,
        sums.tensor_us,
        sums.expert_us,
        sums.pipeline_us,
        sums.bubble_us,
        sums.compute_us,
        sums.exposed_us,
        sums.total_us,
    ];
    for ((title, cell), figure) in titles.split(',').zip(row.split(',')).skip(1).zip(figures) {
        let expected = cell.split_whitespace().next().and_then(|word| word.parse::<f64>().ok()).unwrap_or(f64::NAN);
        let tolerance = (TOTAL_SHARE * expected).max(CELL_US);
        let name = format!("{}, us", title.trim());
        report.lines.push(Line::absolute(&case.name, &name, figure.round(), expected, tolerance));
    }
    Ok(())
}

fn bandwidths(report: &mut Report, case: &Case, found: &SimaiTable) {
    let mut lines = Vec::new();
    for wanted in &case.expect.collectives {
        let kind = Kind::from_word(&wanted.coll);
        let used = found.used.iter().find(|used| {
            let same_group = used.group.word() == wanted.group && used.ranks == wanted.ranks;
            Some(used.kind) == kind && same_group && used.bytes == wanted.bytes
        });
        let Wanted { bandwidth, ratio, by_nvlink } = used.map_or(Wanted::default(), |used| Wanted {
            bandwidth: f64::from(used.bandwidth.value),
            ratio: f64::from(used.ratio),
            by_nvlink: used.bandwidth.by_nvlink,
        });
        let name = format!("{} {} of {} bytes", wanted.coll, wanted.group, wanted.bytes);
        let of = |what: &str| format!("{what} of {name}");
        lines.push(Line::absolute(&case.name, &of("bandwidth"), bandwidth, wanted.theoretical_busbw, BANDWIDTH));
        lines.push(Line::absolute(&case.name, &of("ratio"), ratio, wanted.ratio, RATIO));
        let flag = |flag: bool| f64::from(u8::from(flag));
        lines.push(Line::absolute(&case.name, &of("NVLink flag"), flag(by_nvlink), flag(wanted.nvlink_bound), 0.0));
    }
    report.push_worst(lines);
}

#[derive(Clone, Copy)]
struct Wanted {
    bandwidth: f64,
    ratio: f64,
    by_nvlink: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { bandwidth: f64::NAN, ratio: f64::NAN, by_nvlink: false }
    }
}
