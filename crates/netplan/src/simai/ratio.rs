//! Tables of measured efficiency by size and number of hosts, and how SimAI looks things up in them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result};

/// The tables that SimAI ships, as far as they are among the fixtures.
const SHIPPED: &str = include_str!("../../../../fixtures/hpn/simai_measured_efficiency.json");

#[derive(Deserialize)]
struct File {
    tables: BTreeMap<String, Raw>,
}

#[derive(Deserialize)]
struct Raw {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// The tables that come with SimAI 1.6, without the columns for 16 and more hosts that are not among the fixtures.
///
/// # Errors
/// Never, unless the fixture was changed.
pub fn shipped_ratios() -> Result<RatioTables> {
    let file: File =
        serde_json::from_str(SHIPPED).map_err(|source| Error::Json { what: "the shipped tables", source })?;
    let table = |name: &str| -> Result<Table> {
        let missing = || Error::invalid("shipped tables", format!("no {name}"));
        let raw = file.tables.get(name).ok_or_else(missing)?;
        Table::from_cells(&raw.header, &raw.rows)
    };
    Ok(RatioTables { nic: table("nic_ratio")?, nvlink: table("nvlink_ratio")?, all_to_all: table("ata_ratio")? })
}

/// One table: a share of the peak for each size (rows) and shape (columns).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Titles of the columns, without the one of sizes.
    pub columns: Vec<String>,
    /// Sizes in bytes, rising.
    pub bytes: Vec<f64>,
    /// `[size][column]`, `None` where nothing was measured.
    pub share: Vec<Vec<Option<f64>>>,
}

/// The three tables that SimAI ships.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RatioTables {
    /// Rings limited by the cards.
    pub nic: Table,
    /// Rings limited by `NVLink`.
    pub nvlink: Table,
    /// All-to-all.
    pub all_to_all: Table,
}

impl Table {
    /// From a header and rows of text; empty cells are not measured.
    ///
    /// # Errors
    /// If a cell is no number, a row is longer than the header, or the sizes do not rise.
    pub fn from_cells(header: &[String], rows: &[Vec<String>]) -> Result<Self> {
        let wrong = |detail: String| Error::invalid("table of efficiency", detail);
        let columns: Vec<String> = header.iter().skip(1).cloned().collect();
        let mut table = Self { columns, ..Self::default() };
        for row in rows {
            let number = |cell: &String| -> Result<Option<f64>> {
                if cell.trim().is_empty() {
                    return Ok(None);
                }
                let parsed = cell.trim().parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
                parsed.map(Some).ok_or_else(|| wrong(format!("{cell:?} is no positive number")))
            };
            let bytes = row.first().map(number).transpose()?.flatten();
            let bytes = bytes.ok_or_else(|| wrong("a row without a size".to_owned()))?;
            if table.bytes.last().is_some_and(|last| *last >= bytes) || row.len() > header.len() {
                return Err(wrong(format!("the row of {bytes} bytes is out of order or too long")));
            }
            let mut shares: Vec<Option<f64>> = row[1..].iter().map(number).collect::<Result<_>>()?;
            shares.resize(table.columns.len(), None);
            table.bytes.push(bytes);
            table.share.push(shares);
        }
        if table.bytes.is_empty() || table.columns.is_empty() {
            return Err(wrong("no rows or no columns".to_owned()));
        }
        Ok(table)
    }

    /// From comma-separated text with a header.
    ///
    /// # Errors
    /// As [`Self::from_cells`].
    pub fn from_csv(text: &str) -> Result<Self> {
        let cells = |line: &str| line.split(',').map(|cell| cell.trim().to_owned()).collect::<Vec<String>>();
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let header = cells(lines.next().unwrap_or_default());
        let rows: Vec<Vec<String>> = lines.map(cells).collect();
        Self::from_cells(&header, &rows)
    }

    /// How many hosts a column is about, from a title such as `8Node-64GPU(NIC)`.
    #[must_use]
    pub fn hosts(&self, column: usize) -> Option<u32> {
        let title = self.columns.get(column)?;
        let digits = title.find(|letter: char| !letter.is_ascii_digit())?;
        let hosts = title[..digits].parse().ok()?;
        title[digits..].trim_start().starts_with("Node").then_some(hosts)
    }

    fn column_of(&self, hosts: u32) -> Option<usize> {
        (0..self.columns.len()).find(|&column| self.hosts(column) == Some(hosts))
    }

    /// SimAI's `getValue`: the share at `bytes` over the share at the largest size, linear between rows.
    ///
    /// `Err` names the column that this table lacks.
    pub(super) fn relative(&self, bytes: u64, hosts: u32) -> std::result::Result<f32, String> {
        const NAMED: [u32; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
        let column = match hosts {
            // The number 9 is SimAI's code for a group that spans hosts with one GPU in each.
            9 => self.columns.iter().position(|title| title == "Multi 16"),
            hosts if NAMED.contains(&hosts) => self.column_of(hosts),
            _ => self.column_of(16),
        };
        let column = column.ok_or_else(|| format!("{hosts} hosts"))?;
        if bytes == 0 {
            return Ok(1.0);
        }
        let share = |row: usize| self.share[row][column].unwrap_or(1.0);
        let last = self.bytes.len() - 1;
        let size = bytes as f64;
        let value = if size < self.bytes[0] {
            share(0)
        } else {
            let Some(row) = (0..last).find(|&row| size >= self.bytes[row] && size <= self.bytes[row + 1]) else {
                return Err(format!("messages of {bytes} bytes"));
            };
            let (low, high) = (self.bytes[row], self.bytes[row + 1]);
            share(row) + (share(row + 1) - share(row)) * (size - low) / (high - low)
        };
        Ok((value / share(last)) as f32)
    }
}
