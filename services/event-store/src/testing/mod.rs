//! Real servers for tests, on free ports, with folders of their own; ended when dropped. Only with
//! the feature `testing`, never in a program.
//!
//! Which program runs and what it is set up as can be chosen from outside, so that one suite runs on
//! all of them: see [`PROGRAM`] and [`Setup`].

mod clock;
mod cluster;
mod ports;
mod proxy;
mod redis;
mod sentinels;
mod setup;

pub use clock::Clock;
pub use cluster::Cluster;
pub use ports::free_port;
pub use proxy::{Line, Lost, Proxy};
pub use redis::{PROGRAM, Redis, patient_connection, write_file_anew};
pub use sentinels::Sentinels;
pub use setup::{LAYOUT, Server, Setup};

/// Names the environment variable that makes a program call functions of another name, as a program
/// of another version of this crate does. Set it for a process of its own.
pub const VERSION: &str = "EVENTSTORE_TEST_VERSION";
