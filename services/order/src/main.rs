//! The order service.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    ordershop_order::run(ordershop_order::Args::parse())
}
