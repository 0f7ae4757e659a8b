//! Events become items of a response, and the events of its stream: one state struct, no side effects.

use axum::body::Bytes;
use chat::{Event, Finish, FinishReason};
use serde_json::{Map, Value, json};

use super::types::{
    Incomplete, InputDetails, Item, ItemContent, ItemPart, OutputDetails, ReasoningText, Status, WireError,
    WireResponse, WireUsage, completed,
};
use crate::sse;

const IN_PROGRESS: &str = "in_progress";

/// A response that is being made.
pub(super) struct Builder {
    pub(super) response: WireResponse,
    /// Number of the next stream event.
    sequence: u64,
    /// The last item is not complete.
    is_open: bool,
    /// The item of each call.
    calls: Vec<usize>,
    finish: Option<Finish>,
}

impl Builder {
    pub(super) fn new(response: WireResponse) -> Self {
        Self { response, sequence: 0, is_open: false, calls: Vec::new(), finish: None }
    }

    /// Whether the answer is whole.
    pub(super) fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// What a stream begins with.
    pub(super) fn begin(&mut self) -> Vec<Bytes> {
        self.response.status = Status::InProgress;
        vec![self.whole("response.created"), self.whole("response.in_progress")]
    }

    /// Takes an event.
    pub(super) fn push(&mut self, event: Event) -> Vec<Bytes> {
        let mut lines = Vec::new();
        match event {
            Event::Text(delta) => self.text(&delta, &mut lines),
            Event::Reasoning(delta) => self.reasoning(&delta, &mut lines),
            Event::ToolCallStarted { id, name, .. } => {
                self.close(&mut lines);
                self.calls.push(self.response.output.len());
                let (arguments, status) = (String::new(), IN_PROGRESS.to_owned());
                let item = Item::FunctionCall { id: self.item_id("fc"), call_id: id, name, arguments, status };
                self.open(item, &mut lines);
            }
            Event::ToolCallArguments { index, fragment } => self.arguments(index, &fragment, &mut lines),
            Event::Finished(finish) => {
                self.close(&mut lines);
                self.finish = Some(finish);
            }
            Event::Started { .. } | Event::Logprobs(_) | Event::Warning(_) => {}
        }
        lines
    }

    /// The response is whole. Returns the last event of its stream.
    pub(super) fn end(&mut self, now_s: u64) -> Bytes {
        let Some(finish) = &self.finish else {
            return self.fail("server_error", "the answer has no end".to_owned());
        };
        let usage = finish.usage;
        let is_cut = finish.reason == FinishReason::Length;
        self.response.usage = Some(WireUsage {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputDetails { cached_tokens: usage.cached_tokens, cache_write_tokens: 0 },
            output_tokens: usage.output_tokens,
            output_tokens_details: OutputDetails { reasoning_tokens: usage.reasoning_tokens },
            total_tokens: usage.prompt_tokens + usage.output_tokens,
        });
        self.response.completed_at = Some(now_s);
        if is_cut {
            self.response.status = Status::Incomplete;
            self.response.incomplete_details = Some(Incomplete { reason: "max_output_tokens".to_owned() });
            if let Some(last) = self.response.output.last_mut() {
                last.set_status("incomplete");
            }
            return self.whole("response.incomplete");
        }
        self.response.status = Status::Completed;
        self.whole("response.completed")
    }

    /// The response cannot become whole. Returns the last event of its stream.
    pub(super) fn fail(&mut self, code: &str, message: String) -> Bytes {
        self.give_up(Status::Failed);
        self.response.error = Some(WireError { code: code.to_owned(), message });
        self.whole("response.failed")
    }

    /// Nobody wants the rest.
    pub(super) fn cancel(&mut self) {
        self.give_up(Status::Cancelled);
        self.response.error = None;
    }

    fn give_up(&mut self, status: Status) {
        self.response.status = status;
        if let Some(last) = self.response.output.last_mut().filter(|_| self.is_open) {
            last.set_status("incomplete");
        }
    }

    fn text(&mut self, delta: &str, lines: &mut Vec<Bytes>) {
        if !matches!(self.response.output.last(), Some(Item::Message { .. }) if self.is_open) {
            self.close(lines);
            let (id, status, role) = (self.item_id("msg"), IN_PROGRESS.to_owned(), "assistant".to_owned());
            self.open(Item::Message { id, status, role, content: ItemContent::Parts(Vec::new()) }, lines);
            self.part("response.content_part.added", &said(String::new()), lines);
            if let Some(Item::Message { content, .. }) = self.response.output.last_mut() {
                *content = ItemContent::Parts(vec![said(String::new())]);
            }
        }
        if let Some(Item::Message { content: ItemContent::Parts(parts), .. }) = self.response.output.last_mut()
            && let Some(ItemPart::OutputText { text, .. }) = parts.last_mut()
        {
            text.push_str(delta);
        }
        let fields = json!({"content_index": 0, "delta": delta, "logprobs": []});
        lines.push(self.of_item("response.output_text.delta", self.last(), fields));
    }

    fn reasoning(&mut self, delta: &str, lines: &mut Vec<Bytes>) {
        if !matches!(self.response.output.last(), Some(Item::Reasoning { .. }) if self.is_open) {
            self.close(lines);
            let (id, status) = (self.item_id("rs"), IN_PROGRESS.to_owned());
            self.open(Item::Reasoning { id, summary: Vec::new(), content: Vec::new(), status }, lines);
            self.part("response.content_part.added", &ReasoningText { text: String::new() }, lines);
            if let Some(Item::Reasoning { content, .. }) = self.response.output.last_mut() {
                content.push(ReasoningText { text: String::new() });
            }
        }
        if let Some(Item::Reasoning { content, .. }) = self.response.output.last_mut()
            && let Some(part) = content.last_mut()
        {
            part.text.push_str(delta);
        }
        let fields = json!({"content_index": 0, "delta": delta});
        lines.push(self.of_item("response.reasoning_text.delta", self.last(), fields));
    }

    fn arguments(&mut self, call: u32, fragment: &str, lines: &mut Vec<Bytes>) {
        let Some(&index) = self.calls.get(call as usize) else { return };
        if let Some(Item::FunctionCall { arguments, .. }) = self.response.output.get_mut(index) {
            arguments.push_str(fragment);
        }
        lines.push(self.of_item("response.function_call_arguments.delta", index, json!({"delta": fragment})));
    }

    fn open(&mut self, item: Item, lines: &mut Vec<Bytes>) {
        self.response.output.push(item);
        self.is_open = true;
        lines.push(self.item("response.output_item.added"));
    }

    /// Ends the item that is open, with everything that has to be said about that.
    fn close(&mut self, lines: &mut Vec<Bytes>) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        let index = self.last();
        match self.response.output[index].clone() {
            Item::Message { content: ItemContent::Parts(parts), .. } => {
                for part in &parts {
                    let text = match part {
                        ItemPart::OutputText { text, .. } => text.as_str(),
                        ItemPart::InputText { .. } | ItemPart::InputImage { .. } => "",
                    };
                    let fields = json!({"content_index": 0, "text": text, "logprobs": []});
                    lines.push(self.of_item("response.output_text.done", index, fields));
                    self.part("response.content_part.done", part, lines);
                }
            }
            Item::Reasoning { content, .. } => {
                for part in &content {
                    let fields = json!({"content_index": 0, "text": part.text});
                    lines.push(self.of_item("response.reasoning_text.done", index, fields));
                    self.part("response.content_part.done", part, lines);
                }
            }
            Item::FunctionCall { name, arguments, .. } => {
                let fields = json!({"name": name, "arguments": arguments});
                lines.push(self.of_item("response.function_call_arguments.done", index, fields));
            }
            Item::Message { .. } | Item::FunctionCallOutput { .. } => {}
        }
        self.response.output[index].set_status(&completed());
        lines.push(self.item("response.output_item.done"));
    }

    fn last(&self) -> usize {
        self.response.output.len().saturating_sub(1)
    }

    /// Ids of items are those of the response with the item's place.
    fn item_id(&self, letters: &str) -> String {
        let rest = self.response.id.strip_prefix("resp_").unwrap_or(&self.response.id);
        format!("{letters}_{rest}{:x}", self.response.output.len())
    }

    fn part(&mut self, kind: &str, part: &impl serde::Serialize, lines: &mut Vec<Bytes>) {
        let fields = json!({"content_index": 0, "part": part});
        lines.push(self.of_item(kind, self.last(), fields));
    }

    fn of_item(&mut self, kind: &str, index: usize, fields: Value) -> Bytes {
        let mut event = json!({"item_id": self.response.output[index].id(), "output_index": index});
        if let (Some(event), Value::Object(fields)) = (event.as_object_mut(), fields) {
            event.extend(fields);
        }
        self.line(kind, event)
    }

    fn item(&mut self, kind: &str) -> Bytes {
        let index = self.last();
        let event = json!({"output_index": index, "item": self.response.output[index]});
        self.line(kind, event)
    }

    fn whole(&mut self, kind: &str) -> Bytes {
        let event = json!({"response": self.response});
        self.line(kind, event)
    }

    fn line(&mut self, kind: &str, fields: Value) -> Bytes {
        let mut event = Map::new();
        event.insert("type".to_owned(), kind.into());
        event.insert("sequence_number".to_owned(), self.sequence.into());
        if let Value::Object(fields) = fields {
            event.extend(fields);
        }
        self.sequence += 1;
        sse::named(kind, &Value::Object(event).to_string())
    }
}

fn said(text: String) -> ItemPart {
    ItemPart::OutputText { text, annotations: Vec::new(), logprobs: Vec::new() }
}
