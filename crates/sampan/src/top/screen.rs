//! What `sampan top` draws. It gives up columns before it becomes unreadable: a narrow pane shows less, not garbage.

use std::cmp::Reverse;
use std::collections::VecDeque;

use ledger::calendar::show_time;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{LineGauge, Paragraph, Row, Sparkline, Table};

use super::News;
use super::sample::{Model, Request, Sample};

/// Looks that the line of tokens a second remembers: as many as a wide terminal has columns.
const REMEMBERED: usize = 512;

/// What is on the screen.
pub(super) struct State {
    base: String,
    sample: Option<Sample>,
    taken_ms: u64,
    /// Why the last look failed.
    trouble: Option<String>,
    /// Tokens a second, oldest first.
    rates: VecDeque<u64>,
    /// Requests that are scrolled past.
    above: usize,
    pub(super) is_paused: bool,
}

impl State {
    pub(super) fn new(base: &str) -> Self {
        Self {
            base: base.to_owned(),
            sample: None,
            taken_ms: 0,
            trouble: None,
            rates: VecDeque::new(),
            above: 0,
            is_paused: false,
        }
    }

    /// What was seen at a time. A paused screen stays as it is.
    pub(super) fn take(&mut self, news: News, now_ms: u64) {
        if self.is_paused {
            return;
        }
        match news {
            Ok(mut sample) => {
                if let Some(requests) = &mut sample.requests {
                    // Those that run stand above those that are over.
                    requests.sort_by_key(|request| (request.over_us.is_some(), Reverse(request.arrived_at_ms)));
                }
                self.rates.push_back(sample.tokens_per_second.round() as u64);
                if self.rates.len() > REMEMBERED {
                    self.rates.pop_front();
                }
                (self.sample, self.taken_ms, self.trouble) = (Some(sample), now_ms, None);
            }
            Err(why) => self.trouble = Some(why),
        }
        self.scroll(0);
    }

    pub(super) fn scroll(&mut self, by: isize) {
        let requests = self.sample.as_ref().and_then(|sample| sample.requests.as_ref());
        let last = requests.map_or(0, |requests| requests.len().saturating_sub(1));
        self.above = self.above.saturating_add_signed(by).min(last);
    }
}

const HEAD: Style = Style::new().fg(Color::DarkGray);

pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let area = frame.area();
    let has_trouble = u16::from(state.trouble.is_some());
    let [title, trouble, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(has_trouble),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(heading(state), title);
    if let Some(why) = &state.trouble {
        // The hint has a line of its own where there is room for one.
        let line = why.split('\n').next().unwrap_or_default();
        frame.render_widget(Line::from(format!(" {line}; trying again")).red().bold(), trouble);
    }
    let paused = if state.is_paused { "  paused" } else { "" };
    frame.render_widget(Line::from(format!(" q quit  ↑↓ scroll  p pause{paused}")).style(HEAD), foot);
    match &state.sample {
        Some(sample) => figures(frame, body, state, sample),
        None if state.trouble.is_none() => frame.render_widget(Line::from(" asking…").style(HEAD), body),
        None => {}
    }
}

fn heading(state: &State) -> Line<'_> {
    let mut spans = vec![" Sampan".bold()];
    if let Some(sample) = &state.sample {
        let (word, colour) = if sample.ready { ("ready", Color::Green) } else { ("stopping", Color::Yellow) };
        spans.extend([format!(" {}", sample.version).into(), "  ".into(), Span::styled(word, colour)]);
    }
    spans.extend([format!("  {}", state.base).into()]);
    if state.taken_ms > 0 {
        let time = show_time(state.taken_ms);
        spans.push(Span::styled(format!("  {}", time.get(11..19).unwrap_or_default()), HEAD));
    }
    Line::from(spans)
}

fn figures(frame: &mut Frame<'_>, area: Rect, state: &State, sample: &Sample) {
    let is_tall = area.height >= 16;
    let models = u16::try_from(sample.models.len()).unwrap_or(u16::MAX).saturating_add(1).min(area.height / 3 + 1);
    let [numbers, line, gauge, _, models, _, requests] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(if is_tall { 3 } else { 0 }),
        Constraint::Length(u16::from(sample.kv_max_bytes > 0)),
        Constraint::Length(u16::from(is_tall)),
        Constraint::Length(models),
        Constraint::Length(u16::from(is_tall)),
        Constraint::Min(0),
    ])
    .areas(area);
    frame.render_widget(totals(sample), numbers);
    let hidden = state.rates.len().saturating_sub(usize::from(line.width.saturating_sub(2)));
    let rates = Sparkline::default().data(state.rates.iter().skip(hidden).copied()).style(Color::Cyan);
    frame.render_widget(rates, inset(line));
    if sample.kv_max_bytes > 0 {
        let label = format!("KV {} of {}", bytes(sample.kv_used_bytes), bytes(sample.kv_max_bytes));
        let ratio = (sample.kv_used_bytes as f64 / sample.kv_max_bytes as f64).clamp(0.0, 1.0);
        let colour = if ratio > 0.9 { Color::Yellow } else { Color::Cyan };
        let bar = LineGauge::default().label(label).ratio(ratio);
        frame.render_widget(bar.filled_style(colour).unfilled_style(HEAD), inset(gauge));
    }
    frame.render_widget(model_table(&sample.models, area.width), inset(models));
    match &sample.requests {
        None => frame.render_widget(Line::from(" requests: an administrator's key sees them").style(HEAD), requests),
        Some(found) if found.is_empty() => {
            frame.render_widget(Line::from(" no request yet: sampan chat, or any client").style(HEAD), requests);
        }
        Some(found) => {
            let rows = found.iter().skip(state.above).take(usize::from(requests.height));
            frame.render_widget(request_table(rows, state.taken_ms, area.width), inset(requests));
        }
    }
}

fn inset(area: Rect) -> Rect {
    Rect { x: area.x + area.width.min(1), width: area.width.saturating_sub(2), ..area }
}

fn totals(sample: &Sample) -> Paragraph<'static> {
    let mut spans = Vec::new();
    let mut say = |name: &str, value: String| {
        spans.extend([Span::styled(format!(" {name} "), HEAD), Span::styled(value, Modifier::BOLD), " ".into()]);
    };
    say("live", sample.live.to_string());
    say("waiting", sample.waiting.to_string());
    say("tokens/s", format!("{:.1}", sample.tokens_per_second));
    say("prefix hits", hits(sample.cached_tokens, sample.prompt_tokens));
    if let Some(micro) = sample.spend_today_micro {
        say("spent today", format!("${:.4}", micro as f64 / 1e6));
    }
    Paragraph::new(Line::from(spans))
}

/// A column: its heading, its width, and the width of a terminal from which on it is shown.
type Column<'a, T> = (&'static str, u16, u16, &'a dyn Fn(&T) -> String);

fn table<'a, T: 'a>(
    rows: impl Iterator<Item = &'a T>,
    columns: &[Column<'_, T>],
    style: impl Fn(&T) -> Style,
    width: u16,
) -> Table<'static> {
    let shown = || columns.iter().filter(|column| column.2 <= width);
    let widths = shown().map(|column| match column.1 {
        0 => Constraint::Fill(1),
        fixed => Constraint::Length(fixed),
    });
    let rows = rows.map(|row| Row::new(shown().map(|column| (column.3)(row)).collect::<Vec<_>>()).style(style(row)));
    Table::new(rows.collect::<Vec<_>>(), widths.collect::<Vec<_>>())
        .header(Row::new(shown().map(|column| column.0).collect::<Vec<_>>()).style(HEAD))
}

fn model_table(models: &[Model], width: u16) -> Table<'static> {
    let columns: [Column<'_, Model>; 9] = [
        ("MODEL", 0, 0, &|model| model.id.clone()),
        ("STATE", 8, 50, &|model| model.state.replace('_', " ")),
        ("LIVE", 5, 0, &|model| model.live.to_string()),
        ("WAIT", 5, 60, &|model| model.waiting.to_string()),
        ("TOK/S", 8, 0, &|model| format!("{:.1}", model.tokens_per_second)),
        ("HITS", 6, 70, &|model| hits(model.cached_tokens, model.prompt_tokens)),
        ("FIRST", 9, 80, &|model| model.first_token_ms.map_or_else(|| "-".to_owned(), |ms| span((ms * 1e3) as u64))),
        ("OUT", 9, 60, &|model| model.output_tokens.to_string()),
        ("WEIGHTS", 9, 90, &|model| bytes(model.weights_bytes)),
    ];
    let style = |model: &Model| match model.state.as_str() {
        "failed" => Color::Red.into(),
        "on_disk" => HEAD,
        _ => Style::new(),
    };
    table(models.iter(), &columns, style, width)
}

fn request_table<'a>(requests: impl Iterator<Item = &'a Request>, now_ms: u64, width: u16) -> Table<'static> {
    let columns: [Column<'_, Request>; 8] = [
        ("STATE", 10, 0, &|request| request.reason.clone().unwrap_or_else(|| request.state.clone())),
        ("MODEL", 0, 0, &|request| request.model.clone()),
        ("ROUTE", 22, 110, &|request| request.route.clone()),
        ("PROJECT", 14, 130, &|request| request.project.clone().unwrap_or_default()),
        ("TIME", 9, 0, &|request| {
            let now_us = now_ms.saturating_sub(request.arrived_at_ms).saturating_mul(1000);
            span(request.over_us.unwrap_or(now_us))
        }),
        ("FIRST", 9, 60, &|request| request.first_token_us.map_or_else(|| "-".to_owned(), span)),
        ("IN", 7, 70, &|request| request.prompt_tokens.to_string()),
        ("OUT", 7, 50, &|request| request.output_tokens.to_string()),
    ];
    let style = |request: &Request| match request.state.as_str() {
        "refused" | "failed" => Color::Red.into(),
        "finished" | "left" => HEAD,
        _ => Style::new(),
    };
    table(requests, &columns, style, width)
}

fn hits(cached: u64, all: u64) -> String {
    if all == 0 { "-".to_owned() } else { format!("{:.0} %", cached as f64 / all as f64 * 100.0) }
}

fn bytes(count: u64) -> String {
    match count {
        0 => "-".to_owned(),
        1..1_000_000 => format!("{:.0} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

fn span(us: u64) -> String {
    match us {
        0..1_000_000 => format!("{:.0} ms", us as f64 / 1e3),
        1_000_000..100_000_000 => format!("{:.1} s", us as f64 / 1e6),
        _ => format!("{} min", us / 60_000_000),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::{State, draw};
    use crate::top::sample::{Model, Request, Sample};

    fn sample() -> Sample {
        let model = |id: &str, state: &str| Model { id: id.to_owned(), state: state.to_owned(), ..Model::default() };
        let request = |id: u64, over_us: Option<u64>| Request {
            state: if over_us.is_none() { "generating" } else { "finished" }.to_owned(),
            model: format!("model-{id}"),
            arrived_at_ms: 1000 + id,
            over_us,
            ..Request::default()
        };
        Sample {
            version: "1.2.3".to_owned(),
            ready: true,
            live: 3,
            waiting: 1,
            tokens_per_second: 412.5,
            kv_used_bytes: 1_200_000_000,
            kv_max_bytes: 4_000_000_000,
            prompt_tokens: 100,
            cached_tokens: 63,
            spend_today_micro: Some(1_234_500),
            models: vec![model("qwen3-8b", "loaded"), model("a\u{1b}[31m\u{202e}b", "on_disk")],
            requests: Some((0..100).map(|id| request(id, (id != 50).then_some(2_500_000))).collect()),
            ..Sample::default()
        }
    }

    fn drawn(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state)).unwrap();
        terminal.backend().to_string()
    }

    fn shown() -> State {
        let mut state = State::new("http://127.0.0.1:8420");
        state.take(Ok(sample()), 3000);
        state
    }

    #[test]
    fn everything_is_on_a_usual_terminal() {
        let text = drawn(&shown(), 100, 30);
        let words = [
            "Sampan 1.2.3",
            "ready",
            "live 3",
            "waiting 1",
            "tokens/s 412.5",
            "prefix hits 63 %",
            "spent today $1.2345",
            "KV 1.2 GB of 4.0 GB",
            "qwen3-8b",
            "loaded",
            "on disk",
            "2.5 s",
            "q quit",
        ];
        for word in words {
            assert!(text.contains(word), "{word}\n{text}");
        }
        // The one that runs stands above those that came later.
        let (live, newest) = (text.find("model-50").unwrap(), text.find("model-99").unwrap());
        assert!(live < newest, "{text}");
        assert!(text.contains("generating"), "{text}");
    }

    #[test]
    fn any_size_is_drawn_and_hostile_names_stay_in_their_cells() {
        let state = shown();
        for width in [1, 2, 10, 40, 79, 132, 300] {
            for height in [1, 2, 5, 12, 24, 90] {
                let text = drawn(&state, width, height);
                assert!(!text.contains('\u{1b}'), "{text}");
            }
        }
        assert!(drawn(&state, 40, 12).contains("qwen3-8b"));
    }

    #[test]
    fn requests_scroll_and_stop_at_the_last() {
        let mut state = shown();
        state.scroll(3);
        assert!(!drawn(&state, 100, 30).contains("model-50"));
        state.scroll(1000);
        assert!(drawn(&state, 100, 30).contains("model-0 "));
        state.scroll(isize::MIN);
        assert!(drawn(&state, 100, 30).contains("model-50"));
    }

    #[test]
    fn a_lost_server_is_said_and_what_was_seen_stays() {
        let mut state = State::new("http://127.0.0.1:1");
        assert!(drawn(&state, 80, 24).contains("asking"));
        state.take(Err("ask http://127.0.0.1:1: refused\nhint: start it".to_owned()), 1);
        let text = drawn(&state, 80, 24);
        assert!(text.contains("refused; trying again") && !text.contains("asking"), "{text}");
        state.take(Ok(sample()), 2);
        state.take(Err("gone".to_owned()), 3);
        let text = drawn(&state, 80, 24);
        assert!(text.contains("gone; trying again") && text.contains("qwen3-8b"), "{text}");
        state.is_paused = true;
        state.take(Ok(sample()), 4);
        let text = drawn(&state, 80, 24);
        assert!(text.contains("gone") && text.contains("paused"), "{text}");
    }

    #[test]
    fn less_is_shown_to_whoever_may_see_less() {
        let mut state = State::new("http://a");
        let idle = Sample { requests: None, spend_today_micro: None, kv_max_bytes: 0, ..sample() };
        state.take(Ok(idle), 1);
        let text = drawn(&state, 80, 24);
        assert!(text.contains("administrator") && !text.contains("spent") && !text.contains("KV"), "{text}");
        state.take(Ok(Sample { requests: Some(Vec::new()), ..sample() }), 1);
        assert!(drawn(&state, 80, 24).contains("no request yet"));
    }
}
