//! ordershop-customer

fn main() {}
