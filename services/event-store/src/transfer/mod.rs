//! A store as a file and back: NDJSON that a person can read and a checksum that tells a cut or an
//! altered file before anything of it is written.
//!
//! ```text
//! {"format":"eventstore","version":1,"layout":"plain","streams":[…],"clocks":{…},"trimmed":{…}}
//! {"stream":"account_created","id":"5-1","fields":[["event_id","…"],["entity","{…}"],…]}
//! {"stream":"account_created","id":"6-0","snapshot":true,"fields":[["raw",{"base64":"//4="}]]}
//! {"count":2,"sha256":"…"}          over every line before it, with their line ends
//! ```
//!
//! Groups, positions, dead letters and projections do not travel: they are built from the log.

mod export;
mod import;
mod lines;

pub use export::{Export, ExportError, Exported};
pub use import::{Import, ImportError, ImportErrorKind, ImportPreview, Imported};
