//! `sampan admin catalyst`.

use anyhow::Context as _;
use ledger::calendar::{show_day, show_time};
use ledger::money::{dollars, parse_dollars};
use ledger::programme::{Application, Company, Decision, Standing};
use serde_json::json;

use super::args::{Apply, CatalystCommand};
use super::commands::{ACTOR, Desk};
use crate::machine::print;
use crate::model::table;

pub(super) async fn run(desk: &Desk, command: &CatalystCommand) -> anyhow::Result<()> {
    let programmes = &desk.programmes;
    match command {
        CatalystCommand::Programmes => list(desk).await,
        CatalystCommand::Define { file } => {
            let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
            let programme = programmes.define(ACTOR, &text).await?;
            print(&format!("{}\n", programme.name))
        }
        CatalystCommand::Apply(apply) => file(desk, apply).await,
        CatalystCommand::Applications => applications(desk).await,
        CatalystCommand::Grant { application, tokens, dollars, reason } => {
            let micro = parse_dollars("dollars", dollars)?;
            let decision = Decision { tokens: *tokens, micro, reason: reason.clone() };
            print(&format!("{}\n", programmes.grant(ACTOR, application, decision).await?))
        }
        CatalystCommand::Reject { application, reason } => Ok(programmes.reject(ACTOR, application, reason).await?),
        CatalystCommand::Grants => grants(desk).await,
        CatalystCommand::Show { grant } => show(desk, &programmes.standing(grant).await?),
        CatalystCommand::Release { grant, tranche, evidence } => {
            programmes.release(ACTOR, grant, *tranche, evidence).await?;
            show(desk, &programmes.standing(grant).await?)
        }
        CatalystCommand::ClawBack { grant, reason } => {
            programmes.claw_back(ACTOR, grant, reason).await?;
            show(desk, &programmes.standing(grant).await?)
        }
    }
}

async fn list(desk: &Desk) -> anyhow::Result<()> {
    let found = desk.programmes.list().await?;
    if desk.is_json {
        return Desk::print_json(&json!(found));
    }
    let mut shown = table(&["PROGRAMME", "TOKENS", "DOLLARS", "TRANCHES", "WHAT"]);
    for one in found {
        let (tokens, parts) = (one.tokens_max.to_string(), one.tranches.len().to_string());
        shown.add_row([one.name, tokens, dollars(one.micro_max), parts, one.title]);
    }
    print(&format!("{shown}\n"))
}

async fn file(desk: &Desk, apply: &Apply) -> anyhow::Result<()> {
    let application = Application {
        programme: apply.programme.clone(),
        project: desk.project(&apply.project).await?,
        company: Company {
            name: apply.company.clone(),
            founded: apply.founded.clone(),
            stage: apply.stage.clone(),
            country: apply.country.clone(),
        },
        tokens: apply.tokens,
        micro: parse_dollars("dollars", &apply.dollars)?,
        note: apply.note.clone(),
    };
    print(&format!("{}\n", desk.programmes.file(ACTOR, application).await?))
}

async fn applications(desk: &Desk) -> anyhow::Result<()> {
    let found = desk.programmes.applications().await?;
    if desk.is_json {
        return Desk::print_json(&json!(found));
    }
    let mut shown = table(&["APPLICATION", "FILED", "PROGRAMME", "PROJECT", "COMPANY", "TOKENS", "DOLLARS", "STATE"]);
    for filed in found {
        let state = format!("{:?}", filed.state).to_lowercase();
        let names = [filed.id, show_day(filed.created_ms as u64), filed.programme, filed.project, filed.company.name];
        shown.add_row(names.into_iter().chain([filed.tokens.to_string(), dollars(filed.micro), state]));
    }
    print(&format!("{shown}\n"))
}

async fn grants(desk: &Desk) -> anyhow::Result<()> {
    let found = desk.programmes.grants().await?;
    if desk.is_json {
        return Desk::print_json(&json!(found));
    }
    let mut shown = table(&["GRANT", "PROGRAMME", "PROJECT", "STATE", "TOKENS", "LEFT NOW", "DOLLARS", "LEFT NOW"]);
    for grant in found {
        let tokens_left: i64 = grant.tranches.iter().map(|tranche| tranche.tokens_left).sum();
        let micro_left: i64 = grant.tranches.iter().map(|tranche| tranche.micro_left).sum();
        let tokens = [grant.tokens.to_string(), tokens_left.to_string()];
        let names = [grant.id, grant.programme, grant.project, grant.state];
        shown.add_row(names.into_iter().chain(tokens).chain([dollars(grant.micro), dollars(micro_left)]));
    }
    print(&format!("{shown}\n"))
}

fn show(desk: &Desk, grant: &Standing) -> anyhow::Result<()> {
    if desk.is_json {
        return Desk::print_json(&json!(grant));
    }
    let Standing { id, programme, project, state, .. } = grant;
    let mut text = format!("{id}: {programme} for {project}, {state}\n");
    let mut tranches = table(&["TRANCHE", "STATE", "TOKENS", "LEFT", "DOLLARS", "LEFT", "ENDS", "MILESTONE"]);
    for one in &grant.tranches {
        let ends = if one.expires_ms == 0 { "-".to_owned() } else { show_day(one.expires_ms as u64) };
        let state = format!("{:?}", one.state).to_lowercase();
        let tokens = [one.number.to_string(), state, one.tokens.to_string(), one.tokens_left.to_string()];
        let money = [dollars(one.micro), dollars(one.micro_left), ends, one.milestone.clone()];
        tranches.add_row(tokens.into_iter().chain(money));
    }
    text.push_str(&format!("{tranches}\n"));
    let mut burned = table(&["DAY", "TOKENS", "DOLLARS"]);
    for day in &grant.burned {
        burned.add_row([show_day(day.day_ms as u64), day.tokens.to_string(), dollars(day.micro)]);
    }
    text.push_str(&format!("{burned}\n"));
    match grant.used_up_ms {
        Some(at_ms) => text.push_str(&format!("at this pace what has come is used up on {}\n", show_day(at_ms as u64))),
        None => text.push_str("nothing was used lately\n"),
    }
    for alert in &grant.alerts {
        let at = show_time(alert.at_ms as u64);
        text.push_str(&format!("{at}  {} percent of the {} used\n", alert.percent, unit(&alert.unit)));
    }
    for event in &grant.trail {
        let at = show_time(event.at_ms as u64);
        text.push_str(&format!("{at}  {}: {} ({})\n", event.actor, event.action, event.detail));
    }
    print(&text)
}

fn unit(name: &str) -> &'static str {
    if name == "token" { "tokens" } else { "dollars" }
}
