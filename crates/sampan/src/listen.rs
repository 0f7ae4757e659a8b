//! Connections, each a task, until the server stops.
//!
//! What `axum::serve` does, and one thing more. A request whose body comes with its head wakes its own task while that
//! is running: the handler's wish for the body does, and the body itself. The runtime puts a task that was woken so
//! behind all others and wakes another thread to take it: after every answer a thread woke up, found nothing and went
//! to sleep, while the client wanted to run. [`Attended`] looks again at once.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How often a task that was woken while it ran is looked at again before others get their turn.
const LOOKS_MAX: u32 = 8;
/// How long the server waits when the system has no room for another connection.
const NO_ROOM: Duration = Duration::from_secs(1);

/// Serves connections until `stopped` says so, and then until those that are open have come to their end.
pub(crate) async fn serve(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let (open, mut all_closed) = watch::channel(());
    let open = Arc::new(open);
    // Ends: when the server is told to stop.
    loop {
        let accepted = tokio::select! {
            biased;
            () = told(&mut stopped) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                let connection = connection(socket, router.clone(), stopped.clone());
                let open = Arc::clone(&open);
                tokio::spawn(Attended::new(async move {
                    connection.await;
                    drop(open);
                }));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "a connection could not be accepted");
                tokio::time::sleep(NO_ROOM).await;
            }
        }
    }
    drop((open, listener));
    // An error means that the last one is gone.
    while all_closed.changed().await.is_ok() {}
}

async fn told(stopped: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which only happens at the end.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Whether the next connection may be better.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(socket: TcpStream, router: Router, mut stopped: watch::Receiver<bool>) {
    // A piece of a stream leaves at once: otherwise it waits for the acknowledgement of the one before, 40 ms.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a connection gathers small pieces");
    }
    let service = TowerToHyperService::new(router);
    let mut builder = Builder::new(TokioExecutor::new());
    // What a WebSocket needs over HTTP/2.
    builder.http2().enable_connect_protocol();
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(socket), service));
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = told(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(error, "a connection broke");
    }
}

/// A future that is looked at again at once when it was woken while it ran.
struct Attended<F> {
    future: Pin<Box<F>>,
    bell: Option<Arc<Bell>>,
}

impl<F> Attended<F> {
    fn new(future: F) -> Self {
        Self { future: Box::pin(future), bell: None }
    }
}

/// Wakes a task, unless somebody is looking at it.
struct Bell {
    task: Waker,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Resting,
    LookedAt,
    /// It was woken since somebody began to look.
    LookedAtAndWoken,
}

impl Bell {
    /// Sets the state and answers the one before.
    fn set(&self, state: State) -> State {
        std::mem::replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), state)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *state == State::Resting {
            drop(state);
            self.task.wake_by_ref();
        } else {
            *state = State::LookedAtAndWoken;
        }
    }
}

impl<F: Future> Future for Attended<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let known = self.bell.take().filter(|bell| bell.task.will_wake(context.waker()));
        let bell = known
            .unwrap_or_else(|| Arc::new(Bell { task: context.waker().clone(), state: Mutex::new(State::Resting) }));
        self.bell = Some(Arc::clone(&bell));
        let waker = Waker::from(Arc::clone(&bell));
        for _ in 0..LOOKS_MAX {
            bell.set(State::LookedAt);
            if let Poll::Ready(output) = self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(output);
            }
            if bell.set(State::Resting) == State::LookedAt {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Context, Poll, Wake, Waker};

    use super::{Attended, LOOKS_MAX};

    /// Counts how often the task was put into the runtime's line.
    #[derive(Default)]
    struct Line(AtomicU32);

    impl Wake for Line {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A future that wakes itself so often before it is ready; how often the task was lined up after one look, and
    /// whether it was ready.
    fn look(wakes: u32) -> (u32, bool) {
        let (line, mut seen) = (Arc::new(Line::default()), 0);
        let future = poll_fn(move |context| {
            if seen == wakes {
                return Poll::Ready(());
            }
            seen += 1;
            context.waker().wake_by_ref();
            Poll::Pending
        });
        let waker = Waker::from(Arc::clone(&line));
        let mut attended = std::pin::pin!(Attended::new(future));
        let is_ready = attended.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        (line.0.load(Ordering::Relaxed), is_ready)
    }

    #[test]
    fn who_is_woken_while_it_runs_is_looked_at_again() {
        assert_eq!(look(0), (0, true));
        assert_eq!(look(LOOKS_MAX - 1), (0, true));
        assert_eq!(look(LOOKS_MAX), (1, false), "then others have their turn");
    }

    #[test]
    fn who_is_woken_while_it_rests_gets_into_the_line() {
        let line = Arc::new(Line::default());
        let kept: Arc<std::sync::Mutex<Option<Waker>>> = Arc::default();
        let keeper = Arc::clone(&kept);
        let future = poll_fn(move |context| {
            *keeper.lock().unwrap() = Some(context.waker().clone());
            Poll::<()>::Pending
        });
        let waker = Waker::from(Arc::clone(&line));
        let mut attended = std::pin::pin!(Attended::new(future));
        for times in 0..3 {
            assert_eq!(line.0.load(Ordering::Relaxed), times);
            assert!(attended.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            kept.lock().unwrap().take().unwrap().wake();
        }
    }
}
