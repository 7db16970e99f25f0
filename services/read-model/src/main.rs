//! ordershop-read-model

fn main() {}
