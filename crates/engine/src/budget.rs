//! An end to reasoning that takes too long.
//!
//! When the budget is spent, a sentence and the closing tag are put into the model's mouth, as the makers describe it
//! (<https://qwen.readthedocs.io/en/latest/getting_started/thinking_budget.html>); the model goes on with its answer.

/// What the model is made to say.
pub(crate) const CLOSING: &str = "\n\nConsidering the limited time by the user, I have to give the solution based on \
                                  the thinking directly now.\n</think>\n\n";

/// The budget of one answer.
#[derive(Debug)]
pub(crate) struct Budget {
    most: u32,
    closing: Vec<u32>,
    said: usize,
}

impl Budget {
    /// `closing`: the tokens of [`CLOSING`].
    pub(crate) fn new(most: u32, closing: Vec<u32>) -> Self {
        Self { most, closing, said: 0 }
    }

    /// The token that comes next whatever the model would say. `reasons`: the next token belongs to the reasoning,
    /// which has `spent` tokens so far.
    pub(crate) fn forced(&mut self, reasons: bool, spent: u32) -> Option<u32> {
        if self.said == 0 && !(reasons && spent >= self.most) {
            return None;
        }
        let token = self.closing.get(self.said).copied();
        self.said += 1;
        token
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn the_closing_is_said_once_and_whole() {
        let mut budget = Budget::new(2, vec![7, 8]);
        assert_eq!(budget.forced(false, 9), None, "there is no reasoning");
        assert_eq!(budget.forced(true, 1), None);
        assert_eq!(budget.forced(true, 2), Some(7));
        assert_eq!(budget.forced(false, 3), Some(8), "it is finished, even if the parser sees its end earlier");
        assert_eq!(budget.forced(true, 9), None);
    }
}
