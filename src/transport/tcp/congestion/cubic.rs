//! CUBIC (RFC 9438). Windows are bytes outside and segments, as real numbers, inside the formulas.

use super::{Acknowledged, AtRest, Controller, Timeout, Window, share};
use crate::time::Instant;

/// Section 5.1.
const C: f64 = 0.4;
/// Section 4.6.
const BETA: f64 = 0.7;
/// RFC 8511 §3.1: "CUBIC connections benefit from beta_{ecn} of 0.85". In slow start it does not apply.
const BETA_ECN: f64 = 0.85;
/// Section 4.3: 3 * (1 - β) / (1 + β).
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);
/// Windows are whole segments on the way: a difference of one, in segments, is none.
const GRAIN: f64 = 1.0;

/// The controller.
#[derive(Clone, Debug)]
pub(super) struct Cubic {
    window: Window,
    /// W_max, in segments.
    maximum: f64,
    /// By how much W_max may lie above the saturation point: what the window grew in the round trip before the loss was found.
    overshoot: f64,
    /// cwnd_prior, in segments.
    prior: f64,
    /// The present congestion avoidance stage; `None` in slow start and right after a loss.
    epoch: Option<Epoch>,
    /// Whether the next stage is the first one after a timeout (§4.8).
    after_timeout: bool,
    /// Growth below one byte.
    fraction: f64,
}

/// One congestion avoidance stage.
#[derive(Copy, Clone, Debug)]
struct Epoch {
    /// t_epoch.
    start: Instant,
    /// When the last acknowledgement came.
    latest: Instant,
    /// K, in seconds.
    period: f64,
    /// W_est, in segments.
    estimate: f64,
    /// Segments by which the window last grew in a round trip.
    step: f64,
}

impl Cubic {
    pub(super) fn new(window: Window) -> Cubic {
        Cubic { window, maximum: 0.0, overshoot: 0.0, prior: 0.0, epoch: None, after_timeout: false, fraction: 0.0 }
    }

    fn segments(&self) -> f64 {
        self.window.bytes as f64 / self.window.segment_size as f64
    }

    /// §4.2: K = cbrt((W_max - cwnd_epoch) / C). A window above W_max, or the first stage after a timeout, starts at its plateau (§4.8).
    fn begin_epoch(&mut self, now: Instant) -> Epoch {
        let current = self.segments();
        if self.after_timeout || current >= self.maximum {
            (self.maximum, self.overshoot) = (current, 0.0);
        }
        self.after_timeout = false;
        Epoch { start: now, latest: now, period: ((self.maximum - current) / C).cbrt(), estimate: current, step: 0.0 }
    }

    /// §4.2, figure 1: W_cubic(t) = C * (t - K)^3 + W_max.
    fn cubic(&self, epoch: &Epoch, elapsed: f64) -> f64 {
        C * (elapsed - epoch.period).powi(3) + self.maximum
    }

    fn avoid_congestion(&mut self, acknowledged: &Acknowledged, bytes: usize) {
        let mut epoch = self.epoch.take().unwrap_or_else(|| self.begin_epoch(acknowledged.now));
        let current = self.segments();
        let segments_acknowledged = bytes as f64 / self.window.segment_size as f64;
        let alpha = if epoch.estimate >= self.prior { 1.0 } else { ALPHA };
        epoch.estimate += alpha * segments_acknowledged / current;
        epoch.latest = acknowledged.now;
        let next = self.next_window(&epoch, acknowledged, current, segments_acknowledged);
        epoch.step = (next - current) * current / segments_acknowledged;
        self.epoch = Some(epoch);
        self.grow_to(next);
    }

    /// §4.3 to 4.5: the Reno-friendly estimate where it is ahead, else a step towards the target.
    fn next_window(&self, epoch: &Epoch, acknowledged: &Acknowledged, current: f64, segments_acknowledged: f64) -> f64 {
        let elapsed = acknowledged.now.since(epoch.start).as_secs_f64();
        if self.cubic(epoch, elapsed) < epoch.estimate {
            return epoch.estimate.max(current);
        }
        let ahead = self.cubic(epoch, elapsed + acknowledged.round_trip.as_secs_f64());
        let target = ahead.clamp(current, 1.5 * current);
        current + (target - current) / current * segments_acknowledged
    }

    fn grow_to(&mut self, segments: f64) {
        let bytes = segments * self.window.segment_size as f64 - self.window.bytes as f64 + self.fraction;
        let whole = bytes.max(0.0).floor();
        self.fraction = (bytes - whole).clamp(0.0, 1.0);
        self.window.bytes = self.window.bytes.saturating_add(whole as usize);
    }

    /// §4.7, fast convergence, and cwnd_prior of §4.6. A window below W_max is to tell that "the saturation point experienced by this flow is getting reduced". But
    /// W_max lies above that point by what the window grew until the loss was known: by one segment or a few in congestion avoidance, more with a convex window than
    /// with a concave one, so that a flow alone would give way to itself every second time; by half of the window after slow start. So as much less is no less.
    fn remember_maximum(&mut self) {
        let current = self.segments();
        let is_reduced = current + GRAIN < self.maximum - self.overshoot;
        self.maximum = if is_reduced { current * (1.0 + BETA) / 2.0 } else { current };
        self.overshoot = if self.window.is_slow_start() { current / 2.0 } else { self.epoch.map_or(0.0, |epoch| epoch.step) };
        self.prior = current;
        self.epoch = None;
        self.fraction = 0.0;
    }

    /// §4.2: "t MUST NOT include periods during which cwnd has not been updated due to application-limited behavior".
    fn skip_time(&mut self, now: Instant) {
        if let Some(epoch) = &mut self.epoch {
            epoch.start += now.since(epoch.latest);
            epoch.latest = now;
        }
    }
}

impl Controller for Cubic {
    fn window(&self) -> usize {
        self.window.bytes
    }

    fn threshold(&self) -> usize {
        self.window.threshold
    }

    fn on_acknowledged(&mut self, acknowledged: Acknowledged) {
        if !self.window.may_grow(&acknowledged) {
            return self.skip_time(acknowledged.now);
        }
        let rest = self.window.slow_start(&acknowledged);
        if rest > 0 {
            self.avoid_congestion(&acknowledged, rest);
        }
    }

    /// §4.6, with cwnd for flight_size: it does not grow while it is not used, and RFC 7661 says what loss makes of one that is not. (Linux does the same.)
    fn on_loss(&mut self, now: Instant, in_flight: usize) {
        self.remember_maximum();
        self.window.reduce(now, in_flight, share(self.window.bytes, BETA), 2);
    }

    fn on_recovered(&mut self, resent: usize) {
        self.window.recovered(resent);
    }

    /// §4.6: "on ECE, cwnd is at least 1 MSS".
    fn on_congestion_experienced(&mut self, now: Instant, in_flight: usize) {
        self.remember_maximum();
        let factor = if self.window.is_slow_start() { BETA } else { BETA_ECN };
        self.window.reduce(now, in_flight, share(self.window.bytes, factor), 1);
    }

    /// §4.8.
    fn on_timeout(&mut self, now: Instant, in_flight: usize, which: Timeout) {
        match which {
            Timeout::First => self.on_loss(now, in_flight),
            Timeout::InRecovery => self.window.limit_threshold(share(in_flight, BETA)),
            Timeout::Again => {}
        }
        self.epoch = None;
        self.after_timeout = true;
        self.window.collapse();
    }

    fn before_sending(&mut self, now: Instant) {
        self.window.revalidate(now);
    }

    /// The formulas count segments: what they remember is converted.
    fn set_segment_size(&mut self, bytes: usize) {
        let ratio = self.window.segment_size as f64 / bytes.max(1) as f64;
        self.maximum *= ratio;
        self.overshoot *= ratio;
        self.prior *= ratio;
        self.epoch = None;
        self.window.set_segment_size(bytes);
    }

    fn start_with_one_segment(&mut self) {
        self.window.collapse();
    }

    fn snapshot(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn at_rest(&self) -> Option<AtRest> {
        let has_memory = self.maximum > 0.0 || self.prior > 0.0 || self.epoch.is_some() || self.after_timeout;
        self.window.at_rest().filter(|_| !has_memory)
    }

    fn name(&self) -> &'static str {
        "cubic"
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;
    use crate::time::Duration;
    use crate::wire::SequenceNumber;

    const ROUND_TRIP: Duration = Duration::from_millis(100);

    fn after_loss_at(segments: usize) -> Cubic {
        let mut control = Cubic::new(Window::new(&Settings::plain(1_000)));
        control.window.bytes = segments * 1_000;
        control.on_loss(Instant::ZERO, segments * 1_000);
        control
    }

    /// An acknowledgement to a sender whose window is full.
    fn limited(now: Instant, bytes: usize, in_flight: usize) -> Acknowledged {
        let next = SequenceNumber(1);
        Acknowledged { now, in_flight, next, is_window_limited: true, ..Acknowledged::sample(bytes, ROUND_TRIP) }
    }

    /// A round trip in which the whole window is acknowledged, segment by segment.
    fn round(control: &mut Cubic, now: Instant) {
        let in_flight = control.window();
        for _ in 0..in_flight / 1_000 {
            control.on_acknowledged(limited(now, 1_000, in_flight));
        }
    }

    #[test]
    fn loss_takes_three_tenths() {
        let control = after_loss_at(1_000);
        assert_eq!((control.window(), control.threshold()), (700_000, 700_000));
        assert_eq!(control.maximum, 1_000.0);
    }

    #[test]
    fn the_window_is_concave_up_to_the_old_maximum_then_convex() {
        let mut control = after_loss_at(1_000);
        let period = (300.0_f64 / C).cbrt(); // 9.09 s
        let mut windows = vec![];
        for step in 0..200 {
            round(&mut control, Instant::ZERO + ROUND_TRIP * step);
            windows.push(control.window());
        }
        let at = |seconds: f64| windows[(seconds * 10.0) as usize] as f64 / 1_000.0;
        assert!((at(period) - 1_000.0).abs() < 20.0, "{} at K", at(period));
        let (early, middle, late) = (at(1.0) - at(0.0), at(period + 0.5) - at(period - 0.5), at(18.0) - at(17.0));
        assert!(early > 10.0 * middle && late > 10.0 * middle, "{early} {middle} {late}");
        for seconds in [2.0, 5.0, 14.0] {
            let formula = C * (seconds + 0.1 - period).powi(3) + 1_000.0;
            assert!((at(seconds) - formula).abs() < 25.0, "{} is not {formula} at {seconds} s", at(seconds));
        }
    }

    #[test]
    fn short_paths_grow_like_reno() {
        let mut control = after_loss_at(20);
        let mut now = Instant::ZERO;
        for _ in 0..40 {
            now += Duration::from_millis(1);
            round(&mut control, now);
        }
        let grown = control.window() as f64 / 1_000.0 - 14.0;
        assert!((15.0..45.0).contains(&grown), "grew by {grown} segments in 40 rounds");
    }

    #[test]
    fn fast_convergence_lowers_the_maximum_further() {
        let mut control = after_loss_at(1_000);
        control.on_loss(Instant::ZERO, 700_000);
        assert_eq!(control.maximum, 700.0, "slow start had doubled the window until its loss was known");
        control.on_loss(Instant::ZERO, 490_000);
        assert!((control.maximum - 490.0 * (1.0 + BETA) / 2.0).abs() < 0.001);
    }

    /// The path takes 210 segments. That there were more is known when they would have been acknowledged, a round trip later.
    #[test]
    fn a_flow_alone_does_not_give_way_to_itself() {
        let (mut control, mut now) = (after_loss_at(300), Instant::ZERO);
        for tooth in 0..8 {
            let mut until_known = None;
            while until_known != Some(0) {
                now += ROUND_TRIP;
                let window = control.window();
                for _ in 0..window / 1_000 {
                    let exceeding = (control.window() > 210_000).then_some(window / 1_000);
                    until_known = until_known.or(exceeding).map(|segments: usize| segments.saturating_sub(1));
                    if until_known == Some(0) {
                        break;
                    }
                    control.on_acknowledged(limited(now, 1_000, window));
                }
            }
            let window = control.window();
            control.on_loss(now, window);
            assert_eq!(control.maximum, window as f64 / 1_000.0, "tooth {tooth}");
        }
    }

    #[test]
    fn time_without_data_does_not_count() {
        let (mut busy, mut idle) = (after_loss_at(1_000), after_loss_at(1_000));
        round(&mut busy, Instant::from_secs(1));
        round(&mut idle, Instant::from_secs(1));
        idle.on_acknowledged(Acknowledged { is_window_limited: false, ..limited(Instant::from_secs(100), 1, 1) });
        round(&mut busy, Instant::from_secs(2));
        round(&mut idle, Instant::from_secs(101));
        assert!(idle.window().abs_diff(busy.window()) < 1_000);
    }

    #[test]
    fn a_mark_takes_three_twentieths_and_may_leave_one_segment() {
        let mut control = after_loss_at(1_000);
        control.on_congestion_experienced(Instant::ZERO, 700_000);
        assert_eq!((control.window(), control.threshold()), (595_000, 595_000));
        for _ in 0..60 {
            let in_flight = control.window();
            control.on_congestion_experienced(Instant::ZERO, in_flight);
        }
        assert_eq!((control.window(), control.threshold()), (1_000, 2_000));
    }

    /// Congestion avoidance with a loss after each `1/p` segments: the mean window in segments.
    fn mean_window(round_trip: Duration, p: f64) -> f64 {
        let mut control = after_loss_at(20);
        let (mut now, mut until_loss) = (Instant::ZERO, 1.0 / p);
        let (mut sum, mut rounds) = (0.0, 0.0);
        for losses in 0..200 {
            while until_loss > 0.0 {
                let window = control.window();
                let acknowledged = Acknowledged { round_trip, ..limited(now, window, window) };
                control.on_acknowledged(acknowledged);
                until_loss -= window as f64 / 1_000.0;
                now += round_trip;
                (sum, rounds) = if losses < 100 { (0.0, 0.0) } else { (sum + window as f64 / 1_000.0, rounds + 1.0) };
            }
            let in_flight = control.window();
            control.on_loss(now, in_flight);
            until_loss += 1.0 / p;
        }
        sum / rounds
    }

    #[test]
    fn section_5_1_tables_1_and_2() {
        let table = [(100, 1e-2, 12.0), (100, 1e-3, 38.0), (100, 1e-4, 187.0), (100, 1e-5, 1_054.0), (10, 1e-3, 38.0), (10, 1e-5, 379.0)];
        for (millis, p, expected) in table {
            let mean = mean_window(Duration::from_millis(millis), p);
            assert!((mean / expected - 1.0).abs() < 0.2, "{mean} is not {expected} at {millis} ms and {p}");
        }
    }

    #[test]
    fn section_4_6_the_window_is_reduced_whatever_is_in_flight_and_once_for_a_recovery() {
        let mut control = after_loss_at(100);
        control.on_loss(Instant::ZERO, 7_000);
        assert_eq!((control.window(), control.threshold()), (49_000, 49_000));
        control.on_timeout(Instant::ZERO, 90_000, Timeout::InRecovery);
        assert_eq!((control.window(), control.threshold()), (1_000, 49_000));
        let mut control = after_loss_at(100);
        control.on_timeout(Instant::ZERO, 10_000, Timeout::InRecovery);
        assert_eq!(control.threshold(), 7_000, "RFC 5681 §3.1: no more than equation 4 gives");
    }

    #[test]
    fn after_a_timeout_slow_start_then_the_plateau() {
        let mut control = after_loss_at(100);
        control.on_timeout(Instant::ZERO, 70_000, Timeout::First);
        assert_eq!((control.window(), control.threshold()), (1_000, 49_000));
        let mut now = Instant::ZERO;
        for _ in 0..8 {
            now += ROUND_TRIP;
            round(&mut control, now);
        }
        assert!((49_000..60_000).contains(&control.window()), "{}", control.window());
        assert!(control.maximum < 51.0);
    }
}
