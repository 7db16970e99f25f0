//! `eventstore streams`.

use crate::args::Server;
use crate::exit::{Done, Failure};
use crate::output::{Column, Out, any, remark};
use crate::{connect, when};

pub(super) async fn run(server: &Server, bytes: bool, out: &mut Out) -> Result<Done, Failure> {
    let store = connect::look(server).await?;
    let found = store.inspect().discover().await?;
    let infos = store.inspect().streams(&found.streams, bytes).await?;
    if !found.foreign.is_empty() {
        remark(&format!("not of this store, or of another layout: {}", found.foreign.join(", ")));
    }
    if out.json {
        out.value(&infos)?;
        return Ok(Done::Fine);
    }
    let mut columns = vec![
        Column::Text("STREAM"),
        Column::Number("LENGTH"),
        Column::Number("GROUPS"),
        Column::Text("FIRST"),
        Column::Text("LAST"),
        Column::Text("LAST TIME"),
    ];
    if bytes {
        columns.push(Column::Number("BYTES"));
    }
    let rows = infos
        .iter()
        .map(|s| {
            let mut row = vec![
                s.stream.to_string(),
                s.length.to_string(),
                s.groups.to_string(),
                any(s.first),
                any(s.last),
                any(s.last.map(|id| when::time(id.ms))),
            ];
            if bytes {
                row.push(any(s.bytes));
            }
            row
        })
        .collect();
    out.table(&columns, rows)?;
    Ok(Done::Fine)
}
