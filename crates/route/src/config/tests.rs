use crate::{Error, Level, Policy, Question};

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

#[test]
fn a_request_with_many_bytes_goes_where_the_link_is_wide() {
    let text = |links: &str| {
        let pool = |name: &str, region: &str| {
            format!(
                "[[pool]]\nname = \"{name}\"\nurl = \"http://h\"\nregion = \"{region}\"\n[[pool.model]]\nname = \"m\"\n"
            )
        };
        let route = "[[route]]\nmodel = \"m\"\nscore = { latency = 1.0 }\n[[route.group]]\nname = \"all\"\n\
                     targets = [{ pool = \"near\" }, { pool = \"wide\" }]\n";
        format!("home = \"frankfurt\"\n{}{}{route}{links}", pool("near", "paris"), pool("wide", "virginia"))
    };
    let link = |a: &str, b: &str, figures: &str| format!("[[link]]\nbetween = [\"{a}\", \"{b}\"]\n{figures}\n");
    let links = link("frankfurt", "paris", "round_trip_ms = 10.0\nmbps = 8.0\nloss_percent = 0.1")
        + &link("frankfurt", "amsterdam", "round_trip_ms = 8.0\nmbps = 10000.0")
        + &link("amsterdam", "virginia", "round_trip_ms = 80.0\nmbps = 10000.0");
    let policy = Policy::parse(&text(&links)).unwrap();
    let goes = |policy: &Policy, bytes: u64| {
        // Some draws explore; most do not.
        let question = Question { model: "m", bytes, ..Question::default() };
        let decisions: Vec<_> = (0..20).map(|seed| policy.explain(&question, 0, seed).unwrap()).collect();
        let is_wide = |decision: &&serde_json::Value| decision["choice"]["pool"] == "wide";
        let wide = decisions.iter().filter(is_wide).count();
        let way = decisions[0]["targets"].as_array().unwrap().last().unwrap()["reach"].clone();
        (if wide > 10 { "wide" } else { "near" }, way)
    };
    assert_eq!(goes(&policy, 2_000).0, "near");
    // Four megabytes of pictures take four seconds at a megabyte a second.
    let (pool, way) = goes(&policy, 4_000_000);
    assert_eq!((pool, &way["via"]), ("wide", &serde_json::json!(["frankfurt", "amsterdam", "virginia"])));
    assert!((way["round_trip_ms"].as_f64().unwrap() - 88.0).abs() < 1e-6, "{way}");
    assert!((500.0..1_000.0).contains(&way["bytes_ms"].as_f64().unwrap()), "{way}");

    let cut = policy.clone().without_link(["virginia", "amsterdam"]).unwrap();
    let way = goes(&cut, 4_000_000).1;
    assert_eq!(way["via"], serde_json::json!([]), "only the distance is known");
    let none = policy.without_link(["paris", "tokyo"]).unwrap_err().to_string();
    assert!(none.contains("no link paris - tokyo") && none.contains("frankfurt - amsterdam"), "{none}");

    let wrong = wrong(&text(
        &(link("frankfurt", "mars", "round_trip_ms = 1.0\nmbps = 1.0")
            + &link("paris", "paris", "round_trip_ms = 1.0\nmbps = 1.0")
            + &link("paris", "tokyo", "round_trip_ms = nan\nmbps = 1.0")),
    ));
    for (sentence, expected) in wrong.iter().zip(["region \"mars\"", "its ends are the same", "round_trip_ms is 0 to"])
    {
        assert!(sentence.contains(expected), "{wrong:?}");
    }
    assert_eq!(wrong.len(), 3);
    assert!(self::wrong(&links).join("").contains("say where it stands with home"));
}
