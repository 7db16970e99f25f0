//! What a registered position promises a reader that keeps its state outside the server: no trim takes what it has yet
//! to read, whichever of the two is first and wherever the reader is killed.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test may end at once")]

mod support;

use event_store::{
    EventStore, HeldBy, Id, Position, PositionErrorKind, Preview, StreamName, TrimErrorKind, Unread,
};
use std::path::{Path, PathBuf};
use support::{ACCOUNT, Child, NOTE, Server, plain, put, server, tagged};

const NAME: &str = "sqlite-balances";

fn created() -> StreamName {
    ACCOUNT.stream("created")
}

fn streams() -> Vec<StreamName> {
    vec![created(), ACCOUNT.stream("updated")]
}

/// The ids of ten accounts that were created, one call each.
async fn ten(s: &Server) -> Vec<Id> {
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(s.store.append(vec![put("created", &format!("a{n}"), n)]).await.unwrap()[0].id);
    }
    ids
}

async fn preview(store: &EventStore) -> Preview {
    store.retention(streams()).unread(Unread::Trim).preview().await.unwrap()
}

/// Trims all that is before this id, whoever reads.
async fn trim_before(store: &EventStore, id: Id) {
    let trim = store.retention([created()]).unread(Unread::Trim).before(id);
    trim.preview().await.unwrap().execute().await.unwrap();
}

/// Where the position is on the stream of created accounts.
async fn at(s: &Server) -> Option<Id> {
    let positions = s.store.positions().await.unwrap();
    let found = positions.into_iter().find(|p| p.name == NAME)?;
    found.streams.into_iter().find(|p| p.stream == created()).map(|p| p.position)
}

async fn refused(moved: impl Future<Output = Result<(), event_store::PositionError>>) -> PositionErrorKind {
    moved.await.unwrap_err().kind().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trim_keeps_what_comes_after_a_registered_position() {
    let s = server().await;
    let ids = ten(&s).await;
    let position = s.store.position(NAME, streams());
    position.register(ids[3]).await.unwrap();
    // A stream that the position does not name.
    s.store.append(vec![put("deleted", "a0", 1), put("deleted", "a1", 1)]).await.unwrap();

    let seen = preview(&s.store).await;
    assert_eq!((seen.streams[0].keeps_from, seen.streams[0].removes), (ids[3].next(), 4));
    let by = &seen.streams[0].holders[0].by;
    assert!(matches!(by, HeldBy::Position { name, idle_ms } if name == NAME && *idle_ms < 60_000), "{by:?}");
    assert_eq!(seen.execute().await.unwrap().removed, 4);
    let other = || s.store.retention([ACCOUNT.stream("deleted")]);
    assert_eq!(other().preview().await.unwrap().streams[0].holders[0].by, HeldBy::Unread);
    let seen = other().unread(Unread::Trim).preview().await.unwrap();
    assert_eq!(seen.execute().await.unwrap().removed, 1);

    let mut tail = s.store.tail(streams(), ids[3]);
    let read: Vec<Id> = tail.next().await.unwrap().iter().map(|event| event.id).collect();
    assert_eq!(read, ids[4..]);
    position.commit(tail.position()).await.unwrap();
    let seen = preview(&s.store).await;
    assert_eq!((&seen.streams[0].holders[0].by, seen.streams[0].removes), (&HeldBy::LastEntry, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_comes_between_preview_and_trim_ends_the_trim() {
    let s = server().await;
    let ids = ten(&s).await;
    let position = s.store.position(NAME, streams());
    let held = TrimErrorKind::HeldByPosition { name: NAME.to_owned() };

    let seen = preview(&s.store).await;
    position.register(Id::ZERO).await.unwrap();
    assert_eq!(*seen.execute().await.unwrap_err().kind(), held);
    position.commit(ids[9]).await.unwrap();
    let seen = preview(&s.store).await;
    position.rewind(Id::ZERO).await.unwrap();
    assert_eq!(*seen.execute().await.unwrap_err().kind(), held);
    assert_eq!(s.command::<u64>(&["XLEN", "events:account_created"]).await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_where_entries_are_gone_is_refused_on_all_its_streams() {
    let s = server().await;
    let ids = ten(&s).await;
    trim_before(&s.store, ids[7]).await;
    let position = s.store.position(NAME, [ACCOUNT.stream("updated"), created()]);
    let trimmed = PositionErrorKind::Trimmed { stream: created(), first: ids[7] };
    for after in [Id::ZERO, ids[5]] {
        assert_eq!(refused(position.register(after)).await, trimmed);
    }
    assert_eq!(s.store.positions().await.unwrap(), []);
    let lost_end = PositionErrorKind::BeyondLog { last: ids[9] };
    assert_eq!(refused(position.register(ids[9].next())).await, lost_end);
    position.register(ids[6]).await.unwrap();
    assert_eq!(refused(position.commit(Id::MAX)).await, lost_end);
    assert_eq!(at(&s).await, Some(ids[6]), "the last one that was trimmed");
    // The log's end is that of all streams, not only of those that the position names.
    s.store.position("elsewhere", [ACCOUNT.stream("updated")]).register(ids[9]).await.unwrap();
    // After a trim by a version that does not write the last id, everything before the mark may be gone.
    let _: i64 = s.command(&["HDEL", "eventstore:trimmed", "account_created last"]).await;
    assert_eq!(refused(s.store.position("other", streams()).register(ids[6])).await, trimmed);
    // Where the clock was lost, or a program of another kind has written, the streams know how far the log has come.
    let _: i64 = s.command(&["DEL", "eventstore:clock"]).await;
    position.commit(ids[9]).await.unwrap();
    assert_eq!(at(&s).await, Some(ids[9]));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_rewind_moves_a_position_back_and_not_behind_a_trim() {
    let s = plain().await;
    let ids = ten(&s).await;
    let position = s.store.position(NAME, streams());
    position.register(ids[1]).await.unwrap();
    position.commit(ids[5]).await.unwrap();
    position.commit(ids[4]).await.unwrap();
    assert_eq!(at(&s).await, Some(ids[5]), "a late commit of another replica");
    position.register(ids[6]).await.unwrap();
    assert_eq!(at(&s).await, Some(ids[6]), "killed before its commit, and started again");
    let ahead = PositionErrorKind::Ahead { stream: created(), position: ids[6] };
    assert_eq!(refused(position.register(ids[2])).await, ahead);

    trim_before(&s.store, ids[3]).await;
    position.rewind(ids[2]).await.unwrap();
    assert_eq!(at(&s).await, Some(ids[2]));
    position.rewind(ids[4]).await.unwrap();
    assert_eq!(at(&s).await, Some(ids[2]), "a rewind moves nothing forward");
    let trimmed = PositionErrorKind::Trimmed { stream: created(), first: ids[3] };
    assert_eq!(refused(position.rewind(ids[1])).await, trimmed);
    assert_eq!(at(&s).await, Some(ids[2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_is_removed_or_lost_is_never_registered_by_a_commit() {
    let s = server().await;
    let ids = ten(&s).await;
    let position = s.store.position(NAME, streams());
    let unknown = PositionErrorKind::NotRegistered { stream: created() };
    assert_eq!(refused(position.commit(ids[1])).await, unknown);
    assert_eq!(refused(position.rewind(ids[1])).await, unknown);
    position.register(ids[1]).await.unwrap();

    let mut seen = s.store.positions().await.unwrap().remove(0);
    let listed: Vec<_> = seen.streams.iter().map(|p| (&p.stream, p.position, p.next)).collect();
    assert_eq!(listed, [(&created(), ids[1], Some(ids[2])), (&streams()[1], ids[1], None)]);
    position.commit(ids[2]).await.unwrap();
    let moved = PositionErrorKind::Moved { stream: created() };
    assert_eq!(refused(s.store.remove_position(&seen)).await, moved, "a program uses it");

    s.store.position(NAME, [ACCOUNT.stream("updated")]).commit(ids[3]).await.unwrap();
    seen.streams[0].position = ids[2];
    let moved = PositionErrorKind::Moved { stream: ACCOUNT.stream("updated") };
    assert_eq!(refused(s.store.remove_position(&seen)).await, moved);
    assert_eq!(at(&s).await, Some(ids[2]), "removed from all its streams or from none");

    seen = s.store.positions().await.unwrap().remove(0);
    seen.streams.retain(|p| p.stream == created());
    for _ in 0..2 {
        s.store.remove_position(&seen).await.unwrap();
        assert_eq!(at(&s).await, None);
    }
    assert_eq!(s.store.positions().await.unwrap()[0].streams.len(), 1, "the other stream stays");
    assert_eq!(refused(position.commit(ids[3])).await, unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_position_is_refused_with_what_to_change() {
    let s = plain().await;
    let invalid = |position: Position| async move {
        let error = position.register(Id::ZERO).await.unwrap_err();
        assert_eq!(*error.kind(), PositionErrorKind::Invalid, "{error}");
        error.to_string()
    };
    for name in ["", "a b", "a:b", "{a}", "_a", &"a".repeat(65)] {
        assert!(invalid(s.store.position(name, streams())).await.contains("letters, digits"));
    }
    invalid(s.store.position(NAME, [])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_cannot_be_read_ends_the_trim() {
    let s = plain().await;
    ten(&s).await;
    let seen = preview(&s.store).await;
    let _: i64 = s.command(&["HSET", "eventstore:positions", "foreign account_created", "soon"]).await;
    let held = TrimErrorKind::HeldByPosition { name: "foreign".to_owned() };
    assert_eq!(*seen.execute().await.unwrap_err().kind(), held);
    let error = s.store.retention(streams()).preview().await.unwrap_err().to_string();
    assert!(error.contains("positions") && error.contains("foreign account_created"), "{error}");
    let foreign = s.store.position("foreign", [created()]);
    assert_eq!(refused(foreign.register(Id::ZERO)).await, PositionErrorKind::Refused);

    let _: i64 = s.command(&["DEL", "eventstore:positions"]).await;
    let _: i64 = s.command(&["SADD", "eventstore:positions", "m"]).await;
    let error = foreign.register(Id::ZERO).await.unwrap_err();
    assert_eq!(*error.kind(), PositionErrorKind::Refused);
    assert!(error.to_string().contains("another type"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_several_families_has_a_position_on_each() {
    let s = tagged().await;
    let both = s.store.position(NAME, [created(), NOTE.stream("written")]);
    assert_eq!(refused(both.register(Id::ZERO)).await, PositionErrorKind::Invalid);
    for streams in [vec![created()], vec![NOTE.stream("written")]] {
        s.store.position(NAME, streams).register(Id::ZERO).await.unwrap();
    }
    let seen = s.store.positions().await.unwrap();
    let listed: Vec<String> = seen[0].streams.iter().map(|p| p.stream.to_string()).collect();
    assert_eq!((seen.len(), listed), (1, vec!["account_created".to_owned(), "note_written".to_owned()]));
    s.store.remove_position(&seen[0]).await.unwrap();
    assert_eq!(s.store.positions().await.unwrap(), []);
}

/// A database of one file: the amounts that were read, and the position, written in one step.
struct Database(PathBuf);

impl Database {
    fn read(&self) -> (Id, Vec<u64>) {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let mut words = text.split_whitespace();
        let position = words.next().map_or(Id::ZERO, |id| id.parse().unwrap());
        (position, words.map(|amount| amount.parse().unwrap()).collect())
    }

    fn write(&self, position: Id, amounts: &[u64]) {
        let words: Vec<String> = amounts.iter().map(ToString::to_string).collect();
        let new = self.0.with_extension("new");
        std::fs::write(&new, format!("{position} {}", words.join(" "))).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }
}

/// The reader in a process of its own.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Some((file, store)) = Child::task().await else { return };
    let database = Database(Path::new(&file).into());
    let (after, mut amounts) = database.read();
    let position = store.position(NAME, streams());
    position.register(after).await.unwrap();
    let mut tail = store.tail(streams(), after);
    loop {
        for event in tail.next().await.unwrap() {
            amounts.push(event.entity["amount"].to_string().parse().unwrap());
            database.write(event.id, &amounts);
            position.commit(event.id).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_killed_again_and_again_reads_all_that_a_trim_follows() {
    const ROUNDS: u64 = 4;
    const EVENTS: u64 = 40;
    let s = server().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("balances");
    let database = Database(file.clone());
    s.store.position(NAME, streams()).register(Id::ZERO).await.unwrap();
    let mut removed = 0;
    for round in 0..ROUNDS {
        let amounts = round * EVENTS + 1..=(round + 1) * EVENTS;
        let events =
            amounts.map(|n| put(if n % 3 == 0 { "updated" } else { "created" }, &format!("a{n}"), n));
        s.store.append(events.collect()).await.unwrap();
        let mut reader = Child::start(file.to_str().unwrap(), &s);
        let last = round + 1 == ROUNDS;
        let enough = usize::try_from(round * EVENTS + if last { EVENTS } else { EVENTS / 2 }).unwrap();
        loop {
            // Only the position holds these trims back.
            let trimmed = preview(&s.store).await.execute().await;
            removed += trimmed.unwrap().removed;
            assert!(!reader.ended(), "the reader failed");
            if database.read().1.len() >= enough {
                break;
            }
        }
        assert!(reader.kill());
    }
    let read = database.read().1;
    assert_eq!(read, (1..=ROUNDS * EVENTS).collect::<Vec<u64>>(), "no gap and none twice");
    assert!(removed > EVENTS, "{removed} entries were trimmed meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_that_race_trims_hold_all_they_need_or_are_refused() {
    let s = server().await;
    for round in 0..40_u64 {
        let events: Vec<_> = (0..3).map(|n| put("created", &format!("a{round}-{n}"), n)).collect();
        let ids: Vec<Id> = s.store.append(events).await.unwrap().iter().map(|event| event.id).collect();
        let name = format!("reader-{round}");
        let position = s.store.position(&name, [created()]);
        let seen = preview(&s.store).await;
        // Neither is always the first: a trim reads before it removes.
        let register = async {
            for _ in 0..round % 4 {
                s.store.ping().await.unwrap();
            }
            position.register(ids[0]).await
        };
        let (registered, trimmed) = tokio::join!(register, seen.execute());
        let left: u64 = s.command(&["XLEN", "events:account_created"]).await;
        match registered {
            Ok(()) => {
                assert!(left >= 2, "entries after the position were trimmed: {trimmed:?}");
                let all = s.store.positions().await.unwrap();
                s.store.remove_position(&all[0]).await.unwrap();
            }
            Err(e) => {
                assert!(matches!(e.kind(), PositionErrorKind::Trimmed { .. }), "{e}");
                assert!(trimmed.is_ok());
            }
        }
    }
}
