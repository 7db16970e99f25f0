//! What tests of services need: a real Redis and the services' own programs, each on free ports and
//! ended when dropped. Only with the feature `testing`, never in a service.

mod program;

pub use event_store::testing::{Redis, free_port};
pub use program::Program;
