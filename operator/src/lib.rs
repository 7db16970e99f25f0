//! The operator of OrderShop: turns `kind: OrderShop` into nine Deployments plus Redis, and keeps it so.
//!
//! One reconciliation is five steps, one file each (see [`controller`]):
//!
//! ```text
//! fetch (I/O) → validate (pure) → build (pure) → apply (I/O) → status (pure, then one write)
//! ```
//!
//! It knows Kubernetes and the shop's outside: images, ports, environment. It knows nothing of customers and
//! orders, and it never talks to Redis or to a service.

#![expect(clippy::doc_markdown, reason = "kinds such as OrderShop and ConfigMap are words here")]

pub mod admin;
pub mod api;
pub mod check;
pub mod controller;
#[expect(unreachable_pub, reason = "the derive of a schema makes an inner copy of each type")]
pub mod crd;
pub mod lease;
pub mod metrics;
pub mod rights;
pub mod run;
pub mod service;
