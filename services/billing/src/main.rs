//! The billing service.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    ordershop_billing::run(ordershop_billing::Args::parse())
}
