//! The shop on a cluster under the faults that only a cluster has, judged by the accountant of the crate `faults`.
//!
//! ```text
//!   this machine                        │ cluster
//!   load ──────── node port ────────────┼─▶ gateway … services ─▶ Redis
//!   mail server ◀───────────────────────┼── notification             │
//!   books ◀────── port-forward ─────────┼────────────────────────────┘
//! ```
//!
//! The load takes the node port, since a port-forward ends with the kubelet. So nodes must be reachable from this
//! machine, and this machine from pods, as it is with kind.

mod inject;
mod nodes;
mod shop;

pub use nodes::Engine;

use crate::cluster::{READY_WITHIN, Shop, with_shop};
use anyhow::{Context, Result};
use faults::accountant::audit;
use faults::books::{self, Books};
use faults::history::Recorder;
use faults::inject::steps;
use faults::load::Load;
use faults::report::Report;
use faults::run::{Settings, at_rest};
use faults::shop::Sink;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Longer than the longest claim time (30 s) and any pause between two retries, on a machine that does all of it.
const REST_WITHIN: Duration = Duration::from_mins(4);

/// Does a run on a shop of its own. An error means that there is no verdict. `engine` can stop a kubelet.
pub async fn run(settings: &Settings, engine: Option<&Engine>) -> Result<(Report, Books)> {
    let mut verdict = None;
    with_shop("faults", async |shop| {
        verdict = Some(on(shop, settings, engine).await?);
        Ok(())
    })
    .await?;
    verdict.context("the shop was not tried")
}

async fn on(shop: &Shop, settings: &Settings, engine: Option<&Engine>) -> Result<(Report, Books)> {
    let node = nodes::address(shop).await?;
    let sink = Sink::start(nodes::our_address(node)?, &settings.folder).await?;
    let port = shop::prepare(shop, &sink.url(), settings.schedule.fsync).await?;
    let recorder = Arc::new(Recorder::create(&settings.folder.join("history.ndjson"), settings.seed)?);
    let load = Load::new(recorder.clone(), format!("http://{}", SocketAddr::new(node, port)), settings.seed)?;

    let faults = steps(&recorder, &settings.schedule, async |fault| inject::one(shop, engine, fault).await);
    load.during(settings.clients, settings.length, faults).await?;

    let mut troubles = Vec::new();
    if let Err(error) = shop.ready(READY_WITHIN).await {
        troubles.push(format!("{error:#}"));
    }
    let read = async || {
        let (_forward, mut connection) = shop::redis(shop).await?;
        books::read(&mut connection, &sink.mails()?, &BTreeSet::new()).await
    };
    let books = at_rest(REST_WITHIN, read).await?;
    let history = recorder.history();
    troubles.extend(history.troubles());
    let lines = audit(&history, &books);
    let report = Report::new(settings.seed, &history, &books, lines, troubles);
    if !report.is_clean() {
        shop::keep_logs(shop, &settings.folder).await?;
    }
    Ok((report, books))
}
