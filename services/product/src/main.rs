//! The product service.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    ordershop_product::run(ordershop_product::Args::parse())
}
