//! When a query must end.

use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Time limit of a [`Query`](crate::Query) that sets none.
pub const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The end of a query's time. The default never ends.
#[derive(Debug, Clone, Copy, Default)]
pub struct Deadline(Option<(Instant, Duration)>);

impl Deadline {
    /// A deadline after `limit` from now.
    pub fn after(limit: Duration) -> Self {
        Self(Some((Instant::now(), limit)))
    }

    /// # Errors
    /// [`Error::TimeLimit`] where the time is over.
    pub fn check(&self) -> Result<()> {
        match self.0 {
            Some((start, limit)) if start.elapsed() > limit => Err(Error::TimeLimit { limit }),
            _ => Ok(()),
        }
    }
}
