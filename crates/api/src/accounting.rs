//! `/v1/usage` and `/admin/v1/…`: what was used, what it cost, who holds how much, and the programmes that give credit.
//!
//! Whoever runs the place or its money sees everything; the others see their own project.

mod pdf;
mod programmes;
mod types;

use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base::Kind;
use ledger::calendar::parse_day;
use ledger::limit::{Holder, Limit, Measure, binding};
use ledger::money::parse_dollars;
use ledger::programme::Programmes;
use ledger::usage::{
    By, Filter, RECORDS_MAX, Record, Total, csv_of_records, csv_of_totals, parquet_of_records, parquet_of_totals,
    records, totals,
};
use ledger::{Meter, Operation, Period, Scope, Transaction};
use serde_json::{Value, json};

use crate::auth::principal;
use crate::error::status;
use crate::refusal::{Answer, Refusal};
use crate::{App, Limits};

pub use pdf::pdf_of_invoice;
use types::{AccountsQuery, Booking, BudgetBody, InvoiceQuery, Kindred, LimitBody, UsageQuery};

/// The books, as the API shows them.
pub struct Books {
    /// What requests are charged by.
    pub meter: Arc<Meter>,
    /// Programmes that give credit.
    pub programmes: Programmes,
    /// The limits in force.
    pub limits: Arc<Limits>,
}

/// Records of one answer, where nothing is said.
const RECORDS_DEFAULT: i64 = 1000;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/usage", get(own_usage))
        .route("/admin/v1/usage", get(usage))
        .route("/admin/v1/ledger/accounts", get(accounts))
        .route("/admin/v1/ledger/transactions", post(book))
        .route("/admin/v1/ledger/audit", post(audit))
        .route("/admin/v1/budgets", get(budgets))
        .route("/admin/v1/budgets/set", post(set_budget))
        .route("/admin/v1/limits", get(limits))
        .route("/admin/v1/limits/set", post(set_limit))
        .route("/admin/v1/prices", get(prices))
        .route("/admin/v1/invoices/{project}/{month}", get(invoice))
        .merge(programmes::routes())
}

fn books(app: &App) -> Result<&Books, Refusal> {
    let none = || Refusal(status(Kind::NotFound), "this server keeps no books".to_owned());
    app.books.as_deref().ok_or_else(none)
}

/// Who does something, for the trail.
fn actor() -> String {
    principal().map_or_else(|| "local".to_owned(), |principal| principal.key.to_string())
}

/// The only project that the caller sees; `None`: all.
fn confined() -> Option<String> {
    let principal = principal()?;
    let sees_all = principal.runs_place && principal.role.sees_all();
    (!sees_all).then(|| principal.project.to_string())
}

async fn own_usage(app: State<Arc<App>>, query: Result<Query<UsageQuery>, QueryRejection>) -> Answer<Response> {
    let Query(mut query) = query?;
    query.project = principal().map(|principal| principal.project.to_string()).or(query.project);
    used(&app, query).await
}

async fn usage(app: State<Arc<App>>, query: Result<Query<UsageQuery>, QueryRejection>) -> Answer<Response> {
    let Query(mut query) = query?;
    query.project = confined().or(query.project);
    used(&app, query).await
}

async fn used(app: &App, query: UsageQuery) -> Answer<Response> {
    let database = books(app)?.meter.ledger().database();
    let at = |field, day: Option<String>| day.map(|day| parse_day(field, &day)).transpose();
    let filter = Filter {
        from_ms: at("from", query.from)?.unwrap_or(0),
        to_ms: at("to", query.to)?,
        project: query.project,
        key: query.key,
        model: query.model,
    };
    let form = match query.format.as_deref() {
        None | Some("json") => Form::Json,
        Some("csv") => Form::Csv,
        Some("parquet") => Form::Parquet,
        Some(other) => return Err(wrong("format", other, "json, csv or parquet")),
    };
    let by = match query.by.as_deref() {
        None | Some("day") => By::Day,
        Some("hour") => By::Hour,
        Some("all") => By::All,
        Some("request") => {
            let limit = query.limit.unwrap_or(RECORDS_DEFAULT).clamp(1, RECORDS_MAX);
            let after = query.after_ms.map(|at_ms| (at_ms, query.after.as_deref().unwrap_or("")));
            return form.of_records(&records(database, &filter, after, limit).await?);
        }
        Some(other) => return Err(wrong("by", other, "request, hour, day or all")),
    };
    form.of_totals(&totals(database, &filter, by).await?)
}

/// What usage is answered as.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Csv,
    Parquet,
}

impl Form {
    fn of_records(self, found: &[Record]) -> Answer<Response> {
        Ok(match self {
            Self::Json => Json(json!({"data": found})).into_response(),
            Self::Csv => attached("text/csv; charset=utf-8", "usage.csv", csv_of_records(found)),
            Self::Parquet => attached(PARQUET, "usage.parquet", parquet_of_records(found)?),
        })
    }

    fn of_totals(self, found: &[Total]) -> Answer<Response> {
        Ok(match self {
            Self::Json => Json(json!({"data": found})).into_response(),
            Self::Csv => attached("text/csv; charset=utf-8", "usage.csv", csv_of_totals(found)),
            Self::Parquet => attached(PARQUET, "usage.parquet", parquet_of_totals(found)?),
        })
    }
}

/// As it is registered with IANA.
const PARQUET: &str = "application/vnd.apache.parquet";

fn attached(kind: &str, name: &str, body: impl IntoResponse) -> Response {
    let disposition = format!("attachment; filename=\"{name}\"");
    ([("content-type", kind), ("content-disposition", &disposition)], body).into_response()
}

fn wrong(field: &str, value: &str, allowed: &str) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, format!("{field} is {value:?}, allowed: {allowed}"))
}

async fn accounts(app: State<Arc<App>>, query: Result<Query<AccountsQuery>, QueryRejection>) -> Answer {
    let Query(query) = query?;
    let project = confined().or(query.project);
    let found = books(&app)?.meter.ledger().accounts(project.as_deref()).await?;
    let shown: Vec<Value> = found
        .iter()
        .map(|account| {
            json!({
                "id": account.id.as_str(), "project": account.project, "unit": account.id.unit().name(),
                "balance": account.balance, "floor": account.floor, "expires_ms": account.expires_ms,
                "closed": account.is_closed,
            })
        })
        .collect();
    Ok(Json(json!({"data": shown})))
}

async fn book(app: State<Arc<App>>, body: Result<Json<Booking>, JsonRejection>) -> Answer {
    let Json(Booking { name, kind, project, dollars, memo }) = body?;
    let amount = |dollars: Option<&str>| parse_dollars("dollars", dollars.unwrap_or(""));
    let operation = match kind {
        Kindred::Deposit => Operation::Deposit { project, amount_micro: amount(dollars.as_deref())? },
        Kindred::Refund => Operation::Refund { project, amount_micro: amount(dollars.as_deref())? },
        Kindred::CreditLine => {
            let credit_line_micro = dollars.as_deref().map(|line| parse_dollars("dollars", line)).transpose()?;
            Operation::Open { project, credit_line_micro }
        }
    };
    let transaction = Transaction { name, operation, actor: actor(), memo: memo.unwrap_or_default() };
    let change = books(&app)?.meter.ledger().book(transaction).await?;
    let entries: Vec<Value> =
        change.entries.iter().map(|(id, amount)| json!({"account": id.as_str(), "amount": amount})).collect();
    Ok(Json(json!({"replayed": change.is_replay, "entries": entries})))
}

async fn audit(app: State<Arc<App>>) -> Answer {
    let audit = books(&app)?.meter.ledger().audit().await?;
    Ok(Json(json!({
        "transactions": audit.transactions, "entries": audit.entries, "accounts": audit.accounts,
        "reservations": audit.reservations, "findings": audit.findings,
    })))
}

async fn budgets(app: State<Arc<App>>) -> Answer {
    let own = principal().filter(|_| confined().is_some());
    let own = own.map(|principal| [Scope::project(&principal.project), Scope::key(&principal.key)]);
    let found = books(&app)?.meter.ledger().budgets().await?;
    let shown: Vec<Value> = found
        .iter()
        .filter(|(budget, _)| own.as_ref().is_none_or(|own| own.contains(&budget.scope)))
        .map(|(budget, spent)| {
            json!({
                "scope": budget.scope.as_str(), "period": budget.period.name(), "limit_micro": budget.limit_micro,
                "spent_micro": spent,
            })
        })
        .collect();
    Ok(Json(json!({"data": shown})))
}

async fn set_budget(app: State<Arc<App>>, body: Result<Json<BudgetBody>, JsonRejection>) -> Answer {
    let Json(body) = body?;
    let (scope, period) = (Scope::parse(&body.scope)?, Period::parse(&body.period)?);
    let limit = body.dollars.as_deref().map(|dollars| parse_dollars("dollars", dollars)).transpose()?;
    books(&app)?.meter.ledger().set_budget(&scope, period, limit).await?;
    Ok(Json(json!({"scope": body.scope, "period": period.name(), "limit_micro": limit})))
}

async fn limits(app: State<Arc<App>>) -> Answer {
    let books = books(&app)?;
    let accounts = books.meter.ledger().limits().await?;
    let configured = books.limits.configured_beside(&accounts);
    let all: Vec<Limit> = accounts.iter().chain(&configured).cloned().collect();
    let found: Vec<&Limit> = match principal().filter(|_| confined().is_some()) {
        Some(own) => binding(&all, &own.key, &own.project, |model| own.scopes.allows_model(model)),
        None => all.iter().collect(),
    };
    let shown = found.into_iter().map(|limit| {
        let mut shown = shown_limit(limit);
        shown["from"] = if configured.contains(limit) { "configuration" } else { "accounts" }.into();
        shown
    });
    Ok(Json(json!({"data": shown.collect::<Vec<_>>()})))
}

fn shown_limit(limit: &Limit) -> Value {
    let (holder, measure) = (limit.holder.as_str(), limit.measure.name());
    json!({"holder": holder, "measure": measure, "amount": limit.amount, "burst": limit.burst})
}

async fn set_limit(app: State<Arc<App>>, body: Result<Json<LimitBody>, JsonRejection>) -> Answer {
    let Json(LimitBody { holder, measure, amount, burst }) = body?;
    let (holder, measure) = (Holder::parse(&holder)?, Measure::parse(&measure)?);
    let ledger = books(&app)?.meter.ledger();
    let Some(amount) = amount else {
        ledger.lift_limit(&holder, measure).await?;
        return Ok(Json(json!({"holder": holder.as_str(), "measure": measure.name(), "amount": null})));
    };
    let limit = Limit::new(holder, measure, amount, burst)?;
    let shown = shown_limit(&limit);
    ledger.set_limit(limit).await?;
    Ok(Json(shown))
}

async fn prices(app: State<Arc<App>>) -> Answer {
    let list = books(&app)?.meter.prices();
    let shown: Vec<Value> = list
        .table()
        .into_iter()
        .map(|[model, region, from, rates]| json!({"model": model, "region": region, "from": from, "prices": rates}))
        .collect();
    Ok(Json(json!({"version": list.version(), "data": shown})))
}

async fn invoice(
    app: State<Arc<App>>,
    Path((project, month)): Path<(String, String)>,
    query: Result<Query<InvoiceQuery>, QueryRejection>,
) -> Answer<Response> {
    let Query(query) = query?;
    if confined().is_some_and(|own| own != project) {
        return Err(Refusal(status(Kind::Forbidden), "this key sees its own project only".to_owned()));
    }
    let invoice = books(&app)?.meter.ledger().invoice(&project, parse_day("month", &month)?).await?;
    match query.format.as_deref() {
        None | Some("html") => Ok(([("content-type", "text/html; charset=utf-8")], invoice.html()).into_response()),
        Some("pdf") => Ok(([("content-type", "application/pdf")], pdf_of_invoice(&invoice)).into_response()),
        Some(other) => Err(wrong("format", other, "html or pdf")),
    }
}
