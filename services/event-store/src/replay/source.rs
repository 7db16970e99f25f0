//! One stream of a replay: two tasks, one that fetches pages and one that decodes them, each at
//! most a page ahead of who takes them. Ends by itself when nobody takes any more.

use super::{Decode, ReplayError, misses};
use crate::entry::{self, RawEntry};
use crate::error::{ReadError, ReplayErrorKind};
use crate::page::PageSize;
use crate::{Id, StreamName};
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Entries in a page at most, and about how many bytes of them.
const PAGE: usize = 1000;
const PAGE_BYTES: usize = 4 << 20;

#[derive(Clone)]
pub(super) struct Source {
    pub(super) key: String,
    /// Where trims leave their marks, this stream's, and what it was at first.
    pub(super) marks: String,
    pub(super) mark_field: String,
    pub(super) mark: Option<String>,
    pub(super) stream: Arc<StreamName>,
    /// Are these the snapshots of the stream?
    pub(super) kept: bool,
    pub(super) after: Id,
    pub(super) upto: Id,
}

type Page<T> = Result<Vec<(Id, Option<T>)>, ReplayError>;

impl Source {
    pub(super) fn spawn<T: Send + 'static>(
        self,
        connection: MultiplexedConnection,
        decode: Decode<T>,
    ) -> Open<T> {
        let (raw, mut fetched) = mpsc::channel::<Result<Vec<RawEntry>, ReplayError>>(1);
        let (decoded, pages) = mpsc::channel::<Page<T>>(1);
        let (stream, kept) = (self.stream.clone(), self.kept);
        tokio::spawn(self.fetch(connection, raw));
        tokio::spawn(async move {
            while let Some(page) = fetched.recv().await {
                let page = page.map(|entries| {
                    let of = |raw: RawEntry| (raw.id, decode(&stream, kept, raw));
                    entries.into_iter().map(of).collect()
                });
                if decoded.send(page).await.is_err() {
                    return;
                }
            }
        });
        Open { pages, buffer: VecDeque::new(), ended: false }
    }

    async fn fetch(
        mut self,
        mut connection: MultiplexedConnection,
        pages: mpsc::Sender<Result<Vec<RawEntry>, ReplayError>>,
    ) {
        let mut size = PageSize::new(PAGE, PAGE_BYTES);
        while self.after < self.upto {
            let count = size.count();
            let page = self.page(&mut connection, count).await;
            let (failed, full) = match &page {
                Ok(entries) => (false, entries.len() == count),
                Err(_) => (true, false),
            };
            if let Ok(entries) = &page {
                self.after = entries.last().map_or(self.upto, |e| e.id);
                size.saw(entries.len(), entry::size_of(entries));
            }
            if pages.send(page).await.is_err() || failed || !full {
                return;
            }
        }
    }

    /// A page, and the proof that nothing in it was trimmed before it was read.
    async fn page(
        &self,
        connection: &mut MultiplexedConnection,
        count: usize,
    ) -> Result<Vec<RawEntry>, ReplayError> {
        let mut pipe = redis::pipe();
        pipe.cmd("XRANGE").arg(&self.key).arg(format!("({}", self.after)).arg(self.upto.to_string());
        pipe.arg("COUNT").arg(count);
        pipe.cmd("HGET").arg(&self.marks).arg(&self.mark_field);
        let answer = tokio::time::timeout(crate::tail::SILENCE, pipe.query_async(connection)).await;
        let (reply, mark): (Value, Option<String>) =
            answer.map_err(|_| ReadError::unavailable("the server fell silent"))?.map_err(ReadError::from)?;
        let moved = mark.as_deref().and_then(|m| m.parse().ok()).is_none_or(|m| misses(self.after, m));
        if mark != self.mark && moved {
            let first = mark.and_then(|m| m.parse().ok()).unwrap_or(Id::ZERO);
            return Err(ReplayError::new(
                ReplayErrorKind::Trimmed { first },
                format!("{} was trimmed while it was read: begin anew", self.stream),
            ));
        }
        Ok(entry::parse_entries(reply))
    }
}

/// A source that is being read.
pub(super) struct Open<T> {
    pages: mpsc::Receiver<Page<T>>,
    buffer: VecDeque<(Id, Option<T>)>,
    ended: bool,
}

impl<T> Open<T> {
    /// Waits until there is something in hand, or nothing any more.
    pub(super) async fn fill(&mut self) -> Result<(), ReplayError> {
        while self.buffer.is_empty() && !self.ended {
            match self.pages.recv().await {
                Some(page) => self.buffer = page?.into(),
                None => self.ended = true,
            }
        }
        Ok(())
    }

    /// The last id in hand, of a source that may hold more.
    pub(super) fn last(&self) -> Option<Id> {
        (!self.ended).then(|| self.buffer.back().map(|(id, _)| *id)).flatten()
    }

    /// Takes what is up to here.
    pub(super) fn take(&mut self, bound: Id) -> Vec<(Id, Option<T>)> {
        if self.buffer.back().is_some_and(|(id, _)| *id <= bound) {
            return std::mem::take(&mut self.buffer).into();
        }
        let end = self.buffer.partition_point(|(id, _)| *id <= bound);
        self.buffer.drain(..end).collect()
    }
}
