//! Server-sent events, read piece by piece: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.
//!
//! Lines end in LF, CR or CRLF. Fields other than `event` and `data` are skipped, as are comments. The readers that
//! exist as crates keep an unfinished line of any length; this one does not.

use crate::Fault;

/// Bytes of one event at most: the largest that servers send is a whole tool call.
pub(crate) const EVENT_BYTES_MAX: usize = 4 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Event {
    /// Its name; empty if it has none.
    pub(crate) name: String,
    /// Its data lines, joined by line feeds.
    pub(crate) data: String,
}

/// Bytes to events.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    line: Vec<u8>,
    /// The last byte was CR: a following LF belongs to it.
    after_cr: bool,
    /// Nothing was read yet: a byte order mark may come.
    past_start: bool,
    name: String,
    data: String,
    has_data: bool,
    /// Lines that were read, comments too. They show that the other side is alive.
    lines: u64,
}

impl Reader {
    /// Lines that were read so far.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// Takes the next bytes and appends the events that they complete.
    ///
    /// # Errors
    /// [`Fault::TooLarge`] if an event has more than [`EVENT_BYTES_MAX`] bytes; [`Fault::Garbage`] if a line is no
    /// text.
    pub(crate) fn push(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), Fault> {
        let mut rest = bytes;
        while !rest.is_empty() {
            // CRLF is one end of line, also where it is cut in two.
            if std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let piece = &rest[..end.unwrap_or(rest.len())];
            if self.line.len() + self.data.len() + piece.len() > EVENT_BYTES_MAX {
                return Err(Fault::TooLarge { what: "one event", limit_bytes: EVENT_BYTES_MAX });
            }
            self.line.extend_from_slice(piece);
            let Some(end) = end else { return Ok(()) };
            self.after_cr = rest[end] == b'\r';
            self.end_line(events)?;
            rest = &rest[end + 1..];
        }
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        self.lines += 1;
        let line = std::mem::take(&mut self.line);
        let mut text = std::str::from_utf8(&line)
            .map_err(|_| Fault::Garbage { what: "a line that is not UTF-8 where an event was due".to_owned() })?;
        if !std::mem::replace(&mut self.past_start, true) {
            text = text.strip_prefix('\u{feff}').unwrap_or(text);
        }
        if text.is_empty() {
            let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            if std::mem::take(&mut self.has_data) {
                events.push(Event { name, data });
            }
            return Ok(());
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(value);
            }
            "event" => value.clone_into(&mut self.name),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base::Rng;

    use super::{EVENT_BYTES_MAX, Event, Reader};

    fn check(text: &str, expected: &[(&str, &str)]) {
        let expected: Vec<Event> =
            expected.iter().map(|&(name, data)| Event { name: name.to_owned(), data: data.to_owned() }).collect();
        for piece in 1..=text.len().max(1) {
            let (mut reader, mut events) = (Reader::default(), Vec::new());
            for bytes in text.as_bytes().chunks(piece) {
                reader.push(bytes, &mut events).unwrap();
            }
            assert_eq!(events, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        check("data: a\n\n", &[("", "a")]);
        check("data:a\r\n\r\ndata: b\r\rdata: c\n\n", &[("", "a"), ("", "b"), ("", "c")]);
        check("event: x\ndata: 1\ndata: 2\n\n: comment\n\nid: 7\nretry: 3\n\n", &[("x", "1\n2")]);
        check("\u{feff}data: é\n\n", &[("", "é")]);
        check("data\n\nevent: lost\n\ndata: after\n\n", &[("", ""), ("", "after")]);
        check("id:1\nevent:result\n:HTTP_STATUS/200\ndata:{}\n\n", &[("result", "{}")]);
        check("data: not ended by an empty line\n", &[]);
    }

    #[test]
    fn a_line_that_never_ends_is_refused() {
        let (mut reader, mut events) = (Reader::default(), Vec::new());
        let piece = vec![b'a'; EVENT_BYTES_MAX];
        reader.push(&piece, &mut events).unwrap();
        assert!(reader.push(b"a", &mut events).is_err());
        let mut reader = Reader::default();
        let lines = format!("data: {}\n", "x".repeat(1 << 16)).repeat(EVENT_BYTES_MAX >> 16);
        assert!(reader.push(lines.as_bytes(), &mut events).is_err(), "data lines without an end count too");
        assert!(events.is_empty());
    }

    #[test]
    fn foreign_bytes_never_panic() {
        let mut rng = Rng::seeded(3);
        for _ in 0..2_000 {
            let (mut reader, mut events) = (Reader::default(), Vec::new());
            let length = rng.below(200);
            let alphabet = b"data:event \r\n\xff\xc3\xa9{}";
            let bytes: Vec<u8> = (0..length).map(|_| alphabet[rng.below(alphabet.len() as u64) as usize]).collect();
            // Either outcome is fine.
            let _ = reader.push(&bytes, &mut events);
        }
    }
}
