//! What the shop is, apart from how it runs: entities, the requests that make and change them,
//! and every decision — may this order have its stock, what becomes of the order then, which mail
//! is due and how it reads.
//!
//! The main path of an order: [`parse_list`] → [`Order::place`] → [`stock::decide`] →
//! [`Order::decide`] → [`mail::thank_you`].
//!
//! This library never does I/O: it knows no Redis, no HTTP and no clock, and makes no random ids.
//! What it needs of those is passed in, so that every decision can be tested as a table.

mod billing;
mod draft;
mod entity;
mod invalid;
pub mod mail;
pub mod money;
mod order;
mod parse;
mod reservation;
pub mod stock;

pub use billing::{Billing, BillingCustomer, BillingError};
pub use draft::{
    BillingDraft, BillingUpdate, CustomerDraft, Draft, InventoryDraft, OrderDraft, ProductDraft, is_id,
};
pub use entity::{Customer, Inventory, Product};
pub use invalid::{FieldError, Invalid, InvalidKind};
pub use mail::{Mail, MailKind};
pub use order::{
    Batch, BatchMember, Change, Content, Item, Order, Party, Status, Undecided, UnknownReference, Verdict,
};
pub use parse::{MAX_ITEMS, parse_list, parse_one};
pub use reservation::{Line, Reservation, Short};
