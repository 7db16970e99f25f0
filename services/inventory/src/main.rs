//! The inventory service.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    ordershop_inventory::run(ordershop_inventory::Args::parse())
}
