//! The shop's commands and its saga: the services in one process, over real sockets, on a real
//! Redis of each test's own.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod commands;
mod contention;
mod harness;
mod mails;
mod saga;
