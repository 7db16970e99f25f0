//! ordershop-billing

fn main() {}
