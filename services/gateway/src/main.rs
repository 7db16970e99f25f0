//! ordershop-gateway

fn main() {}
