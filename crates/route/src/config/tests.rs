use crate::{Error, Level, Policy};

/// Everything that a text can say.
const WHOLE: &str = include_str!("../../../../docs/routing.toml");

#[test]
fn the_example_of_the_documentation_is_a_policy() {
    let policy = Policy::parse(WHOLE).unwrap();
    assert!(policy.version > 0 && policy.pools.len() > 2 && policy.routes.len() > 1);
    assert_eq!(policy.pools[0].name, "local");
    assert!(policy.residency.all().iter().any(|bound| bound.level == Level::Project));
    let completed = policy.completed(&["sampan-nano".to_owned()]);
    assert!(completed.route("sampan-nano").is_some());
}

fn wrong(text: &str) -> Vec<String> {
    match Policy::parse(text) {
        Err(Error::Policy { wrong }) => wrong,
        Err(other) => vec![other.to_string()],
        Ok(_) => Vec::new(),
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let text = r#"
        home = "atlantis"
        [[pool]]
        name = "a"
        url = "http://h"
        region = "mars"
        [[pool.model]]
        name = "m"
        quality = 2.0
        [[pool]]
        name = "b"
        [[route]]
        model = "m"
        fallback = ["nothing"]
        [[route.group]]
        name = "all"
        targets = [{pool = "a", model = "n"}, {pool = "c"}]
        [[residency]]
        project = "p"
        compute_scope = ["EUROPE"]
        [[residency]]
        key = "k"
        project = "p"
    "#;
    let wrong = wrong(text).join("\n");
    let expected = [
        "home: there is no region \"atlantis\"",
        "pool a: there is no region \"mars\"",
        "the quality of m is 2",
        "pool b: url is missing",
        "pool b: it serves no model",
        "pool a has no model \"n\"",
        "there is no pool \"c\"",
        "\"EUROPE\" is neither a region nor a jurisdiction",
        "residency: name one of",
    ];
    for words in expected {
        assert!(wrong.contains(words), "{words:?} is not in:\n{wrong}");
    }
}

#[test]
fn slips_of_the_pen_are_told() {
    assert!(wrong("verison = 1").concat().contains("verison"));
    assert!(wrong("[[pool]]\nname = \"a\"\nform = \"soap\"").concat().contains("soap"));
    assert!(wrong("[[residency]]\nproject = \"p\"").concat().contains("neither data_region nor compute_scope"));
}

#[test]
fn foreign_text_never_panics() {
    let mut rng = base::Rng::seeded(5);
    for _ in 0..700 {
        let mut text = WHOLE.as_bytes().to_vec();
        for _ in 0..=rng.below(4) {
            let at = rng.below(text.len().max(1) as u64) as usize;
            match rng.below(3) {
                0 if at < text.len() => _ = text.remove(at),
                1 if at < text.len() => text[at] = b" \n\"[]=x0"[rng.below(8) as usize],
                _ => text.truncate(at.max(1)),
            }
        }
        // Either outcome is fine.
        let _ = Policy::parse(&String::from_utf8_lossy(&text));
    }
}
