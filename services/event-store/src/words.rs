//! Keys and arguments of a call in one buffer: a batch has dozens, and a string for each would cost
//! more than sending them.

use crate::Id;
use redis::{RedisWrite, ToRedisArgs};
use std::fmt::Display;
use std::io::Write;

/// A list of texts or bytes, as Redis gets them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Words {
    pub(crate) fn push(&mut self, word: impl AsRef<[u8]>) {
        self.bytes.extend_from_slice(word.as_ref());
        self.ends.push(self.bytes.len());
    }

    /// A word in parts.
    pub(crate) fn push_parts(&mut self, parts: impl IntoIterator<Item: AsRef<[u8]>>) {
        parts.into_iter().for_each(|part| self.bytes.extend_from_slice(part.as_ref()));
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn push_number(&mut self, number: u64) {
        self.write_number(number);
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn push_id(&mut self, id: Id) {
        self.write_number(id.ms);
        self.bytes.push(b'-');
        self.push_number(id.seq);
    }

    fn write_number(&mut self, number: u64) {
        let (mut digits, mut from, mut rest) = ([0; 20], 20, number);
        loop {
            from -= 1;
            digits[from] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.bytes.extend_from_slice(&digits[from..]);
    }

    /// A word as it is displayed.
    pub(crate) fn push_display(&mut self, word: impl Display) {
        // A vector takes whatever is written to it.
        let _ = write!(self.bytes, "{word}");
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn extend(&mut self, other: &Words) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| from + end));
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of all words together.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for Words {
    fn from_iter<I: IntoIterator<Item = T>>(words: I) -> Self {
        let mut list = Self::default();
        words.into_iter().for_each(|word| list.push(word));
        list
    }
}

impl ToRedisArgs for Words {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        self.iter().for_each(|word| out.write_arg(word));
    }

    fn num_of_args(&self) -> usize {
        self.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_out_as_they_went_in() {
        let mut words = Words::from_iter(["a", "", "b c"]);
        words.push_number(0);
        words.push_number(u64::MAX);
        words.push_display(format_args!("{}-{}", 1, 2));
        words.push_id(Id::new(1_548_699_678_802, 91));
        words.push_parts(["x", "", " y"]);
        let mut all = Words::from_iter(["first"]);
        all.extend(&words);
        let texts: Vec<&[u8]> = all.iter().collect();
        let words = ["first", "a", "", "b c", "0", "18446744073709551615", "1-2", "1548699678802-91", "x y"];
        assert_eq!(texts, words.map(str::as_bytes));
        assert_eq!((all.len(), all.num_of_args()), (9, 9));
    }
}
