//! Places in a picture that a model named: boxes and points in its answer, in the picture's own pixels.
//!
//! Models of the Qwen-VL line answer in one of three forms, whatever stands around it:
//!
//! ```text
//! [{"bbox_2d": [x1, y1, x2, y2], "label": "cup"}, {"point_2d": [x, y], "label": "handle"}]      2.5-VL, 3-VL
//! <points x1="x" y1="y" x2="…" y2="…" alt="cups">cups</points>                                   2.5-VL
//! <|object_ref_start|>cup<|object_ref_end|><|box_start|>(x1,y1),(x2,y2)<|box_end|>               2-VL
//! ```
//! Source: the "2d grounding" and "spatial understanding" cookbooks of Qwen2.5-VL and Qwen3-VL.

use serde_json::Value;

/// The longest answer that is read.
pub const ANSWER_BYTES_MAX: usize = 256 << 10;
/// The most places of one answer.
pub const PLACES_MAX: usize = 1024;
/// How many openings of objects are tried.
const TRIES_MAX: usize = 4 * PLACES_MAX;
/// The edge of the square that Qwen3-VL measures pictures in.
const RELATIVE_EDGE: f64 = 1000.0;

/// What a model's numbers are measured in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Thousandths of the width and of the height: Qwen3-VL and later, Qwen2-VL.
    Thousandths,
    /// Pixels of the picture as the model saw it, resized to this width and height: Qwen2.5-VL.
    Pixels([f64; 2]),
}

/// Where something is, in pixels of the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// Left, top, right, bottom; left is at most right, top at most bottom.
    Box([f64; 4]),
    /// Column and row.
    Point([f64; 2]),
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// What the model calls it.
    pub label: Option<String>,
    /// Where it is.
    pub shape: Shape,
}

/// The places that an answer names, in its order, in pixels of a picture of `width` times `height`. What lies outside
/// the picture is moved to its edge; what is no place is passed over.
///
/// Of an answer longer than [`ANSWER_BYTES_MAX`] only the beginning is read.
#[must_use]
pub fn places(answer: &str, scale: Scale, [width, height]: [f64; 2]) -> Vec<Place> {
    let end = answer.floor_char_boundary(ANSWER_BYTES_MAX);
    let answer = &answer[..end];
    let [across, down] = match scale {
        Scale::Thousandths => [RELATIVE_EDGE; 2],
        Scale::Pixels(size) => size,
    };
    let x = |number: f64| (number / across * width).clamp(0.0, width);
    let y = |number: f64| (number / down * height).clamp(0.0, height);
    let in_pixels = |found: Found| {
        let shape = match found.numbers {
            Numbers::Box([x1, y1, x2, y2]) => {
                let (left, right, top, bottom) = (x(x1.min(x2)), x(x1.max(x2)), y(y1.min(y2)), y(y1.max(y2)));
                Shape::Box([left, top, right, bottom])
            }
            Numbers::Point([column, row]) => Shape::Point([x(column), y(row)]),
        };
        Place { label: found.label, shape }
    };
    let mut found = from_json(answer);
    if found.is_empty() {
        found = from_points(answer);
    }
    if found.is_empty() {
        found = from_marks(answer);
    }
    found.truncate(PLACES_MAX);
    found.into_iter().map(in_pixels).collect()
}

/// As the model says it.
struct Found {
    label: Option<String>,
    numbers: Numbers,
}

enum Numbers {
    Box([f64; 4]),
    Point([f64; 2]),
}

/// Every object with a place in it, also in an array that was cut off.
fn from_json(answer: &str) -> Vec<Found> {
    let mut found = Vec::new();
    let (mut at, mut tries) = (0, 0);
    // Ends: `at` grows, and so does the number of tries.
    while let Some(open) = answer[at..].find('{').filter(|_| tries < TRIES_MAX && found.len() < PLACES_MAX) {
        tries += 1;
        let start = at + open;
        at = start + 1;
        let mut objects = serde_json::Deserializer::from_str(&answer[start..]).into_iter::<Value>();
        if let Some(Ok(object)) = objects.next()
            && let Some(place) = place_of(&object)
        {
            at = start + objects.byte_offset();
            found.push(place);
        }
    }
    found
}

fn place_of(object: &Value) -> Option<Found> {
    let field = |names: &[&str]| names.iter().find_map(|name| object.get(*name));
    let numbers = if let Some(corners) = field(&["bbox_2d", "bbox", "box_2d"]) {
        Numbers::Box(numbers(corners)?)
    } else {
        Numbers::Point(numbers(field(&["point_2d", "point"])?)?)
    };
    let label = field(&["label", "name", "text_content"]).and_then(Value::as_str).map(str::to_owned);
    Some(Found { label, numbers })
}

fn numbers<const N: usize>(value: &Value) -> Option<[f64; N]> {
    let list: Vec<f64> = value.as_array()?.iter().map(Value::as_f64).collect::<Option<_>>()?;
    <[f64; N]>::try_from(list).ok()
}

/// `<points x1="…" y1="…" … alt="…">`.
fn from_points(answer: &str) -> Vec<Found> {
    let mut found = Vec::new();
    for element in answer.split("<point").skip(1).take(PLACES_MAX) {
        let Some((attributes, _)) = element.split_once('>') else { continue };
        let attribute = |name: &str| {
            let (_, rest) = attributes.split_once(&format!(" {name}=\""))?;
            rest.split_once('"').map(|(value, _)| value)
        };
        let number = |name: &str| attribute(name)?.parse::<f64>().ok().filter(|number| number.is_finite());
        let label = attribute("alt").map(str::to_owned);
        if let (Some(x), Some(y)) = (number("x"), number("y")) {
            found.push(Found { label: label.clone(), numbers: Numbers::Point([x, y]) });
        }
        // Ends at the first number that is missing.
        for index in 1..=PLACES_MAX {
            let (Some(x), Some(y)) = (number(&format!("x{index}")), number(&format!("y{index}"))) else { break };
            found.push(Found { label: label.clone(), numbers: Numbers::Point([x, y]) });
        }
        if found.len() >= PLACES_MAX {
            break;
        }
    }
    found
}

/// `<|box_start|>(x1,y1),(x2,y2)<|box_end|>`, each after what it is called.
fn from_marks(answer: &str) -> Vec<Found> {
    let mut found = Vec::new();
    let mut label: Option<String> = None;
    for piece in answer.split("<|").take(4 * PLACES_MAX) {
        if let Some(name) = piece.strip_prefix("object_ref_start|>") {
            label = Some(name.trim().to_owned());
        } else if let Some(corners) = piece.strip_prefix("box_start|>") {
            let digits = corners.split(|letter: char| !letter.is_ascii_digit() && letter != '.' && letter != '-');
            let list: Vec<f64> =
                digits.filter_map(|digits| digits.parse::<f64>().ok()).filter(|number| number.is_finite()).collect();
            let numbers = match *list.as_slice() {
                [x1, y1, x2, y2] => Numbers::Box([x1, y1, x2, y2]),
                [x, y] => Numbers::Point([x, y]),
                _ => continue,
            };
            found.push(Found { label: label.clone(), numbers });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{PLACES_MAX, Place, Scale, Shape, places};

    const SIZE: [f64; 2] = [2000.0, 500.0];

    fn check(answer: &str, expected: &[(Option<&str>, Shape)]) {
        let place = |(label, shape): &(Option<&str>, Shape)| Place { label: label.map(str::to_owned), shape: *shape };
        let expected: Vec<Place> = expected.iter().map(place).collect();
        assert_eq!(places(answer, Scale::Thousandths, SIZE), expected, "{answer}");
    }

    #[test]
    fn json_with_words_around_it() {
        let boxed = Shape::Box([200.0, 100.0, 600.0, 200.0]);
        check(
            r#"The cups:
```json
[
	{"bbox_2d": [100, 200, 300, 400], "label": "red cup"},
	{"point_2d": [500, 500], "label": "handle"}
]
```"#,
            &[(Some("red cup"), boxed), (Some("handle"), Shape::Point([1000.0, 250.0]))],
        );
        check(r#"{"bbox_2d": [300, 400, 100, 200]}"#, &[(None, boxed)]);
        check(r#"{"objects": [{"bbox_2d": [100, 200, 300, 400], "label": "a"}]}"#, &[(Some("a"), boxed)]);
    }

    #[test]
    fn a_cut_answer_keeps_what_was_whole() {
        let whole = r#"[{"point_2d": [0, 1000], "label": "a {b}"}, {"point_2d": [1, "#;
        check(whole, &[(Some("a {b}"), Shape::Point([0.0, 500.0]))]);
    }

    #[test]
    fn the_older_forms() {
        let two = [(Some("cups"), Shape::Point([20.0, 10.0])), (Some("cups"), Shape::Point([60.0, 20.0]))];
        check(r#"<points x1="10" y1="20" x2="30" y2="40" alt="cups">cups</points>"#, &two);
        check(r#"<point x="10" y="20" alt="cups">"#, &two[..1]);
        let marks = "<|object_ref_start|>a cup<|object_ref_end|><|box_start|>(0,0),(1000,1000)<|box_end|>";
        check(marks, &[(Some("a cup"), Shape::Box([0.0, 0.0, 2000.0, 500.0]))]);
    }

    #[test]
    fn what_lies_outside_is_moved_to_the_edge_and_what_is_no_place_is_passed_over() {
        check(r#"{"bbox_2d": [-5, 0, 1e9, 1000]}"#, &[(None, Shape::Box([0.0, 0.0, 2000.0, 500.0]))]);
        for none in [r#"{"bbox_2d": [1, 2, 3]}"#, r#"{"point_2d": ["a", 1]}"#, "{", "[1,2]", "", r#"{"label": "x"}"#] {
            check(none, &[]);
        }
    }

    #[test]
    fn pixels_of_what_the_model_saw() {
        let found = places(r#"{"point_2d": [56, 14]}"#, Scale::Pixels([112.0, 28.0]), SIZE);
        assert_eq!(found, [Place { label: None, shape: Shape::Point([1000.0, 250.0]) }]);
    }

    #[test]
    fn hostile_answers_end() {
        assert!(places(&r#"{"a":"#.repeat(100_000), Scale::Thousandths, SIZE).is_empty());
        let many = r#"{"point_2d":[1,2]}"#.repeat(20_000);
        assert!(places(&many, Scale::Thousandths, SIZE).len() <= PLACES_MAX);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(
            text in r#"([\{\}\[\]",:0-9 ]|bbox_2d|point_2d|<points |x1="|<\|box_start\|>|ä){0,60}"#
        ) {
            for place in places(&text, Scale::Thousandths, SIZE) {
                let inside = |x: f64, y: f64| (0.0..=SIZE[0]).contains(&x) && (0.0..=SIZE[1]).contains(&y);
                match place.shape {
                    Shape::Box([x1, y1, x2, y2]) => {
                        prop_assert!(inside(x1, y1) && inside(x2, y2) && x1 <= x2 && y1 <= y2);
                    }
                    Shape::Point([x, y]) => prop_assert!(inside(x, y)),
                }
            }
        }
    }
}
