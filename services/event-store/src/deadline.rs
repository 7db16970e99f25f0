//! The deadline of a call that the library repeats: whatever the server does, the caller is answered by then, and told
//! what the server said last.

use crate::error::{AppendError, AppendErrorKind};
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Why the last attempt of a call failed. Clones share it: the attempts may be made by another task than waits for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastError(Arc<Mutex<Option<String>>>);

impl LastError {
    pub(crate) fn set(&self, error: impl Display) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    }

    /// The error of a call whose deadline has passed.
    fn into_unavailable(self) -> AppendError {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let why = last.map(|error| format!(" (the last attempt: {error})")).unwrap_or_default();
        let message = format!(
            "the server did not answer within the append deadline{why}: it is unknown whether the events were appended; \
             appending them again with the same event ids is safe"
        );
        AppendError::new(AppendErrorKind::Unavailable, message)
    }
}

/// The answer, or that it is unknown when the deadline has passed. Whatever was sent by then may still be carried out.
pub(crate) async fn answered_by<T>(
    deadline: Instant,
    last_error: LastError,
    answer: impl Future<Output = Result<T, AppendError>>,
) -> Result<T, AppendError> {
    match tokio::time::timeout_at(deadline.into(), answer).await {
        Ok(answer) => answer,
        Err(_) => Err(last_error.into_unavailable()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_that_passes_during_an_attempt_tells_what_the_one_before_it_said() {
        let last_error = LastError::default();
        let attempts = async {
            last_error.set("authentication failed");
            std::future::pending::<Result<(), AppendError>>().await
        };
        let error = answered_by(Instant::now(), last_error.clone(), attempts).await.unwrap_err();
        assert_eq!(error.kind(), AppendErrorKind::Unavailable);
        assert!(error.to_string().contains("authentication failed"), "{error}");
    }
}
