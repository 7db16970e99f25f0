//! Reads what the projection holds, after it has seen every write that was answered before.
//! Every query takes a bounded number of round trips, however much there is.

use crate::projection::{BILLED, Section};
use chassis::Problem;
use event_store::{EventStore, ReadError, View};
use std::collections::HashSet;
use std::time::Duration;

/// How long a read waits for the projection to catch up with the writes before it.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Which writes a read must see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consistency {
    /// All that were answered before the read began.
    Strong,
    /// Whatever the projection holds.
    Eventual,
}

/// Reads the projection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reader {
    store: EventStore,
    view: View,
}

impl Reader {
    pub(crate) fn new(store: EventStore, view: View) -> Self {
        Self { store, view }
    }

    /// Waits until the projection is as current as asked for.
    pub(crate) async fn current(&self, consistency: Consistency) -> Result<(), Problem> {
        if consistency == Consistency::Strong {
            let head = self.store.head().await?;
            self.view.wait_until(head, CATCH_UP).await?;
        }
        Ok(())
    }

    /// The JSON of one entity.
    pub(crate) async fn one(&self, section: Section, id: &str) -> Result<Option<String>, ReadError> {
        let mut found = self.view.hash_get(section.key(), &[id]).await?;
        Ok(found.pop().flatten())
    }

    /// The JSON of all, in order of creation.
    pub(crate) async fn all(&self, section: Section) -> Result<Vec<String>, ReadError> {
        let ids = self.view.sorted_range(&section.ids(), 0, usize::MAX).await?;
        let found = self.view.hash_get(section.key(), &ids).await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The JSON of all orders without a billing, in order of creation.
    pub(crate) async fn unbilled(&self) -> Result<Vec<String>, ReadError> {
        let key = Section::Orders.ids();
        let (ids, billed) =
            tokio::try_join!(self.view.sorted_range(&key, 0, usize::MAX), self.view.hash_values(BILLED),)?;
        let billed: HashSet<String> = billed.into_iter().collect();
        let open: Vec<String> = ids.into_iter().filter(|id| !billed.contains(id)).collect();
        let found = self.view.hash_get(Section::Orders.key(), &open).await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The JSON of everything, section by section.
    pub(crate) async fn report(&self) -> Result<String, ReadError> {
        let (products, inventory, customers, orders, billings) = tokio::try_join!(
            self.all(Section::Products),
            self.all(Section::Inventory),
            self.all(Section::Customers),
            self.all(Section::Orders),
            self.all(Section::Billings),
        )?;
        Ok(format!(
            r#"{{"products":{},"inventory":{},"customers":{},"orders":{},"billings":{}}}"#,
            array(&products),
            array(&inventory),
            array(&customers),
            array(&orders),
            array(&billings),
        ))
    }
}

/// A JSON array of what is JSON already.
pub(crate) fn array(items: &[String]) -> String {
    format!("[{}]", items.join(","))
}
