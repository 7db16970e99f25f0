//! The customer service.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    ordershop_customer::run(ordershop_customer::Args::parse())
}
