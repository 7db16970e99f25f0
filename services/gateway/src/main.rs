//! The edge of the shop: the one address that clients know. Forwards each command to the service
//! that owns the entity, each query to the read model.
//!
//! It keeps nothing, decides nothing about the shop and never touches Redis.

mod args;
mod forward;
mod headers;
mod routes;
mod upstream;

use args::Args;
use chassis::Service;
use clap::Parser;
use forward::Forwarder;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    let service = Service::new("gateway", args.common.clone()).with_http(args.http());
    service.run(async move |app| {
        let forwarder = Forwarder::new(args.limits());
        app.serve(routes::router(&args.upstreams, &forwarder));
        Ok(())
    })
}
