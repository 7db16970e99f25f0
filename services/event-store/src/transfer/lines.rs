//! The lines of an export: how each is written and read, and the checksum over them. Knows no Redis.

use super::import::{ImportError, ImportErrorKind};
use crate::entry::RawEntry;
use crate::{Id, StreamName};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, Read};

/// The only format so far.
pub(super) const FORMAT: &str = "eventstore";
pub(super) const VERSION: u32 = 1;
/// Longer than any entry that Redis takes.
const LINE: u64 = 1 << 30;

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) layout: String,
    pub(super) streams: Vec<String>,
    /// By family: the last id of the file. In files of older programs the last one that was issued when it was written.
    pub(super) clocks: BTreeMap<String, String>,
    /// By stream: everything below was trimmed.
    pub(super) trimmed: BTreeMap<String, String>,
}

impl Header {
    /// Per family the last id that the file knows of; `lasts` are those of its last entries. An older program wrote its
    /// source's clock into the header, which is ahead of the entries when programs appended during the export: a later
    /// export has entries between the two.
    pub(super) fn ends(&self, lasts: &BTreeMap<String, Id>) -> BTreeMap<String, Id> {
        // In the plain layout one clock issued the ids of all families.
        let of_all = (self.layout == "plain").then(|| lasts.values().max().copied().unwrap_or(Id::ZERO));
        let end_of = |(family, clock): (&String, &String)| {
            let of_family = |stream: &str| stream.rsplit_once('_').is_some_and(|(of, _)| of == family);
            let marks = self.trimmed.iter().filter(|(stream, _)| of_family(stream));
            // No id below a mark is issued again.
            let trimmed = marks.filter_map(|(_, mark)| mark.parse().ok()).map(Id::previous).max();
            let last = of_all.or_else(|| lasts.get(family).copied()).unwrap_or(Id::ZERO);
            let clock: Id = clock.parse().ok()?;
            Some((family.clone(), clock.min(last).max(trimmed.unwrap_or(Id::ZERO))))
        };
        self.clocks.iter().filter_map(end_of).collect()
    }
}

/// The last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trailer {
    count: u64,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    stream: String,
    id: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    snapshot: bool,
    fields: Vec<(Bytes, Bytes)>,
}

/// A text, or what is none.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Bytes {
    Text(String),
    Raw { base64: String },
}

impl Bytes {
    fn of(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes)
            .map_or_else(|e| Self::Raw { base64: BASE64.encode(e.as_bytes()) }, Self::Text)
    }

    fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.into_bytes()),
            Self::Raw { base64 } => BASE64.decode(base64).ok(),
        }
    }
}

/// An entry of the log on its way.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) stream: StreamName,
    pub(super) snapshot: bool,
    pub(super) raw: RawEntry,
}

impl Item {
    pub(super) fn line(self) -> serde_json::Result<String> {
        let fields = self.raw.fields.into_iter().map(|(n, v)| (Bytes::of(n), Bytes::of(v))).collect();
        serde_json::to_string(&Line {
            stream: self.stream.to_string(),
            id: self.raw.id.to_string(),
            snapshot: self.snapshot,
            fields,
        })
    }

    fn parse(line: Line) -> Option<Self> {
        let fields = line.fields.into_iter().map(|(n, v)| Some((n.bytes()?, v.bytes()?)));
        Some(Self {
            stream: StreamName::parse(&line.stream)?,
            snapshot: line.snapshot,
            raw: RawEntry { id: line.id.parse().ok()?, fields: fields.collect::<Option<_>>()? },
        })
    }
}

/// The checksum over the lines so far.
#[derive(Default)]
pub(super) struct Sum {
    hash: Sha256,
    pub(super) count: u64,
}

impl Sum {
    pub(super) fn add(&mut self, line: &[u8]) {
        self.hash.update(line);
    }

    pub(super) fn hex(&self) -> String {
        self.hash.clone().finalize().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    pub(super) fn trailer(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Trailer { count: self.count, sha256: self.hex() })
    }
}

/// Reads an export line by line; the end is answered only after the checksum was right.
pub(super) struct Reader<R> {
    source: R,
    sum: Sum,
    number: u64,
    last: Id,
    pub(super) header: Header,
}

fn wrong(kind: ImportErrorKind, number: u64, message: impl std::fmt::Display) -> ImportError {
    ImportError::new(kind, format!("line {number}: {message}"))
}

impl<R: BufRead> Reader<R> {
    pub(super) fn open(mut source: R) -> Result<Self, ImportError> {
        let mut sum = Sum::default();
        let bytes = read_line(&mut source, 1)?.ok_or_else(|| cut(1))?;
        let header: Header = serde_json::from_slice(&bytes)
            .map_err(|e| wrong(ImportErrorKind::Format, 1, format!("no export of an event store: {e}")))?;
        if header.format != FORMAT || header.version != VERSION {
            let message = format!("format {:?} version {} is not known", header.format, header.version);
            return Err(wrong(ImportErrorKind::Format, 1, message));
        }
        sum.add(&bytes);
        Ok(Self { source, sum, number: 1, last: Id::ZERO, header })
    }

    /// The next entry; `None` at the end of a file that is whole.
    pub(super) fn next(&mut self) -> Result<Option<Item>, ImportError> {
        self.number += 1;
        let number = self.number;
        let bytes = read_line(&mut self.source, number)?.ok_or_else(|| cut(number))?;
        if let Ok(trailer) = serde_json::from_slice::<Trailer>(&bytes) {
            if (trailer.count, trailer.sha256) != (self.sum.count, self.sum.hex()) {
                return Err(wrong(ImportErrorKind::Altered, number, "the checksum is another one"));
            }
            return match read_line(&mut self.source, number + 1)? {
                None => Ok(None),
                Some(_) => Err(wrong(ImportErrorKind::Altered, number + 1, "there is more after the end")),
            };
        }
        let line: Line =
            serde_json::from_slice(&bytes).map_err(|e| wrong(ImportErrorKind::Altered, number, e))?;
        let unreadable = || wrong(ImportErrorKind::Altered, number, "no entry");
        let item = Item::parse(line).ok_or_else(unreadable)?;
        if item.raw.id < self.last || !self.header.streams.contains(&item.stream.to_string()) {
            return Err(wrong(ImportErrorKind::Altered, number, "out of order, or of no stream of the file"));
        }
        self.last = item.raw.id;
        self.sum.add(&bytes);
        self.sum.count += 1;
        Ok(Some(item))
    }
}

fn cut(number: u64) -> ImportError {
    wrong(ImportErrorKind::Cut, number, "the file ends here, without its last line")
}

/// A line with its end; `None` at the end of the file. A line without its end was cut.
fn read_line(source: &mut impl BufRead, number: u64) -> Result<Option<Vec<u8>>, ImportError> {
    let mut bytes = Vec::new();
    source
        .by_ref()
        .take(LINE)
        .read_until(b'\n', &mut bytes)
        .map_err(|e| wrong(ImportErrorKind::File, number, e))?;
    match bytes.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(bytes)),
        Some(_) => Err(cut(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn file() -> String {
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            layout: "plain".to_owned(),
            streams: vec!["account_created".to_owned()],
            clocks: BTreeMap::new(),
            trimmed: BTreeMap::new(),
        };
        let mut lines = vec![serde_json::to_string(&header).unwrap()];
        for ms in 1..4 {
            let fields = vec![(b"entity".to_vec(), b"{}".to_vec()), (vec![0xff], vec![0xfe, b'a'])];
            let raw = RawEntry { id: Id::new(ms, 0), fields };
            let item = Item { stream: Kind::new("account").stream("created"), snapshot: ms == 1, raw };
            lines.push(item.line().unwrap());
        }
        let mut sum = Sum { count: 3, ..Sum::default() };
        for line in &lines {
            sum.add(format!("{line}\n").as_bytes());
        }
        lines.push(sum.trailer().unwrap());
        lines.join("\n") + "\n"
    }

    fn read(file: &[u8]) -> Result<Vec<Item>, ImportErrorKind> {
        let mut reader = Reader::open(file).map_err(|e| e.kind())?;
        let mut items = Vec::new();
        while let Some(item) = reader.next().map_err(|e| e.kind())? {
            items.push(item);
        }
        Ok(items)
    }

    #[test]
    fn every_byte_of_an_entry_comes_back() {
        let items = read(file().as_bytes()).unwrap();
        assert_eq!(items.len(), 3);
        assert_eq!(items[2].raw.fields[1], (vec![0xff], vec![0xfe, b'a']));
        assert!(items[0].snapshot && !items[1].snapshot);
    }

    #[test]
    fn a_file_that_is_cut_anywhere_or_altered_in_any_byte_is_refused() {
        let file = file().into_bytes();
        for end in 0..file.len() {
            assert!(read(&file[..end]).is_err(), "cut after {end} bytes");
        }
        for at in 0..file.len() {
            let mut other = file.clone();
            other[at] ^= 1;
            assert!(read(&other).is_err(), "altered at {at}");
        }
        let twice = [file.as_slice(), b"\n"].concat();
        assert_eq!(read(&twice), Err(ImportErrorKind::Altered));
    }

    #[test]
    fn a_file_ends_with_its_entries_though_its_header_has_a_later_clock() {
        let lasts: BTreeMap<String, Id> =
            [("order".to_owned(), Id::new(5, 0)), ("bill".to_owned(), Id::new(7, 0))].into();
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, id)| ((*name).to_owned(), (*id).to_owned())).collect()
        };
        let ends_of = |layout: &str, clock: &str, trimmed: &[(&str, &str)]| {
            let header = Header {
                format: String::new(),
                version: VERSION,
                layout: layout.to_owned(),
                streams: Vec::new(),
                clocks: map(&[("order", clock), ("bill", clock)]),
                trimmed: map(trimmed),
            };
            let ends = header.ends(&lasts);
            ["order", "bill"].map(|family| ends[family])
        };
        assert_eq!(ends_of("plain", "9-0", &[]), [Id::new(7, 0), Id::new(7, 0)]);
        assert_eq!(ends_of("tagged", "9-0", &[]), [Id::new(5, 0), Id::new(7, 0)]);
        assert_eq!(ends_of("tagged", "6-0", &[]), [Id::new(5, 0), Id::new(6, 0)]);
        let trimmed = [("order_created", "8-1"), ("bill_sent", "2-0")];
        assert_eq!(ends_of("tagged", "9-0", &trimmed), [Id::new(8, 0), Id::new(7, 0)]);
    }
}
