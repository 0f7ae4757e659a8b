//! Writes that are asked for one by one, and made in one turn for all who ask while the writer is busy.
//!
//! Where many write much the same, a turn for each costs a savepoint and several ways to the database for each. Here
//! the first who asks sends an order to the writer, and whoever asks before the writer takes it is in it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::writer::{Made, Order, Work};
use crate::{Error, Result, Turn};

/// Pieces of one turn.
const TOGETHER_MAX: usize = 256;

/// Why all that was asked together was undone.
pub type Undone = Box<dyn std::error::Error + Send + Sync>;

/// Does what was asked, each answered in its place. An error undoes all of it.
type Doing<Q, A> =
    dyn for<'t, 'c> Fn(&'t mut Turn<'c>, Vec<Q>) -> BoxFuture<'t, std::result::Result<Vec<A>, Undone>> + Send + Sync;

/// Somebody who waits for an answer.
type Waiting<Q, A> = (Q, oneshot::Sender<Result<A>>);

/// Writes of one kind that are made together.
pub struct Together<Q, A> {
    orders: mpsc::Sender<Order>,
    shared: Arc<Shared<Q, A>>,
}

struct Shared<Q, A> {
    doing: Box<Doing<Q, A>>,
    /// For each [`TOGETHER_MAX`] of them, or a part, an order is on its way.
    waiting: Mutex<Vec<Waiting<Q, A>>>,
}

impl<Q: Send + 'static, A: Send + 'static> Together<Q, A> {
    pub(crate) fn new(orders: mpsc::Sender<Order>, doing: Box<Doing<Q, A>>) -> Self {
        Self { orders, shared: Arc::new(Shared { doing, waiting: Mutex::default() }) }
    }

    /// Answers when it is committed, without waiting for the disk. Dropping the future does not stop it.
    ///
    /// # Errors
    /// [`Error::Apart`] if the whole turn was undone, so that it must be asked for by itself; [`Error::Interrupted`] if
    /// nobody knows.
    pub async fn ask(&self, asked: Q) -> Result<A> {
        // The place first: whoever has to send an order can, even if this future is dropped at any moment.
        let place = self.orders.reserve().await.map_err(|_| Error::Gone)?;
        let (answer, answered) = oneshot::channel();
        if self.shared.join((asked, answer)) {
            place.send(Order::together(Next(Some(Arc::clone(&self.shared)))));
        } else {
            drop(place);
        }
        answered.await.unwrap_or(Err(Error::Gone))
    }
}

impl<Q, A> Shared<Q, A> {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting<Q, A>>> {
        // The list is whole between any two statements that hold the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an order must be sent for it.
    fn join(&self, one: Waiting<Q, A>) -> bool {
        let mut waiting = self.waiting();
        waiting.push(one);
        waiting.len() % TOGETHER_MAX == 1
    }

    fn take(&self) -> (Vec<Q>, Vec<oneshot::Sender<Result<A>>>) {
        let mut waiting = self.waiting();
        let count = waiting.len().min(TOGETHER_MAX);
        waiting.drain(..count).unzip()
    }
}

/// Whoever waits first when it is run. If it is not, they see their channels close.
struct Next<Q, A>(Option<Arc<Shared<Q, A>>>);

impl<Q, A> Drop for Next<Q, A> {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            drop(shared.take());
        }
    }
}

impl<Q: Send + 'static, A: Send + 'static> Work for Next<Q, A> {
    fn run<'c>(mut self: Box<Self>, mut turn: Turn<'c>) -> BoxFuture<'c, Made> {
        let shared = self.0.take().expect("it is run once");
        async move {
            let (asked, tells) = shared.take();
            let done = (shared.doing)(&mut turn, asked).await;
            let is_kept = done.is_ok();
            let tell = Box::new(move |committed: Result<()>| tell_all(tells, committed, done));
            Made { is_kept, end: turn.end(), tell }
        }
        .boxed()
    }

    fn refuse(mut self: Box<Self>, error: Error) {
        if let Some(shared) = self.0.take() {
            let (_, tells) = shared.take();
            tell_all(tells, Err(error), Ok(Vec::new()));
        }
    }
}

fn tell_all<A>(
    tells: Vec<oneshot::Sender<Result<A>>>,
    committed: Result<()>,
    done: std::result::Result<Vec<A>, Undone>,
) {
    // Whoever asked may have gone.
    match (committed, done) {
        (Ok(()), Ok(answers)) => {
            assert_eq!(answers.len(), tells.len(), "one answer for each who asked");
            tells.into_iter().zip(answers).for_each(|(tell, answer)| drop(tell.send(Ok(answer))));
        }
        (Ok(()), Err(undone)) => {
            let why = crate::chain(&*undone);
            tells.into_iter().for_each(|tell| drop(tell.send(Err(Error::Apart { why: why.clone() }))));
        }
        (Err(error), _) => {
            let why = crate::chain(&error);
            tells.into_iter().for_each(|tell| drop(tell.send(Err(Error::Interrupted { why: why.clone() }))));
        }
    }
}
