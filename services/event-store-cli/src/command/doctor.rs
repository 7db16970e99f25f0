//! `eventstore doctor`.

use crate::args::Server;
use crate::connect;
use crate::exit::{Done, Failure};
use crate::output::{Colour, Out};
use event_store::doctor::{self, Severity};

pub(super) async fn run(server: &Server, out: &mut Out) -> Result<Done, Failure> {
    let findings = doctor::diagnose(&connect::config(server).await?).await?;
    let wrong = findings.iter().any(|f| f.severity > Severity::Info);
    if out.json {
        out.value(&findings)?;
    } else {
        for finding in &findings {
            let colour = match finding.severity {
                Severity::Info => Colour::Calm,
                Severity::Warn => Colour::Odd,
                _ => Colour::Bad,
            };
            let head = format!("{:<7}", finding.severity);
            out.marked(colour, &head, &format!("{}: {}", finding.server, finding.problem))?;
            if !finding.remedy.is_empty() {
                out.line(format!("       → {}", finding.remedy))?;
            }
        }
        if !wrong {
            out.line("The server is fit.")?;
        }
    }
    Ok(if wrong { Done::Wrong } else { Done::Fine })
}
