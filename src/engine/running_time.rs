//! How running times are written for people.

use std::fmt::{self, Display};

/// A running time in nanoseconds, written like GStreamer's: hours, minutes, seconds and nanoseconds.
pub struct RunningTime(pub i64);

impl Display for RunningTime {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (sign, ns) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let (s, ns) = (ns / 1_000_000_000, ns % 1_000_000_000);
        write!(f, "{sign}{}:{:02}:{:02}.{ns:09}", s / 3600, s / 60 % 60, s % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_hours_minutes_seconds_and_nanoseconds() {
        assert_eq!(RunningTime(3_725_000_000_001).to_string(), "1:02:05.000000001");
        assert_eq!(RunningTime(-40_000_000).to_string(), "-0:00:00.040000000");
    }
}
