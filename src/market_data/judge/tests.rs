//! Given what is known and an answer, then what is taken, held or refused.

use super::*;

const NOW: &str = "2024-03-01T12:00:00Z";
const BOUNDS: Bounds = Bounds { jump_percent: 50, refuse_times: 1_000 };

fn price(text: &str) -> Price {
    text.parse().unwrap()
}

fn at(text: &str) -> When {
    When::At(format!("2024-{text}Z").parse().unwrap())
}

fn day(text: &str) -> When {
    When::Day(format!("2024-{text}").parse().unwrap())
}

fn seen(when: When, told: &str) -> Seen {
    Seen { when, price: price(told), volume: None }
}

fn standing(told: &str, position: i64) -> Standing {
    Standing { price: price(told), position: Position(position) }
}

fn last_tick(time: &str, told: &str) -> Known {
    let When::At(time) = at(time) else { panic!("a tick") };
    Known { tick: Some((time, standing(told, 7))), ..Known::default() }
}

fn last_closes(closes: &[(&str, &str)]) -> Known {
    let closes =
        closes.iter().map(|(text, told)| (format!("2024-{text}").parse().unwrap(), standing(told, 7)));
    Known { closes: closes.collect(), ..Known::default() }
}

fn verdict(known: &Known, answer: &[Seen]) -> Result<Judged, String> {
    judge(BOUNDS, NOW.parse().unwrap(), None, known, answer.to_vec())
}

/// Taken, held, waiting, unchanged.
fn counts(known: &Known, answer: &[Seen]) -> [usize; 4] {
    let judged = verdict(known, answer).unwrap();
    [judged.take.len(), judged.hold.len(), judged.waiting, judged.unchanged]
}

fn before(seen: Seen, word: Word) -> HeldBefore {
    let held_id = HeldId(uuid::Uuid::from_u128(1));
    HeldBefore { when: seen.when, price: seen.price, held_id, position: Position(9), word }
}

#[test]
fn the_same_answer_twice_changes_nothing() {
    let known = last_tick("03-01T10:00:00", "100");
    assert_eq!(counts(&known, &[seen(at("03-01T10:00:00"), "100")]), [0, 0, 0, 1]);
    assert_eq!(counts(&known, &[seen(at("03-01T09:00:00"), "90")]), [0, 0, 0, 1]);
    assert_eq!(counts(&known, &[seen(at("03-01T10:00:01"), "100")]), [1, 0, 0, 0]);
    let known = last_closes(&[("02-28", "10"), ("02-29", "11")]);
    let answer = [seen(day("02-28"), "10"), seen(day("02-29"), "11")];
    assert_eq!(counts(&known, &answer), [0, 0, 0, 2]);
}

#[test]
fn a_correction_says_which_event_it_replaces() {
    let judged = verdict(&last_closes(&[("02-29", "11")]), &[seen(day("02-29"), "11.5")]).unwrap();
    assert_eq!(judged.take, [(seen(day("02-29"), "11.5"), Position(7))]);
    let judged = verdict(&last_tick("03-01T10:00:00", "100"), &[seen(at("03-01T10:00:00"), "101")]).unwrap();
    assert_eq!(judged.take[0].1, Position(7));
}

#[test]
fn the_future_and_two_prices_of_a_day_make_an_answer_doubtful() {
    let none = Known::default();
    let refused = |answer: &[Seen]| verdict(&none, answer).unwrap_err();
    assert_eq!(
        refused(&[seen(at("03-01T12:05:01"), "1")]),
        "tells a price of 2024-03-01T12:05:01Z, which is more than 5 minutes ahead"
    );
    assert!(
        refused(&[seen(day("02-28"), "1"), seen(day("03-03"), "1")])
            .contains("2024-03-03, which is in the future")
    );
    assert_eq!(
        refused(&[seen(day("02-28"), "1"), seen(day("02-28"), "2")]),
        "tells two prices of 2024-02-28"
    );
    assert_eq!(counts(&none, &[seen(day("02-28"), "1"), seen(day("02-28"), "1")]), [1, 0, 0, 0]);
}

#[test]
fn a_day_that_goes_on_has_no_close_unless_the_source_settles_it() {
    let answer = [seen(day("02-29"), "1"), seen(day("03-01"), "1")];
    assert_eq!(counts(&Known::default(), &answer), [1, 0, 0, 0]);
    let judged = settled(NOW, &answer).unwrap();
    assert_eq!(judged.take.len(), 2);
}

/// Of a source that settles its closes in Frankfurt.
fn settled(now: &str, answer: &[Seen]) -> Result<Judged, String> {
    let frankfurt = Some(chrono_tz::Europe::Berlin);
    judge(BOUNDS, now.parse().unwrap(), frankfurt, &Known::default(), answer.to_vec())
}

#[test]
fn tomorrow_is_settled_nowhere_and_of_others_no_close() {
    // At noon in London it is tomorrow on Kiritimati already.
    let answer = [seen(day("02-29"), "1"), seen(day("03-02"), "1")];
    let refused = settled(NOW, &answer).unwrap_err();
    assert_eq!(refused, "tells a price of 2024-03-02, which is in the future");
    assert_eq!(settled("2024-03-01T23:00:00Z", &answer).unwrap().take.len(), 2, "it has begun in Frankfurt");
    assert_eq!(counts(&Known::default(), &answer), [1, 0, 0, 0]);
    let tomorrow = verdict(&Known::default(), &answer[1..]).unwrap();
    assert!(tomorrow.is_empty() && tomorrow.passed_over == 1, "nothing of it counts: {tomorrow:?}");
    assert!(!verdict(&last_closes(&[("02-29", "1")]), &answer).unwrap().is_empty(), "one is known");
    let beyond = verdict(&Known::default(), &[seen(day("03-03"), "1")]).unwrap_err();
    assert!(beyond.contains("2024-03-03, which is in the future"));
}

#[test]
fn a_thousand_times_yesterday_is_refused_and_a_jump_is_held() {
    let known = last_tick("02-29T10:00:00", "100");
    let quote = |told: &str| [seen(at("03-01T10:00:00"), told)];
    assert!(verdict(&known, &quote("100000")).unwrap_err().contains("the last price is 100"));
    assert!(verdict(&known, &quote("0.1")).is_err());
    assert_eq!(counts(&known, &quote("150")), [1, 0, 0, 0]);
    assert_eq!(counts(&known, &quote("150.01")), [0, 1, 0, 0]);
    assert_eq!(counts(&known, &quote("66")), [0, 1, 0, 0]);
    let judged = verdict(&known, &quote("99999")).unwrap();
    assert_eq!(judged.hold[0].reason, "is more than 50 % away from the last price, 100");
}

#[test]
fn a_first_tick_is_compared_with_the_price_of_any_source() {
    let live = Some(("2024-02-29T00:00:00Z".parse().unwrap(), price("100")));
    let known = Known { live, ..Known::default() };
    assert_eq!(counts(&known, &[seen(at("03-01T10:00:00"), "300")]), [0, 1, 0, 0]);
    assert_eq!(counts(&Known::default(), &[seen(at("03-01T10:00:00"), "300")]), [1, 0, 0, 0]);
}

#[test]
fn the_bound_grows_when_the_last_price_is_old() {
    // 28 days are 4 weeks: twice the bound.
    let known = last_closes(&[("02-01", "100")]);
    assert_eq!(counts(&known, &[seen(day("02-29"), "200")]), [1, 0, 0, 0]);
    assert_eq!(counts(&known, &[seen(day("02-29"), "201")]), [0, 1, 0, 0]);
}

#[test]
fn behind_a_held_close_others_of_its_level_wait_and_a_single_spike_stands_alone() {
    let known = last_closes(&[("02-26", "100")]);
    let shift = [seen(day("02-27"), "25"), seen(day("02-28"), "26"), seen(day("02-29"), "25")];
    assert_eq!(counts(&known, &shift), [0, 1, 2, 0]);
    let spike = [seen(day("02-27"), "250"), seen(day("02-28"), "101"), seen(day("02-29"), "102")];
    assert_eq!(counts(&known, &spike), [2, 1, 0, 0]);
}

#[test]
fn what_was_held_is_held_once_and_what_was_dismissed_stays_so() {
    let quote = seen(at("03-01T10:00:00"), "500");
    let held = |word| before(quote, word);
    let mut known = last_tick("02-29T10:00:00", "100");
    known.held = vec![held(Word::Waits)];
    assert_eq!(counts(&known, &[quote]), [0, 0, 1, 0]);
    // A minute later the source says nearly the same: that waits too, and makes no second question.
    assert_eq!(counts(&known, &[seen(at("03-01T10:01:00"), "501")]), [0, 0, 1, 0]);
    known.held = vec![held(Word::Dismissed)];
    assert_eq!(counts(&known, &[quote]), [0, 0, 0, 1]);
    assert_eq!(counts(&known, &[seen(at("03-01T10:01:00"), "501")]), [0, 1, 0, 0]);
}

#[test]
fn the_first_closes_are_compared_too() {
    let live = Some(("2024-02-29T00:00:00Z".parse().unwrap(), price("100")));
    let none = Known { live, ..Known::default() };
    // Another company's: the newest is a question, and the older ones wait behind it.
    let other = [seen(day("02-27"), "20"), seen(day("02-28"), "20.5"), seen(day("02-29"), "21")];
    assert_eq!(counts(&none, &other), [0, 1, 2, 0]);
    assert_eq!(verdict(&none, &other).unwrap().hold[0].seen.when, day("02-29"));
    assert!(verdict(&none, &[seen(day("02-29"), "0.1")]).is_err());
    // What has grown over years is no jump: each is judged by the one after it.
    let grown = [
        seen(day("01-02"), "20"),
        seen(day("01-20"), "28"),
        seen(day("02-10"), "40"),
        seen(day("02-20"), "58"),
    ];
    let grown: Vec<Seen> = grown.into_iter().chain([seen(day("02-29"), "80")]).collect();
    assert_eq!(counts(&none, &grown), [5, 0, 0, 0]);
    let days: Vec<When> = verdict(&none, &grown).unwrap().take.iter().map(|(seen, _)| seen.when).collect();
    assert!(days.is_sorted(), "and appended by time");
}

#[test]
fn closes_before_the_first_known_one_are_compared_with_it() {
    let known = last_closes(&[("02-28", "100"), ("02-29", "101")]);
    assert_eq!(counts(&known, &[seen(day("02-26"), "98"), seen(day("02-27"), "99")]), [2, 0, 0, 0]);
    assert_eq!(counts(&known, &[seen(day("02-26"), "9.8"), seen(day("02-27"), "9.9")]), [0, 1, 1, 0]);
}

#[test]
fn what_waits_is_dismissed_when_another_price_stands_at_its_time() {
    let mut known = last_closes(&[("02-26", "100")]);
    known.held = vec![before(seen(day("02-27"), "250"), Word::Waits)];
    let corrected = verdict(&known, &[seen(day("02-27"), "101")]).unwrap();
    assert_eq!((corrected.take.len(), corrected.dismiss.len()), (1, 1));
    let other = verdict(&known, &[seen(day("02-28"), "101")]).unwrap();
    assert_eq!(other.dismiss, [], "another day says nothing about it");
    // Killed in between: the price stands, and the question still waits.
    known.closes = last_closes(&[("02-26", "100"), ("02-27", "101")]).closes;
    let again = verdict(&known, &[seen(day("02-27"), "101")]).unwrap();
    assert_eq!((again.take.len(), again.dismiss.len()), (0, 1));
}

#[test]
fn what_was_accepted_and_stands_no_more_is_another_question() {
    let mut known = last_closes(&[("02-26", "100")]);
    let answer = [seen(day("02-27"), "250")];
    assert_eq!(verdict(&known, &answer).unwrap().hold[0].after, Position(0));
    known.held = vec![before(answer[0], Word::Accepted)];
    assert_eq!(verdict(&known, &answer).unwrap().hold[0].after, Position(9));
    known.held.push(before(answer[0], Word::Waits));
    assert_eq!(counts(&known, &answer), [0, 0, 1, 0]);
}

#[test]
fn a_day_that_goes_on_is_counted() {
    let judged = verdict(&Known::default(), &[seen(day("02-29"), "1"), seen(day("03-01"), "1")]).unwrap();
    assert_eq!((judged.take.len(), judged.passed_over), (1, 1));
}
