//! Time is passed in: seconds on the caller's clock, as a float. quinn wants `Instant`, of which nobody can make an
//! arbitrary one, so an arbitrary one stands for the caller's zero. Nothing here asks what time it is.

use std::time::{Duration, Instant};

/// Room before the caller's zero, for quinn's subtractions.
const MARGIN: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Copy)]
pub struct Clock {
    zero: Instant,
}

impl Clock {
    pub fn new() -> Self {
        Self { zero: Instant::now() + MARGIN }
    }

    /// Negative and impossible times count as zero.
    pub fn instant(&self, seconds: f64) -> Instant {
        let since_zero = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO);
        self.zero.checked_add(since_zero).unwrap_or(self.zero)
    }

    /// Rounded up, so that what is due at an instant is due at these seconds too.
    pub fn seconds(&self, instant: Instant) -> f64 {
        let seconds = instant.saturating_duration_since(self.zero).as_secs_f64();
        if self.instant(seconds) < instant { seconds * (1.0 + f64::EPSILON) + 1e-9 } else { seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_at_an_instant_is_due_at_its_seconds() {
        let clock = Clock::new();
        for nanos in [0, 1, 999, 123_456_789, 7_777_777_777_777] {
            let instant = clock.instant(0.0) + Duration::from_nanos(nanos);
            assert!(clock.instant(clock.seconds(instant)) >= instant, "{nanos}");
        }
    }

    #[test]
    fn impossible_times_are_zero() {
        let clock = Clock::new();
        for seconds in [-1.0, 1e19, f64::MAX, f64::NAN, f64::INFINITY] {
            assert_eq!(clock.instant(seconds), clock.instant(0.0));
        }
    }
}
