//! ordershop-operator

fn main() {}
