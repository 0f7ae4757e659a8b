//! The tables of the books.

use meta::Schema;

/// The tables of this crate, for [`meta::Database::open`].
///
/// `ledger_transactions` and `ledger_entries` are only ever added to. The balances of `ledger_accounts` are what their
/// entries sum to, kept beside them so that a reservation reads one row; `audit` compares the two.
pub const SCHEMA: Schema = Schema {
    component: "ledger",
    steps: &[
        "
    CREATE TABLE ledger_accounts (
        id TEXT PRIMARY KEY, project TEXT, balance BIGINT NOT NULL, floor BIGINT, starts_ms BIGINT NOT NULL,
        expires_ms BIGINT, closed_ms BIGINT, CHECK (floor IS NULL OR balance >= floor)
    );
    CREATE INDEX ledger_accounts_of_project ON ledger_accounts (project);
    INSERT INTO ledger_accounts (id, balance, starts_ms) VALUES
        ('house:cash:micro', 0, 0), ('house:cash:token', 0, 0),
        ('house:granted:micro', 0, 0), ('house:granted:token', 0, 0),
        ('house:revenue:micro', 0, 0), ('house:revenue:token', 0, 0),
        ('house:refunds:micro', 0, 0), ('house:refunds:token', 0, 0),
        ('house:expired:micro', 0, 0), ('house:expired:token', 0, 0),
        ('house:clawed-back:micro', 0, 0), ('house:clawed-back:token', 0, 0),
        ('house:written-off:micro', 0, 0), ('house:written-off:token', 0, 0);
    CREATE TABLE ledger_transactions (
        id {id}, name TEXT NOT NULL UNIQUE, what TEXT NOT NULL, at_ms BIGINT NOT NULL, actor TEXT NOT NULL,
        memo TEXT NOT NULL
    );
    CREATE TABLE ledger_entries (
        id {id}, transaction_id BIGINT NOT NULL, account TEXT NOT NULL, amount BIGINT NOT NULL
    );
    CREATE INDEX ledger_entries_of_transaction ON ledger_entries (transaction_id);
    CREATE INDEX ledger_entries_of_account ON ledger_entries (account);
    CREATE TABLE ledger_reservations (
        id TEXT PRIMARY KEY, owner TEXT NOT NULL, project TEXT NOT NULL, key_id TEXT NOT NULL, tokens BIGINT NOT NULL,
        cost_micro BIGINT NOT NULL, parts TEXT NOT NULL, windows TEXT NOT NULL, subject TEXT NOT NULL,
        noted TEXT NOT NULL, state TEXT NOT NULL, value_micro BIGINT NOT NULL, written_off_micro BIGINT NOT NULL,
        at_ms BIGINT NOT NULL
    );
    CREATE INDEX ledger_reservations_open ON ledger_reservations (owner) WHERE state = 'open';
    CREATE TABLE ledger_owners (id TEXT PRIMARY KEY, seen_ms BIGINT NOT NULL);
    CREATE TABLE ledger_budgets (
        scope TEXT NOT NULL, period TEXT NOT NULL, limit_micro BIGINT NOT NULL, PRIMARY KEY (scope, period)
    );
    CREATE TABLE ledger_spent (
        scope TEXT NOT NULL, period TEXT NOT NULL, start_ms BIGINT NOT NULL, amount_micro BIGINT NOT NULL,
        PRIMARY KEY (scope, period, start_ms)
    );
    CREATE TABLE ledger_price_lists (version TEXT PRIMARY KEY, list TEXT NOT NULL, first_used_ms BIGINT NOT NULL);
    CREATE TABLE usage_records (
        id TEXT PRIMARY KEY, at_ms BIGINT NOT NULL, project TEXT NOT NULL, key_id TEXT NOT NULL, model TEXT NOT NULL,
        region TEXT NOT NULL, activity TEXT NOT NULL, outcome TEXT NOT NULL, tariff TEXT NOT NULL,
        tokens_in BIGINT NOT NULL, tokens_cached BIGINT NOT NULL, tokens_out BIGINT NOT NULL, units BIGINT NOT NULL,
        price_micro BIGINT NOT NULL, paid_micro BIGINT NOT NULL, paid_tokens BIGINT NOT NULL,
        latency_ms BIGINT NOT NULL, trace TEXT NOT NULL, prices TEXT NOT NULL
    );
    CREATE INDEX usage_records_by_time ON usage_records (at_ms);
    CREATE TABLE usage_hours (
        hour_ms BIGINT NOT NULL, project TEXT NOT NULL, key_id TEXT NOT NULL, model TEXT NOT NULL,
        region TEXT NOT NULL, activity TEXT NOT NULL, requests BIGINT NOT NULL, tokens_in BIGINT NOT NULL,
        tokens_cached BIGINT NOT NULL, tokens_out BIGINT NOT NULL, units BIGINT NOT NULL, price_micro BIGINT NOT NULL,
        PRIMARY KEY (hour_ms, project, key_id, model, region, activity)
    );
    ",
        "
    CREATE TABLE programmes (name TEXT PRIMARY KEY, definition TEXT NOT NULL);
    CREATE TABLE programme_applications (
        id TEXT PRIMARY KEY, programme TEXT NOT NULL, project TEXT NOT NULL, company TEXT NOT NULL,
        company_name TEXT NOT NULL, tokens BIGINT NOT NULL, micro BIGINT NOT NULL, note TEXT NOT NULL,
        state TEXT NOT NULL, reviewer TEXT NOT NULL, reason TEXT NOT NULL, created_ms BIGINT NOT NULL
    );
    CREATE TABLE programme_grants (
        id TEXT PRIMARY KEY, application_id TEXT NOT NULL UNIQUE, programme TEXT NOT NULL, project TEXT NOT NULL,
        tokens BIGINT NOT NULL, micro BIGINT NOT NULL, state TEXT NOT NULL, created_ms BIGINT NOT NULL
    );
    CREATE TABLE programme_tranches (
        grant_id TEXT NOT NULL, number BIGINT NOT NULL, tokens BIGINT NOT NULL, micro BIGINT NOT NULL,
        milestone TEXT NOT NULL, valid_days BIGINT NOT NULL, state TEXT NOT NULL, released_ms BIGINT NOT NULL,
        expires_ms BIGINT NOT NULL, PRIMARY KEY (grant_id, number)
    );
    CREATE TABLE programme_alerts (
        grant_id TEXT NOT NULL, unit TEXT NOT NULL, percent BIGINT NOT NULL, released BIGINT NOT NULL,
        at_ms BIGINT NOT NULL, PRIMARY KEY (grant_id, unit, percent, released)
    );
    CREATE TABLE programme_trail (
        id {id}, at_ms BIGINT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL,
        detail TEXT NOT NULL
    );
    CREATE INDEX programme_trail_of_subject ON programme_trail (subject);
    ",
        "
    CREATE TABLE limits (
        holder TEXT NOT NULL, measure TEXT NOT NULL, amount BIGINT NOT NULL, burst BIGINT NOT NULL,
        PRIMARY KEY (holder, measure)
    );
    ",
    ],
};
