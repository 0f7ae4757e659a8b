//! The rules of the books, on random operations.

use std::collections::BTreeMap;

use ledger::{AccountId, Books, Budget, House, OVERRUN_PERCENT, Operation, Period, Reserve, Scope, State, Unit, Used};
use proptest::prelude::*;

const PROJECTS: [&str; 2] = ["a", "b"];
const MINUTE_MS: u64 = 60_000;

/// What is done, and how much later than what was done before.
#[derive(Debug, Clone)]
struct Step {
    operation: Operation,
    minutes: u64,
}

fn project() -> impl Strategy<Value = String> {
    prop::sample::select(PROJECTS.to_vec()).prop_map(str::to_owned)
}

fn grant_id() -> impl Strategy<Value = AccountId> {
    (0..4_u8, prop::bool::ANY)
        .prop_map(|(n, is_token)| AccountId::grant(&n.to_string(), if is_token { Unit::Token } else { Unit::Micro }))
}

fn used() -> impl Strategy<Value = Used> {
    (0..2_000_i64, 0..2_000_i64).prop_map(|(tokens, cost_micro)| Used { tokens, cost_micro })
}

fn operation() -> impl Strategy<Value = Operation> {
    let reservation = || (0..6_u8).prop_map(|n| n.to_string());
    prop_oneof![
        1 => (project(), prop::option::of(0..500_i64))
            .prop_map(|(project, credit_line_micro)| Operation::Open { project, credit_line_micro }),
        2 => (project(), 0..3_000_i64).prop_map(|(project, amount_micro)| Operation::Deposit { project, amount_micro }),
        1 => (project(), 1..100_i64).prop_map(|(project, amount_micro)| Operation::Refund { project, amount_micro }),
        2 => (grant_id(), project(), 1..3_000_i64, prop::option::of(1..60_u64)).prop_map(
            |(account, project, amount, minutes)| Operation::Grant {
                account, project, amount, starts_ms: 0, expires_ms: minutes.map(|minutes| minutes * MINUTE_MS),
            }),
        8 => (reservation(), project(), used()).prop_map(|(id, project, most)| {
            Operation::Reserve(Reserve { id, key: format!("key-{project}"), project, most })
        }),
        6 => (reservation(), used()).prop_map(|(reservation, used)| Operation::Settle { reservation, used }),
        2 => reservation().prop_map(|reservation| Operation::Release { reservation }),
        1 => grant_id().prop_map(|account| Operation::Expire { account }),
        1 => grant_id().prop_map(|account| Operation::ClawBack { account }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    (operation(), 0..3_u64).prop_map(|(operation, minutes)| Step { operation, minutes })
}

fn start(limits: [i64; 2]) -> Books {
    let mut books = Books::new();
    books.budgets = vec![
        Budget { scope: Scope::project("a"), period: Period::Day, limit_micro: limits[0] },
        Budget { scope: Scope::key("key-b"), period: Period::Month, limit_micro: limits[1] },
    ];
    for project in PROJECTS {
        let open = Operation::Open { project: project.to_owned(), credit_line_micro: Some(0) };
        let change = books.apply(project, &open, 0).unwrap();
        books.commit(project, &change);
    }
    books
}

fn sums(books: &Books) -> BTreeMap<Unit, i128> {
    let mut sums = BTreeMap::new();
    for account in books.accounts.values() {
        *sums.entry(account.id.unit()).or_default() += i128::from(account.balance);
    }
    sums
}

/// What must hold of books at any time.
fn check(books: &Books, limits: [i64; 2]) {
    assert!(sums(books).values().all(|&sum| sum == 0), "{books:?}");
    let mut held: BTreeMap<AccountId, i64> = BTreeMap::new();
    let mut by_project: BTreeMap<&str, i64> = BTreeMap::new();
    for reservation in books.reservations.values() {
        let value = match reservation.state {
            State::Open => {
                for part in &reservation.parts {
                    *held.entry(AccountId::held(&reservation.project, part.account.unit())).or_default() += part.amount;
                }
                reservation.most.cost_micro
            }
            State::Settled(charge) => {
                let most = reservation.most.cost_micro;
                assert!((charge.value_micro - most) * 100 < most * OVERRUN_PERCENT + 100, "{reservation:?}");
                charge.value_micro
            }
            State::Released => 0,
        };
        *by_project.entry(&reservation.project).or_default() += value;
    }
    for account in books.accounts.values() {
        assert!(account.floor.is_none_or(|floor| account.balance >= floor), "{account:?}");
        if account.id.as_str().starts_with("held:") {
            assert_eq!(account.balance, held.get(&account.id).copied().unwrap_or(0), "{account:?}");
        }
    }
    for (project, limit) in PROJECTS.into_iter().zip(limits) {
        let spent = by_project.get(project).copied().unwrap_or(0);
        assert!(spent <= limit, "{project} spent {spent} of {limit}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_operation_breaks_the_books_and_a_name_counts_once(
        steps in prop::collection::vec(step(), 1..80),
        limits in [1_000..20_000_i64, 1_000..20_000_i64],
    ) {
        let mut books = start(limits);
        let mut now_ms = 0;
        for (index, step) in steps.iter().enumerate() {
            now_ms += step.minutes * MINUTE_MS;
            let name = match &step.operation {
                Operation::Settle { reservation, .. } => format!("settle:{reservation}"),
                Operation::Release { reservation } => format!("release:{reservation}"),
                _ => index.to_string(),
            };
            let Ok(change) = books.apply(&name, &step.operation, now_ms) else { continue };
            books.commit(&name, &change);
            check(&books, limits);
            let again = books.apply(&name, &step.operation, now_ms).unwrap();
            prop_assert!(again.is_replay);
            let before = books.clone();
            books.commit(&name, &again);
            prop_assert_eq!(&before, &books);
        }
    }

    #[test]
    fn what_stays_within_its_reservation_is_paid_by_it_alone(
        grants in prop::collection::vec((grant_id(), 1..1_500_i64, prop::option::of(1..60_u64)), 0..4),
        prepaid in 1..2_000_i64,
        most in used(),
        parts in (0..=100_i64, 0..=100_i64),
    ) {
        let mut books = start([i64::MAX / 4; 2]);
        let deposit = Operation::Deposit { project: "a".to_owned(), amount_micro: prepaid };
        let change = books.apply("deposit", &deposit, 0).unwrap();
        books.commit("deposit", &change);
        for (index, (account, amount, minutes)) in grants.into_iter().enumerate() {
            let expires_ms = minutes.map(|minutes| minutes * MINUTE_MS);
            let grant = Operation::Grant { account, project: "a".to_owned(), amount, starts_ms: 0, expires_ms };
            if let Ok(change) = books.apply(&index.to_string(), &grant, 0) {
                books.commit(&index.to_string(), &change);
            }
        }
        let before = books.clone();
        let reserve = Reserve { id: "r".to_owned(), project: "a".to_owned(), key: "k".to_owned(), most };
        let Ok(change) = books.apply("reserve", &Operation::Reserve(reserve), 0) else { return Ok(()) };
        books.commit("reserve", &change);
        let used = Used { tokens: most.tokens * parts.0 / 100, cost_micro: most.cost_micro * parts.1 / 100 };
        // What cost something without a token is paid in money, whatever was reserved.
        prop_assume!(used.tokens > 0 || used.cost_micro == 0);
        let change = books.apply("settle", &Operation::Settle { reservation: "r".to_owned(), used }, 0).unwrap();
        books.commit("settle", &change);
        let State::Settled(charge) = books.reservations["r"].state else { panic!("it is settled") };
        prop_assert_eq!((charge.value_micro, charge.written_off_micro), (used.cost_micro, 0));
        prop_assert_eq!(books.accounts[&AccountId::house(House::Revenue, Unit::Micro)].balance, charge.paid_micro);
        for (id, account) in &before.accounts {
            if id.pays() {
                prop_assert!(books.accounts[id].balance <= account.balance, "{}", id);
            }
        }
    }
}

#[test]
fn what_expires_first_is_used_first_and_what_was_paid_for_last() {
    let mut books = start([i64::MAX / 4; 2]);
    let grant = |name: &str, unit, minutes: Option<u64>| Operation::Grant {
        account: AccountId::grant(name, unit),
        project: "a".to_owned(),
        amount: 100,
        starts_ms: 0,
        expires_ms: minutes.map(|minutes| minutes * MINUTE_MS),
    };
    let operations = [
        Operation::Deposit { project: "a".to_owned(), amount_micro: 100 },
        grant("never", Unit::Micro, None),
        grant("late", Unit::Micro, Some(20)),
        grant("soon", Unit::Micro, Some(10)),
        grant("soon", Unit::Token, Some(10)),
    ];
    for (index, operation) in operations.iter().enumerate() {
        let change = books.apply(&index.to_string(), operation, 0).unwrap();
        books.commit(&index.to_string(), &change);
    }
    let order: Vec<&str> = books.sources("a", 0).iter().map(|account| account.id.as_str()).collect();
    assert_eq!(
        order,
        ["grant:soon:token", "grant:soon:micro", "grant:late:micro", "grant:never:micro", "prepaid:a:micro"]
    );
    let later: Vec<&str> = books.sources("a", 10 * MINUTE_MS).iter().map(|account| account.id.as_str()).collect();
    assert_eq!(later, ["grant:late:micro", "grant:never:micro", "prepaid:a:micro"]);
}
