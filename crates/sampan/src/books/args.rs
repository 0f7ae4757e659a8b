//! The command line of `sampan admin`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use ledger::limit::Limit;

use crate::args::Data;

/// How a server keeps its books.
#[derive(Args, Clone)]
pub(crate) struct BookOptions {
    #[command(flatten)]
    pub(crate) place: DatabasePlace,
    /// The price list (TOML); without one the example that `sampan admin prices` shows.
    #[arg(long, value_name = "FILE", env = "SAMPAN_PRICES")]
    pub(crate) prices: Option<PathBuf>,
    /// Refuse requests that a project's grants and deposits do not pay, and models without a price. Otherwise
    /// everything is counted and only budgets refuse.
    #[arg(long, env = "SAMPAN_CREDIT")]
    pub(crate) credit: bool,
    /// Limit what comes in a minute or at one time: HOLDER=MEASURE:AMOUNT[:BURST], for example `key:*=requests:60`,
    /// `project:ID=tokens:100000` or `model:NAME=concurrent:4`. May be repeated; `sampan admin limit` comes before.
    #[arg(long = "limit", value_name = "LIMIT", value_parser = limit)]
    pub(crate) limits: Vec<Limit>,
    /// Where this machine stands, for prices, records and residency (docs/routing.md#where).
    #[arg(long, value_name = "NAME", env = "SAMPAN_REGION", default_value = "")]
    pub(crate) region: String,
}

fn limit(text: &str) -> Result<Limit, String> {
    Limit::parse(text).map_err(|error| error.to_string())
}

/// Where the database is.
#[derive(Args, Clone)]
pub(crate) struct DatabasePlace {
    /// Keep accounts and books at postgres://USER:PASSWORD@HOST/DATABASE or in another file than DIR/sampan.db.
    #[arg(long, global = true, value_name = "URL", env = "SAMPAN_DATABASE")]
    pub(crate) database: Option<String>,
}

#[derive(Args)]
pub(crate) struct Admin {
    #[command(flatten)]
    pub(crate) data: AdminData,
    #[command(flatten)]
    pub(crate) place: DatabasePlace,
    /// For scripts.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: AdminCommand,
}

/// Where data lies, on any of the commands below.
#[derive(Args, Clone)]
pub(crate) struct AdminData {
    /// Folder of everything that is kept. Default: ~/.local/share/sampan.
    #[arg(long = "data", global = true, value_name = "DIR", env = "SAMPAN_DATA")]
    folder: Option<PathBuf>,
}

impl AdminData {
    pub(crate) fn data(&self) -> Data {
        Data { folder: self.folder.clone() }
    }
}

#[derive(Subcommand)]
pub(crate) enum AdminCommand {
    #[command(flatten)]
    Identity(crate::admin::IdentityCommand),
    #[command(flatten)]
    Vault(crate::vault::VaultCommand),
    /// Where data may be kept and computed on.
    Residency {
        #[command(subcommand)]
        command: crate::residency::ResidencyCommand,
    },
    /// Accounts, deposits, refunds, credit lines and budgets.
    Ledger {
        #[command(subcommand)]
        command: LedgerCommand,
    },
    /// List limits of requests and tokens per minute, and of answers at one time.
    Limits,
    /// Set a limit. Servers that run take it up within seconds.
    Limit {
        /// `key:ID`, `project:NAME` or `model:NAME`; `*` as the name stands for each that has no limit of its own.
        holder: String,
        /// `requests` or `tokens` (per minute), or `concurrent` (answers at one time).
        measure: String,
        /// A number or `none`.
        amount: String,
        /// So many may come at once after a pause. Default: a minute's worth.
        #[arg(long)]
        burst: Option<u64>,
    },
    /// What was used: by request, hour, day or in all.
    Usage(Usage),
    /// The invoice of a project for a month (2026-11), as HTML or PDF.
    Invoice {
        /// Its name or id.
        project: String,
        /// As 2026-11.
        month: String,
        /// Write it to this file as PDF.
        #[arg(long, value_name = "FILE")]
        pdf: Option<PathBuf>,
    },
    /// Compute every rule of the books again.
    Audit,
    /// Write accounts and books as they are now to a new file, beside a server that may be running.
    Backup {
        /// A SQLite database, also of a PostgreSQL one.
        file: PathBuf,
    },
    /// Make the database of a backup. There must be none yet, and no server running on it.
    Restore {
        /// From `sampan admin backup`, of this version or an older one.
        file: PathBuf,
    },
    /// Show a price list, or check one.
    Prices {
        /// Default: the example.
        file: Option<PathBuf>,
        /// Print the example to start from.
        #[arg(long, conflicts_with = "file")]
        example: bool,
    },
    /// Programmes that give credit: applications, grants, tranches.
    Catalyst {
        #[command(subcommand)]
        command: CatalystCommand,
    },
}

#[derive(Subcommand)]
pub(crate) enum LedgerCommand {
    /// List accounts with what they hold.
    Accounts {
        /// Of one project, by name or id.
        #[arg(long)]
        project: Option<String>,
    },
    /// Book money that came in.
    Deposit(Amount),
    /// Give back what was charged.
    Refund(Amount),
    /// Set what a project may owe: dollars, or `unlimited`.
    Line {
        /// Its name or id.
        project: String,
        /// Dollars or `unlimited`.
        dollars: String,
    },
    /// List budgets with what is spent of them.
    Budgets,
    /// Limit what a project or key may spend in a day or month: dollars, or `none`.
    Budget {
        /// `project:NAME` or `key:ID`.
        scope: String,
        /// `day` or `month`.
        period: String,
        /// Dollars or `none`.
        dollars: String,
    },
}

#[derive(Args)]
pub(crate) struct Amount {
    /// The project's name or id.
    pub(crate) project: String,
    /// Dollars.
    pub(crate) dollars: String,
    /// The transaction's name, for example the bank's: the same again changes nothing. Default: a new one.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Why.
    #[arg(long, default_value = "")]
    pub(crate) memo: String,
}

/// What usage is written as.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UsageFormat {
    Table,
    Json,
    Csv,
    Parquet,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum UsageBy {
    Request,
    Hour,
    Day,
    All,
}

#[derive(Args)]
pub(crate) struct Usage {
    /// What it is summed by.
    #[arg(long, value_enum, default_value = "day")]
    pub(crate) by: UsageBy,
    /// From this day on, as 2026-11-25.
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// Before this day.
    #[arg(long)]
    pub(crate) to: Option<String>,
    /// One project's, by name or id.
    #[arg(long)]
    pub(crate) project: Option<String>,
    /// One key's.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// One model's.
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// For table programs; the same as --format csv.
    #[arg(long, conflicts_with = "format")]
    pub(crate) csv: bool,
    /// Default: a table, or JSON with --json. Parquet is written to the standard output, which must be a file or a
    /// pipe.
    #[arg(long, value_enum)]
    pub(crate) format: Option<UsageFormat>,
    /// The most records.
    #[arg(long, default_value_t = 1000)]
    pub(crate) limit: i64,
}

impl Usage {
    /// What it is written as.
    pub(crate) fn form(&self, is_json: bool) -> UsageFormat {
        match self.format {
            Some(format) => format,
            None if self.csv => UsageFormat::Csv,
            None if is_json => UsageFormat::Json,
            None => UsageFormat::Table,
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum CatalystCommand {
    /// List programmes.
    Programmes,
    /// Define a programme, or define it anew, from TOML.
    Define {
        /// The file.
        file: PathBuf,
    },
    /// File an application.
    Apply(Apply),
    /// List applications.
    Applications,
    /// Grant an application; tranches without a milestone come at once.
    Grant {
        /// Its id.
        application: String,
        /// Tokens.
        #[arg(long, default_value_t = 0)]
        tokens: i64,
        /// Dollars.
        #[arg(long, default_value = "0")]
        dollars: String,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Reject an application.
    Reject {
        /// Its id.
        application: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// List grants.
    Grants,
    /// Show a grant: tranches, burn-down, forecast, alerts, trail.
    Show {
        /// Its id.
        grant: String,
    },
    /// Release a tranche, because its milestone was reached.
    Release {
        /// The grant's id.
        grant: String,
        /// 1 is the first.
        tranche: i64,
        /// What shows it.
        #[arg(long)]
        evidence: String,
    },
    /// Take a grant back.
    ClawBack {
        /// Its id.
        grant: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Args)]
pub(crate) struct Apply {
    /// The project that will use it, by name or id.
    pub(crate) project: String,
    /// The programme.
    #[arg(long, default_value = "catalyst")]
    pub(crate) programme: String,
    /// The company's name.
    #[arg(long)]
    pub(crate) company: String,
    /// When it was founded, as 2024-05-01.
    #[arg(long)]
    pub(crate) founded: String,
    /// Its funding stage.
    #[arg(long)]
    pub(crate) stage: String,
    /// Its country in two letters.
    #[arg(long)]
    pub(crate) country: String,
    /// Tokens.
    #[arg(long, default_value_t = 0)]
    pub(crate) tokens: i64,
    /// Dollars.
    #[arg(long, default_value = "0")]
    pub(crate) dollars: String,
    /// What for.
    #[arg(long, default_value = "")]
    pub(crate) note: String,
}
