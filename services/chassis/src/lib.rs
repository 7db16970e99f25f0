//! What every service of the shop needs and none should write twice: configuration, JSON logs,
//! the HTTP server with its errors, the admin port (`/livez`, `/readyz`, `/metrics`), the
//! connection to the event store and a shutdown that ends within a bound.
//!
//! The main path: a service parses its arguments, makes a [`Service`] and calls
//! [`Service::run`] with a function that sets it up on an [`App`].
//!
//! This library never decides anything about the shop: what an order may do stands in `domain`,
//! what a route answers in the service that owns it.

mod admin;
mod app;
pub mod body;
pub mod classic;
pub mod config;
pub mod context;
pub mod events;
mod health;
mod http;
pub mod kinds;
mod listen;
mod log;
mod look;
mod metrics;
mod observe;
pub mod problem;
mod service;
mod signal;
#[cfg(feature = "testing")]
pub mod testing;

pub use app::App;
pub use body::RawJson;
pub use context::Context;
pub use health::Gate;
pub use problem::Problem;
pub use service::{BoxError, Running, Service, StartError};
pub use telemetry::with_causes;
