//! ordershop-notification

fn main() {}
