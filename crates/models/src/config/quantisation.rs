//! `quantization_config` of a `config.json`.

use serde_json::Value;

use super::Quantisation;
use super::huggingface::Fields;
use crate::{Error, Result};

/// Rows or columns that share a scale; published are 128.
const GROUP_MAX: usize = 1 << 20;

/// What the configuration says of its quantisation, `None` if nothing.
pub(super) fn read(fields: &Fields<'_>) -> Result<Option<Quantisation>> {
    let Some(config) = fields.present("quantization_config") else { return Ok(None) };
    let Some(config) = config.as_object() else {
        return Err(Error::unsupported("quantization_config", config, "it must be an object"));
    };
    let fields = Fields(config);
    match fields.present("quant_method").and_then(Value::as_str) {
        Some("fp8") => fp8(&fields).map(Some),
        Some("gptq") => gptq(&fields).map(Some),
        Some("awq") => awq(&fields).map(Some),
        other => {
            let method = other.unwrap_or("missing");
            Err(Error::unsupported("quantization_config.quant_method", method, "supported are fp8, gptq and awq"))
        }
    }
}

fn fp8(fields: &Fields<'_>) -> Result<Quantisation> {
    expect_text(fields, "fmt", "e4m3")?;
    let wrong = |value: &Value| {
        Error::unsupported("quantization_config.weight_block_size", value, "it must be a list of two sizes")
    };
    let Some(value) = fields.present("weight_block_size") else { return Err(wrong(&Value::Null)) };
    let size = |index: usize| value.get(index).and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
    match (size(0), size(1), size(2)) {
        (Some(rows @ 1..=GROUP_MAX), Some(columns @ 1..=GROUP_MAX), None) => {
            Ok(Quantisation::Fp8 { block: [rows, columns] })
        }
        _ => Err(wrong(value)),
    }
}

fn gptq(fields: &Fields<'_>) -> Result<Quantisation> {
    let zeros_less_one = match fields.present("checkpoint_format").and_then(Value::as_str) {
        None | Some("gptq") => true,
        Some("gptq_v2") => false,
        Some(other) => {
            let why = "supported are gptq and gptq_v2";
            return Err(Error::unsupported("quantization_config.checkpoint_format", other, why));
        }
    };
    Ok(Quantisation::Gptq { group: group(fields)?, zeros_less_one })
}

fn awq(fields: &Fields<'_>) -> Result<Quantisation> {
    expect_text(fields, "version", "gemm")?;
    if fields.optional_bool("zero_point")? == Some(false) {
        return Err(Error::unsupported("quantization_config.zero_point", false, "only files with zero points are"));
    }
    Ok(Quantisation::Awq { group: group(fields)? })
}

fn group(fields: &Fields<'_>) -> Result<usize> {
    let bits = fields.count("bits")?;
    if bits != 4 {
        return Err(Error::unsupported("quantization_config.bits", bits, "only 4 are"));
    }
    match fields.present("group_size").and_then(Value::as_i64) {
        // One group for all columns.
        Some(-1) => Ok(GROUP_MAX),
        Some(size) if size >= 1 && size <= GROUP_MAX as i64 => Ok(size as usize),
        Some(_) | None => {
            let value = fields.present("group_size").cloned().unwrap_or(Value::Null);
            Err(Error::unsupported("quantization_config.group_size", value, "it must be a number of columns, or -1"))
        }
    }
}

fn expect_text(fields: &Fields<'_>, field: &str, expected: &str) -> Result<()> {
    match fields.present(field) {
        None => Ok(()),
        Some(value) if value.as_str().is_some_and(|text| text.eq_ignore_ascii_case(expected)) => Ok(()),
        Some(value) => {
            Err(Error::unsupported(&format!("quantization_config.{field}"), value, &format!("only {expected} is")))
        }
    }
}
