//! Many short texts.

/// Texts one behind the other. Each takes eight bytes beside its own, where a `String` takes 24 and an allocation: a
/// vocabulary has 150,000 of a few bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Texts {
    joined: String,
    ends: Vec<usize>,
}

impl Texts {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Puts one behind the others.
    pub fn push(&mut self, text: &str) {
        self.joined.push_str(text);
        self.ends.push(self.joined.len());
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.joined[start..end])
    }

    /// Each as a text of its own.
    #[must_use]
    pub fn to_vec(&self) -> Vec<String> {
        self.iter().map(str::to_owned).collect()
    }
}

impl<S: AsRef<str>> Extend<S> for Texts {
    fn extend<I: IntoIterator<Item = S>>(&mut self, texts: I) {
        texts.into_iter().for_each(|text| self.push(text.as_ref()));
    }
}

impl<S: AsRef<str>> FromIterator<S> for Texts {
    fn from_iter<I: IntoIterator<Item = S>>(texts: I) -> Self {
        let mut all = Self::default();
        all.extend(texts);
        all
    }
}

impl std::fmt::Debug for Texts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Texts;

    #[test]
    fn texts_come_out_as_they_went_in() {
        let mut texts: Texts = ["a", "", "ü"].into_iter().collect();
        texts.extend(["b".to_owned()]);
        assert_eq!(texts.to_vec(), ["a", "", "ü", "b"]);
        assert_eq!((texts.len(), format!("{texts:?}")), (4, r#"["a", "", "ü", "b"]"#.to_owned()));
        assert!(Texts::default().is_empty() && Texts::default().iter().next().is_none());
    }
}
