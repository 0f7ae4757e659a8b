use std::future::{Future, poll_fn};
use std::task::{Context, Poll};

use base::Rng;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::task::noop_waker_ref;

/// Names a task of [`Tasks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskId(usize);

/// An executor of one thread that polls a random living task at every step.
///
/// It polls whether or not a task was woken: a task that waits for another costs steps, and no wake-up can be lost.
pub struct Tasks {
    tasks: Vec<(TaskId, BoxFuture<'static, ()>)>,
    rng: Rng,
    next_id: usize,
}

impl Tasks {
    /// No tasks yet; their order will follow the seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { tasks: Vec::new(), rng: Rng::seeded(seed), next_id: 0 }
    }

    /// Adds a task.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) -> TaskId {
        let id = TaskId(self.next_id);
        self.next_id += 1;
        self.tasks.push((id, task.boxed()));
        id
    }

    /// Drops a task where it stands, as a crash does. Says whether it was still alive.
    pub fn kill(&mut self, id: TaskId) -> bool {
        let before = self.tasks.len();
        self.tasks.retain(|(other, _)| *other != id);
        self.tasks.len() < before
    }

    /// Polls one random task once. Says whether any task is left.
    pub fn step(&mut self) -> bool {
        if self.tasks.is_empty() {
            return false;
        }
        let chosen = self.rng.below(self.tasks.len() as u64) as usize;
        let mut context = Context::from_waker(noop_waker_ref());
        if self.tasks[chosen].1.poll_unpin(&mut context).is_ready() {
            drop(self.tasks.swap_remove(chosen));
        }
        !self.tasks.is_empty()
    }

    /// Runs one future to its end, with the other tasks around it.
    ///
    /// # Panics
    /// If it has not ended after `steps_max` steps.
    pub fn finish<T: Send + 'static>(&mut self, future: impl Future<Output = T> + Send + 'static, steps_max: u64) -> T {
        let (send, mut receive) = futures::channel::oneshot::channel();
        self.spawn(async move {
            // The receiver lives until this function returns.
            let _ = send.send(future.await);
        });
        for _ in 0..steps_max {
            self.step();
            if let Ok(Some(value)) = receive.try_recv() {
                return value;
            }
        }
        panic!("the future did not end within {steps_max} steps");
    }
}

/// Lets other tasks run for `polls` turns of this one.
pub async fn pause(polls: u64) {
    let mut left = polls;
    poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
