//! Which models are in memory: a state machine without clock, files or threads.
//!
//! Memory is a budget in bytes. A model that is asked for and not there takes its share of it, if need be at the cost
//! of idle models, those first that were used longest ago. A model that somebody uses never leaves, and one that must
//! stay never does. Whoever finds no room waits until a model becomes idle.

use chat::KeepAlive;

/// What a model is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    OnDisk,
    Loading,
    Loaded,
    Failed(String),
}

/// A model's place, whether it is taken or not.
#[derive(Debug, Clone)]
pub(super) struct Seat {
    pub(super) stage: Stage,
    /// Memory that it takes, or would take.
    pub(super) bytes: u64,
    pub(super) keep: KeepAlive,
    /// Requests that use it now.
    pub(super) users: usize,
    pub(super) used_ms: u64,
    /// It goes as soon as nobody uses it.
    pub(super) leaves: bool,
    /// How often loading it ended, well or not.
    pub(super) attempts: u64,
    /// Counts uses, so that two in one millisecond have an order.
    turn: u64,
}

impl Seat {
    fn on_disk(bytes: u64, keep: KeepAlive) -> Self {
        Self { stage: Stage::OnDisk, bytes, keep, users: 0, used_ms: 0, leaves: false, attempts: 0, turn: 0 }
    }
}

/// What becomes of somebody who asks for a model.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// It is there and counts one more user.
    Ready,
    /// It has to be loaded, by whoever got this answer, once these are gone.
    Load { evicted: Vec<usize> },
    /// It is being loaded, or others use the memory that it needs.
    Wait,
    /// It cannot be loaded beside those that must stay.
    TooLarge { room_bytes: u64 },
}

#[derive(Debug)]
pub(super) struct Seats {
    seats: Vec<Seat>,
    budget_bytes: u64,
    turns: u64,
}

impl Seats {
    /// All models on disk; `needs` is the memory of each.
    pub(super) fn new(needs: impl IntoIterator<Item = u64>, keep: KeepAlive, budget_bytes: u64) -> Self {
        let seats = needs.into_iter().map(|bytes| Seat::on_disk(bytes, keep)).collect();
        Self { seats, budget_bytes, turns: 0 }
    }

    /// One more on disk.
    pub(super) fn add(&mut self, needed_bytes: u64, keep: KeepAlive) {
        self.seats.push(Seat::on_disk(needed_bytes, keep));
    }

    /// Other files take other memory, from the next time that they are loaded.
    pub(super) fn set_needed(&mut self, index: usize, needed_bytes: u64) {
        let seat = &mut self.seats[index];
        if matches!(seat.stage, Stage::OnDisk | Stage::Failed(_)) {
            (seat.stage, seat.bytes) = (Stage::OnDisk, needed_bytes);
        }
    }

    pub(super) fn of(&self, index: usize) -> &Seat {
        &self.seats[index]
    }

    pub(super) fn set_keep(&mut self, index: usize, keep: KeepAlive) {
        if self.seats[index].keep != KeepAlive::Forever {
            self.seats[index].keep = keep;
        }
    }

    /// Somebody wants to use a model.
    pub(super) fn ask(&mut self, index: usize, now_ms: u64) -> Ask {
        match self.seats[index].stage {
            Stage::Loaded => {
                self.use_now(index, now_ms);
                self.seats[index].users += 1;
                Ask::Ready
            }
            Stage::Loading => Ask::Wait,
            Stage::OnDisk | Stage::Failed(_) => self.make_room(index),
        }
    }

    fn make_room(&mut self, index: usize) -> Ask {
        let needed = self.seats[index].bytes;
        let must_stay = self.sum(|seat| seat.keep == KeepAlive::Forever);
        let room_bytes = self.budget_bytes.saturating_sub(must_stay);
        if needed > room_bytes {
            return Ask::TooLarge { room_bytes };
        }
        let mut free = self.budget_bytes.saturating_sub(self.sum(|_| true));
        let mut idle: Vec<usize> = (0..self.seats.len()).filter(|&other| self.may_leave(other)).collect();
        idle.sort_by_key(|&other| (self.seats[other].used_ms, self.seats[other].turn));
        let mut evicted = Vec::new();
        for other in idle {
            if free >= needed {
                break;
            }
            free += self.seats[other].bytes;
            evicted.push(other);
        }
        if free < needed {
            return Ask::Wait;
        }
        for &other in &evicted {
            self.vacate(other);
        }
        self.seats[index].stage = Stage::Loading;
        Ask::Load { evicted }
    }

    /// Memory of the models that are loaded or being loaded and are such.
    fn sum(&self, is_such: impl Fn(&Seat) -> bool) -> u64 {
        let is_there = |seat: &&Seat| matches!(seat.stage, Stage::Loading | Stage::Loaded) && is_such(seat);
        self.seats.iter().filter(is_there).map(|seat| seat.bytes).sum()
    }

    fn may_leave(&self, index: usize) -> bool {
        let seat = &self.seats[index];
        seat.stage == Stage::Loaded && seat.users == 0 && seat.keep != KeepAlive::Forever
    }

    fn vacate(&mut self, index: usize) {
        let seat = &mut self.seats[index];
        assert!(seat.users == 0 && seat.stage == Stage::Loaded, "{seat:?} leaves");
        (seat.stage, seat.leaves) = (Stage::OnDisk, false);
    }

    fn use_now(&mut self, index: usize, now_ms: u64) {
        self.turns += 1;
        (self.seats[index].used_ms, self.seats[index].turn) = (now_ms, self.turns);
    }

    /// Loading ended: with the memory that the model took, or with the reason why not.
    pub(super) fn loaded(&mut self, index: usize, outcome: Result<u64, String>, now_ms: u64) {
        self.use_now(index, now_ms);
        let seat = &mut self.seats[index];
        assert_eq!(seat.stage, Stage::Loading, "only what is being loaded has been loaded");
        seat.attempts += 1;
        match outcome {
            Ok(bytes) => (seat.stage, seat.bytes) = (Stage::Loaded, bytes),
            Err(reason) => seat.stage = Stage::Failed(reason),
        }
    }

    /// One user less.
    pub(super) fn release(&mut self, index: usize, now_ms: u64) {
        self.use_now(index, now_ms);
        let users = &mut self.seats[index].users;
        *users = users.checked_sub(1).expect("a user leaves once");
    }

    /// A model is to go as soon as nobody uses it.
    pub(super) fn leave(&mut self, index: usize) {
        self.seats[index].leaves = self.seats[index].stage == Stage::Loaded;
    }

    /// The models whose time is over; they are gone from now on.
    pub(super) fn due(&mut self, now_ms: u64) -> Vec<usize> {
        let is_due = |seat: &Seat| {
            let expired = match seat.keep {
                KeepAlive::Milliseconds(keep) => now_ms >= seat.used_ms.saturating_add(keep),
                KeepAlive::UntilNeeded | KeepAlive::Forever => false,
            };
            seat.stage == Stage::Loaded && seat.users == 0 && (expired || seat.leaves)
        };
        let due: Vec<usize> = (0..self.seats.len()).filter(|&index| is_due(&self.seats[index])).collect();
        for &index in &due {
            self.vacate(index);
        }
        due
    }

    /// When a model goes if nobody asks for it; `None`: no time is set.
    pub(super) fn expires_ms(&self, index: usize) -> Option<u64> {
        let seat = &self.seats[index];
        match seat.keep {
            KeepAlive::Milliseconds(keep) if seat.stage == Stage::Loaded => Some(seat.used_ms.saturating_add(keep)),
            KeepAlive::Milliseconds(_) | KeepAlive::UntilNeeded | KeepAlive::Forever => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use base::Rng;
    use chat::KeepAlive;

    use super::{Ask, Seats, Stage};

    /// Asks and, if the model has to be loaded, loads it and asks again.
    fn take(seats: &mut Seats, index: usize, now_ms: u64) -> Vec<usize> {
        let evicted = match seats.ask(index, now_ms) {
            Ask::Ready => return Vec::new(),
            Ask::Load { evicted } => evicted,
            other => panic!("{other:?}"),
        };
        let bytes = seats.of(index).bytes;
        seats.loaded(index, Ok(bytes), now_ms);
        assert_eq!(seats.ask(index, now_ms), Ask::Ready);
        evicted
    }

    #[test]
    fn the_one_used_longest_ago_makes_room_and_a_used_one_never_does() {
        let mut seats = Seats::new([40, 40, 40, 101], KeepAlive::UntilNeeded, 100);
        assert!(take(&mut seats, 0, 1).is_empty() && take(&mut seats, 1, 2).is_empty());
        assert_eq!(seats.ask(2, 3), Ask::Wait, "both are in use");
        seats.release(1, 4);
        seats.release(0, 4);
        assert_eq!(take(&mut seats, 2, 5), [1], "0 was used after 1, in the same millisecond");
        assert_eq!(seats.ask(3, 6), Ask::TooLarge { room_bytes: 100 });
        seats.set_keep(2, KeepAlive::Forever);
        seats.set_keep(2, KeepAlive::Milliseconds(0));
        seats.release(2, 7);
        assert!(seats.due(1 << 40).is_empty(), "what must stay stays");
        assert_eq!(seats.ask(3, 6), Ask::TooLarge { room_bytes: 60 });
    }

    #[test]
    fn a_time_without_users_ends_a_stay_and_so_does_a_wish() {
        let mut seats = Seats::new([1, 1], KeepAlive::Milliseconds(50), 100);
        take(&mut seats, 0, 0);
        assert_eq!((seats.due(1000), seats.expires_ms(0)), (vec![], Some(50)));
        seats.release(0, 1000);
        assert_eq!((seats.due(1049), seats.expires_ms(0)), (vec![], Some(1050)));
        assert_eq!(seats.due(1050), [0]);
        take(&mut seats, 1, 1060);
        seats.leave(1);
        assert!(seats.due(1060).is_empty(), "somebody uses it");
        seats.release(1, 1061);
        assert_eq!(seats.due(1061), [1]);
        seats.leave(1);
        assert!(!seats.of(1).leaves, "it is gone already");
    }

    #[test]
    fn a_model_that_could_not_be_loaded_takes_no_room_and_is_tried_again() {
        let mut seats = Seats::new([100, 100], KeepAlive::UntilNeeded, 100);
        assert_eq!(seats.ask(0, 0), Ask::Load { evicted: vec![] });
        assert_eq!((seats.ask(0, 0), seats.ask(1, 0)), (Ask::Wait, Ask::Wait));
        seats.loaded(0, Err("no".to_owned()), 1);
        assert_eq!(take(&mut seats, 1, 1), Vec::<usize>::new());
        seats.release(1, 2);
        assert_eq!(seats.ask(0, 3), Ask::Load { evicted: vec![1] });
    }

    /// Whatever happens: the budget holds, nobody loses a model under his hands, and a model that fits is loaded once
    /// the others are idle.
    #[test]
    fn chance_breaks_no_rule() {
        for seed in 0..300 {
            let mut rng = Rng::seeded(seed);
            let needs: Vec<u64> = (0..5).map(|_| 10 + rng.below(50)).collect();
            let mut seats = Seats::new(needs.iter().copied(), KeepAlive::UntilNeeded, 100);
            let mut users = [0_usize; 5];
            for now_ms in 0..300 {
                let index = rng.below(5) as usize;
                match rng.below(6) {
                    0..=2 => match seats.ask(index, now_ms) {
                        Ask::Ready => users[index] += 1,
                        Ask::Load { evicted } => {
                            assert!(evicted.iter().all(|&other| users[other] == 0), "seed {seed}");
                        }
                        Ask::Wait => assert!(
                            seats.of(index).stage == Stage::Loading
                                || seats.seats.iter().any(|seat| seat.users > 0 || seat.stage == Stage::Loading),
                            "seed {seed}: somebody waits for nothing"
                        ),
                        Ask::TooLarge { .. } => panic!("seed {seed}: all fit alone"),
                    },
                    3 if users[index] > 0 => {
                        users[index] -= 1;
                        seats.release(index, now_ms);
                    }
                    4 if seats.of(index).stage == Stage::Loading => {
                        let outcome = if rng.below(4) == 0 { Err("no".to_owned()) } else { Ok(needs[index]) };
                        seats.loaded(index, outcome, now_ms);
                    }
                    5 => {
                        seats.set_keep(index, KeepAlive::Milliseconds(rng.below(100)));
                        assert!(seats.due(now_ms).iter().all(|&gone| users[gone] == 0), "seed {seed}");
                    }
                    _ => {}
                }
                assert!(seats.sum(|_| true) <= 100, "seed {seed}: more than there is");
            }
        }
    }
}
