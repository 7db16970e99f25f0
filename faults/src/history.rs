//! The written history of a run: every call with its answer or the lack of one, every fault with its time.
//! It is what clients saw, so it knows nothing of the log; the accountant compares the two.

use crate::schedule::Fault;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The HTTP method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The JSON body of a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

/// The methods that the shop knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Reads.
    Get,
    /// Creates.
    Post,
    /// Replaces.
    Put,
    /// Deletes.
    Delete,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// An answer.
    Status(u16, Value),
    /// None: a time-out, a broken connection. Whether it was done is unknown.
    Lost(String),
}

/// A call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Sent as `x-request-id`; the events of a command carry it as their correlation id.
    pub id: String,
    /// When it was sent, in microseconds since the run began.
    pub begin: u64,
    /// When its answer was there, or was given up.
    pub end: u64,
    /// What was asked.
    pub request: Request,
    /// What came back.
    pub answer: Answer,
}

/// An entry that the fault "poison" wrote into a stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Poison {
    /// The stream's key.
    pub stream: String,
    /// The entry's id.
    pub id: String,
}

/// A fault that was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Which.
    pub fault: Fault,
    /// When it began, in microseconds since the run began.
    pub begin: u64,
    /// When all was as before.
    pub end: u64,
    /// What it wrote into streams.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poison: Vec<Poison>,
    /// What went wrong with the harness itself, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A line of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first one: the seed, and when the run began in Unix seconds.
    Begin {
        /// The seed.
        seed: u64,
        /// Unix seconds.
        unix: f64,
    },
    /// A call that has ended.
    Call(Call),
    /// A fault that has ended.
    Fault(Done),
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// When the run began, in Unix seconds.
    pub unix: f64,
    /// All calls, in the order of their ends.
    pub calls: Vec<Call>,
    /// All faults.
    pub faults: Vec<Done>,
}

/// Writes the history while it happens, so that a run that is killed leaves what it saw.
#[derive(Debug)]
pub struct Recorder {
    begin: Instant,
    inner: Mutex<(History, BufWriter<File>)>,
}

impl Recorder {
    /// Begins a history in a new file.
    pub fn create(path: &Path, seed: u64) -> anyhow::Result<Self> {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let history = History { unix, ..History::default() };
        let recorder =
            Self { begin: Instant::now(), inner: Mutex::new((history, BufWriter::new(File::create(path)?))) };
        recorder.write(&Line::Begin { seed, unix });
        Ok(recorder)
    }

    /// Microseconds since the run began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Keeps a call.
    pub fn call(&self, call: Call) {
        let line = Line::Call(call);
        self.write(&line);
        if let Line::Call(call) = line {
            self.inner.lock().unwrap_or_else(PoisonError::into_inner).0.calls.push(call);
        }
    }

    /// Keeps a fault.
    pub fn fault(&self, done: Done) {
        let line = Line::Fault(done);
        self.write(&line);
        if let Line::Fault(done) = line {
            self.inner.lock().unwrap_or_else(PoisonError::into_inner).0.faults.push(done);
        }
    }

    /// The history so far.
    pub fn history(&self) -> History {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // A disk that is full costs the file, not the run.
        let _ = inner.1.flush();
        inner.0.clone()
    }

    fn write(&self, line: &Line) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(text) = serde_json::to_string(line) {
            let _ = writeln!(inner.1, "{text}");
        }
    }
}

impl History {
    /// The faults that the harness could not do or undo.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let trouble = |done: &Done| Some(format!("{}: {}", done.fault.name(), done.trouble.as_ref()?));
        self.faults.iter().filter_map(trouble).collect()
    }
}

impl Request {
    /// A read.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::Get, path: path.into(), body: None }
    }

    /// A command.
    #[must_use]
    pub fn command(method: Method, path: impl Into<String>, body: Option<Value>) -> Self {
        Self { method, path: path.into(), body }
    }

    /// How many events of its own the command asks for: one, or one an item of its list.
    #[must_use]
    pub fn items(&self) -> usize {
        match (self.method, &self.body) {
            (Method::Get, _) => 0,
            (Method::Post, Some(Value::Array(items))) => items.len(),
            _ => 1,
        }
    }

    /// The path without its query, cut at slashes.
    #[must_use]
    pub fn parts(&self) -> Vec<&str> {
        self.path.split('?').next().unwrap_or_default().split('/').filter(|part| !part.is_empty()).collect()
    }
}

impl Call {
    /// The status, if there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match &self.answer {
            Answer::Status(status, _) => Some(*status),
            Answer::Lost(_) => None,
        }
    }

    /// The body of the answer.
    #[must_use]
    pub fn body(&self) -> &Value {
        match &self.answer {
            Answer::Status(_, body) => body,
            Answer::Lost(_) => &Value::Null,
        }
    }
}
