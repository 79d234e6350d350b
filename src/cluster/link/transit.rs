//! How much longer than usual a packet was under way, without synchronised clocks.
//!
//! Each packet carries its sender's monotonic time. Arrival minus sending is an unknown constant plus the time under
//! way; the least difference seen lately stands for the constant and the usual way. What is above it is delay: a
//! packet that lay in the socket of a stopped process for a minute shows it, and its deadline is judged by it.
//!
//! # Source
//! RFC 6817 (LEDBAT), section 3.4: base delay as the minimum over the last intervals.

/// How long one interval lasts; clocks drift apart by less than a millisecond in two of them.
const INTERVAL_US: u64 = 60_000_000;

/// The usual way of packets from one peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transit {
    began_us: u64,
    before: Option<i128>,
    least: Option<i128>,
}

impl Transit {
    /// Takes a packet into account, and says by how much it is late, in microseconds.
    pub(super) fn excess_us(&mut self, sent_us: u64, now_us: u64) -> u64 {
        let way = i128::from(now_us) - i128::from(sent_us);
        if now_us.saturating_sub(self.began_us) > INTERVAL_US && self.least.is_some() {
            self.before = self.least.take();
            self.began_us = now_us;
        }
        self.least = Some(self.least.map_or(way, |least| least.min(way)));
        let usual = [self.before, self.least].into_iter().flatten().min().unwrap_or(way);
        u64::try_from(way - usual).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_that_lay_in_a_stopped_process_is_late_by_the_stop() {
        let mut transit = Transit::default();
        let clock_offset = 1_000_000_000;
        assert_eq!(transit.excess_us(clock_offset, 50), 0);
        assert_eq!(transit.excess_us(clock_offset + 1_000, 1_050), 0);
        assert_eq!(transit.excess_us(clock_offset + 2_000, 60_002_050), 60_000_000);
        assert_eq!(transit.excess_us(clock_offset + 60_003_000, 60_003_050), 0);
    }

    #[test]
    fn the_usual_way_is_forgotten_after_two_intervals() {
        let mut transit = Transit::default();
        transit.excess_us(0, 10);
        let slower = |at: u64| (at, at + 500);
        for minute in 1..4_u64 {
            let (sent, arrived) = slower(minute * (INTERVAL_US + 1_000));
            transit.excess_us(sent, arrived);
        }
        let (sent, arrived) = slower(4 * (INTERVAL_US + 1_000));
        assert_eq!(transit.excess_us(sent, arrived), 0);
    }
}
