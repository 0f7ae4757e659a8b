//! Stop strings over streamed text.

/// Finds the stop string that is complete first; of several that end at the same place, the longest.
///
/// Each string has its own automaton (Knuth, Morris and Pratt 1977), so that a byte costs a step or two for each
/// string, whatever the strings and the text are.
#[derive(Debug)]
pub(super) struct StopMatcher {
    patterns: Vec<Pattern>,
    /// Text that may turn out to belong to a stop string.
    held: String,
}

#[derive(Debug)]
struct Pattern {
    text: String,
    /// `failures[n]`: the longest proper prefix of the pattern that ends its first `n + 1` bytes.
    failures: Vec<usize>,
    /// How many bytes of the pattern the text ends with.
    matched: usize,
}

impl StopMatcher {
    /// Empty strings match nothing.
    pub(super) fn new(strings: Vec<String>) -> Self {
        let strings = strings.into_iter().filter(|string| !string.is_empty());
        Self { patterns: strings.map(Pattern::new).collect(), held: String::new() }
    }

    /// Appends what is certainly visible to `shown`. Returns the stop string that was found; the text before it has
    /// been shown then, and the rest is forgotten.
    pub(super) fn push(&mut self, text: &str, shown: &mut String) -> Option<String> {
        let start = self.held.len();
        self.held.push_str(text);
        for at in start..self.held.len() {
            let byte = self.held.as_bytes()[at];
            let mut found: Option<&Pattern> = None;
            for pattern in &mut self.patterns {
                if pattern.advance(byte) && found.is_none_or(|other| other.text.len() < pattern.text.len()) {
                    found = Some(pattern);
                }
            }
            if let Some(pattern) = found {
                let string = pattern.text.clone();
                shown.push_str(&self.held[..at + 1 - string.len()]);
                self.flush();
                return Some(string);
            }
        }
        let kept = self.patterns.iter().map(|pattern| pattern.matched).max().unwrap_or(0);
        shown.extend(self.held.drain(..self.held.len() - kept));
        None
    }

    /// Gives back what is held and begins anew.
    pub(super) fn flush(&mut self) -> String {
        self.patterns.iter_mut().for_each(|pattern| pattern.matched = 0);
        std::mem::take(&mut self.held)
    }
}

impl Pattern {
    fn new(text: String) -> Self {
        let bytes = text.as_bytes();
        let mut failures = vec![0; bytes.len()];
        let mut length = 0;
        for at in 1..bytes.len() {
            while length > 0 && bytes[at] != bytes[length] {
                length = failures[length - 1];
            }
            length += usize::from(bytes[at] == bytes[length]);
            failures[at] = length;
        }
        Self { text, failures, matched: 0 }
    }

    /// Whether the pattern is complete with this byte.
    fn advance(&mut self, byte: u8) -> bool {
        let bytes = self.text.as_bytes();
        while self.matched > 0 && bytes[self.matched] != byte {
            self.matched = self.failures[self.matched - 1];
        }
        self.matched += usize::from(bytes[self.matched] == byte);
        self.matched == bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::StopMatcher;

    /// Feeds the pieces; returns what is shown and what stopped it.
    fn run(strings: &[String], pieces: &[String]) -> (String, Option<String>) {
        let mut matcher = StopMatcher::new(strings.to_vec());
        let mut shown = String::new();
        for piece in pieces {
            if let Some(found) = matcher.push(piece, &mut shown) {
                return (shown, Some(found));
            }
        }
        shown.push_str(&matcher.flush());
        (shown, None)
    }

    /// By looking at every beginning of the whole text.
    fn naive(strings: &[String], text: &str) -> (String, Option<String>) {
        for (end, _) in text.char_indices().skip(1).chain([(text.len(), ' ')]) {
            let ending = strings.iter().filter(|string| !string.is_empty() && text[..end].ends_with(string.as_str()));
            if let Some(longest) = ending.max_by_key(|string| string.len()) {
                return (text[..end - longest.len()].to_owned(), Some(longest.clone()));
            }
        }
        (text.to_owned(), None)
    }

    fn check(strings: &[&str], text: &str, shown: &str, found: Option<&str>) {
        let strings: Vec<String> = strings.iter().map(|&string| string.to_owned()).collect();
        let pieces: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(run(&strings, &pieces), (shown.to_owned(), found.map(str::to_owned)));
        assert_eq!(run(&strings, &[text.to_owned()]), (shown.to_owned(), found.map(str::to_owned)));
    }

    #[test]
    fn examples() {
        check(&["STOP"], "go on", "go on", None);
        check(&["STOP"], "go STOP on", "go ", Some("STOP"));
        check(&["STOP"], "go STO", "go STO", None);
        check(&["aab"], "aaab", "a", Some("aab"));
        check(&["b", "ab", "cab"], "cab", "", Some("cab"));
        check(&["abcd", "bc"], "abcd", "a", Some("bc"));
        check(&["é!", "\n\n"], "è é\n\n", "è é", Some("\n\n"));
        check(&[""], "x", "x", None);
        check(&[], "x", "x", None);
    }

    #[test]
    fn text_is_held_back_only_while_it_may_be_a_stop_string() {
        let mut matcher = StopMatcher::new(vec!["<end>".to_owned()]);
        let mut shown = String::new();
        matcher.push("a<en", &mut shown);
        assert_eq!(shown, "a");
        matcher.push("x<", &mut shown);
        assert_eq!(shown, "a<enx");
    }

    #[test]
    fn long_periodic_strings_cost_no_more() {
        let strings: Vec<String> = (0..64).map(|n| "a".repeat(1000 + n) + "b").collect();
        let (shown, found) = run(&strings, &["a".repeat(1 << 16)]);
        assert_eq!((shown.len(), found), (1 << 16, None));
    }

    proptest! {
        #[test]
        fn as_the_naive_search(
            strings in prop::collection::vec("[abé]{0,4}", 0..4),
            pieces in prop::collection::vec("[abé]{0,5}", 0..8),
        ) {
            prop_assert_eq!(run(&strings, &pieces), naive(&strings, &pieces.concat()));
        }
    }
}
