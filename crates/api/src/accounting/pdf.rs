//! An invoice as PDF: A4 across, in the fonts that every reader brings. They know the letters of Western Europe;
//! names in other scripts are written in Latin letters, which the page then says, and stand in the page of HTML as
//! they are.

use ledger::Invoice;
use ledger::calendar::{show_day, show_month, show_time};
use ledger::money::dollars;
use pdf_writer::{Content, Finish as _, Name, Pdf, Rect, Ref, Str, TextStr};

/// A4 across, in points.
const PAGE: (f32, f32) = (842.0, 595.0);
const MARGIN: f32 = 48.0;
const SIZE: f32 = 9.0;
const LINE: f32 = 15.0;
/// Lines of the table on one page, above the sum and what follows it.
const LINES_MAX: usize = 26;
const PLAIN: Name<'_> = Name(b"P");
const BOLD: Name<'_> = Name(b"B");
/// What a page says where a name was written in other letters than its own.
const SPELLED: &str = "Names in other scripts are written in Latin letters here.";
/// What stands for the end of a name without room.
const CUT: &str = "..";

/// Thousandths of the size that the characters from the space to the tilde take in Helvetica (Adobe's font metrics).
const WIDTHS: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556, 556, 556,
    556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833,
    722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556,
    556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334,
    260, 334, 584,
];
/// The same for a letter outside of them, about.
const WIDTH_OTHER: u16 = 600;

/// A column: its head, its left or right edge, and the points that its text has.
struct Column {
    head: &'static str,
    at: f32,
    is_right: bool,
    room: f32,
}

const fn left(head: &'static str, at: f32, room: f32) -> Column {
    Column { head, at, is_right: false, room }
}

const fn right(head: &'static str, at: f32) -> Column {
    Column { head, at, is_right: true, room: 75.0 }
}

const COLUMNS: [Column; 9] = [
    left("Model", MARGIN, 215.0),
    left("Region", 268.0, 62.0),
    left("What", 335.0, 58.0),
    right("Requests", 435.0),
    right("Tokens in", 507.0),
    right("cached", 572.0),
    right("Tokens out", 645.0),
    right("Other units", 715.0),
    right("Dollars", PAGE.0 - MARGIN),
];

/// The invoice as a file.
#[must_use]
pub fn pdf_of_invoice(invoice: &Invoice) -> Vec<u8> {
    let rows: Vec<[String; 9]> = invoice.lines.iter().map(row).collect();
    let pages: Vec<&[[String; 9]]> = if rows.is_empty() { vec![&[]] } else { rows.chunks(LINES_MAX).collect() };
    let is_spelled = is_spelled(&invoice.project) || rows.iter().flatten().any(|text| is_spelled(text));
    let mut next = 0;
    let mut reference = || {
        next += 1;
        Ref::new(next)
    };
    let [catalog, tree, plain, bold, about] = std::array::from_fn(|_| reference());
    let kids: Vec<(Ref, Ref)> = pages.iter().map(|_| (reference(), reference())).collect();
    let mut pdf = Pdf::new();
    pdf.catalog(catalog).pages(tree);
    // A title is Unicode, whatever the fonts know.
    let title = format!("Invoice {}, project {}", show_month(invoice.from_ms), invoice.project);
    pdf.document_info(about).title(TextStr(&title));
    let count = i32::try_from(kids.len()).unwrap_or(i32::MAX);
    pdf.pages(tree).kids(kids.iter().map(|(page, _)| *page)).count(count);
    for (number, (&(page, content), lines)) in kids.iter().zip(&pages).enumerate() {
        let mut written = pdf.page(page);
        written.media_box(Rect::new(0.0, 0.0, PAGE.0, PAGE.1)).parent(tree).contents(content);
        written.resources().fonts().pair(PLAIN, plain).pair(BOLD, bold);
        written.finish();
        let place = Place { number: number + 1, of: kids.len(), is_spelled };
        pdf.stream(content, &drawn(invoice, lines, place));
    }
    for (font, name) in [(plain, Name(b"Helvetica")), (bold, Name(b"Helvetica-Bold"))] {
        pdf.type1_font(font).base_font(name).encoding_predefined(Name(b"WinAnsiEncoding"));
    }
    pdf.finish()
}

fn row(line: &ledger::usage::Total) -> [String; 9] {
    let counts = [line.requests, line.tokens_in, line.tokens_cached, line.tokens_out, line.units];
    let [requests, tokens_in, cached, out, units] = counts.map(|count| count.to_string());
    let names = [line.model.clone(), line.region.clone(), line.activity.clone()];
    let [model, region, activity] = names;
    [model, region, activity, requests, tokens_in, cached, out, units, dollars(line.price_micro)]
}

/// Which page it is.
struct Place {
    number: usize,
    of: usize,
    is_spelled: bool,
}

/// What stands on one page.
fn drawn(invoice: &Invoice, lines: &[[String; 9]], Place { number, of, is_spelled }: Place) -> Vec<u8> {
    let mut content = Content::new();
    let mut y = PAGE.1 - MARGIN;
    text(&mut content, BOLD, 16.0, (MARGIN, y), &format!("Invoice {}", show_month(invoice.from_ms)));
    y -= 20.0;
    let about = format!(
        "Project {}, {} to {} (UTC). Written {}.",
        invoice.project,
        show_day(invoice.from_ms),
        show_day(invoice.to_ms - 1),
        show_time(invoice.written_ms),
    );
    text(&mut content, PLAIN, SIZE, (MARGIN, y), &about);
    y -= 26.0;
    for column in &COLUMNS {
        cell(&mut content, BOLD, column, y, column.head);
    }
    rule(&mut content, y - 4.0);
    for line in lines {
        y -= LINE;
        for (column, value) in COLUMNS.iter().zip(line) {
            cell(&mut content, PLAIN, column, y, value);
        }
    }
    if number == of {
        rule(&mut content, y - 4.0);
        y -= LINE;
        cell(&mut content, BOLD, &COLUMNS[0], y, "Sum");
        cell(&mut content, BOLD, &COLUMNS[8], y, &dollars(invoice.sum_micro()));
        y -= 22.0;
        text(&mut content, PLAIN, SIZE, (MARGIN, y), &invoice.payment());
        if is_spelled {
            text(&mut content, PLAIN, SIZE, (MARGIN, y - LINE), SPELLED);
        }
    }
    text(&mut content, PLAIN, 8.0, (MARGIN, MARGIN - 20.0), &format!("Page {number} of {of}"));
    content.finish().into_vec()
}

fn rule(content: &mut Content, y: f32) {
    content.set_line_width(0.5).move_to(MARGIN, y).line_to(PAGE.0 - MARGIN, y).stroke();
}

fn cell(content: &mut Content, font: Name<'_>, column: &Column, y: f32, value: &str) {
    let mut shown = spelled(value);
    if width(&shown) > column.room {
        while width(&shown) + width(CUT) > column.room && shown.pop().is_some() {}
        shown.push_str(CUT);
    }
    let x = if column.is_right { column.at - width(&shown) } else { column.at };
    text(content, font, SIZE, (x, y), &shown);
}

/// Points that a text takes in the plain font at [`SIZE`]; heads in the bold one are a little wider.
fn width(text: &str) -> f32 {
    let thousandths = |character: char| match character {
        ' '..='~' => WIDTHS[character as usize - ' ' as usize],
        _ => WIDTH_OTHER,
    };
    text.chars().map(|character| f32::from(thousandths(character))).sum::<f32>() * SIZE / 1000.0
}

fn text(content: &mut Content, font: Name<'_>, size: f32, (x, y): (f32, f32), shown: &str) {
    let latin = |character| u8::try_from(u32::from(character)).unwrap_or(b'?');
    let bytes: Vec<u8> = spelled(shown).chars().map(latin).collect();
    content.begin_text().set_font(font, size).next_line(x, y).show(Str(&bytes)).end_text();
}

/// Latin-1 is the fonts' encoding but for controls.
fn is_latin(character: char) -> bool {
    matches!(character, ' '..='~' | '\u{a1}'..='\u{ff}')
}

fn is_spelled(text: &str) -> bool {
    !text.chars().all(is_latin)
}

/// The same in letters that the fonts have.
fn spelled(text: &str) -> String {
    let mut latin = String::with_capacity(text.len());
    for character in text.chars() {
        match is_latin(character) {
            true => latin.push(character),
            false => latin.push_str(deunicode::deunicode_char(character).unwrap_or("?")),
        }
    }
    latin.retain(is_latin);
    latin.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use ledger::Invoice;
    use ledger::usage::Total;

    use super::{SIZE, SPELLED, is_latin, pdf_of_invoice, spelled, width};

    fn invoice(lines: usize) -> Invoice {
        let line = |index: usize| Total {
            start_ms: 0,
            project: "p".to_owned(),
            key: "k".to_owned(),
            model: format!("model-{index}"),
            region: "home".to_owned(),
            activity: "generate".to_owned(),
            requests: 2,
            tokens_in: 10,
            tokens_cached: 4,
            tokens_out: 20,
            units: 0,
            price_micro: 1_500_000,
        };
        Invoice {
            project: "r\u{f6}b(ots) \u{6a5f}\u{68b0}".to_owned(),
            from_ms: 1_793_491_200_000,
            to_ms: 1_796_083_200_000,
            written_ms: 1_796_083_200_000,
            lines: (0..lines).map(line).collect(),
            paid_micro: 1_000_000,
            paid_tokens: 5,
        }
    }

    fn has(file: &[u8], text: &[u8]) -> bool {
        file.windows(text.len()).any(|window| window == text)
    }

    #[test]
    fn every_line_stands_on_a_page_and_the_sum_on_the_last() {
        for (lines, pages) in [(0, 1), (26, 1), (27, 2), (200, 8)] {
            let file = pdf_of_invoice(&invoice(lines));
            assert!(file.starts_with(b"%PDF-") && file.ends_with(b"%%EOF"), "{lines}");
            assert!(has(&file, format!("(Page {pages} of {pages})").as_bytes()), "{lines}");
            assert!((0..lines).all(|index| has(&file, format!("(model-{index})").as_bytes())), "{lines}");
            let cents = lines * 150;
            assert!(has(&file, format!("({}.{:02})", cents / 100, cents % 100).as_bytes()), "{lines}");
        }
    }

    #[test]
    fn names_are_spelled_in_letters_of_the_font_and_cannot_end_their_text() {
        assert_eq!(spelled("r\u{f6}b(ots) \u{6a5f}\u{68b0}"), "r\u{f6}b(ots) Ji Jie");
        assert_eq!(spelled("\u{43c}\u{43e}\u{434}\u{435}\u{43b}"), "model");
        let odd = spelled("a\r\n\u{0}\u{20ac}\u{e000}\u{1f980}z");
        assert!(odd.chars().all(is_latin) && odd.starts_with('a') && odd.ends_with('z'), "{odd:?}");
        let file = pdf_of_invoice(&invoice(1));
        assert!(has(&file, SPELLED.as_bytes()) && !has(&file, "\u{6a5f}".as_bytes()));
        assert!(!has(&pdf_of_invoice(&Invoice { project: "p".to_owned(), ..invoice(1) }), SPELLED.as_bytes()));
    }

    #[test]
    fn a_long_name_ends_before_the_next_column() {
        let mut long = invoice(1);
        long.lines[0].model = "W".repeat(500);
        let file = pdf_of_invoice(&long);
        assert!(has(&file, b"WW..)") && !has(&file, &b"W".repeat(30)));
        assert!((width("0123456789") - 10.0 * 0.556 * SIZE).abs() < 1e-3);
    }
}
