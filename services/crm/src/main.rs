//! The crm service.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    ordershop_crm::run(ordershop_crm::Args::parse())
}
