//! Short hashes that tell whether something changed. Not for secrets' protection: only for comparison.

use serde::Serialize;
use sha2::{Digest, Sha256};

/// 16 hex digits of the SHA-256 of some bytes.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes)[..8])
}

/// All 64 hex digits of the SHA-256 of some bytes.
pub(crate) fn whole(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// 16 hex digits of the SHA-256 of a value's JSON. By way of a JSON value, as everything here is written: the code
/// that writes a whole pod is large, and is compiled once per target.
pub(crate) fn of<T: Serialize>(value: &T) -> Result<String, serde_json::Error> {
    Ok(of_bytes(serde_json::to_value(value)?.to_string().as_bytes()))
}
