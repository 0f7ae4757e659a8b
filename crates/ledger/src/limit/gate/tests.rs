use proptest::prelude::*;

use super::{Asked, Gate, PARTS, REMEMBERED, Refused, Standing, Ticket};
use crate::limit::{Holder, Limit, Measure};

const MINUTE_US: u64 = 60_000_000;

fn gate(limits: &[&str]) -> Gate {
    Gate::new(&limits.iter().map(|text| Limit::parse(text).unwrap()).collect::<Vec<_>>())
}

fn asked(key: &str, tokens: u64) -> Asked {
    Asked { holders: vec![Holder::key(key), Holder::project("p"), Holder::model("m")], tokens }
}

fn in_(gate: &mut Gate, key: &str, tokens: u64, now_us: u64) -> Ticket {
    gate.admit(&asked(key, tokens), now_us).unwrap()
}

fn out(gate: &mut Gate, key: &str, tokens: u64, now_us: u64) -> Refused {
    gate.admit(&asked(key, tokens), now_us).unwrap_err()
}

#[test]
fn a_minutes_worth_comes_at_once_and_then_one_by_one() {
    let mut gate = gate(&["key:*=requests:60"]);
    for _ in 0..60 {
        let _ = in_(&mut gate, "k", 0, 5);
    }
    let refused = out(&mut gate, "k", 0, 5);
    assert_eq!((refused.limit, refused.used, refused.wait_us), (60, 60, Some(1_000_000)));
    assert!(gate.admit(&asked("k", 0), 1_000_004).is_err(), "a microsecond too early");
    let _ = in_(&mut gate, "k", 0, 1_000_005);
    let _ = in_(&mut gate, "other", 0, 5);
    let standing = gate.standing(&[Holder::key("k")], Measure::Requests, 1_000_005).unwrap();
    assert_eq!(standing, Standing { limit: 60, remaining: 0, reset_us: MINUTE_US });
}

#[test]
fn a_limit_of_ones_own_comes_before_that_of_each() {
    let mut gate = gate(&["key:*=requests:1", "key:k=requests:2", "key:*=concurrent:9"]);
    let _ = (in_(&mut gate, "k", 0, 0), in_(&mut gate, "k", 0, 0));
    assert_eq!(out(&mut gate, "k", 0, 0).limit, 2);
    let _ = in_(&mut gate, "other", 0, 0);
    assert_eq!(out(&mut gate, "other", 0, 0).limit, 1);
    assert_eq!(gate.standing(&[Holder::key("k")], Measure::Concurrent, 0).unwrap().remaining, 7);
}

#[test]
fn whoever_one_limit_refuses_is_charged_by_none() {
    let mut gate = gate(&["key:k=requests:5", "model:m=tokens:100"]);
    let refused = out(&mut gate, "k", 101, 0);
    assert_eq!((refused.measure, refused.wait_us), (Measure::Tokens, None));
    let standing = gate.standing(&[Holder::key("k")], Measure::Requests, 0).unwrap();
    assert_eq!((standing.remaining, gate.remembered()), (5, 0));
}

#[test]
fn a_place_is_free_when_its_answer_is_over() {
    let mut gate = gate(&["project:p=concurrent:2"]);
    let first = in_(&mut gate, "a", 0, 0);
    let _second = in_(&mut gate, "b", 0, 0);
    assert_eq!(out(&mut gate, "c", 0, 0).measure, Measure::Concurrent);
    gate.leave(first, 0, 0);
    let _third = in_(&mut gate, "c", 0, 0);
    assert!(gate.admit(&asked("d", 0), 0).is_err());
}

#[test]
fn what_was_used_beyond_what_was_expected_is_owed() {
    let mut gate = gate(&["key:k=tokens:60"]);
    let ticket = in_(&mut gate, "k", 10, 0);
    gate.leave(ticket, 180, 0);
    assert_eq!(out(&mut gate, "k", 10, 0).wait_us, Some(130_000_000));
    let _ = in_(&mut gate, "k", 10, 130_000_000);
}

#[test]
fn what_leaked_meanwhile_is_not_given_back_as_well() {
    let mut gate = gate(&["key:k=tokens:60"]);
    let slow = in_(&mut gate, "k", 60, 0);
    // A minute later there is room for as much again, although the first used nothing.
    let _other = in_(&mut gate, "k", 60, MINUTE_US);
    gate.leave(slow, 0, MINUTE_US);
    assert!(gate.admit(&asked("k", 1), MINUTE_US).is_err());
    // What was refused at once is given back at once.
    let quick = in_(&mut gate, "k", 60, 2 * MINUTE_US);
    gate.leave(quick, 0, 2 * MINUTE_US);
    let _ = in_(&mut gate, "k", 60, 2 * MINUTE_US);
}

#[test]
fn nobody_is_counted_where_nothing_is_limited() {
    let mut gate = gate(&[]);
    let ticket = in_(&mut gate, "k", u64::MAX, 0);
    gate.leave(ticket, u64::MAX, 0);
    assert_eq!((gate.remembered(), gate.standing(&[Holder::key("k")], Measure::Tokens, 0)), (0, None));
}

#[test]
fn other_limits_forget_nothing() {
    let mut gate = gate(&["key:k=requests:2"]);
    let first = in_(&mut gate, "k", 0, 0);
    gate.set(&[Limit::parse("key:k=requests:1").unwrap(), Limit::parse("key:k=concurrent:1").unwrap()]);
    assert!(gate.admit(&asked("k", 0), 0).is_err());
    gate.leave(first, 0, 0);
    assert_eq!(out(&mut gate, "k", 0, 0).measure, Measure::Requests);
}

#[test]
fn names_that_are_idle_are_forgotten_before_there_are_too_many() {
    let mut gate = gate(&["model:*=requests:60", "model:*=tokens:60000"]);
    for n in 0..2 * REMEMBERED as u64 {
        let holders = vec![Holder::model(&n.to_string())];
        let ticket = gate.admit(&Asked { holders, tokens: 1 }, n * 1000).unwrap();
        gate.leave(ticket, 1, n * 1000);
    }
    assert!(gate.remembered() <= REMEMBERED, "{}", gate.remembered());
}

/// One who came in: when, with which tokens expected and, when the answer was over, used.
#[derive(Clone, Copy)]
struct Came {
    at_us: u64,
    tokens: u64,
}

/// Whether any span of time saw more than the limit and the burst.
fn check_spans(came: &[Came], limit: &Limit, weight: impl Fn(&Came) -> u64) {
    for (first, begin) in came.iter().enumerate() {
        let mut sum = 0;
        for end in &came[first..] {
            sum += u128::from(weight(end)) * PARTS;
            let allowed =
                u128::from(limit.burst) * PARTS + u128::from(limit.amount) * u128::from(end.at_us - begin.at_us);
            assert!(sum <= allowed, "{sum} of {allowed} from {} to {}", begin.at_us, end.at_us);
        }
    }
}

/// What happens next: somebody comes, or the one at this place among those who are in leaves.
#[derive(Debug, Clone)]
enum Step {
    Come { key: u8, tokens: u64 },
    Leave { place: usize, percent: u64 },
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let come = (0..2_u8, 0..80_u64).prop_map(|(key, tokens)| Step::Come { key, tokens });
    let leave = (0..8_usize, 0..=100_u64).prop_map(|(place, percent)| Step::Leave { place, percent });
    let step = prop_oneof![3 => come, 2 => leave];
    let pause = prop_oneof![3 => 0..1_000_u64, 2 => 0..3_000_000_u64, 1 => 0..100_000_000_u64];
    prop::collection::vec((pause, step), 1..120)
}

proptest! {
    #[test]
    fn no_span_of_time_sees_more_than_the_limit_and_its_burst(
        steps in steps(), requests in 1..100_u64, requests_burst in 1..20_u64, tokens in 1..300_u64,
        tokens_burst in 1..200_u64, places in 1..6_u64,
    ) {
        let requests = Limit::new(Holder::project("p"), Measure::Requests, requests, Some(requests_burst)).unwrap();
        let tokens = Limit::new(Holder::key("0"), Measure::Tokens, tokens, Some(tokens_burst)).unwrap();
        let concurrent = Limit::new(Holder::model("m"), Measure::Concurrent, places, None).unwrap();
        let mut gate = Gate::new(&[requests.clone(), tokens.clone(), concurrent]);
        let (mut now_us, mut all, mut of_key) = (0, Vec::new(), Vec::new());
        let mut inside: Vec<(Ticket, Option<usize>, u64)> = Vec::new();
        for (pause_us, step) in steps {
            now_us += pause_us;
            match step {
                Step::Come { key, tokens } => {
                    let asked = asked(&key.to_string(), tokens);
                    match gate.admit(&asked, now_us) {
                        Ok(ticket) => {
                            all.push(Came { at_us: now_us, tokens });
                            let index = (key == 0).then_some(of_key.len());
                            of_key.extend(index.map(|_| Came { at_us: now_us, tokens }));
                            inside.push((ticket, index, tokens));
                            prop_assert!(inside.len() as u64 <= places);
                        }
                        Err(Refused { wait_us: Some(wait_us), .. }) if inside.is_empty() => {
                            // Whoever waits as long as they were told comes in.
                            let ticket = gate.admit(&asked, now_us + wait_us);
                            prop_assert!(ticket.is_ok(), "{ticket:?}");
                            gate.leave(ticket.unwrap(), tokens, now_us + wait_us);
                            now_us += wait_us;
                            all.push(Came { at_us: now_us, tokens });
                            if key == 0 { of_key.push(Came { at_us: now_us, tokens }); }
                        }
                        Err(_) => {}
                    }
                }
                Step::Leave { place, percent } if !inside.is_empty() => {
                    let (ticket, index, expected) = inside.swap_remove(place % inside.len());
                    let used = expected * percent / 100;
                    gate.leave(ticket, used, now_us);
                    if let Some(index) = index { of_key[index].tokens = used; }
                }
                Step::Leave { .. } => {}
            }
        }
        check_spans(&all, &requests, |_| 1);
        check_spans(&of_key, &tokens, |came| came.tokens);
    }
}
