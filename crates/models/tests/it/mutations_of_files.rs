//! The mistakes that are made with GGUF files, made on purpose: see `mutations`.

use kernels::Precision;
use models::{FileBytes, gguf};
use safetensors::SafeTensors;

use crate::goldens::EXACT_RELATIVE_MAX;
use crate::truth::{Runner, fixtures, ids, json, relative, tensor};

/// A GGUF fixture whose bytes can be changed.
struct File {
    name: &'static str,
    bytes: Vec<u8>,
}

impl File {
    fn of(name: &'static str) -> Self {
        Self { name, bytes: std::fs::read(fixtures().join(format!("gguf/{name}.gguf"))).unwrap() }
    }

    /// Changes the bytes of every tensor whose canonical name ends so.
    fn each(mut self, ending: &str, change: impl Fn(&mut [u8], &[u64])) -> Self {
        let owned = FileBytes::Owned(self.bytes.clone().into());
        let (_, weights) = gguf::read(self.name, &owned).unwrap();
        let start = owned.as_ptr() as usize;
        let mut changed = 0;
        for tensor in weights.iter().filter(|tensor| tensor.name().ends_with(ending)) {
            let at = tensor.bytes().as_ptr() as usize - start;
            change(&mut self.bytes[at..at + tensor.bytes().len()], tensor.shape());
            changed += 1;
        }
        assert!(changed > 0, "no tensor ends in {ending}");
        self
    }

    /// Calls a key otherwise, so that nobody finds it.
    fn without(mut self, key: &str) -> Self {
        let at = self.bytes.windows(key.len()).position(|bytes| bytes == key.as_bytes()).unwrap();
        self.bytes[at] = b'X';
        self
    }

    /// How far the logits are from the golden ones; `None` if it cannot be loaded.
    fn off(&self) -> Option<f64> {
        let golden = json("gguf/golden.json");
        let tensors = std::fs::read(fixtures().join("gguf/golden.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&tensors).unwrap();
        let prompt = ids(&golden["models"][self.name]["input_ids"]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        std::fs::write(&path, &self.bytes).unwrap();
        let checkpoint = models::Checkpoint::open(&path).ok()?;
        let cpu = kernels::Cpu::new(kernels::CpuOptions::default()).unwrap();
        models::Qwen3::load(&cpu, &checkpoint, Precision::Exact, |_, _| {}).ok()?;
        let mut runner = Runner::open(path.to_str().unwrap(), Precision::Exact, None);
        Some(relative(&runner.logits(&prompt, prompt.len()), &tensor(&tensors, &format!("{}.logits", self.name))))
    }
}

fn garbled(what: &str, file: &File) {
    let found = file.off().unwrap();
    assert!(found > 0.1, "{what} is hardly seen: {found:.2e}");
}

/// The blocks of Q4_K: two f16 factors, twelve bytes of scales and minima, 128 of numbers.
fn q4_k_blocks(change: impl Fn(&mut [u8])) -> impl Fn(&mut [u8], &[u64]) {
    move |bytes, _| bytes.chunks_exact_mut(144).for_each(&change)
}

#[test]
fn files_and_their_blocks() {
    for name in ["qwen3_dense.F32", "qwen3_k.Q4_K_M", "qwen3_dense.Q8_0"] {
        assert!(File::of(name).off().unwrap() <= EXACT_RELATIVE_MAX, "{name}");
    }
    let narrow = File::of("qwen3_dense.F32").without("qwen3.attention.key_length");
    assert_eq!(narrow.off(), None, "head width from the hidden width");
    let other_base = File::of("qwen3_dense.F32").without("qwen3.rope.freq_base");
    garbled("base of the rotations not read", &other_base);
    // Rows that llama's files interleave are taken apart although nobody put them together.
    let unpermuted = |bytes: &mut [u8], shape: &[u64]| {
        let row = bytes.len() / shape[0] as usize;
        let rows: Vec<Vec<u8>> = bytes.chunks_exact(row).map(<[u8]>::to_vec).collect();
        for (to, out) in bytes.chunks_exact_mut(row).enumerate() {
            out.copy_from_slice(&rows[to / 32 * 32 + to % 32 % 16 * 2 + to % 32 / 16]);
        }
    };
    let unpermuted = File::of("qwen3_dense.F32").each("q_proj.weight", unpermuted).each("k_proj.weight", unpermuted);
    garbled("queries and keys put into llama's order", &unpermuted);
    let swapped = |bytes: &mut [u8], _: &[u64]| {
        let block = |block: &mut [u8]| block[2..].iter_mut().for_each(|byte| *byte = byte.rotate_left(4));
        bytes.chunks_exact_mut(18).for_each(block);
    };
    garbled("nibbles of Q4_0 the other way round", &File::of("qwen3_dense.Q4_0").each("up_proj.weight", swapped));
}

#[test]
fn blocks_with_minima() {
    let matrices = ["gate_proj.weight", "up_proj.weight"];
    let changed = |change: fn(&mut [u8])| {
        let file = File::of("qwen3_k.Q4_K_M");
        matrices.iter().fold(file, |file, ending| file.each(ending, q4_k_blocks(change)))
    };
    garbled("minima added", &changed(|block| block[3] ^= 0x80));
    garbled("minima left out", &changed(|block| block[2..4].fill(0)));
    garbled(
        "high bits of the last four scales left out",
        &changed(|block| block[4..12].iter_mut().for_each(|byte| *byte &= 63)),
    );
    garbled(
        "scales and minima swapped",
        &changed(|block| {
            let (scales, minima) = block[4..12].split_at_mut(4);
            scales.swap_with_slice(minima);
        }),
    );
    garbled(
        "lower and upper halves swapped",
        &changed(|block| {
            block[16..].iter_mut().for_each(|byte| *byte = byte.rotate_left(4));
        }),
    );
}
