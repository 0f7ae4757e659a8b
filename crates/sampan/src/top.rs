//! `sampan top`: what a server does right now, in a terminal.

mod sample;
mod screen;

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base::Clock as _;
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use signal_hook::consts::{SIGHUP, SIGTERM};

use crate::client::{Client, Server};
use crate::machine;

use sample::Sample;
use screen::State;

/// How long a key or a new sample may wait to be seen.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Args)]
pub(crate) struct Top {
    #[command(flatten)]
    server: Server,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
    /// Print one sample, for scripts.
    #[arg(long)]
    json: bool,
}

/// # Errors
/// If there is no terminal to draw on; with `--json`, if the server does not answer.
pub(crate) fn run(options: &Top) -> anyhow::Result<()> {
    let client = Client::new(&options.server)?;
    if options.json {
        let sample = Sample::take(&client, machine::SystemClock::start().now_ms())?;
        return machine::print(&format!("{}\n", serde_json::to_string_pretty(&sample)?));
    }
    ensure!(std::io::stdout().is_terminal(), "stdout is no terminal\nhint: --json prints one sample");
    let every = Duration::from_secs(options.every);
    // Whoever is told to end gives the terminal back as whoever leaves.
    let told_to_end = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&told_to_end)).context("listen for signals")?;
    }
    std::thread::scope(|scope| {
        // Both are dropped when the person leaves, which ends the thread that samples.
        let (news, fresh) = sync_channel(1);
        let (stop, stopped) = channel();
        let client = &client;
        let sampling = std::thread::Builder::new().name("top".to_owned());
        sampling.spawn_scoped(scope, move || collect(client, every, &news, &stopped)).context("start a thread")?;
        let mut terminal = ratatui::try_init().context("take the terminal")?;
        let outcome = watch(&mut terminal, client.base(), &fresh, &told_to_end);
        ratatui::restore();
        drop((fresh, stop));
        outcome
    })
}

type News = Result<Sample, String>;

/// Takes samples until nobody wants them: a slow server must not make keys slow.
fn collect(client: &Client, every: Duration, news: &SyncSender<News>, stopped: &Receiver<()>) {
    let clock = machine::SystemClock::start();
    loop {
        let sample = Sample::take(client, clock.now_ms()).map_err(|error| format!("{error:#}"));
        if news.send(sample).is_err() || stopped.recv_timeout(every) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

fn watch(
    terminal: &mut DefaultTerminal,
    base: &str,
    fresh: &Receiver<News>,
    told_to_end: &AtomicBool,
) -> anyhow::Result<()> {
    let clock = machine::SystemClock::start();
    let mut state = State::new(base);
    let mut is_stale = true;
    // Ends when the person leaves, too.
    while !told_to_end.load(Ordering::Relaxed) {
        if is_stale {
            terminal.draw(|frame| screen::draw(frame, &state)).context("draw")?;
        }
        is_stale = event::poll(LOOK).context("wait for a key")?;
        if is_stale && !heed(&mut state, &event::read().context("read a key")?) {
            return Ok(());
        }
        while let Ok(news) = fresh.try_recv() {
            state.take(news, clock.now_ms());
            is_stale = true;
        }
    }
    Ok(())
}

/// False: leave.
fn heed(state: &mut State, event: &Event) -> bool {
    let Event::Key(key) = event else { return true };
    if key.kind == KeyEventKind::Release {
        return true;
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Char('p' | ' ') => state.is_paused = !state.is_paused,
        KeyCode::Down | KeyCode::Char('j') => state.scroll(1),
        KeyCode::Up | KeyCode::Char('k') => state.scroll(-1),
        KeyCode::PageDown => state.scroll(10),
        KeyCode::PageUp => state.scroll(-10),
        KeyCode::Home => state.scroll(isize::MIN),
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};

    use super::heed;
    use super::screen::State;

    #[test]
    fn keys_leave_and_pause() {
        let mut state = State::new("http://a");
        let mut press = |code, modifiers| {
            let go_on = heed(&mut state, &Event::Key(KeyEvent::new(code, modifiers)));
            (go_on, state.is_paused)
        };
        assert_eq!(press(KeyCode::Char('p'), KeyModifiers::NONE), (true, true));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::NONE), (true, true));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), (false, true));
        assert_eq!(press(KeyCode::Char('q'), KeyModifiers::NONE), (false, true));
        assert_eq!(press(KeyCode::Esc, KeyModifiers::NONE), (false, true));
        assert!(heed(&mut state, &Event::Resize(80, 24)));
    }
}
