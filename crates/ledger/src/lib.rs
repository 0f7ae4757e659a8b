//! The books: what was granted and paid, what running requests may still use, what was used and by whom.
//!
//! Everything is whole numbers: micro-dollars, tokens, milliseconds. There is no fraction in this crate, and no way to
//! write one (`xtask` looks).
//!
//! * `money`, `calendar`: dollars and days as people write them.
//! * `account`, `budget`: who holds how much of what, and what may be spent in a day or month.
//! * `books`: double entry as a pure state machine, `apply(state, operation) -> entries`.
//! * `limit`: requests and tokens per minute, answers at one time.
//! * `price`: lists by model, direction, region and day.
//! * `ledger`: the books in the database: reserve, settle, release, each one transaction that can be told again.
//! * `audit`: every rule computed again from the entries.
//! * `metered`: a bill for every request, around whatever answers it.
//! * `programme`: grants to young companies, from the application to the last day.
//! * `invoice`: a month of a project as a page.
//! * `usage`: one record a request, sums by hour and day.

#![warn(missing_docs)]

mod account;
mod audit;
mod books;
mod budget;
pub mod calendar;
mod error;
mod invoice;
mod ledger;
pub mod limit;
mod metered;
pub mod money;
mod price;
pub mod programme;
mod rows;
mod schema;
pub mod usage;

pub use account::{Account, AccountId, House, Unit};
pub use audit::Audit;
pub use books::{Books, Change, Charge, OVERRUN_PERCENT, Operation, Part, Reservation, Reserve, State, Used};
pub use budget::{Budget, Period, Scope, Window};
pub use error::{Error, Result};
pub use invoice::Invoice;
pub use ledger::{DEAD_AFTER_MS, Ledger, Options, Swept, Transaction, Wanted};
pub use metered::{Meter, MeterOptions, Metered, NOTED_AHEAD, Tally};
pub use price::{Direction, Price, PriceList, Quantities, Tariff};
pub use schema::SCHEMA;
