//! ordershop-product

fn main() {}
