//! How far one model's predictions lie from another's, token by token: perplexity of both, and the Kullback-Leibler
//! divergence between them.

/// What was compared so far. The first model is the one that counts as right.
#[derive(Debug, Clone, Default)]
pub struct Divergence {
    losses: Vec<[f64; 2]>, // −ln p(next token), of the first model and the second
    divergences: Vec<f64>, // KL(first ‖ second), in nats
    same: usize,
}

/// Figures of a comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Tokens that were predicted.
    pub tokens: usize,
    /// Perplexity of the first model.
    pub before: f64,
    /// Perplexity of the second.
    pub after: f64,
    /// Standard error of `ln(after / before)`.
    pub ratio_error: f64,
    /// Mean divergence, in nats.
    pub divergence_mean: f64,
    /// What 99 of 100 tokens stay below.
    pub divergence_99: f64,
    /// The largest.
    pub divergence_most: f64,
    /// Share of tokens where both find the same one most likely.
    pub same_choice: f64,
}

impl Divergence {
    /// Adds one position: the logits of both models, and the token that came next.
    ///
    /// # Panics
    /// If the lengths differ, or the token is outside the vocabulary.
    pub fn add(&mut self, first: &[f32], second: &[f32], next: u32) {
        assert_eq!(first.len(), second.len(), "two vocabularies");
        let (sum_first, sum_second) = (log_sum(first), log_sum(second));
        let next = next as usize;
        self.losses.push([sum_first - f64::from(first[next]), sum_second - f64::from(second[next])]);
        let mut divergence = 0.0;
        for (&a, &b) in first.iter().zip(second) {
            let (a, b) = (f64::from(a) - sum_first, f64::from(b) - sum_second);
            divergence += a.exp() * (a - b);
        }
        // Rounding can make a sum of zeros a little less.
        self.divergences.push(divergence.max(0.0));
        self.same += usize::from(best(first) == best(second));
    }

    /// The figures; `None` before the first token.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        let tokens = self.losses.len();
        let count = tokens as f64;
        let mut sorted = self.divergences.clone();
        sorted.sort_by(f64::total_cmp);
        let most = sorted.last().copied()?;
        let mean = |which: usize| self.losses.iter().map(|losses| losses[which]).sum::<f64>() / count;
        let (before, after) = (mean(0), mean(1));
        let spread = self.losses.iter().map(|[a, b]| (b - a - (after - before)).powi(2)).sum::<f64>();
        Some(Summary {
            tokens,
            before: before.exp(),
            after: after.exp(),
            ratio_error: (spread / count.mul_add(count, -count).max(1.0)).sqrt(),
            divergence_mean: sorted.iter().sum::<f64>() / count,
            divergence_99: sorted[(tokens * 99 / 100).min(tokens - 1)],
            divergence_most: most,
            same_choice: self.same as f64 / count,
        })
    }
}

/// `ln Σ exp`.
fn log_sum(logits: &[f32]) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    most + logits.iter().map(|&logit| (f64::from(logit) - most).exp()).sum::<f64>().ln()
}

/// The first of the largest.
fn best(logits: &[f32]) -> usize {
    let larger = |best: usize, at: usize| if logits[at] > logits[best] { at } else { best };
    (0..logits.len()).fold(0, larger)
}

#[cfg(test)]
mod tests {
    use super::Divergence;

    #[test]
    fn a_model_does_not_diverge_from_itself() {
        let mut divergence = Divergence::default();
        assert_eq!(divergence.summary(), None);
        divergence.add(&[1.0, 2.0, -1.0], &[1.0, 2.0, -1.0], 0);
        divergence.add(&[0.0, 0.0, 0.0], &[5.0, 5.0, 5.0], 2);
        let summary = divergence.summary().unwrap();
        assert!(summary.divergence_most < 1e-12 && summary.ratio_error < 1e-12, "{summary:?}");
        assert!((summary.before - summary.after).abs() < 1e-12);
        assert!((summary.same_choice - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_figures_are_those_of_the_definition() {
        let mut divergence = Divergence::default();
        // Probabilities 1/2, 1/2 against 1/4, 3/4.
        divergence.add(&[0.0, 0.0], &[0.0, 3.0_f32.ln()], 1);
        let summary = divergence.summary().unwrap();
        let expected = 0.5 * (0.5_f64 / 0.25).ln() + 0.5 * (0.5_f64 / 0.75).ln();
        assert!((summary.divergence_mean - expected).abs() < 1e-6, "{summary:?}");
        assert!((summary.before - 2.0).abs() < 1e-6 && (summary.after - 4.0 / 3.0).abs() < 1e-6, "{summary:?}");
    }
}
