//! A fixture with a mistake in it: its configuration or its tensors are changed so that the right code computes what
//! wrong code would have computed from the unchanged ones.

use std::collections::BTreeMap;

use kernels::{Cpu, CpuOptions, Precision};
use models::{Checkpoint, Qwen3};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::truth::{Runner, fixtures, ids, json, relative, tensor};

/// A tensor of the fixture.
pub(crate) struct Part {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Part {
    fn view(&self) -> TensorView<'_> {
        TensorView::new(self.dtype, self.shape.clone(), &self.bytes).unwrap()
    }

    /// Other numbers, in f32.
    pub(crate) fn map(&mut self, change: impl Fn(f32) -> f32) {
        let numbers: Vec<f32> = if self.dtype == Dtype::BF16 {
            let words = self.bytes.as_chunks::<2>().0.iter();
            words.map(|word| half::bf16::from_le_bytes(*word).to_f32()).collect()
        } else {
            assert_eq!(self.dtype, Dtype::F32);
            self.bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
        };
        self.dtype = Dtype::F32;
        self.bytes = numbers.into_iter().flat_map(|number| change(number).to_le_bytes()).collect();
    }

    /// Row `i` becomes what row `from(i)` was.
    pub(crate) fn gather_rows(&mut self, from: impl Fn(usize) -> usize) {
        let row = self.bytes.len() / self.shape[0];
        self.bytes = (0..self.shape[0]).flat_map(|to| self.bytes[from(to) * row..][..row].to_vec()).collect();
    }

    /// Column `i` of every row becomes what column `from(i)` was.
    pub(crate) fn gather_columns(&mut self, from: impl Fn(usize) -> usize) {
        let columns: usize = self.shape[1..].iter().product();
        let width = self.bytes.len() / self.shape[0] / columns;
        let row_of =
            |row: &[u8]| -> Vec<u8> { (0..columns).flat_map(|to| row[from(to) * width..][..width].to_vec()).collect() };
        self.bytes = self.bytes.chunks_exact(columns * width).flat_map(row_of).collect();
    }

    /// Every 32-bit word another one.
    pub(crate) fn words(&mut self, change: impl Fn(usize, u32) -> u32) {
        assert_eq!(self.dtype, Dtype::I32);
        let words = self.bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
        self.bytes = words.enumerate().flat_map(|(at, word)| change(at, word).to_le_bytes()).collect();
    }
}

/// A copy of a fixture that can be changed.
pub(crate) struct Mutant {
    fixture: &'static str,
    pub(crate) config: Value,
    pub(crate) parts: BTreeMap<String, Part>,
}

impl Mutant {
    pub(crate) fn of(fixture: &'static str) -> Self {
        let bytes = std::fs::read(fixtures().join(fixture).join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let part = |(name, view): (String, TensorView<'_>)| {
            let part = Part { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() };
            (name, part)
        };
        let parts = file.tensors().into_iter().map(part).collect();
        Self { fixture, config: json(&format!("{fixture}/config.json")), parts }
    }

    pub(crate) fn set(mut self, field: &str, value: Value) -> Self {
        self.config[field] = value;
        self
    }

    /// Changes every tensor whose name ends so; there must be one.
    pub(crate) fn each(mut self, ending: &str, change: impl Fn(&mut Part)) -> Self {
        let mut changed = 0;
        for (_, part) in self.parts.iter_mut().filter(|(name, _)| name.ends_with(ending)) {
            change(part);
            changed += 1;
        }
        assert!(changed > 0, "no tensor ends in {ending}");
        self
    }

    /// Exchanges the tensors whose names differ in this.
    pub(crate) fn swap(mut self, one: &str, other: &str) -> Self {
        let names: Vec<String> = self.parts.keys().filter(|name| name.contains(one)).cloned().collect();
        assert!(!names.is_empty(), "no tensor is called {one}");
        for name in names {
            let twin = name.replace(one, other);
            let (first, second) = (self.parts.remove(&name).unwrap(), self.parts.remove(&twin).unwrap());
            self.parts.insert(name, second);
            self.parts.insert(twin, first);
        }
        self
    }

    /// Writes it beside the other files of the fixture.
    pub(crate) fn write(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(fixtures().join(self.fixture)).unwrap() {
            let path = file.unwrap().path();
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        std::fs::write(folder.path().join("config.json"), self.config.to_string()).unwrap();
        let views: Vec<(&String, TensorView<'_>)> = self.parts.iter().map(|(name, part)| (name, part.view())).collect();
        let bytes = safetensors::serialize(views.iter().map(|(name, view)| (name, view)), None).unwrap();
        std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        folder
    }

    /// How far the logits of a case are from the golden ones.
    pub(crate) fn off(&self, case: &str) -> f64 {
        let golden = json(&format!("{}/golden.json", self.fixture));
        let bytes = std::fs::read(fixtures().join(self.fixture).join("golden.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let cases = golden["cases"].as_array().unwrap();
        let found = cases.iter().find(|known| known["name"].as_str().is_none_or(|name| name == case)).unwrap();
        let prompt = ids(&found["input_ids"]);
        let folder = self.write();
        let mut runner = Runner::open(folder.path().to_str().unwrap(), Precision::Exact, None);
        relative(&runner.logits(&prompt, prompt.len()), &tensor(&tensors, &format!("{case}.logits")))
    }

    /// Whether it can be loaded and has logits at all.
    pub(crate) fn loads(&self) -> bool {
        let folder = self.write();
        let cpu = Cpu::new(CpuOptions::default()).unwrap();
        let opened = Checkpoint::open(folder.path());
        opened
            .and_then(|checkpoint| Qwen3::load(&cpu, &checkpoint, Precision::Exact, |_, _| {}))
            .is_ok_and(|model| model.has_head())
    }
}
