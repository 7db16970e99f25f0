//! Events on one line each, and `eventstore entity ID`.

use crate::args::Server;
use crate::exit::{Done, Failure};
use crate::output::{Colour, Out, remark};
use crate::{connect, view, when};
use event_store::Event;
use event_store::inspect::LogEntry;

/// So much of a state stands on a line.
const BEGINNING: usize = 120;

pub(super) async fn entity(
    server: &Server,
    id: &str,
    kind: Option<&str>,
    full: bool,
    out: &mut Out,
) -> Result<Done, Failure> {
    let store = connect::look(server).await?;
    let history = store.inspect().history(&store.streams().await?, kind, id).await?;
    if history.is_empty() {
        let what = kind.map_or_else(|| "entity".to_owned(), ToOwned::to_owned);
        return Err(Failure::NotFound(format!("the log has no event of the {what} {id:?}")));
    }
    for entry in &history {
        print(entry, full, out)?;
    }
    if let Some(Ok(first)) = history.first().map(|entry| &entry.content)
        && first.version > 1
    {
        remark(&format!("what was before v{} was trimmed", first.version));
    }
    Ok(Done::Fine)
}

pub(super) fn print(entry: &LogEntry, full: bool, out: &mut Out) -> Result<(), Failure> {
    if out.json {
        return Ok(out.value(&view::entry(entry))?);
    }
    match &entry.content {
        Ok(event) => print_event(event, full, out),
        Err(e) => {
            let head = format!("{} {} {}", when::time(entry.id.ms), entry.id, entry.stream);
            Ok(out.marked(Colour::Odd, &head, &format!(" is no event: {e}"))?)
        }
    }
}

pub(super) fn print_event(event: &Event, full: bool, out: &mut Out) -> Result<(), Failure> {
    if out.json {
        return Ok(out.value(&view::event(event))?);
    }
    let head = format!("{} {}", when::time(event.id.ms), event.id);
    let body = event.entity.to_string();
    let body = if full { body } else { beginning(&body) };
    let rest =
        format!(" {} {}/{} v{} {body}", event.stream, event.entity_type, event.entity_id, event.version);
    Ok(out.marked(Colour::Calm, &head, &rest)?)
}

fn beginning(text: &str) -> String {
    match text.char_indices().nth(BEGINNING) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
