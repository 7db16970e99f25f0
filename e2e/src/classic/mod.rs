//! The original client's side of the contract: its routes, its run, and the mails that follow from it.

mod client;
mod mails;
mod run;

pub use client::{Client, Customer, Inventory, Order, Product, Report};
pub use mails::{Mail, ReceivedMail, check_order_per_customer, compare};
pub use run::{Run, run};
