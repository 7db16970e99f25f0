//! `kubectl ordershop`: what a person on call asks a shop, and does about it, with the rights of their kubeconfig.
//!
//! What Kubernetes knows comes from the API server; what the event store knows comes from the shop's Redis, reached
//! through the API server's port-forward. It never changes anything unless the command says so, and it never prints
//! a password.

mod args;
mod cluster;
mod failure;
mod hibernate;
mod redis;
mod report;
mod restart;
mod run;
mod status;

use event_store_cli::output::Out;
use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = args::parse();
    event_store_cli::warn_on_stderr();
    let mut out = Out::new(args.output == args::Output::Json);
    failure::code(run::run(args, &mut out).await)
}
