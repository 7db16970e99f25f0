//! The commands of `eventstore` as a library: another program that finds the store in its own way takes parts of the
//! command line ([`args`]) into its own, and runs them here on a [`args::Server`].
//!
//! What there is to see is the event store's to say ([`event_store::inspect`], [`event_store::doctor`]);
//! here it is only asked for and printed. Never writes to a store unless the command says so.

pub mod args;
mod command;
mod connect;
pub mod exit;
mod kinds;
pub mod output;
mod view;
pub mod when;

pub use command::run;

use tracing_subscriber::EnvFilter;

/// The library warns of what it passes over; people see that beside the output, not in it. What it thinks of the
/// server is said by `doctor`, not before every answer.
pub fn warn_on_stderr() {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("warn,event_store::doctor=off"))
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .with_ansi(output::stderr_is_coloured())
        .init();
}
