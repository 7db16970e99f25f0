//! ordershop-order

fn main() {}
