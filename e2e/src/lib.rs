//! Tests against a shop that really runs, seen from outside: by HTTP, by Redis' own client, by the
//! Kubernetes API.
//!
//! Nothing here knows the services' code. What is expected is written down once more from the contract, so
//! that a mistake in the domain does not also hide in its test.
//!
//! | module | what it holds |
//! |---|---|
//! | [`classic`] | a client of the classic routes, the original client's ten steps, the mails they cause |
//! | [`redis`] | what Redis' own client answers, as JSON |
//! | [`demo`] | a running `cargo xtask demo` |
//! | [`cluster`] | an OrderShop in a namespace of its own on any cluster |
//! | [`enforcer`] | network policies on a cluster whose network has none |
//! | [`faults`] | that shop under faults, with an accountant |
//! | [`deadline`] | waiting for something to become true |

pub mod classic;
pub mod cluster;
pub mod deadline;
pub mod demo;
pub mod enforcer;
pub mod faults;
pub mod readme;
pub mod redis;
