//! The query expression of a fusion index: tests of fields and searches by words, under `$and` and `$or`.
//!
//! A test that holds scores its boost, a text what its words score (BM25) times its boost; `$and` and `$or` add up.

use serde_json::{Map, Value};
use vectors::{FILTER_DEPTH_MAX, FILTER_TESTS_MAX, Filter, Metadata, TEXT_FIELDS_MAX, TextField};

use super::schema::{Schema, short};

/// The longest question to one field, in characters.
const QUESTION_CHARS_MAX: usize = 1024;

/// What is asked.
#[derive(Debug)]
pub(super) struct Expression {
    root: Node,
    pub(super) texts: Vec<TextClause>,
}

#[derive(Debug)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Test {
        filter: Filter,
        boost: f32,
    },
    /// One of the texts.
    Text(usize),
}

/// A search by words.
#[derive(Debug)]
pub(super) struct TextClause {
    pub(super) field: TextField,
    pub(super) question: String,
    boost: f32,
    minimum: Minimum,
}

/// How many of the words must be there.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Minimum {
    Words(usize),
    Percent(usize),
}

impl Minimum {
    fn fits(self, held: usize, of: usize) -> bool {
        match self {
            Self::Words(words) => held >= words.min(of).max(1),
            Self::Percent(percent) => held >= (of * percent / 100).max(1),
        }
    }
}

impl Expression {
    /// Reads an expression; the error is a sentence.
    pub(super) fn parse(schema: &Schema, json: &Value) -> Result<Self, String> {
        let mut parser = Parser { schema, texts: Vec::new(), clauses_left: FILTER_TESTS_MAX };
        let root = parser.node(json, FILTER_DEPTH_MAX)?;
        if parser.texts.len() > TEXT_FIELDS_MAX {
            return Err(format!("{} searches by words, {TEXT_FIELDS_MAX} allowed", parser.texts.len()));
        }
        Ok(Self { root, texts: parser.texts })
    }

    /// An expression that only tests fields.
    pub(super) fn parse_filter(schema: &Schema, json: &Value) -> Result<Filter, String> {
        let parsed = Self::parse(schema, json)?;
        match parsed.filter() {
            Some(filter) if parsed.texts.is_empty() => Ok(filter),
            _ => Err("the filter of a vector search takes no $textMatch".to_owned()),
        }
    }

    /// What must hold of every row that fits, as far as no words are in it.
    pub(super) fn filter(&self) -> Option<Filter> {
        self.root.filter()
    }

    /// Whether no row fits without a word of it.
    pub(super) fn needs_words(&self) -> bool {
        self.root.needs_words()
    }

    /// How well a row fits; `words` says how well it fits each text by itself.
    pub(super) fn score(&self, metadata: &Metadata, words: &[Option<f32>]) -> Option<f32> {
        self.score_node(&self.root, metadata, words)
    }

    fn score_node(&self, node: &Node, metadata: &Metadata, words: &[Option<f32>]) -> Option<f32> {
        match node {
            Node::Test { filter, boost } => filter.matches(metadata).then_some(*boost),
            Node::Text(place) => {
                let (clause, score) = (&self.texts[*place], words[*place]?);
                let (held, of) = clause.field.matched(metadata, &clause.question);
                clause.minimum.fits(held, of).then_some(score * clause.boost)
            }
            Node::All(parts) => parts.iter().map(|part| self.score_node(part, metadata, words)).sum(),
            Node::Any(parts) => {
                let scores: Vec<f32> = parts.iter().filter_map(|part| self.score_node(part, metadata, words)).collect();
                (!scores.is_empty()).then(|| scores.iter().sum())
            }
        }
    }
}

impl Node {
    fn filter(&self) -> Option<Filter> {
        match self {
            Self::Test { filter, .. } => Some(filter.clone()),
            Self::Text(_) => None,
            Self::All(parts) => {
                let filters: Vec<Filter> = parts.iter().filter_map(Self::filter).collect();
                (!filters.is_empty()).then_some(Filter::All(filters))
            }
            Self::Any(parts) => parts.iter().map(Self::filter).collect::<Option<Vec<_>>>().map(Filter::Any),
        }
    }

    fn needs_words(&self) -> bool {
        match self {
            Self::Test { .. } => false,
            Self::Text(_) => true,
            Self::All(parts) => parts.iter().any(Self::needs_words),
            Self::Any(parts) => parts.iter().all(Self::needs_words),
        }
    }
}

struct Parser<'a> {
    schema: &'a Schema,
    texts: Vec<TextClause>,
    clauses_left: usize,
}

impl Parser<'_> {
    fn node(&mut self, json: &Value, depth_left: usize) -> Result<Node, String> {
        let Value::Object(map) = json else { return Err("a clause is an object".to_owned()) };
        if depth_left == 0 {
            return Err(format!("clauses are nested deeper than {FILTER_DEPTH_MAX}"));
        }
        if map.is_empty() {
            return Err("a clause is empty".to_owned());
        }
        let mut parts = Vec::new();
        for (name, value) in map {
            match name.as_str() {
                "$and" => parts.push(Node::All(self.clauses(name, value, depth_left - 1)?)),
                "$or" => parts.push(Node::Any(self.clauses(name, value, depth_left - 1)?)),
                name if name.starts_with('$') => return Err(format!("{:?} is not supported", short(name))),
                name => self.field(name, value, &mut parts)?,
            }
        }
        Ok(if parts.len() == 1 { parts.swap_remove(0) } else { Node::All(parts) })
    }

    /// `[...]` or `{"clauses": [...]}`.
    fn clauses(&mut self, name: &str, json: &Value, depth_left: usize) -> Result<Vec<Node>, String> {
        let listed = match json {
            Value::Object(map) if map.len() == 1 => map.get("clauses"),
            other => Some(other),
        };
        match listed {
            Some(Value::Array(parts)) if !parts.is_empty() => {
                parts.iter().map(|part| self.node(part, depth_left)).collect()
            }
            _ => Err(format!("{name} takes clauses, a list that is not empty")),
        }
    }

    fn field(&mut self, name: &str, json: &Value, parts: &mut Vec<Node>) -> Result<(), String> {
        let Value::Object(tests) = json else {
            return self.test(name, "$eq", json, parts);
        };
        if tests.is_empty() {
            return Err(format!("the field {:?} has no test", short(name)));
        }
        for (operator, operand) in tests {
            match operator.as_str() {
                "$textMatch" => {
                    self.count()?;
                    let clause = self.text(name, operand)?;
                    parts.push(Node::Text(self.texts.len()));
                    self.texts.push(clause);
                }
                operator => self.test(name, operator, operand, parts)?,
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), String> {
        let left = self.clauses_left.checked_sub(1);
        self.clauses_left = left.ok_or_else(|| format!("more than {FILTER_TESTS_MAX} clauses"))?;
        Ok(())
    }

    fn test(&mut self, name: &str, operator: &str, operand: &Value, parts: &mut Vec<Node>) -> Result<(), String> {
        self.count()?;
        let field = self.schema.compared(name)?;
        let tests = match operator {
            "$range" => range(operand)?,
            _ => Map::from_iter([(operator.to_owned(), operand_of(operator, operand)?)]),
        };
        let json = Value::Object(Map::from_iter([(field, Value::Object(tests))]));
        let filter = Filter::parse(&json, &[]).map_err(|why| why.to_string())?;
        parts.push(Node::Test { filter, boost: boost_of(operand)? });
        Ok(())
    }

    fn text(&self, name: &str, operand: &Value) -> Result<TextClause, String> {
        let field = self.schema.texts().find(|text| text.field == name);
        let field = field.ok_or_else(|| format!("{:?} is not searched by words", short(name)))?;
        let question = match operand {
            Value::String(text) => Some(text.as_str()),
            Value::Object(map) => {
                known(map, &["value", "boost", "operator", "minShouldMatch"])?;
                map.get("value").and_then(Value::as_str)
            }
            _ => None,
        };
        let question = question.filter(|text| (1..=QUESTION_CHARS_MAX).contains(&text.chars().count()));
        let rule = || format!("$textMatch takes a value of 1 to {QUESTION_CHARS_MAX} characters");
        let question = question.ok_or_else(rule)?.to_owned();
        Ok(TextClause { field, question, boost: boost_of(operand)?, minimum: minimum(operand)? })
    }
}

/// The value of `{"value": ..., "boost": ...}` or of itself.
fn operand_of(operator: &str, operand: &Value) -> Result<Value, String> {
    let Value::Object(map) = operand else { return Ok(operand.clone()) };
    known(map, &["value", "boost"])?;
    map.get("value").cloned().ok_or_else(|| format!("{:?} has no value", short(operator)))
}

/// `{"gte": ..., "lt": ...}` as tests.
fn range(operand: &Value) -> Result<Map<String, Value>, String> {
    let Value::Object(map) = operand else { return Err("$range takes an object".to_owned()) };
    known(map, &["gt", "gte", "lt", "lte", "boost"])?;
    let bounds = map.iter().filter(|(name, _)| *name != "boost");
    let tests: Map<String, Value> = bounds.map(|(name, value)| (format!("${name}"), value.clone())).collect();
    if tests.is_empty() { Err("$range has no bound".to_owned()) } else { Ok(tests) }
}

fn known(map: &Map<String, Value>, names: &[&str]) -> Result<(), String> {
    match map.keys().find(|name| !names.contains(&name.as_str())) {
        Some(other) => Err(format!("{:?} is not supported here; {} are", short(other), names.join(", "))),
        None => Ok(()),
    }
}

fn boost_of(operand: &Value) -> Result<f32, String> {
    match operand.as_object().and_then(|map| map.get("boost")) {
        None => Ok(1.0),
        Some(value) => positive(value).ok_or_else(|| format!("boost is {value}, it must be a number from 0 to 1e6")),
    }
}

/// A weight.
pub(super) fn positive(value: &Value) -> Option<f32> {
    value.as_f64().filter(|number| (0.0..=1e6).contains(number)).map(|number| number as f32)
}

fn minimum(operand: &Value) -> Result<Minimum, String> {
    let part = |name: &str| operand.as_object().and_then(|map| map.get(name));
    let all = match part("operator").map(Value::as_str) {
        None | Some(Some("or")) => false,
        Some(Some("and")) => true,
        Some(_) => return Err("operator must be or or and".to_owned()),
    };
    let Some(value) = part("minShouldMatch") else {
        return Ok(if all { Minimum::Percent(100) } else { Minimum::Words(1) });
    };
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let parsed = match text.strip_suffix('%') {
        Some(percent) => percent.parse().ok().filter(|percent| (0..=100).contains(percent)).map(Minimum::Percent),
        None => text.parse().ok().map(Minimum::Words),
    };
    match parsed {
        Some(_) if all => Ok(Minimum::Percent(100)),
        Some(minimum) => Ok(minimum),
        None => Err(format!("minShouldMatch is {:?}, it must be a number of words or of percent", short(&text))),
    }
}
