//! Every read of the shop: keeps projections of the log in Redis and answers the classic queries
//! from them.
//!
//! It appends nothing and reads no entity cache; what a projection holds is a function of the log.

mod projection;
mod reader;
mod routes;

use chassis::config::{CommonArgs, HttpArgs, RedisArgs};
use chassis::{Service, kinds};
use clap::Parser;
use event_store::Projection;
use reader::Reader;
use std::process::ExitCode;

/// The read model of the shop: answers every query.
#[derive(Parser, Clone, Debug)]
#[command(version)]
struct Args {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    redis: RedisArgs,
    #[command(flatten)]
    http: HttpArgs,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let service = Service::new("read-model", args.common).with_http(args.http);
    service.run(async move |app| {
        let store = app.connect(&args.redis).await;
        let projection = Projection::new("read-model", projection::VERSION).streams(kinds::all_streams());
        let view = app.project(&store, projection, projection::writes);
        app.serve(routes::router(Reader::new(store, view)));
        Ok(())
    })
}
