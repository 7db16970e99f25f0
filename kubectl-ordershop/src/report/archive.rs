//! The files of a report, and writing them as tar.gz. Never overwrites a file.

use super::redact::Redaction;
use crate::failure::Failure;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What has been found so far. Everything goes through the redaction on its way in.
pub(super) struct Bundle {
    redaction: Redaction,
    files: Vec<(String, String)>,
    /// What could not be found out, and why.
    problems: Vec<String>,
}

impl Bundle {
    pub(super) fn new(redaction: Redaction) -> Self {
        Self { redaction, files: Vec::new(), problems: Vec::new() }
    }

    /// A file as it is.
    pub(super) fn text(&mut self, path: impl Into<String>, text: &str) {
        self.files.push((path.into(), self.redaction.text(text)));
    }

    /// An object of Kubernetes as YAML.
    pub(super) fn object(&mut self, path: impl Into<String>, object: &impl Serialize) {
        let path = path.into();
        let object = serde_json::to_value(object).map_err(|e| e.to_string());
        let yaml = object.and_then(|object| {
            serde_norway::to_string(&self.redaction.object(object)).map_err(|e| e.to_string())
        });
        match yaml {
            Ok(yaml) => self.text(path, &yaml),
            Err(e) => self.problem(&format!("{path}: {e}")),
        }
    }

    /// JSON, a value a file.
    pub(super) fn json(&mut self, path: impl Into<String>, value: &Value) {
        // Redacted as a value first: in the text quotes would be part of a URL's end.
        let value = self.redaction.object(value.clone());
        self.text(path, &format!("{value:#}\n"));
    }

    /// Something that is missing in the report.
    pub(super) fn problem(&mut self, text: &str) {
        self.problems.push(self.redaction.text(text));
    }

    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Writes all files below `folder`; how many.
    pub(super) fn write(mut self, to: &Path, folder: &str) -> Result<usize, Failure> {
        let at = |e: io::Error| Failure::Failed(format!("{}: {e}", to.display()));
        if !self.problems.is_empty() {
            let problems = self.problems.join("\n") + "\n";
            self.files.push(("problems.txt".to_owned(), problems));
        }
        // For its owner alone, like any file about a production system.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(at)?;
        let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        for (path, text) in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(now);
            archive.append_data(&mut header, format!("{folder}/{path}"), text.as_bytes()).map_err(at)?;
        }
        let mut file = archive.into_inner().and_then(GzEncoder::finish).map_err(at)?;
        file.flush().and_then(|()| file.sync_all()).map_err(at)?;
        Ok(self.files.len())
    }
}
