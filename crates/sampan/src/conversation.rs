//! `sampan chat`: a conversation in the terminal.

pub(crate) mod attached;
mod kept;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use base::{Clock, RequestId, Rng};
use chat::{Collector, Event, EventStream, FinishReason, GenerateRequest, Message, Part, Prompt, Role, Thinking};
use engine::Engine;
use futures::StreamExt as _;
use ledger::calendar::show_time;
use rustyline::error::ReadlineError;
use rustyline::{Config, Editor};
use serde_json::json;

use crate::args::Chat;
use crate::machine::{self, SystemClock, harmless, print, say};
use crate::{built_in, shelf, up};

const HELP: &str = "\
/help            this text
/file PATH       a text or a picture that goes with the next question
/system TEXT     instructions before the conversation; without TEXT: none
/think on|off    whether the model reasons first, where it can
/forget          begin a new conversation
/undo            take the last question and its answer back
/chats           the conversations of before; /open NUMBER goes on with one
/quit            leave (also Ctrl-D)
Ctrl-C stops an answer. A line that ends in \\ goes on in the next.";

/// Conversations that `/chats` lists.
const LISTED: usize = 20;

struct Talk<'a> {
    chat: &'a Chat,
    engine: Engine,
    messages: Vec<Message>,
    /// What goes with the next question.
    files: Vec<Part>,
    /// Where conversations are kept, and the file of this one.
    folder: PathBuf,
    file: PathBuf,
    /// A person talks, who may want to go on later; a script does not.
    is_kept: bool,
    thinking: Thinking,
    ids: Rng,
    is_colourful: bool,
    /// Questions of a script that have no answer.
    unanswered: u32,
}

pub(crate) fn run(chat: &Chat) -> anyhow::Result<()> {
    let data = machine::data_folder(&chat.data);
    let entry = shelf::find(&data, chat.model.as_deref().unwrap_or(built_in::NAME))?;
    let clock: Arc<dyn Clock> = SystemClock::start();
    let engine = up::start_alone(&entry, &machine::processor(&chat.processor)?, &clock)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let folder = data.join("chats");
    let mut talk = Talk {
        chat,
        engine,
        messages: chat.system.iter().map(|text| Message::text(Role::System, text.as_str())).collect(),
        files: Vec::new(),
        file: kept::fresh(&folder, clock.now_ms()),
        folder,
        is_kept: std::io::stdin().is_terminal() || chat.is_continued,
        thinking: Thinking::Default,
        ids: Rng::seeded(machine::random_seed()?),
        is_colourful: std::io::stdout().is_terminal() && !chat.json,
        unanswered: 0,
    };
    if talk.is_colourful {
        say(&format!("{} is listening. /help for help, Ctrl-D to leave.", entry.name));
    }
    for path in &chat.files {
        talk.attach(path)?;
    }
    if chat.is_continued {
        match kept::list(&talk.folder).into_iter().next() {
            Some(last) => talk.open(last.file)?,
            None => say("no conversation is kept yet: this is the first"),
        }
    }
    read_lines(&mut talk, &runtime, &clock, &data.join("chat_history"))?;
    ensure!(talk.unanswered == 0, "{} questions have no answer", talk.unanswered);
    Ok(())
}

fn read_lines(
    talk: &mut Talk<'_>,
    runtime: &tokio::runtime::Runtime,
    clock: &Arc<dyn Clock>,
    history: &Path,
) -> anyhow::Result<()> {
    let config = Config::builder().max_history_size(1000).context("size the history")?.auto_add_history(true).build();
    let mut editor: Editor<(), rustyline::history::FileHistory> =
        Editor::with_config(config).context("open the terminal")?;
    // The first time there is none.
    let _ = editor.load_history(history);
    let mut pending = String::new();
    loop {
        let prompt = if pending.is_empty() { "> " } else { ". " };
        match editor.readline(prompt) {
            Ok(line) => {
                if let Some(begun) = line.strip_suffix('\\') {
                    pending.push_str(begun);
                    pending.push('\n');
                    continue;
                }
                pending.push_str(&line);
                let question = std::mem::take(&mut pending);
                if !talk.take_line(runtime, clock, question.trim())? {
                    break;
                }
            }
            Err(ReadlineError::Interrupted) => pending.clear(),
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error).context("read a line"),
        }
    }
    if let Some(folder) = history.parent().filter(|_| talk.is_colourful) {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        editor.save_history(history).with_context(|| format!("write {}", history.display()))?;
    }
    Ok(())
}

/// What goes wrong with a command is said, and the conversation goes on.
fn complain(outcome: anyhow::Result<()>) {
    if let Err(error) = outcome {
        say(&format!("error: {error:#}"));
    }
}

impl Talk<'_> {
    /// False: leave.
    fn take_line(
        &mut self,
        runtime: &tokio::runtime::Runtime,
        clock: &Arc<dyn Clock>,
        line: &str,
    ) -> anyhow::Result<bool> {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        match command {
            "" => {}
            "/quit" | "/exit" => return Ok(false),
            "/help" => say(HELP),
            "/forget" => {
                self.messages.retain(|message| message.role == Role::System);
                self.file = kept::fresh(&self.folder, clock.now_ms());
            }
            "/undo" => self.undo(),
            "/system" => {
                self.messages.retain(|message| message.role != Role::System);
                if !rest.is_empty() {
                    self.messages.insert(0, Message::text(Role::System, rest));
                }
            }
            "/think" if matches!(rest, "on" | "off") => {
                self.thinking = if rest == "on" { Thinking::On } else { Thinking::Off };
            }
            "/file" if !rest.is_empty() => complain(self.attach(Path::new(rest.trim()))),
            "/chats" => self.list(),
            "/open" => complain(self.open_number(rest.trim())),
            _ if command.starts_with('/') => say(&format!("{line:?} is no command; /help lists them")),
            _ => self.ask(runtime, line)?,
        }
        Ok(true)
    }

    /// Asks a question with the files that go with it; if there is no answer, both are as they were.
    fn ask(&mut self, runtime: &tokio::runtime::Runtime, line: &str) -> anyhow::Result<()> {
        let parts = self.files.iter().cloned().chain([Part::Text(line.to_owned())]).collect();
        self.messages.push(Message { content: kept::content(parts), ..Message::text(Role::User, "") });
        if let Err(error) = runtime.block_on(self.answer()) {
            self.messages.pop();
            if self.chat.json {
                self.unanswered += 1;
                return print(&format!("{}\n", json!({"error": format!("{error:#}")})));
            }
            say(&format!("error: {error:#}"));
            return Ok(());
        }
        self.files.clear();
        match self.is_kept {
            true => kept::save(&self.file, &self.engine.card().id, &self.messages),
            false => Ok(()),
        }
    }

    fn attach(&mut self, path: &Path) -> anyhow::Result<()> {
        self.files.push(attached::read(path, self.engine.card().facts.vision)?);
        say(&format!("{} goes with the next question", path.display()));
        Ok(())
    }

    fn list(&self) {
        let known = kept::list(&self.folder);
        if known.is_empty() {
            say("no conversation is kept yet");
        }
        for (number, known) in known.iter().take(LISTED).enumerate() {
            let title =
                kept::open(&known.file).map_or_else(|why| format!("{why:#}"), |messages| kept::title(&messages));
            let time = show_time(known.began_ms).replace('T', " ");
            say(&format!("{:3}  {}  {title}", number + 1, time.get(..16).unwrap_or(&time)));
        }
    }

    fn open_number(&mut self, text: &str) -> anyhow::Result<()> {
        let known = kept::list(&self.folder);
        let number = text.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        let found = number.and_then(|number| known.into_iter().nth(number));
        let found = found.with_context(|| format!("there is no conversation {text:?}; /chats lists them"))?;
        self.open(found.file)
    }

    /// Goes on with a conversation. Instructions of the command line take the place of its own.
    fn open(&mut self, file: PathBuf) -> anyhow::Result<()> {
        let mut messages = kept::open(&file)?;
        if let Some(system) = &self.chat.system {
            messages.retain(|message| message.role != Role::System);
            messages.insert(0, Message::text(Role::System, system.as_str()));
        }
        say(&format!("going on with: {}", kept::title(&messages)));
        if let Some(last) = messages.iter().rfind(|message| message.role == Role::Assistant) {
            say(&format!("{}{}{}", self.dim(), last.plain_text(), self.plain()));
        }
        (self.messages, self.file) = (messages, file);
        Ok(())
    }

    fn undo(&mut self) {
        let last = self.messages.iter().rposition(|message| message.role == Role::User);
        self.messages.truncate(last.unwrap_or(self.messages.len()));
    }

    /// Streams the answer to the last question and remembers it.
    async fn answer(&mut self) -> anyhow::Result<()> {
        let id = RequestId::random(&mut self.ids);
        let prompt = Prompt::Messages(self.messages.clone());
        let mut request = GenerateRequest::new(id, self.engine.card().id.as_str(), prompt);
        request.sampling.temperature = self.chat.temperature;
        request.sampling.seed = self.chat.seed;
        request.max_tokens = Some(self.chat.max_tokens);
        request.thinking = self.thinking;
        let mut events = self.engine.start_generation(request).await?;
        if self.chat.json {
            return self.answer_as_json(events).await;
        }
        let (mut collector, mut said) = (Collector::default(), String::new());
        loop {
            let event = tokio::select! {
                biased;
                Ok(()) = tokio::signal::ctrl_c() => {
                    print(&format!("{}\n", self.plain()))?;
                    say("(stopped)");
                    self.messages.push(Message::text(Role::Assistant, said));
                    return Ok(());
                }
                event = events.next() => event.context("the answer was cut short")??,
            };
            match &event {
                Event::Text(text) => {
                    said.push_str(text);
                    print(&format!("{}{}", self.plain(), harmless(text)))?;
                }
                Event::Reasoning(text) => print(&format!("{}{}", self.dim(), harmless(text)))?,
                Event::Warning(text) => say(&format!("warning: {text}")),
                Event::Finished(finish) => {
                    print(&format!("{}\n", self.plain()))?;
                    if finish.reason == FinishReason::Length {
                        say("(the answer reached its limit; --max-tokens sets it)");
                    }
                    collector.push(event)?;
                    self.messages.push(collector.finish()?.message);
                    return Ok(());
                }
                Event::Started { .. }
                | Event::ToolCallStarted { .. }
                | Event::ToolCallArguments { .. }
                | Event::Logprobs(_) => {}
            }
            collector.push(event)?;
        }
    }

    async fn answer_as_json(&mut self, mut events: EventStream) -> anyhow::Result<()> {
        let mut collector = Collector::default();
        while let Some(event) = events.next().await {
            collector.push(event?)?;
        }
        let whole = collector.finish()?;
        let usage = whole.finish.usage;
        let line = json!({
            "answer": whole.message.plain_text(), "reasoning": whole.message.reasoning, "warnings": whole.warnings,
            "is_cut": whole.finish.reason == FinishReason::Length, "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens, "output_tokens": usage.output_tokens,
        });
        self.messages.push(whole.message);
        print(&format!("{line}\n"))
    }

    fn plain(&self) -> &'static str {
        if self.is_colourful { "\x1b[0m" } else { "" }
    }

    fn dim(&self) -> &'static str {
        if self.is_colourful { "\x1b[2m" } else { "" }
    }
}
