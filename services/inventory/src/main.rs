//! ordershop-inventory

fn main() {}
