//! The shop under kill, scale and poison, with an accountant who checks every cent.
//!
//! ```text
//!   seed ──▶ schedule ──▶ inject ─▶ ┌───────────────┐
//!     └────▶ load ── calls ───────▶ │ nine services │ ──▶ Redis, mails
//!              │                    └───────────────┘         │
//!              ▼ history                                      ▼ books
//!              └──────────────▶ accountant ◀──────────────────┘
//!                                   └──▶ a verdict, line by line
//! ```
//!
//! The accountant is pure: it is given what clients were told and what was written down, and shares no code
//! with what it judges. Nothing here is part of what users deploy; nothing leaves the loopback.

pub mod accountant;
pub mod books;
pub mod cli;
pub mod history;
pub mod inject;
pub mod load;
pub mod report;
pub mod rng;
pub mod run;
pub mod schedule;
pub mod shop;
