//! ordershop-crm

fn main() {}
