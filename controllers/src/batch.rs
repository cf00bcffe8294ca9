//! Many API calls for one object: at most so many at once, and carefully at first.
//!
//! Knows nothing of what the calls do.

use std::future::Future;

use futures::StreamExt;

/// Calls in flight for one sync.
pub const MAX_IN_FLIGHT: usize = 64;

/// Makes `count` calls in batches of 1, 2, 4, ...; stops after the first batch with a failure, so that a quota or
/// a refusing webhook is not hit by hundreds of calls. Returns how many succeeded and the first failure.
/// Source: the ReplicaSet controller's slow start.
pub async fn slow_start<F, E>(count: usize, call: impl Fn(usize) -> F) -> (usize, Option<E>)
where
    F: Future<Output = Result<(), E>>,
{
    let (mut started, mut succeeded, mut size) = (0, 0, 1);
    while started < count {
        let batch = size.min(count - started);
        let (done, failure) = all(batch, |at| call(started + at)).await;
        succeeded += done;
        if failure.is_some() {
            return (succeeded, failure);
        }
        started += batch;
        size *= 2;
    }
    (succeeded, None)
}

/// Makes `count` calls, [`MAX_IN_FLIGHT`] at a time. Returns how many succeeded and the first failure.
pub async fn all<F, E>(count: usize, call: impl Fn(usize) -> F) -> (usize, Option<E>)
where
    F: Future<Output = Result<(), E>>,
{
    let mut results = futures::stream::iter((0..count).map(call)).buffer_unordered(MAX_IN_FLIGHT);
    let (mut succeeded, mut failure) = (0, None);
    while let Some(result) = results.next().await {
        match result {
            Ok(()) => succeeded += 1,
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    (succeeded, failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// `count` calls of which all from `fails_from` on fail; expects so many made and so many successes.
    async fn check(count: usize, fails_from: usize, made: usize, succeeded: usize) {
        let calls = AtomicUsize::new(0);
        let outcome = slow_start(count, |at| {
            calls.fetch_add(1, Ordering::SeqCst);
            async move { if at >= fails_from { Err(at) } else { Ok(()) } }
        })
        .await;
        assert_eq!((calls.into_inner(), outcome.0), (made, succeeded));
        assert_eq!(outcome.1.is_some(), succeeded < made);
    }

    #[tokio::test]
    async fn batches_double_and_end_with_the_first_failure() {
        check(10, 10, 10, 10).await;
        check(500, 0, 1, 0).await;
        check(500, 2, 3, 2).await;
        check(500, 5, 7, 5).await;
        check(0, 0, 0, 0).await;
    }
}
