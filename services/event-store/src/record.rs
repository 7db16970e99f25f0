//! What the store remembers of an ordering key, and what an entry says stood before it: a line of
//! text, written by the append function and read here. Pure.
//!
//! A record: `3l updated=9-0 created=5-1`, that is version, state (`l` live, `r` removed, `-` no entity), where
//! needed `@stream=id` (the entity's own last event, when events of others on its key came later), and the
//! last event of each stream on the key, the newest first. A stream of the key's own family stands
//! there by its action alone.

use crate::{Id, StreamName};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

/// The last event of each stream on an ordering key.
pub(crate) type Chain = BTreeMap<String, Id>;

/// What is known of one ordering key.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    /// The entity's version; 0 when there never was one.
    pub(crate) version: u64,
    /// Was its last event a deletion?
    pub(crate) removed: bool,
    /// The entity's last event.
    pub(crate) last: Option<(StreamName, Id)>,
    /// The last event of each stream on the key, of whatever entity.
    pub(crate) chain: Chain,
}

impl Record {
    /// The record of `key` (see [`crate::Kind::ordering_key`]); `None` when the text is none.
    pub(crate) fn parse(key: &str, text: &str) -> Option<Self> {
        let (head, chain) = text.split_once(' ').unwrap_or((text, ""));
        let (head, own) = head.split_once('@').map_or((head, None), |(head, own)| (head, Some(own)));
        let version = head.get(..head.len().checked_sub(1)?)?.parse().ok()?;
        let removed = match head.as_bytes().last()? {
            b'l' | b'-' => false,
            b'r' => true,
            _ => return None,
        };
        let last = match own.or_else(|| chain.split(' ').next()).filter(|_| version > 0) {
            Some(pair) => Some(stream_and_id(key, pair)?),
            None => None,
        };
        Some(Self { version, removed, last, chain: parse_chain(key, chain)? })
    }

    /// The record of `key` as the append function would have written it.
    pub(crate) fn text(&self, key: &str) -> String {
        let mut chain: Vec<(&String, &Id)> = self.chain.iter().collect();
        chain.sort_by_key(|(_, id)| std::cmp::Reverse(**id));
        let name = |stream: &str| {
            let parsed = StreamName::parse(stream);
            parsed.map_or_else(|| stream.to_owned(), |parsed| name_on(key, &parsed).into_owned())
        };
        let state = match (&self.last, self.removed) {
            (None, _) => '-',
            (Some(_), true) => 'r',
            (Some(_), false) => 'l',
        };
        let mut text = format!("{}{state}", self.version);
        if let Some((stream, id)) = &self.last
            && chain.first().is_none_or(|(_, first)| *first != id)
        {
            text.extend(["@", &name_on(key, stream), "=", &id.to_string()]);
        }
        for (stream, id) in chain {
            text.extend([" ", &name(stream), "=", &id.to_string()]);
        }
        text
    }
}

/// What a stream's entry in the chain of a key begins with, in parts; its id follows.
pub(crate) fn link_on<'a>(key: &str, stream: &'a StreamName) -> [Cow<'a, str>; 3] {
    [Cow::Borrowed(" "), name_on(key, stream), Cow::Borrowed("=")]
}

/// The name of a stream in the chain of a key: the action alone within the family that the key begins with.
fn name_on<'a>(key: &str, stream: &'a StreamName) -> Cow<'a, str> {
    match key.split_once('/') {
        Some((kind, _)) if kind == stream.family => Cow::Borrowed(&stream.action),
        _ => Cow::Owned(stream.to_string()),
    }
}

fn stream_and_id(key: &str, pair: &str) -> Option<(StreamName, Id)> {
    let ((family, action), id) = links(key, pair).next()??;
    let stream = StreamName { family: family.to_owned().into(), action: action.to_owned().into() };
    Some((stream, id))
}

/// The stream that is called so in the chain of a key, as family and action.
fn stream_of<'a>(key: &'a str, name: &'a str) -> Option<(&'a str, &'a str)> {
    if name.contains('_') {
        return StreamName::parts(name);
    }
    StreamName::checked(key.split_once('/')?.0, name)
}

/// What stands in the chain of a key, as family and action of the stream and the last event there; `None` where it is
/// none.
fn links<'a>(
    key: &'a str,
    chain: &'a str,
) -> impl Iterator<Item = Option<((&'a str, &'a str), Id)>> + use<'a> {
    chain.split(' ').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, id) = pair.split_once('=')?;
        Some((stream_of(key, name)?, id.parse().ok()?))
    })
}

fn parse_chain(key: &str, text: &str) -> Option<Chain> {
    let mut chain = Chain::new();
    for link in links(key, text) {
        let ((family, action), id) = link?;
        let last = chain.entry([family, "_", action].concat()).or_insert(id);
        *last = id.max(*last);
    }
    Some(chain)
}

/// Per ordering key and stream the last event before one: the field `after` of its entry, kept as it was written.
/// First the own key's chain, then a line for each further key with the key, a tab and its chain.
#[derive(Clone, Debug)]
pub(crate) struct After {
    own: String,
    text: String,
}

impl After {
    /// What an entry says whose own ordering key is `own`; `None` when it says nothing that can be understood.
    pub(crate) fn parse(own: String, text: Option<String>) -> Option<Self> {
        let after = Self { own, text: text.unwrap_or_default() };
        let (chain, further) =
            after.text.split_once('\n').map_or((&*after.text, None), |(c, f)| (c, Some(f)));
        let mut right = links(&after.own, chain).all(|link| link.is_some());
        if let Some(further) = further {
            let mut keys = HashSet::from([after.own.as_str()]);
            right &= further.split('\n').all(|line| {
                line.split_once('\t').is_some_and(|(key, chain)| {
                    keys.insert(key) && links(key, chain).all(|link| link.is_some())
                })
            });
        }
        right.then_some(after)
    }

    /// The entity's own ordering key.
    pub(crate) fn own(&self) -> &str {
        &self.own
    }

    /// The ordering keys, each once, the own one first.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.lines().map(|(key, _)| key)
    }

    /// The last events before this one on a key; `None` when it is no key of the event.
    pub(crate) fn chain(&self, key: &str) -> Option<Chain> {
        self.lines().find(|(name, _)| *name == key).and_then(|(key, chain)| parse_chain(key, chain))
    }

    /// The keys, each with its last events: family and action of the stream, and the id.
    pub(crate) fn links(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = ((&str, &str), Id)>)> {
        self.lines().map(|(key, chain)| (key, links(key, chain).flatten()))
    }

    fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut lines = self.text.split('\n');
        let own = (self.own.as_str(), lines.next().unwrap_or(""));
        std::iter::once(own).chain(lines.filter_map(|line| line.split_once('\t')))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    const ACCOUNT: Kind = Kind::new("account");

    #[test]
    fn a_record_says_where_the_entity_stands() {
        let record = Record::parse("account/7", "3l updated=9-0 note_created=6-0 created=5-1").unwrap();
        assert_eq!((record.version, record.removed), (3, false));
        assert_eq!(record.last, Some((ACCOUNT.stream("updated"), Id::new(9, 0))));
        assert_eq!(record.chain["account_created"], Id::new(5, 1));
        assert_eq!(record.chain["note_created"], Id::new(6, 0));
        let record = Record::parse("account/7", "2r@deleted=8-0 note_created=9-0 deleted=8-0").unwrap();
        assert_eq!(record.last, Some((ACCOUNT.stream("deleted"), Id::new(8, 0))));
        assert!(record.removed);
        let record = Record::parse("account/7", "0- note_created=9-0").unwrap();
        assert_eq!((record.version, record.last), (0, None));
    }

    #[test]
    fn a_record_that_is_written_anew_is_the_same() {
        for text in [
            "3l updated=9-0 note_created=6-0 created=5-1",
            "2r@deleted=8-0 note_created=9-0 deleted=8-0",
            "0- note_created=9-0",
        ] {
            assert_eq!(Record::parse("account/7", text).unwrap().text("account/7"), text);
        }
    }

    #[test]
    fn what_is_no_record_is_none() {
        for text in ["", "l", "3", "3x", "3l", "3l updated", "3l updated=", "3l =1-1", "-1l a=1-1"] {
            assert_eq!(Record::parse("account/7", text), None, "{text:?}");
        }
    }

    fn after(own: &str, text: &str) -> Option<After> {
        After::parse(own.to_owned(), Some(text.to_owned()))
    }

    #[test]
    fn after_names_the_own_key_even_when_nothing_stood_before() {
        for nothing in [After::parse("account/7".to_owned(), None), after("account/7", "")] {
            let nothing = nothing.unwrap();
            assert_eq!(nothing.keys().collect::<Vec<_>>(), ["account/7"]);
            assert_eq!(nothing.chain("account/7"), Some(Chain::new()));
        }
        let after = after("note/1", "\naccount/a b\tupdated=9-0 note_created=8-0\nbare\t").unwrap();
        assert_eq!(after.keys().collect::<Vec<_>>(), ["note/1", "account/a b", "bare"]);
        assert_eq!(after.chain("note/1"), Some(Chain::new()));
        assert_eq!(after.chain("account/a b").unwrap()["account_updated"], Id::new(9, 0));
        assert_eq!((after.chain("bare"), after.chain("else")), (Some(Chain::new()), None));
        let links: Vec<_> = after.links().flat_map(|(_, links)| links).collect();
        assert_eq!(links, [(("account", "updated"), Id::new(9, 0)), (("note", "created"), Id::new(8, 0))]);
    }

    #[test]
    fn what_is_no_after_is_none() {
        for text in ["x", "updated=1", "\nkey", "\nbare\tupdated=9-0", "\naccount/7\t", "\na/b\t\na/b\t"] {
            assert!(after("account/7", text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn however_many_keys_an_entry_names_each_is_looked_at_once() {
        let lines: Vec<String> = (0..300_000).map(|n| format!("\nkey/{n}\tcreated=1-{n}")).collect();
        let lines = lines.concat();
        assert_eq!(after("account/7", &lines).unwrap().keys().count(), 300_001);
        assert!(after("account/7", &(lines + "\nkey/0\t")).is_none());
    }

    #[test]
    fn a_stream_has_one_name_on_a_key_whoever_writes_it() {
        let stream = ACCOUNT.stream("created");
        assert_eq!(name_on("account/7", &stream), "created");
        assert_eq!(name_on("note/7", &stream), "account_created");
        assert_eq!(name_on("bare", &stream), "account_created");
    }
}
