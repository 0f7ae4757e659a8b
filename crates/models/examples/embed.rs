//! Prints the vector of a text, to compare with another implementation: `embed FOLDER TEXT`.

use std::io::Write as _;
use std::path::Path;

use kernels::{Cpu, CpuOptions, Precision};
use models::bert::{Bert, BertFiles};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(text)) = (arguments.next(), arguments.next()) else {
        return Err("usage: embed FOLDER TEXT".into());
    };
    let cpu = Cpu::new(CpuOptions::default())?;
    let bert = Bert::load(&cpu, &BertFiles::open(Path::new(&folder))?, Precision::Exact)?;
    let tokens = bert.encode(&text)?;
    let vectors = bert.embed(&cpu, &[&tokens])?;
    writeln!(std::io::stdout(), "{}", serde_json::json!({"input_ids": tokens, "vector": vectors[0]}))?;
    Ok(())
}
