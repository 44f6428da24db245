//! The scoreboard by itself: numbers cross the end of the circle.

use super::*;
use crate::transport::tcp::rack::Rack;

const SEGMENT: usize = 100;
const LIMIT: usize = 64;
const NO_WINDOW: Duration = Duration::ZERO;

fn number(value: u32) -> SequenceNumber {
    SequenceNumber(value.wrapping_sub(500))
}

fn block(left: u32, right: u32) -> SackBlock {
    SackBlock { left: number(left), right: number(right) }
}

fn millis(at: u64) -> Instant {
    Instant::from_millis(at)
}

/// A scoreboard with RACK's variables, as a connection has them.
struct Board {
    board: Scoreboard,
    rack: Rack,
}

impl Board {
    fn empty() -> Board {
        Board { board: Scoreboard::default(), rack: Rack::new(number(0)) }
    }

    /// One super-segment of ten segments, from 0 to 1000, sent at 1 ms.
    fn ten() -> Board {
        let mut ten = Board::empty();
        ten.send(0, 1_000, 1);
        ten
    }

    fn send(&mut self, start: u32, end: u32, at: u64) {
        self.board.sent(number(start), number(end), millis(at), SEGMENT);
    }

    fn resend(&mut self, start: u32, end: u32, at: u64) {
        self.board.resent(number(start), number(end), millis(at));
    }

    fn acknowledge(&mut self, next: u32, blocks: &[SackBlock], at: u64) -> Progress {
        let minimum_round_trip = Duration::from_millis(8);
        let witness = Witness { arrived: millis(at), forward: self.rack.forward(), minimum_round_trip, echo: None };
        let mut progress = self.board.acknowledge(number(next), &witness);
        self.board.selectively_acknowledge(blocks, LIMIT, SEGMENT, &witness, &mut progress);
        let forward = progress.highest.unwrap_or(number(next)).latest(number(next));
        self.rack.delivered(progress.latest, millis(at), progress.is_reordered, forward);
        self.check();
        progress
    }

    fn judge(&mut self, window: Duration, at: u64) -> detection::Judged {
        let judged = self.board.judge_by_time(&self.rack, window, millis(at));
        self.check();
        judged
    }

    fn lost(&mut self) -> Option<(u32, u32)> {
        self.board.next_lost().map(|(start, end)| (start.distance_from(number(0)), end.distance_from(number(0))))
    }

    /// The totals are what the pieces say, and delivered neighbours are joined.
    #[track_caller]
    fn check(&self) {
        let sum = |fate| self.board.pieces.iter().filter(|piece| piece.fate == fate).map(Piece::length).sum::<usize>();
        let totals = [self.board.in_flight, self.board.lost, self.board.delivered];
        assert_eq!(totals, [Fate::InFlight, Fate::Lost, Fate::Delivered].map(sum));
        let pairs = self.board.pieces.iter().zip(self.board.pieces.iter().skip(1));
        for (one, two) in pairs {
            assert!(one.end == two.start && one.start.before(one.end));
            assert!(one.fate != Fate::Delivered || two.fate != Fate::Delivered, "not joined");
        }
    }
}

#[test]
fn cumulative_acknowledgements_cut_pieces() {
    let mut ten = Board::ten();
    let progress = ten.acknowledge(250, &[], 5);
    assert_eq!((progress.delivered, progress.sent), (250, Some(millis(1))));
    assert_eq!(ten.board.in_flight(), 750);
    ten.acknowledge(1_000, &[], 6);
    assert!(ten.board.is_empty() && ten.board.in_flight() == 0);
}

#[test]
fn rfc8985_6_2_step_5_what_was_sent_before_something_delivered_is_lost_when_the_window_is_over() {
    let mut board = Board::empty();
    for (index, at) in [(0, 10), (1, 12), (2, 14)] {
        board.send(index * 1_000, index * 1_000 + 1_000, at);
    }
    board.acknowledge(0, &[block(2_000, 3_000)], 50);
    let judged = board.judge(Duration::from_millis(10), 50);
    assert_eq!((judged.lost, judged.wait_until), (0, Some(millis(12 + 36 + 10))), "xmit_ts + rtt + reo_wnd of the last that waits");
    assert_eq!(board.judge(Duration::from_millis(10), 56).lost, 1_000, "the first");
    assert_eq!(board.judge(Duration::from_millis(10), 58), detection::Judged { lost: 1_000, wait_until: None });
    assert_eq!(board.lost(), Some((0, 2_000)));
}

#[test]
fn rfc8985_6_2_within_a_super_segment_numbers_tell_the_order() {
    let mut ten = Board::ten();
    ten.acknowledge(0, &[block(100, 200), block(300, 400), block(600, 700)], 9);
    assert_eq!(ten.judge(NO_WINDOW, 9).lost, 400);
    for hole in [(0, 100), (200, 300), (400, 600)] {
        assert_eq!(ten.lost(), Some(hole));
        ten.resend(hole.0, hole.1, 10);
    }
    assert_eq!(ten.judge(NO_WINDOW, 10).lost, 0, "nothing sent later has been delivered");
    assert_eq!(ten.board.in_flight(), 700, "and what was sent after them may be on its way");
}

#[test]
fn rfc8985_6_2_a_lost_retransmission_is_found_by_what_was_sent_after_it() {
    let mut ten = Board::ten();
    ten.acknowledge(0, &[block(100, 200), block(300, 1_000)], 9);
    ten.judge(NO_WINDOW, 9);
    ten.resend(0, 100, 10);
    ten.resend(200, 300, 11);
    ten.acknowledge(0, &[block(100, 1_000)], 20);
    assert_eq!((ten.judge(NO_WINDOW, 20).lost, ten.lost()), (100, Some((0, 100))), "RFC 8985 §9.1, example 2");
    ten.resend(0, 100, 21);
    ten.send(1_000, 1_400, 22);
    ten.acknowledge(0, &[block(100, 1_200)], 33);
    assert_eq!((ten.judge(NO_WINDOW, 33).lost, ten.lost()), (100, Some((0, 100))), "again");
}

#[test]
fn rfc8985_6_2_a_part_of_a_retransmitted_super_segment_tells_of_what_is_before_it() {
    let mut ten = Board::ten();
    ten.board.all_is_lost();
    ten.resend(0, 1_000, 10);
    ten.acknowledge(0, &[block(300, 400)], 20);
    assert_eq!((ten.judge(NO_WINDOW, 20).lost, ten.lost()), (300, Some((0, 300))));
    ten.resend(0, 300, 21);
    ten.acknowledge(0, &[block(300, 400), block(800, 900)], 22);
    assert_eq!((ten.judge(NO_WINDOW, 22).lost, ten.lost()), (400, Some((400, 800))));
}

#[test]
fn rfc8985_6_2_step_2_an_acknowledgement_too_early_for_a_retransmission_says_nothing_of_it() {
    let witness = |arrived, echo| Witness {
        arrived: millis(arrived),
        minimum_round_trip: Duration::from_millis(20),
        echo: Some((echo, 7)),
        forward: number(0),
    };
    let latest = |witness| {
        let mut ten = Board::ten();
        ten.resend(0, 100, 50);
        ten.board.acknowledge(number(100), &witness).latest.map(|sent| sent.at)
    };
    assert_eq!(latest(witness(69, 57)), None, "sooner than any round trip");
    assert_eq!(latest(witness(70, 56)), None, "TSecr is of an earlier transmission");
    assert_eq!(latest(witness(70, 57)), Some(millis(50)));
}

#[test]
fn rfc8985_6_2_step_3_reordering_is_seen_in_what_was_sent_once() {
    let mut ten = Board::ten();
    assert!(!ten.acknowledge(0, &[block(500, 600), block(100, 200)], 9).is_reordered, "one acknowledgement has no order");
    assert!(ten.acknowledge(0, &[block(300, 400)], 10).is_reordered);
    let mut ten = Board::ten();
    ten.acknowledge(0, &[block(500, 600)], 9);
    ten.resend(0, 500, 10);
    assert!(!ten.acknowledge(500, &[], 20).is_reordered, "that may have been the retransmission");
}

#[test]
fn rfc8985_6_3_a_timeout_loses_the_first_segment_and_what_is_old() {
    let mut board = Board::ten();
    board.send(1_000, 1_500, 2);
    board.acknowledge(0, &[block(1_000, 1_100)], 12);
    board.send(1_500, 2_000, 195);
    assert_eq!(board.board.judge_on_timeout(&board.rack, NO_WINDOW, SEGMENT, millis(201)), 1_400);
    assert_eq!((board.lost(), board.board.in_flight()), (Some((0, 1_000)), 500));
}

#[test]
fn rfc2018_8_a_timeout_keeps_what_was_delivered_unless_the_peer_reneged() {
    let mut ten = Board::ten();
    ten.acknowledge(0, &[block(100, 300)], 9);
    ten.board.judge_on_timeout(&ten.rack, NO_WINDOW, SEGMENT, millis(500));
    assert_eq!((ten.board.in_flight(), ten.lost()), (0, Some((0, 100))));
    ten.acknowledge(100, &[], 510);
    ten.board.judge_on_timeout(&ten.rack, NO_WINDOW, SEGMENT, millis(900));
    assert_eq!(ten.lost(), Some((100, 1_000)));
}

#[test]
fn rfc6298_3_samples_obey_karn() {
    let mut ten = Board::ten();
    ten.send(1_000, 1_100, 5);
    ten.board.all_is_lost();
    ten.resend(0, 100, 9);
    let progress = ten.acknowledge(1_100, &[], 20);
    assert_eq!((progress.delivered, progress.sent, progress.resent), (1_100, None, Some(millis(9))));
}

#[test]
fn samples_by_sack_come_from_what_is_new() {
    let mut ten = Board::ten();
    ten.send(1_000, 1_100, 5);
    let progress = ten.acknowledge(0, &[block(1_000, 1_100)], 10);
    assert_eq!((progress.delivered, progress.sent), (100, Some(millis(5))));
    assert_eq!(ten.acknowledge(0, &[block(1_000, 1_100)], 10), Progress::default());
    let rest = ten.acknowledge(1_100, &[], 11);
    assert_eq!((rest.delivered, rest.sent), (1_000, Some(millis(1))));
}

#[test]
fn rfc2018_5_impossible_blocks_are_ignored() {
    let mut ten = Board::ten();
    let blocks = [block(0, 100), block(900, 1_001), block(300, 200), block(200, 200), block(2_000_000_000, 100)];
    assert_eq!(ten.acknowledge(0, &blocks, 9), Progress::default());
    assert_eq!(ten.board.in_flight(), 1_000);
}

#[test]
fn rfc6582_3_2_the_first_segment_is_marked_once() {
    let mut ten = Board::ten();
    assert_eq!((ten.board.first_is_lost(SEGMENT), ten.lost()), (100, Some((0, 100))));
    assert_eq!(ten.board.first_is_lost(SEGMENT), 0);
    ten.resend(0, 100, 2);
    assert_eq!(ten.board.first_is_lost(SEGMENT), 0);
    ten.acknowledge(100, &[], 9);
    assert_eq!(ten.board.first_is_lost(SEGMENT), 100);
}

#[test]
fn rfc4015_3_3_what_was_not_sent_again_returns_to_flight_and_can_be_lost_later() {
    let mut ten = Board::ten();
    ten.send(1_000, 2_000, 2);
    ten.board.all_is_lost();
    ten.resend(0, 100, 300);
    ten.acknowledge(400, &[], 301);
    ten.board.nothing_is_lost();
    assert_eq!((ten.board.in_flight(), ten.lost()), (1_600, None));
    ten.acknowledge(400, &[block(1_000, 1_100)], 302);
    assert_eq!((ten.judge(NO_WINDOW, 302).lost, ten.lost()), (600, Some((400, 1_000))));
}

#[test]
fn pieces_are_bounded_whatever_the_peer_acknowledges() {
    let mut board = Board::empty();
    board.send(0, 100_000, 0);
    let ignored: u64 = (1..99_999).step_by(2).map(|at| board.acknowledge(0, &[block(at, at + 1)], 9).blocks_ignored).sum();
    assert!(board.board.pieces.len() <= LIMIT + 2 && ignored > 40_000, "{} {ignored}", board.board.pieces.len());
    assert_eq!(board.acknowledge(100_000, &[], 10).delivered + LIMIT / 2, 100_000);
}

#[test]
fn a_growing_block_stays_one_piece() {
    let mut board = Board::empty();
    (0..20).for_each(|at| board.send(at * 6_000, at * 6_000 + 6_000, at.into()));
    for right in (300..100_000).step_by(200) {
        board.acknowledge(0, &[block(100, right)], 50);
        assert!(board.board.pieces.len() <= 23, "{}", board.board.pieces.len());
    }
    assert_eq!(board.board.delivered_segments(), 2 + 2 * 498);
}

#[test]
fn an_empty_scoreboard_is_small() {
    let mut board = Board::empty();
    (0..500).for_each(|at| board.send(at * 200, at * 200 + 200, at.into()));
    (0..500).for_each(|at| board.resend(at * 200, at * 200 + 200, 600));
    board.acknowledge(100_000, &[], 700);
    assert!(board.board.pieces.capacity() <= ROOM_WHEN_IDLE && board.board.again.capacity() == 0);
}

#[test]
fn tiny_segments_sent_together_share_a_piece() {
    let mut board = Scoreboard::default();
    for at in 0..250 {
        board.sent(number(at), number(at + 1), Instant::from_micros(at.into()), SEGMENT);
    }
    assert_eq!((board.pieces.len(), board.in_flight()), (3, 250));
}
