//! Everything that is printed: tables for people, JSON for programs. A text from the store may hold
//! anything, so nothing reaches a terminal that it would take for a command.

use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;
use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal, StdoutLock, Write};

/// Where the answer goes: stdout.
pub struct Out {
    stdout: StdoutLock<'static>,
    /// Whether it is for programs.
    pub json: bool,
    coloured: bool,
}

/// A column of a table: texts to the left, numbers to the right.
pub enum Column {
    /// To the left.
    Text(&'static str),
    /// To the right.
    Number(&'static str),
}

/// Colours by meaning.
#[derive(Clone, Copy)]
pub enum Colour {
    /// Something is broken.
    Bad,
    /// Something should be looked at.
    Odd,
    /// Background.
    Calm,
}

fn wants_colour(is_terminal: bool) -> bool {
    is_terminal
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|v| v != "dumb")
}

/// Whether people read stderr on a terminal with colours.
#[must_use]
pub fn stderr_is_coloured() -> bool {
    wants_colour(io::stderr().is_terminal())
}

impl Out {
    /// To stdout.
    #[must_use]
    pub fn new(json: bool) -> Self {
        let coloured = wants_colour(io::stdout().is_terminal());
        Self { stdout: io::stdout().lock(), json, coloured }
    }

    /// A line for people.
    pub fn line(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.stdout, "{}", plain(&text.to_string()))?;
        self.stdout.flush()
    }

    /// A line for people that begins with a coloured word.
    pub fn marked(&mut self, colour: Colour, word: &str, text: &str) -> io::Result<()> {
        let (begin, end) = if self.coloured { (code(colour), "\x1b[0m") } else { ("", "") };
        writeln!(self.stdout, "{begin}{}{end}{}", plain(word), plain(text))?;
        self.stdout.flush()
    }

    /// A line for programs.
    pub fn value(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value).map_err(io::Error::other)?;
        writeln!(self.stdout, "{}", plain_json(&text))?;
        self.stdout.flush()
    }

    /// A table for people.
    pub fn table(&mut self, columns: &[Column], rows: Vec<Vec<String>>) -> io::Result<()> {
        self.stdout.write_all(table(columns, rows).as_bytes())?;
        self.stdout.flush()
    }
}

/// A table as text, odd characters written out.
#[must_use]
pub fn table(columns: &[Column], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|c| match c {
        Column::Text(name) | Column::Number(name) => *name,
    }));
    for row in rows {
        table.add_row(row.iter().map(|text| Cell::new(plain(text))));
    }
    for (column, kind) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        if matches!(kind, Column::Number(_)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{}\n", table.trim_fmt())
}

/// A remark beside the output, for people.
pub fn remark(text: &str) {
    // Nobody may be there to read it; the output says all that counts.
    let _ = writeln!(io::stderr(), "{}", plain(text));
}

fn code(colour: Colour) -> &'static str {
    match colour {
        Colour::Bad => "\x1b[31m",
        Colour::Odd => "\x1b[33m",
        Colour::Calm => "\x1b[2m",
    }
}

/// Characters that a terminal acts upon, or that make a text look like another.
fn is_odd(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The text with odd characters written out: `\u{1b}`.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_odd(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// The same JSON with odd characters (which stand in texts only) as JSON writes them: `\u001b`.
fn plain_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if is_odd(c) {
            // All of them lie below U+10000, where one escape is one character.
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// A number, or what stands for one that nobody knows.
#[must_use]
pub fn known(value: Option<impl Display>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |v| v.to_string())
}

/// A value, or a dash for one that there is none of.
#[must_use]
pub fn any(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_command_the_terminal() {
        assert_eq!(plain("a\x1b[31m\n\u{9b}b\u{202e}"), "a\\u{1b}[31m\\n\\u{9b}b\\u{202e}");
        assert_eq!(plain("ü 漢字 \"x\""), "ü 漢字 \"x\"");
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({ "a": "x\u{9b}\u{202e}\x1b\u{7f}ü" });
        let safe = plain_json(&value.to_string());
        assert!(!safe.chars().any(is_odd), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}
