//! What a check found, as lines for people and numbers for scripts.

use std::fmt;

/// One figure beside its reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The case it belongs to.
    pub case: String,
    /// Which figure of the case.
    pub quantity: String,
    /// What we computed.
    pub found: f64,
    /// What the file says.
    pub expected: f64,
    /// How far apart they are: relative, or in the unit of the figure where `absolute`.
    pub error: f64,
    /// How far apart they may be; `None` for information only.
    pub tolerance: Option<f64>,
    /// Whether `error` and `tolerance` are in the unit of the figure.
    pub absolute: bool,
}

impl Line {
    /// A figure that may be off by a share of what is expected.
    #[must_use]
    pub fn relative(case: &str, quantity: &str, found: f64, expected: f64, tolerance: Option<f64>) -> Self {
        let scale = expected.abs().max(f64::MIN_POSITIVE);
        let error = if found.to_bits() == expected.to_bits() { 0.0 } else { (found - expected) / scale };
        Self {
            case: case.to_owned(),
            quantity: quantity.to_owned(),
            found,
            expected,
            error,
            tolerance,
            absolute: false,
        }
    }

    /// A figure that may be off by so much in its own unit.
    #[must_use]
    pub fn absolute(case: &str, quantity: &str, found: f64, expected: f64, tolerance: f64) -> Self {
        let error = found - expected;
        let (case, quantity) = (case.to_owned(), quantity.to_owned());
        Self { case, quantity, found, expected, error, tolerance: Some(tolerance), absolute: true }
    }

    /// Whether the figure is within its tolerance; `None` for information only.
    #[must_use]
    pub fn passed(&self) -> Option<bool> {
        self.tolerance.map(|tolerance| self.error.abs() <= tolerance)
    }
}

/// Everything that a check found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// What the reference is, in the file's own words.
    pub what: String,
    /// Every figure.
    pub lines: Vec<Line>,
    /// What a reader should know about the comparison.
    pub notes: Vec<String>,
}

impl Report {
    /// Figures within their tolerance.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.lines.iter().filter(|line| line.passed() == Some(true)).count()
    }

    /// Figures that are not.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.lines.iter().filter(|line| line.passed() == Some(false)).count()
    }

    /// Keeps of several lines the one with the largest error for its tolerance, and says how many there were.
    pub(super) fn push_worst(&mut self, lines: Vec<Line>) {
        // What failed comes before what passed, and a figure that is none before everything.
        let excess = |line: &Line| match line.tolerance.unwrap_or(f64::INFINITY) {
            tolerance if line.error.abs() <= tolerance => line.error.abs() / tolerance.max(f64::MIN_POSITIVE),
            tolerance => 1.0 + (line.error.abs() / tolerance.max(f64::MIN_POSITIVE)),
        };
        let count = lines.len();
        if let Some(mut worst) = lines.into_iter().max_by(|left, right| excess(left).total_cmp(&excess(right))) {
            worst.quantity = format!("{}, worst of {count}", worst.quantity);
            self.lines.push(worst);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.what)?;
        for line in &self.lines {
            let verdict = match line.passed() {
                Some(true) => "ok  ",
                Some(false) => "FAIL",
                None => "info",
            };
            let Line { case, quantity, found, expected, .. } = line;
            write!(out, "{verdict} {case}: {quantity}: {}, expected {}, ", Figure(*found), Figure(*expected))?;
            match (line.absolute, line.tolerance) {
                (true, Some(0.0)) => writeln!(out, "{}", if line.error == 0.0 { "exact" } else { "has to be exact" })?,
                (true, Some(tolerance)) => writeln!(out, "off by {:+.3e} (at most {})", line.error, Figure(tolerance))?,
                (true, None) => writeln!(out, "off by {:+.3e}", line.error)?,
                (false, Some(tolerance)) if tolerance < 1e-3 => {
                    writeln!(out, "off by {:+.1e} (at most {tolerance:.0e})", line.error)?;
                }
                (false, Some(tolerance)) => {
                    writeln!(out, "off by {:+.2} % (at most {} %)", 100.0 * line.error, Figure(100.0 * tolerance))?;
                }
                (false, None) => writeln!(out, "off by {:+.2} %", 100.0 * line.error)?,
            }
        }
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        write!(out, "{} passed, {} failed", self.passed(), self.failed())
    }
}

/// A number with six digits after the point at most, and none that say nothing.
struct Figure(f64);

impl fmt::Display for Figure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.6}", self.0);
        out.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}
