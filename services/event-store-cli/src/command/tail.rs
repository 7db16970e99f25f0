//! `eventstore tail`.

use super::log;
use crate::args::{Server, Tail};
use crate::connect;
use crate::exit::{Done, Failure};
use crate::output::{Out, remark};
use event_store::inspect::Filter;
use event_store::{Event, EventStore, Id, Layout, ReadError, ReadErrorKind, StreamName};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

const LAST: usize = 10;
/// Streams that begin later are looked for so often, and seldom enough to cost the server little.
const LOOK: Duration = Duration::from_secs(2);
const SELDOM: u32 = 20;
/// How long to wait before a server that went away is asked again.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(server: &Server, args: Tail, out: &mut Out) -> Result<Done, Failure> {
    if !args.follow {
        return tail(server, &args, out).await;
    }
    // Ctrl-C is how following ends, from the first line on.
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        done = tail(server, &args, out) => done,
        _ = interrupt.recv() => Ok(Done::Fine),
    }
}

async fn tail(server: &Server, args: &Tail, out: &mut Out) -> Result<Done, Failure> {
    let store = connect::look(server).await?;
    let wanted = Wanted { streams: args.stream.clone(), actions: args.action.clone() };
    let streams: Vec<StreamName> = store.streams().await?.into_iter().filter(|s| wanted.fits(s)).collect();
    if streams.is_empty() && !args.follow {
        return Err(Failure::NotFound("there is no such stream in the log".to_owned()));
    }
    let limit = args.number.unwrap_or(if args.since.is_some() { usize::MAX } else { LAST });
    let filter = filter(args);
    // What comes is what lies behind the ends as they are now; the last entries are read after that,
    // and those that came in between are left to the follower.
    let ends = if args.follow { ends(&store, &streams).await? } else { BTreeMap::new() };
    for entry in store.inspect().recent(&streams, &filter, limit).await? {
        if ends.get(&entry.stream).is_none_or(|end| entry.id <= *end) {
            log::print(&entry, args.full, out)?;
        }
    }
    if args.follow {
        let sources = Sources { layout: store.layout(), store, wanted };
        follow(sources, ends, &filter, args.full, out).await?;
    }
    Ok(Done::Fine)
}

fn filter(args: &Tail) -> Filter {
    let mut filter = Filter::default();
    if let Some(kind) = &args.kind {
        filter = filter.entity_type(kind);
    }
    if let Some(id) = &args.entity {
        filter = filter.entity_id(id);
    }
    if let Some(since) = args.since {
        filter = filter.since(since);
    }
    filter
}

/// The last id of each stream.
async fn ends(store: &EventStore, streams: &[StreamName]) -> Result<BTreeMap<StreamName, Id>, Failure> {
    let infos = store.inspect().streams(streams, false).await?;
    Ok(infos.into_iter().map(|s| (s.stream, s.issued)).collect())
}

/// Which streams are followed.
struct Wanted {
    streams: Vec<StreamName>,
    actions: Vec<String>,
}

impl Wanted {
    fn fits(&self, stream: &StreamName) -> bool {
        (self.streams.is_empty() || self.streams.contains(stream))
            && (self.actions.is_empty() || self.actions.iter().any(|a| a == stream.action()))
    }
}

/// What is followed.
struct Sources {
    store: EventStore,
    layout: Layout,
    wanted: Wanted,
}

/// Prints what comes, until nobody reads it any more.
async fn follow(
    sources: Sources,
    ends: BTreeMap<StreamName, Id>,
    filter: &Filter,
    full: bool,
    out: &mut Out,
) -> Result<(), Failure> {
    // One reader in the plain layout; one per family where each may live on a server of its own.
    let mut readers: BTreeMap<String, BTreeMap<StreamName, Id>> = BTreeMap::new();
    let known = ends.keys().cloned().collect();
    for (stream, end) in ends {
        let family = if sources.layout == Layout::Plain { "" } else { stream.family() };
        readers.entry(family.to_owned()).or_default().insert(stream, end);
    }
    let (sender, mut events) = mpsc::channel(1);
    for streams in readers.into_values() {
        tokio::spawn(read(sources.store.clone(), streams, sender.clone()));
    }
    tokio::spawn(look_for_more(sources, known, sender));
    while let Some(batch) = events.recv().await {
        match batch {
            Ok(batch) => {
                for event in batch.iter().filter(|event| filter.fits(event)) {
                    log::print_event(event, full, out)?;
                }
            }
            Err(e) => remark(&format!("{e}; asking again")),
        }
    }
    Ok(())
}

/// Follows each stream that begins later, from its first event on and by itself: in its own order.
async fn look_for_more(
    sources: Sources,
    mut known: BTreeSet<StreamName>,
    sender: mpsc::Sender<Result<Vec<Event>, ReadError>>,
) {
    let mut pause = LOOK;
    while !sender.is_closed() {
        tokio::time::sleep(pause).await;
        let began = Instant::now();
        // A server that is away is reported by those who read from it.
        for stream in sources.store.streams().await.unwrap_or_default() {
            if sources.wanted.fits(&stream) && known.insert(stream.clone()) {
                let from_its_begin = BTreeMap::from([(stream, Id::ZERO)]);
                tokio::spawn(read(sources.store.clone(), from_its_begin, sender.clone()));
            }
        }
        pause = LOOK.max(began.elapsed() * SELDOM);
    }
}

/// Sends what comes after the ends.
async fn read(
    store: EventStore,
    ends: BTreeMap<StreamName, Id>,
    sender: mpsc::Sender<Result<Vec<Event>, ReadError>>,
) {
    let streams: Vec<StreamName> = ends.keys().cloned().collect();
    let mut tail = store.tail_from(ends);
    loop {
        let batch = tail.next().await;
        if let Err(e) = &batch
            && matches!(e.kind(), ReadErrorKind::Trimmed { .. })
            && let Ok(ends) = self::ends(&store, &streams).await
        {
            // What was trimmed before it was read is gone: go on with what comes.
            tail = store.tail_from(ends);
        }
        let failed = batch.is_err();
        if sender.send(batch).await.is_err() {
            return;
        }
        if failed {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
