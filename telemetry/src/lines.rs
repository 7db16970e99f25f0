//! The trace in every line of a log that is written as JSON, so that a line leads to its trace.

use crate::trace_id;
use std::io::{self, Write};
use tracing_subscriber::fmt::MakeWriter;

/// A writer of whole lines, each an object of JSON: puts `trace_id` in front where there is a trace, and hands each
/// line on as one write.
#[derive(Clone, Debug)]
pub struct Traced<M>(pub M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Traced<M> {
    type Writer = Line<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(self.0.make_writer())
    }
}

/// One line.
#[derive(Debug)]
pub struct Line<W>(W);

impl<W: Write> Write for Line<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match (line.split_first(), trace_id()) {
            (Some((b'{', rest)), Some(id)) if rest.first() == Some(&b'"') => {
                self.0.write_all(&[format!("{{\"trace_id\":\"{id}\",").as_bytes(), rest].concat())?;
            }
            _ => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
