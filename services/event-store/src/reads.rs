//! Reads that are repeated while the server is away: the one place where the store's queries are sent. Only
//! errors that pass are repeated, and only until the deadline; whatever the server does, a read is answered by
//! then. Never for a command that writes, and never for loops that repeat by themselves.

use crate::append::Waiting;
use crate::connection::{Connection, is_passing};
use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisError, RedisFuture, RedisResult, Value};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// The shared connection, for the queries of one read.
pub(crate) struct Reads {
    connection: Connection,
    deadline: Instant,
}

impl Reads {
    /// All queries that are sent by this value together take this long at most.
    pub(crate) fn new(connection: Connection, within: Duration) -> Self {
        Self { connection, deadline: Instant::now() + within }
    }
}

impl ConnectionLike for Reads {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        let Self { connection, deadline } = self;
        Box::pin(repeated(*deadline, move || {
            let mut connection = connection.clone();
            async move { connection.req_packed_command(command).await.and_then(refused_for_now) }
        }))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let Self { connection, deadline } = self;
        Box::pin(repeated(*deadline, move || {
            let mut connection = connection.clone();
            async move {
                let answers = connection.req_packed_commands(pipeline, offset, count).await?;
                answers.into_iter().map(refused_for_now).collect()
            }
        }))
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
    }
}

/// A refusal that passes is an error of the whole read; any other one is for the caller to see.
fn refused_for_now(answer: Value) -> RedisResult<Value> {
    match answer {
        Value::ServerError(e) => {
            let error: RedisError = e.clone().into();
            if is_passing(&error) { Err(error) } else { Ok(Value::ServerError(e)) }
        }
        answer => Ok(answer),
    }
}

/// Asks until there is an answer or an error that does not pass.
async fn repeated<T, F: Future<Output = RedisResult<T>>>(
    deadline: Instant,
    mut ask: impl FnMut() -> F,
) -> RedisResult<T> {
    let mut waiting = Waiting::default();
    let mut last = None;
    loop {
        let Ok(answer) = timeout_at(deadline, ask()).await else {
            return Err(last.unwrap_or_else(no_answer));
        };
        match answer {
            Err(e) if is_passing(&e) => {
                let pause = waiting.next_pause();
                if Instant::now() + pause >= deadline {
                    return Err(e);
                }
                tracing::debug!(error = %e, "no answer to a read, asking again");
                sleep(pause).await;
                last = Some(e);
            }
            answer => return answer,
        }
    }
}

fn no_answer() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "the server did not answer within the read deadline")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::ErrorKind;

    async fn asked(error: fn() -> RedisError, answers_at: usize) -> (usize, RedisResult<usize>) {
        let (mut asked, deadline) = (0, Instant::now() + Duration::from_millis(300));
        let answer = repeated(deadline, || {
            asked += 1;
            std::future::ready(if asked >= answers_at { Ok(asked) } else { Err(error()) })
        })
        .await;
        (asked, answer)
    }

    #[tokio::test]
    async fn only_errors_that_pass_are_repeated_and_only_until_the_deadline() {
        let broken = || std::io::Error::from(std::io::ErrorKind::BrokenPipe).into();
        let refused = || RedisError::from((ErrorKind::Extension, "NOPERM"));
        assert_eq!(asked(broken, 3).await.1.unwrap(), 3);
        assert!(asked(broken, usize::MAX).await.1.unwrap_err().is_io_error());
        let (questions, answer) = asked(refused, 4).await;
        assert!(answer.is_err() && questions == 1, "{questions}");
    }

    #[tokio::test]
    async fn a_server_that_is_silent_is_given_up_at_the_deadline() {
        let deadline = Instant::now() + Duration::from_millis(20);
        let silent = repeated::<(), _>(deadline, std::future::pending);
        let answer = tokio::time::timeout(Duration::from_secs(10), silent).await.expect("an answer");
        assert!(answer.unwrap_err().is_timeout());
    }
}
