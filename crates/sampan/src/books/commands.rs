//! `sampan admin` on the database itself, beside a server that may be running.

use std::io::IsTerminal as _;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use base::{Clock, Entropy as _};
use ledger::calendar::{parse_day, show_time};
use ledger::limit::{Holder, Limit, Measure};
use ledger::money::{dollars, parse_dollars};
use ledger::programme::Programmes;
use ledger::usage::{
    By, Filter, Record, Total, csv_of_records, csv_of_totals, parquet_of_records, parquet_of_totals, records, totals,
};
use ledger::{Ledger, Operation, Options, Period, PriceList, Scope, Transaction};
use meta::Directory;
use serde_json::json;

use super::args::{Admin, AdminCommand, Amount, LedgerCommand, Usage, UsageBy, UsageFormat};
use super::catalyst;
use crate::accounts;
use crate::machine::{self, SystemClock, SystemEntropy, print};
use crate::model::table;

/// Who does it, in the trail.
pub(super) const ACTOR: &str = "command line";

/// What a command works on.
pub(super) struct Desk {
    pub(super) ledger: Ledger,
    pub(super) programmes: Programmes,
    directory: Directory,
    pub(super) is_json: bool,
}

pub(crate) fn run(admin: &Admin) -> anyhow::Result<()> {
    if let AdminCommand::Prices { file, example } = &admin.command {
        if *example {
            return print(PriceList::EXAMPLE);
        }
        return prices(&super::prices(file.as_deref())?.0, admin.json);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let data = machine::data_folder(&admin.data.data());
        if let AdminCommand::Restore { file } = &admin.command {
            return super::restore(&data, admin.place.database.as_deref(), file).await;
        }
        let database = super::database(&data, admin.place.database.as_deref()).await?;
        let clock: Arc<dyn Clock> = SystemClock::start();
        let directory = Directory::new(database.clone(), Arc::clone(&clock), Arc::new(SystemEntropy));
        if let AdminCommand::Identity(command) = &admin.command {
            return crate::admin::run(&data, admin.json, &directory, &*clock, command).await;
        }
        if let AdminCommand::Backup { file } = &admin.command {
            database.back_up(file).await.with_context(|| format!("write the backup {}", file.display()))?;
            machine::say(&format!("wrote {}", file.display()));
            crate::vault::remind(&data);
            return Ok(());
        }
        if let AdminCommand::Residency { command } = &admin.command {
            // Whoever comes before the first server finds an organisation and a project.
            accounts::opened_first(&data, database.clone(), &clock).await?;
            return crate::residency::run(admin.json, &database, command).await;
        }
        if let AdminCommand::Vault(command) = &admin.command {
            // Whoever comes before the first server finds a project.
            accounts::opened_first(&data, database.clone(), &clock).await?;
            let vault = crate::vault::open(&data, database, &clock)?;
            return crate::vault::run(admin.json, &vault, &*clock, command).await;
        }
        let ledger = super::ledger(database, &clock, Options::default());
        let programmes = Programmes::new(ledger.clone(), Arc::new(SystemEntropy));
        let desk = Desk { ledger, programmes, directory, is_json: admin.json };
        match &admin.command {
            AdminCommand::Ledger { command } => ledger_command(&desk, command).await,
            AdminCommand::Limits => limits(&desk).await,
            AdminCommand::Limit { holder, measure, amount, burst } => {
                set_limit(&desk, holder, measure, amount, *burst).await
            }
            AdminCommand::Usage(wanted) => usage(&desk, wanted).await,
            AdminCommand::Invoice { project, month, pdf } => {
                let project = desk.project(project).await?;
                let invoice = desk.ledger.invoice(&project, parse_day("month", month)?).await?;
                match pdf {
                    None => print(&invoice.html()),
                    Some(file) => std::fs::write(file, api::pdf_of_invoice(&invoice))
                        .with_context(|| format!("write {}", file.display())),
                }
            }
            AdminCommand::Audit => audit(&desk).await,
            AdminCommand::Identity(_)
            | AdminCommand::Vault(_)
            | AdminCommand::Residency { .. }
            | AdminCommand::Prices { .. }
            | AdminCommand::Backup { .. }
            | AdminCommand::Restore { .. } => Ok(()),
            AdminCommand::Catalyst { command } => {
                desk.programmes.first_start().await?;
                catalyst::run(&desk, command).await
            }
        }
    })
}

impl Desk {
    /// The id of a project that is named by its name or id. One that is in no directory is taken as it is: without
    /// accounts there is none.
    pub(super) async fn project(&self, name: &str) -> anyhow::Result<String> {
        match self.directory.find_project(name).await {
            Ok(project) => Ok(project.id),
            Err(meta::Error::Missing { .. }) => Ok(name.to_owned()),
            Err(error) => Err(error.into()),
        }
    }

    /// The same if one is named.
    async fn some_project(&self, name: Option<&String>) -> anyhow::Result<Option<String>> {
        match name {
            Some(name) => Ok(Some(self.project(name).await?)),
            None => Ok(None),
        }
    }

    pub(super) fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
        print(&format!("{}\n", serde_json::to_string_pretty(value)?))
    }
}

async fn ledger_command(desk: &Desk, command: &LedgerCommand) -> anyhow::Result<()> {
    match command {
        LedgerCommand::Accounts { project } => accounts(desk, project.as_ref()).await,
        LedgerCommand::Deposit(amount) => {
            let amount_micro = parse_dollars("dollars", &amount.dollars)?;
            let project = desk.project(&amount.project).await?;
            book(desk, amount, Operation::Deposit { project, amount_micro }).await
        }
        LedgerCommand::Refund(amount) => {
            let amount_micro = parse_dollars("dollars", &amount.dollars)?;
            let project = desk.project(&amount.project).await?;
            book(desk, amount, Operation::Refund { project, amount_micro }).await
        }
        LedgerCommand::Line { project, dollars } => {
            let credit_line_micro = match dollars.as_str() {
                "unlimited" => None,
                text => Some(parse_dollars("dollars", text)?),
            };
            let (name, project) = (new_name("line"), desk.project(project).await?);
            let operation = Operation::Open { project, credit_line_micro };
            let transaction = Transaction { name, operation, actor: ACTOR.to_owned(), memo: String::new() };
            desk.ledger.book(transaction).await?;
            Ok(())
        }
        LedgerCommand::Budgets => budgets(desk).await,
        LedgerCommand::Budget { scope, period, dollars } => {
            let limit_micro = match dollars.as_str() {
                "none" => None,
                text => Some(parse_dollars("dollars", text)?),
            };
            let scope = match scope.strip_prefix("project:") {
                Some(project) => Scope::project(&desk.project(project).await?),
                None => Scope::parse(scope)?,
            };
            Ok(desk.ledger.set_budget(&scope, Period::parse(period)?, limit_micro).await?)
        }
    }
}

async fn accounts(desk: &Desk, project: Option<&String>) -> anyhow::Result<()> {
    let project = desk.some_project(project).await?;
    let accounts = desk.ledger.accounts(project.as_deref()).await?;
    if desk.is_json {
        let rows: Vec<_> = accounts
            .iter()
            .map(|account| {
                json!({
                    "id": account.id.as_str(), "project": account.project, "unit": account.id.unit().name(),
                    "balance": account.balance, "floor": account.floor, "expires_ms": account.expires_ms,
                    "closed": account.is_closed,
                })
            })
            .collect();
        return Desk::print_json(&json!(rows));
    }
    let mut shown = table(&["ACCOUNT", "HOLDS", "AT LEAST", "ENDS"]);
    for account in &accounts {
        let unit = account.id.unit();
        let floor = match account.floor {
            Some(floor) => unit.show(floor),
            None => "any".to_owned(),
        };
        let ends = match (account.is_closed, account.expires_ms) {
            (true, _) => "closed".to_owned(),
            (false, Some(expires_ms)) => show_time(expires_ms),
            (false, None) => "-".to_owned(),
        };
        shown.add_row([account.id.to_string(), unit.show(account.balance), floor, ends]);
    }
    print(&format!("{shown}\n"))
}

async fn book(desk: &Desk, amount: &Amount, operation: Operation) -> anyhow::Result<()> {
    let name = amount.name.clone().unwrap_or_else(|| new_name("admin"));
    let transaction = Transaction { name: name.clone(), operation, actor: ACTOR.to_owned(), memo: amount.memo.clone() };
    let change = desk.ledger.book(transaction).await?;
    if desk.is_json {
        return Desk::print_json(&json!({"name": name, "replayed": change.is_replay}));
    }
    match change.is_replay {
        true => print(&format!("{name} was booked before\n")),
        false => print(&format!("{name}\n")),
    }
}

/// A name that nobody else uses.
fn new_name(prefix: &str) -> String {
    let mut bytes = [0; 8];
    SystemEntropy.fill(&mut bytes);
    format!("{prefix}-{:016x}", u64::from_be_bytes(bytes))
}

async fn budgets(desk: &Desk) -> anyhow::Result<()> {
    let budgets = desk.ledger.budgets().await?;
    if desk.is_json {
        let row = |(budget, spent): &(ledger::Budget, i64)| {
            json!({
                "scope": budget.scope.as_str(), "period": budget.period.name(), "limit_micro": budget.limit_micro,
                "spent_micro": spent,
            })
        };
        return Desk::print_json(&json!(budgets.iter().map(row).collect::<Vec<_>>()));
    }
    let mut shown = table(&["SCOPE", "PERIOD", "LIMIT", "SPENT"]);
    for (budget, spent) in &budgets {
        let period = budget.period.name().to_owned();
        shown.add_row([budget.scope.to_string(), period, dollars(budget.limit_micro), dollars(*spent)]);
    }
    print(&format!("{shown}\n"))
}

async fn limits(desk: &Desk) -> anyhow::Result<()> {
    let limits = desk.ledger.limits().await?;
    if desk.is_json {
        let row = |limit: &Limit| {
            let (holder, measure) = (limit.holder.as_str(), limit.measure.name());
            json!({"holder": holder, "measure": measure, "amount": limit.amount, "burst": limit.burst})
        };
        return Desk::print_json(&json!(limits.iter().map(row).collect::<Vec<_>>()));
    }
    let mut shown = table(&["HOLDER", "MEASURE", "AMOUNT", "BURST"]);
    for limit in &limits {
        let numbers = [limit.amount, limit.burst].map(|number| number.to_string());
        shown.add_row([limit.holder.to_string(), limit.measure.name().to_owned()].into_iter().chain(numbers));
    }
    print(&format!("{shown}\n"))
}

async fn set_limit(desk: &Desk, holder: &str, measure: &str, amount: &str, burst: Option<u64>) -> anyhow::Result<()> {
    let (holder, measure) = (Holder::parse(holder)?, Measure::parse(measure)?);
    let holder = match holder.as_str().strip_prefix("project:") {
        Some(project) => Holder::project(&desk.project(project).await?),
        None => holder,
    };
    if amount == "none" {
        return Ok(desk.ledger.lift_limit(&holder, measure).await?);
    }
    let amount = amount.parse().with_context(|| format!("the amount is {amount:?}, allowed: a number or none"))?;
    Ok(desk.ledger.set_limit(Limit::new(holder, measure, amount, burst)?).await?)
}

async fn usage(desk: &Desk, wanted: &Usage) -> anyhow::Result<()> {
    let at = |field, day: Option<&String>| day.map(|day| parse_day(field, day)).transpose();
    let filter = Filter {
        from_ms: at("from", wanted.from.as_ref())?.unwrap_or(0),
        to_ms: at("to", wanted.to.as_ref())?,
        project: desk.some_project(wanted.project.as_ref()).await?,
        key: wanted.key.clone(),
        model: wanted.model.clone(),
    };
    let database = desk.ledger.database();
    let by = match wanted.by {
        UsageBy::Hour => By::Hour,
        UsageBy::Day => By::Day,
        UsageBy::All => By::All,
        UsageBy::Request => {
            let found = records(database, &filter, None, wanted.limit).await?;
            return match wanted.form(desk.is_json) {
                UsageFormat::Csv => print(&csv_of_records(&found)),
                UsageFormat::Json => Desk::print_json(&json!(found)),
                UsageFormat::Parquet => print_parquet(&parquet_of_records(&found)?),
                UsageFormat::Table => print(&format!("{}\n", table_of_records(found))),
            };
        }
    };
    let found = totals(database, &filter, by).await?;
    match wanted.form(desk.is_json) {
        UsageFormat::Csv => print(&csv_of_totals(&found)),
        UsageFormat::Json => Desk::print_json(&json!(found)),
        UsageFormat::Parquet => print_parquet(&parquet_of_totals(&found)?),
        UsageFormat::Table => print(&format!("{}\n", table_of_totals(found))),
    }
}

/// Bytes are nothing for a person's screen.
fn print_parquet(file: &[u8]) -> anyhow::Result<()> {
    if std::io::stdout().is_terminal() {
        bail!("Parquet is not written to a terminal\nhint: sampan admin usage --format parquet > usage.parquet");
    }
    machine::print_bytes(file)
}

fn table_of_records(records: Vec<Record>) -> comfy_table::Table {
    let mut shown = table(&["AT", "PROJECT", "KEY", "MODEL", "IN", "CACHED", "OUT", "DOLLARS", "MS", "END"]);
    for record in records {
        let counts = [record.tokens_in, record.tokens_cached, record.tokens_out].map(|count| count.to_string());
        let names = [show_time(record.at_ms as u64), record.project, record.key, record.model];
        let ends = [dollars(record.price_micro), record.latency_ms.to_string(), record.outcome];
        shown.add_row(names.into_iter().chain(counts).chain(ends));
    }
    shown
}

fn table_of_totals(totals: Vec<Total>) -> comfy_table::Table {
    let names = ["FROM", "PROJECT", "KEY", "MODEL", "WHAT", "REQUESTS", "IN", "CACHED", "OUT", "UNITS", "DOLLARS"];
    let mut shown = table(&names);
    for total in totals {
        let start = if total.start_ms == 0 { "-".to_owned() } else { show_time(total.start_ms as u64) };
        let counts = [total.requests, total.tokens_in, total.tokens_cached, total.tokens_out, total.units];
        let counts = counts.map(|count| count.to_string());
        let names = [start, total.project, total.key, total.model, total.activity];
        shown.add_row(names.into_iter().chain(counts).chain([dollars(total.price_micro)]));
    }
    shown
}

async fn audit(desk: &Desk) -> anyhow::Result<()> {
    let audit = desk.ledger.audit().await?;
    if desk.is_json {
        Desk::print_json(&json!({
            "transactions": audit.transactions, "entries": audit.entries, "accounts": audit.accounts,
            "reservations": audit.reservations, "findings": audit.findings,
        }))?;
    } else {
        print(&format!(
            "{} transactions, {} entries, {} accounts, {} reservations\n",
            audit.transactions, audit.entries, audit.accounts, audit.reservations
        ))?;
    }
    match audit.findings.len() {
        0 if desk.is_json => Ok(()),
        0 => print("the books are true\n"),
        count => bail!("{count} findings:\n  {}", audit.findings.join("\n  ")),
    }
}

fn prices(list: &PriceList, is_json: bool) -> anyhow::Result<()> {
    if is_json {
        let rows: Vec<_> = list.table().into_iter().map(price).collect();
        return Desk::print_json(&json!({"version": list.version(), "prices": rows}));
    }
    let mut shown = table(&["MODEL", "REGION", "FROM", "DOLLARS"]);
    for row in list.table() {
        shown.add_row(row);
    }
    print(&format!("{shown}\nversion {}\n", list.version()))
}

fn price([model, region, from, prices]: [String; 4]) -> serde_json::Value {
    json!({"model": model, "region": region, "from": from, "prices": prices})
}
