//! Order across streams: one read answers stream by stream, and a stream that answered as many
//! entries as were asked for may hold more. Pure.

use crate::Id;
use crate::entry::RawEntry;

/// How far a read is complete: up to the lowest last id of those streams that answered a full
/// batch. `None`: everything there was has been read.
pub(crate) fn complete_up_to<'a>(
    batches: impl IntoIterator<Item = &'a [RawEntry]>,
    count: usize,
) -> Option<Id> {
    batches
        .into_iter()
        .filter(|entries| entries.len() >= count)
        .filter_map(|entries| entries.last())
        .map(|e| e.id)
        .min()
}

/// Merges what was read of several streams into id order and drops what lies beyond the point up
/// to which the read is complete (it will be read again).
pub(crate) fn merge(batches: Vec<(usize, Vec<RawEntry>)>, count: usize) -> Vec<(usize, RawEntry)> {
    let bound =
        complete_up_to(batches.iter().map(|(_, entries)| entries.as_slice()), count).unwrap_or(Id::MAX);
    let mut merged: Vec<(usize, RawEntry)> = batches
        .into_iter()
        .flat_map(|(stream, entries)| entries.into_iter().map(move |e| (stream, e)))
        .filter(|(_, e)| e.id <= bound)
        .collect();
    merged.sort_by_key(|(_, e)| e.id);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(ids: &[u64]) -> Vec<RawEntry> {
        ids.iter().map(|ms| RawEntry { id: Id::new(*ms, 0), fields: Vec::new() }).collect()
    }

    fn ids(merged: &[(usize, RawEntry)]) -> Vec<u64> {
        merged.iter().map(|(_, e)| e.id.ms).collect()
    }

    #[test]
    fn streams_that_were_read_to_their_end_merge_in_id_order() {
        let merged = merge(vec![(0, entries(&[1, 4])), (1, entries(&[2, 3]))], 100);
        assert_eq!(ids(&merged), [1, 2, 3, 4]);
        assert_eq!(merged[1].0, 1);
    }

    #[test]
    fn what_lies_beyond_a_full_batch_is_held_back() {
        let merged = merge(vec![(0, entries(&[1, 2, 3])), (1, entries(&[2, 5]))], 3);
        assert_eq!(ids(&merged), [1, 2, 2, 3]);
    }
}
