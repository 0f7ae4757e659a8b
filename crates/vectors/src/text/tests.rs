use proptest::prelude::*;

use super::postings::{Collected, read_list};
use super::{Corpus, Language, Question, TextField, tokens};

fn words(text: &str, language: Language) -> Vec<String> {
    let mut words = Vec::new();
    tokens(text, language, &mut |word: &str| words.push(word.to_owned()));
    words
}

#[test]
fn words_of_many_languages() {
    let english = words("The Runners' running, run-time ＦＵＬＬ!", Language::En);
    assert_eq!(english, ["the", "runner", "run", "run", "time", "full"]);
    assert_eq!(words("Häuser & Bäume", Language::De), ["haus", "baum"]);
    assert_eq!(words("Häuser", Language::Standard), ["häuser"]);
    assert_eq!(words("东京都 in 2026年", Language::Zh), ["东京", "京都", "in", "2026", "年"]);
    assert_eq!(words("ベクトル検索", Language::Ja), ["ベク", "クト", "トル", "ル検", "検索"]);
    assert_eq!(words("서울 특별시", Language::Ko), ["서울", "특별", "별시"]);
    assert_eq!(words(" \u{0} \n", Language::En), [""; 0]);
    assert_eq!(words(&"x".repeat(1000), Language::Standard), ["x".repeat(64)]);
}

#[test]
fn codes_lead_to_languages_and_back() {
    for (code, language) in Language::CODES {
        assert_eq!((Language::of_code(code), language.code()), (Some(language), Some(code)));
    }
    assert_eq!((Language::of_code("xx"), Language::Standard.code()), (None, None));
}

#[test]
fn rare_words_and_short_texts_count_for_more() {
    let question = Question::new(&TextField { field: "t".to_owned(), language: Language::En }, "common rare common");
    assert_eq!(question.terms.len(), 2);
    let corpus = Corpus { documents: 100, length: 1_000, with_term: vec![90, 2] };
    assert!(corpus.score(1, 1, 10) > 3.0 * corpus.score(0, 1, 10));
    assert!(corpus.score(1, 1, 5) > corpus.score(1, 1, 50));
    assert!(corpus.score(1, 2, 10) > corpus.score(1, 1, 10));
    assert!(corpus.score(0, 1, 10) > 0.0);
}

proptest! {
    #[test]
    fn lists_come_back(texts in prop::collection::vec("[ab]{1,2}( [ab]{1,2}){0,4}|", 0..300)) {
        let mut collected = Collected::default();
        for text in &texts {
            collected.push(|each| tokens(text, Language::Standard, each));
        }
        for (word, list) in &collected.lists {
            let mut found = Vec::new();
            let rows = texts.len() as u32;
            prop_assert!(read_list(&list.bytes, list.rows, rows, |row, count| found.push((row, count))).is_some());
            let expected: Vec<(u32, u32)> = texts.iter().zip(0..).filter_map(|(text, row)| {
                let count = text.split_whitespace().filter(|other| *other == word.as_ref()).count() as u32;
                (count > 0).then_some((row, count))
            }).collect();
            prop_assert_eq!(&found, &expected);
            prop_assert!(read_list(&list.bytes, list.rows + 1, rows, |_, _| ()).is_none());
        }
    }

    #[test]
    fn any_bytes_are_read_as_a_list_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..50), count in 0_u32..20) {
        let mut last = None;
        let _ = read_list(&bytes, count, 1_000, |row, _| {
            assert!(row < 1_000 && last.is_none_or(|last| last < row));
            last = Some(row);
        });
    }
}
