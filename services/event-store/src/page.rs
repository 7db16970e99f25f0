//! How many entries to ask for at a time. The server takes a count only, so pages are bounded in bytes by the sizes that
//! were seen. Pure.

/// The first page: what comes is not known yet.
const FIRST: usize = 4;

/// The size of the next page of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageSize {
    /// So many entries fit, at the size of those of the last page.
    fit: usize,
    /// Grows while nothing is known of the entries to come.
    ramp: usize,
    most: usize,
    bytes: usize,
}

impl PageSize {
    /// Pages of `most` entries at most, and of about so many bytes. A page that follows smaller entries can be twice as large;
    /// one entry is always read.
    pub(crate) fn new(most: usize, bytes: usize) -> Self {
        Self { fit: most, ramp: FIRST.min(most), most, bytes }
    }

    /// The first page has so many entries.
    pub(crate) fn beginning_with(self, first: usize) -> Self {
        Self { ramp: first.min(self.most), ..self }
    }

    /// The entries to ask for.
    pub(crate) fn count(&self) -> usize {
        self.fit.min(self.ramp)
    }

    /// The entries to ask each of several streams for with one read. A stream that has brought nothing yet limits nothing.
    pub(crate) fn common(streams: impl Iterator<Item = Self> + Clone) -> usize {
        let ramp = streams.clone().map(|size| size.ramp).max().unwrap_or(FIRST);
        streams.map(|size| size.fit).fold(ramp, usize::min)
    }

    /// A page of so many entries, with so many bytes together, has come.
    pub(crate) fn saw(&mut self, entries: usize, bytes: usize) {
        if let Some(mean) = bytes.checked_div(entries) {
            let fit = self.bytes / mean.max(1);
            self.fit = fit.clamp(1, self.most.min(self.fit * 2));
            self.ramp = self.most.min(self.ramp * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_large_entries_are_small_at_once_and_grow_again_step_by_step() {
        let mut page = PageSize::new(500, 1_000_000);
        let mut after = |entries, bytes| {
            page.saw(entries, bytes);
            page.count()
        };
        assert_eq!(after(4, 400), 8);
        for _ in 0..10 {
            after(100, 10_000);
        }
        assert_eq!(after(500, 50_000), 500);
        assert_eq!(after(0, 0), 500, "an empty page says nothing");
        assert_eq!(after(10, 1_000_000), 10);
        assert_eq!(after(1, 5_000_000), 1, "one entry is always read");
        assert_eq!(after(1, 10), 2);
    }

    #[test]
    fn one_stream_that_is_empty_or_slow_does_not_keep_the_reads_of_all_small() {
        let mut sizes = [PageSize::new(100, 1_000_000); 3];
        let common = |sizes: &[PageSize; 3]| PageSize::common(sizes.iter().copied());
        assert_eq!(common(&sizes), 4);
        sizes[1].saw(1, 100);
        for _ in 0..5 {
            sizes[2].saw(100, 10_000);
        }
        assert_eq!(common(&sizes), 100);
        sizes[1].saw(1, 100_000);
        assert_eq!(common(&sizes), 10, "large entries of one are read in small pages");
    }
}
