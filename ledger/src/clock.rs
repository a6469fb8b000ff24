//! The time of day, for people and for names. It enters no digest.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// Seconds since 1970-01-01 UTC.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|elapsed| elapsed.as_secs()).unwrap_or_default()
}

/// A time in seconds since 1970 as `20261122T184500Z`. Such texts sort by time.
pub fn utc_stamp(unix_s: u64) -> String {
    let at = utc(unix_s);
    format!("{:04}{:02}{:02}T{:02}{:02}{:02}Z", at.year(), u8::from(at.month()), at.day(), at.hour(), at.minute(), at.second())
}

/// A time in seconds since 1970 as `2026-11-22T18:45:00Z` (RFC 3339).
pub fn rfc3339(unix_s: u64) -> String {
    let at = utc(unix_s);
    format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", at.year(), u8::from(at.month()), at.day(), at.hour(), at.minute(), at.second())
}

/// Times after the year 9999, which `time` does not represent, become 1970.
fn utc(unix_s: u64) -> OffsetDateTime {
    let seconds = i64::try_from(unix_s).ok();
    seconds.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // `date -u -d @N +%Y%m%dT%H%M%SZ`
        assert_eq!(utc_stamp(0), "19700101T000000Z");
        assert_eq!(utc_stamp(951_782_399), "20000228T235959Z");
        assert_eq!(utc_stamp(951_782_400), "20000229T000000Z");
        assert_eq!(rfc3339(1_795_372_800), "2026-11-22T18:40:00Z");
    }

    #[test]
    fn a_time_that_no_calendar_has_is_1970() {
        assert_eq!(rfc3339(u64::MAX), "1970-01-01T00:00:00Z");
    }
}
