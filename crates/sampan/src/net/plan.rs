//! `sampan net plan`.

use anyhow::Context as _;
use netplan::collective::{measured, nccl_tests};
use netplan::doctor::Patient;
use netplan::model::{Model, PRESETS, from_config, preset};
use netplan::picture::plan_page;
use netplan::plan::{Cluster, Failures, ServePlan, ServeRequest, TrainPlan, TrainRequest, failures, serve, train};
use serde_json::{Value, json};

use super::args::Plan;
use crate::machine::{print, say};

pub(super) fn run(arguments: &Plan) -> anyhow::Result<()> {
    if arguments.model == "list" {
        let lines: String = PRESETS.iter().map(|(name, what)| format!("{name:24} {what}\n")).collect();
        return print(&lines);
    }
    let model = model(&arguments.model)?;
    let mut cluster = Cluster::named(&arguments.on)?;
    if let Some(usd) = arguments.usd {
        anyhow::ensure!(usd.is_finite() && usd >= 0.0, "a price of {usd} for a GPU-hour");
        cluster.gpu.usd_per_hour = usd;
    }
    if let Some(path) = &arguments.measured {
        calibrate(&mut cluster, path)?;
    }
    if let Some(batch) = arguments.train {
        let request = TrainRequest { batch, sequence: arguments.sequence, ..TrainRequest::default() };
        let plan = train(&model, &cluster, &request)?;
        let text = if arguments.json {
            format!("{}\n", serde_json::to_string_pretty(&train_json(&model, &cluster, plan.as_ref()))?)
        } else {
            train_words(&model, &cluster, &request, plan.as_ref())
        };
        return print(&text);
    }
    let request = ServeRequest {
        prompt_tokens: arguments.prompt,
        answer_tokens: arguments.answer,
        token_s_max: arguments.token_ms / 1e3,
        weight_bytes: if arguments.fp8 { 1.0 } else { 2.0 },
        ..ServeRequest::default()
    };
    let bar = super::working("planning, and failing every switch once");
    let plan = serve(&model, &cluster, &request)?;
    let fabric = super::fabric::of(&cluster)?;
    let table = failures(&model, &cluster, &request, &plan, &fabric)?;
    bar.finish_and_clear();
    if arguments.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&serve_json(&model, &cluster, &plan, &table))?));
    }
    print(&serve_words(&model, &cluster, &request, &plan, &table))?;
    super::write_picture(&arguments.picture, &plan_page(&model, &cluster, &request, &plan, &table, &fabric)?)
}

/// Puts what was measured in the place of what is assumed, and says how well it foretells.
fn calibrate(cluster: &mut Cluster, path: &std::path::Path) -> anyhow::Result<()> {
    let output = nccl_tests::read(&super::read_text(path)?).with_context(|| format!("read {}", path.display()))?;
    let patient = Patient::from_output(&output, Some(cluster.gpu.name), cluster.card_gbps, None)?;
    let found = measured(&cluster.machine, patient.kind, patient.group, &output)?;
    say(&format!(
        "measured: {} on {} x {}: links at {:.2}, steps at {:.2} of what is assumed; {:.1} % off on average, {:.1} % \
         on sizes that were not used; before {:.1} %",
        patient.kind.word(),
        patient.group.hosts,
        patient.group.per_host,
        found.rate_factor,
        found.step_factor,
        100.0 * found.error_after,
        100.0 * found.foretelling_error,
        100.0 * found.error_before
    ));
    cluster.machine = found.machine;
    Ok(())
}

fn model(name: &str) -> anyhow::Result<Model> {
    let path = std::path::Path::new(name);
    if path.is_dir() {
        return model(&path.join("config.json").display().to_string());
    }
    if path.is_file() {
        let own = path.parent().and_then(std::path::Path::file_name).unwrap_or_default();
        let own = if own.is_empty() { path.as_os_str() } else { own };
        return Ok(from_config(&own.to_string_lossy(), &super::read_text(path)?)?);
    }
    Ok(preset(name)?)
}

fn serve_words(model: &Model, cluster: &Cluster, request: &ServeRequest, plan: &ServePlan, table: &Failures) -> String {
    use std::fmt::Write as _;
    let parameters = model.parameters();
    let mut out = format!(
        "{} on {} ({} GPUs)\n  model     {:.1} B parameters, {:.1} B a token; \
         weights {:.1} GB, cache {} bytes a token\n",
        model.name,
        cluster.name,
        cluster.gpus(),
        parameters.total as f64 / 1e9,
        parameters.active as f64 / 1e9,
        plan.weight_bytes / 1e9,
        plan.kv_bytes_per_token
    );
    let Some(decode) = &plan.decode else {
        let _ = writeln!(out, "  fits      no: at least {} such GPUs hold the weights", plan.gpus_min);
        return out;
    };
    let late = if plan.quick_enough { "" } else { " (no way is as quick as asked; this is the quickest)" };
    let _ = writeln!(
        out,
        "  fits      yes: {} replicas of {} GPUs (TP {} x PP {} x DP {}), {:.1} GB weights and {:.1} GB cache a GPU",
        plan.replicas,
        decode.gpus,
        decode.tensor,
        decode.pipeline,
        decode.attention_replicas,
        decode.weight_bytes / 1e9,
        decode.cache_bytes / 1e9
    );
    let _ = writeln!(
        out,
        "  speed     {:.0} tokens/s, {:.0} a GPU; {:.1} ms between tokens{late}",
        plan.tokens_per_s,
        plan.tokens_per_s_per_gpu,
        1e3 * decode.token_s
    );
    if let Some(prefill) = &plan.prefill {
        let _ = writeln!(
            out,
            "  prompts   {:.0} tokens in {:.0} ms; {}",
            request.prompt_tokens,
            1e3 * prefill.first_token_s,
            match plan.split {
                (0, _) => "replicas read and write in turns".to_owned(),
                (readers, writers) => format!(
                    "{readers} replicas read, {writers} write; a cache moves in {:.1} ms",
                    1e3 * plan.kv_transfer_s
                ),
            }
        );
    }
    let _ = writeln!(
        out,
        "  price     ${:.2} a million tokens at ${} a GPU-hour; {:.0} kW",
        plan.usd_per_million,
        cluster.gpu.usd_per_hour,
        plan.watts / 1e3
    );
    failure_words(&mut out, model, plan, table);
    out
}

fn failure_words(out: &mut String, model: &Model, plan: &ServePlan, table: &Failures) {
    use std::fmt::Write as _;
    if let Some(worst) = table.rows.first() {
        let left = 100.0 * worst.tokens_per_s / plan.tokens_per_s;
        let _ = writeln!(out, "  worst     single failure: {}: {left:.0} % of the tokens remain", worst.what);
    }
    for row in &table.rows {
        let slowdown = if row.slowdown.is_finite() { format!("{:.2}x", row.slowdown) } else { "cut off".to_owned() };
        let _ = writeln!(
            out,
            "            {:28} x{:<6} communication {:8} {:>9.0} tokens/s left",
            row.what, row.count, slowdown, row.tokens_per_s
        );
    }
    for note in model.notes.iter().chain(&table.notes) {
        let _ = writeln!(out, "  note      {note}");
    }
}

fn serve_json(model: &Model, cluster: &Cluster, plan: &ServePlan, table: &Failures) -> Value {
    let parameters = model.parameters();
    let finite = |value: f64| if value.is_finite() { json!(value) } else { Value::Null };
    json!({
        "model": model.name,
        "cluster": cluster.name,
        "gpus": cluster.gpus(),
        "parameters": parameters.total,
        "parameters_active": parameters.active,
        "fits": plan.fits,
        "quick_enough": plan.quick_enough,
        "weight_bytes": plan.weight_bytes,
        "gpus_min": plan.gpus_min,
        "kv_bytes_per_token": plan.kv_bytes_per_token,
        "replicas": plan.replicas,
        "replicas_prefill": plan.split.0,
        "replicas_decode": plan.split.1,
        "tokens_per_s": plan.tokens_per_s,
        "tokens_per_s_per_gpu": plan.tokens_per_s_per_gpu,
        "usd_per_million_tokens": finite(plan.usd_per_million),
        "watts": plan.watts,
        "kv_transfer_s": plan.kv_transfer_s,
        "first_token_s": plan.prefill.map(|prefill| prefill.first_token_s),
        "decode": plan.decode.as_ref().map(|decode| json!({
            "tensor_parallel": decode.tensor,
            "pipeline_parallel": decode.pipeline,
            "attention_replicas": decode.attention_replicas,
            "gpus": decode.gpus,
            "batch": decode.batch,
            "token_s": decode.token_s,
            "weight_bytes": decode.weight_bytes,
            "cache_bytes": decode.cache_bytes,
        })),
        "failures": table.rows.iter().map(|row| json!({
            "component": row.what,
            "count": row.count,
            "slowdown": finite(row.slowdown),
            "replicas_hit": row.replicas_hit,
            "tokens_per_s": row.tokens_per_s,
        })).collect::<Vec<_>>(),
        "searched": plan.searched,
        "notes": model.notes.iter().chain(&table.notes).collect::<Vec<_>>(),
    })
}

fn train_words(model: &Model, cluster: &Cluster, request: &TrainRequest, plan: Option<&TrainPlan>) -> String {
    let title = format!("training {} on {} ({} GPUs)\n", model.name, cluster.name, cluster.gpus());
    let Some(plan) = plan else { return format!("{title}  fits      no way to cut it fits\n") };
    let TrainPlan { tensor, pipeline, context, data, expert, .. } = plan;
    format!(
        "{title}  cut       TP {tensor} x PP {pipeline} x CP {context} x DP {data}, experts over {expert}; {} \
         micro-batches\n  memory    {:.1} GB weights and gradients, {:.1} GB optimizer, {:.1} GB activations a GPU\n  \
         iteration {:.2} s for {} sequences of {} tokens: {:.2} arithmetic, {:.2} tensor, {:.2} experts, {:.2} data, \
         {:.2} bubble\n  speed     {:.0} tokens/s a GPU, {:.0} % of the peak; {} ways searched\n",
        plan.micro_batches,
        plan.weight_bytes / 1e9,
        plan.optimizer_bytes / 1e9,
        plan.activation_bytes / 1e9,
        plan.iteration_s,
        request.batch,
        request.sequence,
        plan.compute_s,
        plan.tensor_s,
        plan.expert_s,
        plan.data_s,
        plan.bubble_s,
        plan.tokens_per_s_per_gpu,
        100.0 * plan.utilisation,
        plan.searched
    )
}

fn train_json(model: &Model, cluster: &Cluster, plan: Option<&TrainPlan>) -> Value {
    json!({
        "model": model.name,
        "cluster": cluster.name,
        "fits": plan.is_some(),
        "plan": plan.map(|plan| json!({
            "tensor_parallel": plan.tensor,
            "pipeline_parallel": plan.pipeline,
            "context_parallel": plan.context,
            "data_parallel": plan.data,
            "expert_parallel": plan.expert,
            "micro_batches": plan.micro_batches,
            "weight_bytes": plan.weight_bytes,
            "optimizer_bytes": plan.optimizer_bytes,
            "activation_bytes": plan.activation_bytes,
            "iteration_s": plan.iteration_s,
            "tokens_per_s_per_gpu": plan.tokens_per_s_per_gpu,
            "utilisation": plan.utilisation,
        })),
    })
}
