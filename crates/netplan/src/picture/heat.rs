//! How full the links between ToRs and aggregation switches are.

use std::fmt::Write as _;

use crate::topology::{NodeKind, Topology};

/// The most cells that are drawn; beyond, neighbouring ToRs share a row that shows their fullest link.
const CELLS_MAX: usize = 40_000;

/// A map and what it says in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Heat {
    /// The drawing.
    pub svg: String,
    /// The longest time that a link needs for what it has to carry.
    pub fullest_s: f64,
    /// The mean over all links.
    pub mean_s: f64,
}

/// A map of the links up from ToRs (rows) to aggregation switches (columns): each cell is the time that the fuller
/// direction needs for `load` bytes, in eighths of `scale_s`; the last colour is what passes it.
#[must_use]
pub fn heat_map(topology: &Topology, load: &[f64], scale_s: f64) -> Heat {
    let tors: Vec<u32> = topology.nodes_of_kind(NodeKind::Tor).collect();
    let aggregations: Vec<u32> = topology.nodes_of_kind(NodeKind::Aggregation).collect();
    // By plane, so that the blocks that are connected stand together.
    let order = |nodes: &[u32]| {
        let mut nodes = nodes.to_vec();
        nodes.sort_by_key(|&node| (topology.place(node).plane, topology.place(node).group, node));
        nodes
    };
    let (tors, aggregations) = (order(&tors), order(&aggregations));
    let mut column = vec![usize::MAX; topology.node_count() as usize];
    for (index, &aggregation) in aggregations.iter().enumerate() {
        column[aggregation as usize] = index;
    }
    let fold = (tors.len() * aggregations.len()).div_ceil(CELLS_MAX).max(1);
    let rows = tors.len().div_ceil(fold);
    let mut cells = vec![-1.0_f64; rows * aggregations.len()];
    let (mut fullest_s, mut sum_s, mut count) = (0.0_f64, 0.0, 0_u64);
    for (row, &tor) in tors.iter().enumerate() {
        for link in topology.links_of(tor) {
            let Some(&at) = column.get(topology.target(link) as usize).filter(|&&at| at != usize::MAX) else {
                continue;
            };
            let seconds = |link: u32| load[link as usize] / topology.capacities()[link as usize];
            for one in [link, topology.reverse(link)] {
                fullest_s = fullest_s.max(seconds(one));
                sum_s += seconds(one);
                count += 1;
            }
            let cell = &mut cells[row / fold * aggregations.len() + at];
            *cell = cell.max(seconds(link)).max(seconds(topology.reverse(link)));
        }
    }
    let svg = draw(&cells, rows, aggregations.len(), scale_s, fold);
    Heat { svg, fullest_s, mean_s: sum_s / count.max(1) as f64 }
}

/// Cells of one colour are one path, or a pod would be megabytes.
fn draw(cells: &[f64], rows: usize, columns: usize, scale_s: f64, fold: usize) -> String {
    if rows == 0 || columns == 0 {
        return "<p>There is no tier above the ToRs.</p>".to_owned();
    }
    let width = (960.0 / columns as f64).clamp(2.0, 24.0);
    let height = (520.0 / rows as f64).clamp(2.0, 18.0);
    let mut paths = vec![String::new(); 8];
    for (index, &seconds) in cells.iter().enumerate().filter(|(_, seconds)| **seconds >= 0.0) {
        let colour = ((7.0 * seconds / scale_s.max(f64::MIN_POSITIVE)) as usize).min(7);
        let (row, column) = (index / columns, index % columns);
        let (x, y) = (30.0 + column as f64 * width, 14.0 + row as f64 * height);
        let gap = if width > 4.0 { 1.0 } else { 0.2 };
        let _ =
            write!(paths[colour], "M{x:.1} {y:.1}h{:.1}v{:.1}h-{0:.1}z", width - gap, height - gap.min(height / 3.0));
    }
    let bottom = 14.0 + rows as f64 * height;
    let mut svg = format!("<svg viewBox=\"0 0 1000 {:.0}\" role=img>", bottom + 46.0);
    let rows_are = if fold > 1 { format!("ToRs, {fold} a row") } else { "ToRs".to_owned() };
    let _ = write!(
        svg,
        "<text class=soft x=30 y=10>aggregation switches, by plane</text><text class=soft \
         transform=\"translate(20 {:.0}) rotate(-90)\">{rows_are}</text>",
        (14.0 + bottom) / 2.0 + 20.0
    );
    for (colour, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
        let _ = write!(svg, "<path fill=\"var(--h{colour})\" d=\"{path}\"/>");
    }
    for colour in 0..8 {
        let x = 30 + 118 * colour;
        let from = 1e3 * scale_s * f64::from(colour) / 7.0;
        let label = if colour == 7 { format!("{from:.3} ms and more") } else { format!("from {from:.3} ms") };
        let _ = write!(
            svg,
            "<rect x={x} y=\"{:.0}\" width=12 height=12 \
             fill=\"var(--h{colour})\"/><text x={} y=\"{:.0}\">{label}</text>",
            bottom + 20.0,
            x + 16,
            bottom + 31.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}
