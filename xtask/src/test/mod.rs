//! `cargo xtask test`: everything that can be checked. First the checks that run nothing of ours and the builds, then all
//! tests side by side, since most of them wait. The summary says where the time went.
//!
//! A part that fails keeps no other from running. What cannot run counts as failed, with its reason.

pub(crate) mod cluster;
mod ignored;
mod libtest;
mod nextest;
mod outcome;
mod pages;
mod parts;
mod summary;

use crate::{build, tools};
use anyhow::Result;
use outcome::{Counts, Section};
use std::thread;
use summary::Moment;

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run one part only
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// The long form of every test, too
    #[arg(long)]
    full: bool,
}

/// The parts, in the order of the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Format, licences, lints, documentation, generated files
    Check,
    /// Unit and integration tests, those on a real Redis included; without those of the event store, see `servers`
    Unit,
    /// The event store's suite on Redis 7.0 and 8.0, Valkey 8.1 and a Redis Cluster
    Servers,
    /// `cargo xtask demo`, driven from outside
    Demo,
    /// The shop under kill, scale and poison, in its short form
    Faults,
    /// The operator and the shop on the real cluster
    E2e,
}

/// Runs the parts; the last line on stdout is `N passed, N failed`.
pub(crate) fn run(args: &Args) -> Result<()> {
    // All that tests write to temporary folders goes here and away with it, also what a killed test has left.
    let scratch = tempfile::Builder::new().prefix("ordershop-test-").tempdir()?;
    let reasons = ignored::reasons(&tools::root())?;
    let context = parts::Context { scratch: scratch.path().to_owned(), full: args.full, reasons };

    let mut moments = vec![("checking and building", Moment::now()?)];
    let mut sections = Vec::new();
    let is_wanted = |part: Part| args.only.is_none_or(|only| only == part);
    if build(is_wanted, args.full, &mut sections) {
        moments.push(("testing", Moment::now()?));
        sections.extend(side_by_side(is_wanted, &context));
    }
    moments.push(("", Moment::now()?));

    let total = summary::total(&sections);
    println!("\n{}\n{total}", summary::text(&sections, &build::take_compiled(), &moments));
    scratch.close().unwrap_or_else(|error| eprintln!("cannot remove the tests' temporary folder: {error}"));
    if total.failed > 0 || total.passed == 0 {
        std::process::exit(1);
    }
    Ok(())
}

/// Checks the sources and builds what the tests need; false when there is nothing to test, or nothing to test it with.
fn build(is_wanted: impl Fn(Part) -> bool, full: bool, sections: &mut Vec<Section>) -> bool {
    let (demo, faults, e2e) = (is_wanted(Part::Demo), is_wanted(Part::Faults), is_wanted(Part::E2e));
    thread::scope(|scope| {
        // A cluster that is created waits most of the time, unless its own programs must be built.
        let created = e2e.then(|| scope.spawn(move || cluster::create(full)));
        if is_wanted(Part::Check) {
            sections.push(parts::checks());
        }
        let mut is_built = false;
        if demo || faults || e2e || is_wanted(Part::Unit) || is_wanted(Part::Servers) {
            let built = parts::build(demo || faults || e2e, faults);
            is_built = built.counts() == Counts::default();
            sections.push(built);
        }
        if let Some(Err(error)) = created.map(|created| created.join().unwrap_or(Ok(()))) {
            // The tests on it will say so once more, and count it.
            println!("  !! the cluster: {error:#}");
        }
        is_built
    })
}

fn side_by_side(is_wanted: impl Fn(Part) -> bool, context: &parts::Context) -> Vec<Section> {
    thread::scope(|scope| {
        let unit = is_wanted(Part::Unit).then(|| scope.spawn(|| parts::unit(context)));
        let servers = is_wanted(Part::Servers).then(|| scope.spawn(|| parts::servers(context)));
        let (demo, faults) = (is_wanted(Part::Demo), is_wanted(Part::Faults));
        // Both start a whole shop of processes: one after the other.
        let shops = scope.spawn(move || {
            let demo = demo.then(|| parts::demo(context));
            demo.into_iter().chain(faults.then(|| parts::faults(context))).collect::<Vec<_>>()
        });
        let e2e = is_wanted(Part::E2e).then(|| scope.spawn(|| vec![parts::cluster(context)]));
        let running = unit.into_iter().chain(servers).chain([shops]).chain(e2e);
        running.flat_map(|part| part.join().unwrap_or_else(|_| vec![Section::panicked()])).collect()
    })
}
