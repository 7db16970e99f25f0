//! Every read of the shop: keeps projections of the log in Redis and answers the classic queries
//! from them.
//!
//! It appends nothing and reads no entity cache; what a projection holds is a function of the log.

mod projection;
mod reader;
mod routes;

use chassis::config::StoreApiArgs;
use chassis::kinds;
use clap::Parser;
use event_store::Projection;
use reader::Reader;
use std::process::ExitCode;

/// The read model of the shop: answers every query.
#[derive(Parser, Clone, Debug)]
#[command(version)]
struct Args {
    #[command(flatten)]
    base: StoreApiArgs,
}

fn main() -> ExitCode {
    let Args { base } = Args::parse();
    base.service("read-model").run(async move |app| {
        let store = app.connect(&base.redis, []).await;
        let projection = Projection::new("read-model", projection::VERSION).streams(kinds::all_streams());
        let view = app.project(&store, projection, projection::writes);
        app.serve(routes::router(Reader::new(store, view)));
        Ok(())
    })
}
