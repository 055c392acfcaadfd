//! What commands write: lines, records, tables that fit the terminal, JSON. Nothing that came from elsewhere reaches a terminal
//! as control codes.

use std::borrow::Cow;
use std::io::Write;

use super::CommandError;

/// No column is made narrower than this, so that what is left of a name still tells something.
const COLUMN_MIN: usize = 8;

/// How the output looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Columns of the terminal; `None` if it is none, and nothing is shortened.
    pub columns: Option<usize>,
    /// Whether it has colours.
    pub colours: bool,
}

/// Where a command writes.
pub struct Screen<'a> {
    out: &'a mut dyn Write,
    style: Style,
}

/// How a word stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tint {
    Plain,
    Good,
    Waiting,
    Bad,
    Over,
}

/// A word in a table or a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    tint: Tint,
}

impl Cell {
    pub(super) fn new(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), tint: Tint::Plain }
    }

    /// The status of a sale or of a booking.
    pub(super) fn status(text: impl Into<String>) -> Cell {
        let text = text.into();
        let tint = match text.split(',').next().unwrap_or_default() {
            "open" | "confirmed" | "live" => Tint::Good,
            "paused" | "scheduled" | "held" => Tint::Waiting,
            "frozen" | "missing" | "unreadable" | "silent" => Tint::Bad,
            "closed" | "ended" | "cancelled" | "expired" | "removed" => Tint::Over,
            _ => Tint::Plain,
        };
        Cell { text, tint }
    }
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column {
    /// Words, from the left; may be shortened.
    Words(&'static str),
    /// Numbers, from the right.
    Numbers(&'static str),
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Column::Words(title) | Column::Numbers(title) => title,
        }
    }
}

impl<'a> Screen<'a> {
    /// Writes there.
    pub fn new(out: &'a mut dyn Write, style: Style) -> Screen<'a> {
        Screen { out, style }
    }

    /// A line of text.
    ///
    /// # Errors
    /// If it cannot be written; so with all of these.
    pub fn line(&mut self, text: &str) -> Result<(), CommandError> {
        Ok(writeln!(self.out, "{}", plain(text))?)
    }

    /// A JSON document, on one line.
    pub(super) fn json(&mut self, document: &str) -> Result<(), CommandError> {
        Ok(writeln!(self.out, "{}", plain_json(document))?)
    }

    /// What was written goes out.
    pub(super) fn flush(&mut self) -> Result<(), CommandError> {
        Ok(self.out.flush()?)
    }

    /// One thing, a line for each of its properties.
    pub(super) fn record(&mut self, properties: &[(&str, Cell)]) -> Result<(), CommandError> {
        let width = properties.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(10);
        for (name, cell) in properties {
            let text = self.tinted(&plain(&cell.text), cell.tint);
            writeln!(self.out, "{name:width$} {text}")?;
        }
        Ok(())
    }

    /// Things of a kind, a row each. What is wider than the terminal is shortened, and if that does not do, each becomes a
    /// record.
    pub(super) fn table(&mut self, columns: &[Column], rows: &[Vec<Cell>]) -> Result<(), CommandError> {
        let rows: Vec<Vec<(String, Tint)>> = rows
            .iter()
            .map(|row| row.iter().map(|cell| (plain(&cell.text).into_owned(), cell.tint)).collect())
            .collect();
        let widest = |at: usize| rows.iter().map(|row| row[at].0.chars().count()).max().unwrap_or(0);
        let natural: Vec<usize> =
            (0..columns.len()).map(|at| widest(at).max(columns[at].title().len())).collect();
        let Some(widths) = fitted(columns, &natural, self.style.columns) else {
            for (index, row) in rows.iter().enumerate() {
                if index > 0 {
                    writeln!(self.out)?;
                }
                let cells = columns.iter().zip(row);
                let properties: Vec<_> = cells
                    .map(|(column, (text, tint))| (column.title(), Cell { text: text.clone(), tint: *tint }))
                    .collect();
                self.record(&properties)?;
            }
            return Ok(());
        };
        let titles = columns.iter().map(|column| (column.title().to_owned(), Tint::Plain)).collect();
        for row in std::iter::once(&titles).chain(&rows) {
            let mut line = String::new();
            for (at, (text, tint)) in row.iter().enumerate() {
                let text = shortened(text, widths[at]);
                let pad = " ".repeat(widths[at] - text.chars().count());
                let text = self.tinted(&text, *tint);
                line.push_str(if at > 0 { "  " } else { "" });
                match columns[at] {
                    Column::Words(_) => line.extend([text.as_str(), pad.as_str()]),
                    Column::Numbers(_) => line.extend([pad.as_str(), text.as_str()]),
                }
            }
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn tinted(&self, text: &str, tint: Tint) -> String {
        let code = match tint {
            _ if !self.style.colours => return text.to_owned(),
            Tint::Plain => return text.to_owned(),
            Tint::Good => "32",
            Tint::Waiting => "33",
            Tint::Bad => "31",
            Tint::Over => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// A bar of that many columns for how much of a whole is done, and what else there is to say.
pub fn progress_bar(done: u64, whole: u64, said: &str, columns: usize) -> String {
    let part = if whole == 0 { 1.0 } else { (done as f64 / whole as f64).min(1.0) };
    let told = format!(" {:3.0}% {said}", part * 100.0);
    let room = columns.saturating_sub(told.chars().count() + 3).min(BAR_COLUMNS_MAX);
    let full = (room as f64 * part) as usize;
    let line = format!("[{}{}]{told}", "#".repeat(full), "-".repeat(room - full));
    line.chars().take(columns.saturating_sub(1)).collect()
}

/// A longer bar tells no more.
const BAR_COLUMNS_MAX: usize = 40;

/// Widths of columns of which the widest of words gives way first; `None` if all of it gives way and it still does not fit.
fn fitted(columns: &[Column], natural: &[usize], room: Option<usize>) -> Option<Vec<usize>> {
    let mut widths = natural.to_vec();
    let Some(room) = room else { return Some(widths) };
    let gaps = 2 * columns.len().saturating_sub(1);
    loop {
        let excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(room);
        if excess == 0 {
            return Some(widths);
        }
        let words = (0..widths.len()).filter(|&at| matches!(columns[at], Column::Words(_)));
        let at = words.filter(|&at| widths[at] > COLUMN_MIN).max_by_key(|&at| widths[at])?;
        widths[at] -= 1;
    }
}

fn shortened(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// Whether a terminal may do something else than show it: control codes, and what turns the direction of the text around it.
fn acts_on_a_terminal(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text in which nothing acts on a terminal: such characters are written out, as Rust has them.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(acts_on_a_terminal) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match acts_on_a_terminal(letter) {
            true => out.extend(letter.escape_default()),
            false => out.push(letter),
        }
    }
    Cow::Owned(out)
}

/// The same of a JSON document, with its own escapes: control codes below a space stand between its parts alone, as white space.
fn plain_json(document: &str) -> Cow<'_, str> {
    if !document.contains(acts_on_a_terminal) {
        return Cow::Borrowed(document);
    }
    let mut out = String::with_capacity(document.len());
    for letter in document.chars() {
        match acts_on_a_terminal(letter) {
            true if letter < ' ' => out.push(' '),
            true => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            false => out.push(letter),
        }
    }
    Cow::Owned(out)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [Column::Words("SALE"), Column::Words("STATUS"), Column::Numbers("TOTAL")];

    fn written(style: Style, write: impl FnOnce(&mut Screen<'_>) -> Result<(), CommandError>) -> String {
        let mut out = Vec::new();
        write(&mut Screen::new(&mut out, style)).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn rows() -> Vec<Vec<Cell>> {
        let row = |name: &str, status: &str, total: &str| {
            vec![Cell::new(name), Cell::status(status), Cell::new(total)]
        };
        vec![row("a", "open", "1000000"), row("a-name-that-is-rather-long", "closed", "5")]
    }

    #[test]
    fn a_table_is_as_wide_as_what_is_in_it_and_fits_the_terminal() {
        let table =
            |columns| written(Style { columns, colours: false }, |screen| screen.table(&COLUMNS, &rows()));
        assert_eq!(
            table(None),
            "SALE                        STATUS    TOTAL\n\
             a                           open    1000000\n\
             a-name-that-is-rather-long  closed        5\n"
        );
        assert_eq!(table(Some(43)), table(None));
        assert_eq!(
            table(Some(30)),
            "SALE           STATUS    TOTAL\n\
             a              open    1000000\n\
             a-name-that-…  closed        5\n"
        );
        for columns in 25..60 {
            let widest = table(Some(columns)).lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= columns, "{columns}: {widest}");
        }
        assert_eq!(
            table(Some(20)),
            "SALE       a\nSTATUS     open\nTOTAL      1000000\n\n\
             SALE       a-name-that-is-rather-long\nSTATUS     closed\nTOTAL      5\n"
        );
    }

    #[test]
    fn a_bar_fits_its_line() {
        assert_eq!(progress_bar(5, 10, "x", 20), "[#####-----]  50% x".to_owned());
        assert_eq!(progress_bar(0, 0, "x", 80), format!("[{}] 100% x", "#".repeat(40)));
        assert_eq!(progress_bar(7, 5, "x", 12), "[##] 100% x");
        for columns in 1..90 {
            assert!(progress_bar(3, 9, "something to say", columns).chars().count() < columns);
        }
    }

    #[test]
    fn colours_are_for_those_who_see_them_and_move_no_column() {
        let table =
            |colours| written(Style { columns: Some(80), colours }, |screen| screen.table(&COLUMNS, &rows()));
        let coloured = table(true);
        assert!(coloured.contains("\x1b[32mopen\x1b[0m    1000000"), "{coloured:?}");
        let bare =
            ["\x1b[32m", "\x1b[2m", "\x1b[0m"].iter().fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(bare, table(false));
    }

    #[test]
    fn nothing_that_came_from_elsewhere_acts_on_the_terminal() {
        let wicked = "a\x1b[2J\u{9b}31m\u{202e}b\r\nc\u{7f}";
        let shown = written(Style { columns: Some(200), colours: false }, |screen| {
            screen.line(wicked)?;
            screen.record(&[("name", Cell::new(wicked))])?;
            screen.table(&[Column::Words("X")], &[vec![Cell::new(wicked)]])?;
            screen.json(&format!("{{\"a\":\n\"{}\"}}", wicked.replace(['\x1b', '\r', '\n'], "")))
        });
        assert_eq!(shown.lines().count(), 5);
        assert!(!shown.contains(|letter| acts_on_a_terminal(letter) && letter != '\n'), "{shown:?}");
        let json: serde_json::Value = serde_json::from_str(shown.lines().last().unwrap()).unwrap();
        assert_eq!(json["a"], "a[2J\u{9b}31m\u{202e}bc\u{7f}");
        assert_eq!(plain("Grüße, 你好"), "Grüße, 你好");
    }
}
