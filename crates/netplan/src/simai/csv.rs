//! The table as SimAI writes it.

use std::fmt::Write as _;

use super::{PassRow, SimaiTable};

const LAYERS: &str = "layer_name,run,fwd compute,wg compute,ig compute,fwd exposed comm,wg exposed comm,\
                      ig exposed comm,fwd total comm,algbw,busbw,wg total comm,algbw,busbw,ig total comm,algbw,busbw";
const SUMS: &str = "File name, Expose DP comm, Expose DP_EP comm, Expose TP comm, Expose_EP_comm, Expose_PP_comm, \
                    bubble time, total comp, total exposed comm, Total time";

impl SimaiTable {
    /// Rows of layers and the line of sums, times in whole microseconds.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut out = format!("{LAYERS}\n");
        for layer in &self.layers {
            let passes: [&PassRow; 3] = [&layer.forward, &layer.weight_gradient, &layer.input_gradient];
            let _ = write!(out, "{},sampan", layer.name);
            for pass in passes {
                let _ = write!(out, ",{:.0}", pass.compute_us);
            }
            for pass in passes {
                let _ = write!(out, ",{:.0}", pass.exposed_us);
            }
            for pass in passes {
                let algorithm =
                    if pass.algorithm.is_nan() { "-nan".to_owned() } else { format!("{:.2}", pass.algorithm) };
                let _ = write!(out, ",{:.0},{algorithm},{:.2}", pass.communication_us, pass.bus);
            }
            out.push('\n');
        }
        let sums = &self.summary;
        let parts = [
            sums.data_us,
            sums.data_expert_us,
            sums.tensor_us,
            sums.expert_us,
            sums.pipeline_us,
            sums.bubble_us,
            sums.compute_us,
            sums.exposed_us,
        ];
        let _ = write!(out, "{SUMS}\nsampan");
        for part in parts {
            let _ = write!(out, ", {part:.0} ({:.2}%)", 100.0 * part / sums.total_us);
        }
        let _ = writeln!(out, ", {:.0}", sums.total_us);
        out
    }
}
