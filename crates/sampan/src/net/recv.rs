//! `sampan net recv`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use fabric::receive::{Event, Summary};
use fabric::{Progress, Receiver, ReceiverOptions};
use indicatif::{MultiProgress, ProgressBar};
use serde_json::json;

use super::args::Recv;
use super::transfer::{DRAW_EVERY, PORT, address, bar, bytes, hex, kept_token, known_token, machine};
use crate::machine::{print, say};

pub(super) fn run(arguments: &Recv) -> anyhow::Result<()> {
    // Who throws everything away keeps no token either.
    let token = if arguments.discard {
        known_token(&arguments.token)?
    } else {
        kept_token(&arguments.token, &arguments.folder)?
    };
    let listen = arguments.listen.iter().map(|text| address(text, PORT)).collect::<anyhow::Result<Vec<_>>>()?;
    let bytes_max = arguments.max.map(|gigabytes| 1_000_000_000 * u64::from(gigabytes));
    let options = ReceiverOptions { discard: arguments.discard, bytes_max };
    let receiver = Receiver::bind(&arguments.folder, &listen, options, token, machine())?;
    let listening: Vec<String> = receiver.addresses()?.iter().map(ToString::to_string).collect();
    if arguments.json {
        print(&format!("{}\n", json!({"event": "listening", "addresses": listening})))?;
    } else {
        say(&format!("listening on {}; Ctrl-C ends", listening.join(", ")));
    }
    let shown = Shown { arguments, bars: MultiProgress::new(), running: Mutex::default() };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                shown.draw();
                std::thread::park_timeout(DRAW_EVERY);
            }
        });
        let ran = receiver.run(&|event| {
            if shown.report(event) && arguments.once {
                receiver.stop();
            }
        });
        over.store(true, Ordering::Release);
        ran
    })
    .context("receive")
}

/// What the person or the script at the terminal sees.
struct Shown<'a> {
    arguments: &'a Recv,
    bars: MultiProgress,
    running: Mutex<Vec<Running>>,
}

/// A transfer that is not done; every connection that carries it has the same progress.
struct Running {
    transfer: Summary,
    progress: Arc<Progress>,
    bar: ProgressBar,
}

impl Shown<'_> {
    /// Shows an event. Whether a transfer is done.
    fn report(&self, event: Event) -> bool {
        match event {
            Event::Began { transfer, progress } => {
                let mut running = self.lock();
                if !running.iter().any(|known| Arc::ptr_eq(&known.progress, &progress)) {
                    let Summary { name, files, bytes } = &transfer;
                    self.line(&json!({"event": "began", "name": name, "files": files, "bytes": bytes}));
                    let bar = self.bars.add(bar(&transfer.name));
                    running.push(Running { transfer, progress, bar });
                }
                false
            }
            Event::Done { transfer, root } => {
                self.lock().retain(|known| {
                    if known.transfer == transfer {
                        known.bar.finish_and_clear();
                    }
                    known.transfer != transfer
                });
                let Summary { name, files, bytes: count } = &transfer;
                self.line(&json!({"event": "done", "name": name, "files": files, "bytes": count, "root": hex(&root)}));
                self.say(&format!("received {name}: {files} files, {}, root {}", bytes(*count), hex(&root)));
                true
            }
            Event::Failed { peer, error } => {
                let text = format!("{:#}", anyhow::Error::new(error));
                self.line(&json!({"event": "failed", "peer": peer.to_string(), "error": text}));
                self.say(&format!("connection of {peer} ended: {text}"));
                false
            }
        }
    }

    fn draw(&self) {
        for known in self.lock().iter() {
            known.bar.set_length(known.progress.bytes());
            known.bar.set_position(known.progress.received());
        }
    }

    fn line(&self, value: &serde_json::Value) {
        if self.arguments.json
            && let Err(error) = print(&format!("{value}\n"))
        {
            say(&format!("warning: {error:#}"));
        }
    }

    fn say(&self, text: &str) {
        if !self.arguments.json {
            self.bars.suspend(|| say(text));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
