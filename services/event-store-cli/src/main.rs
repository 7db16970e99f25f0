//! `eventstore`: looks at an event store, and mends it, for people at a terminal and for programs.
//!
//! What there is to see is the library's to say ([`event_store::inspect`], [`event_store::doctor`]);
//! here it is only asked for and printed. Never writes to a store unless the command says so.

mod args;
mod command;
mod connect;
mod exit;
mod kinds;
mod output;
mod view;
mod when;

use args::Args;
use clap::Parser;
use output::Out;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    // The library warns of what it passes over; people see that beside the output, not in it. What
    // it thinks of the server is said by `doctor`, not before every answer.
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("warn,event_store::doctor=off"))
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .with_ansi(output::stderr_is_coloured())
        .init();
    let mut out = Out::new(args.json);
    exit::code(command::run(args, &mut out).await)
}
