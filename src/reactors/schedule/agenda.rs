//! Which jobs are due, and when to look again. Pure.
//!
//! What is due follows from the definition and the last due time that was taken. The latter is remembered here as soon as the
//! log has it, since the read model that tells it is a moment behind. A due time that is being asked for is not asked for again,
//! and one that was refused rests, each time twice as long: one job that cannot be scheduled costs the others nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::domain::fields::Fields;
use crate::domain::ids::JobId;
use crate::domain::job::Schedule;
use crate::domain::job::calendar::{Calendar, Due};
use crate::queries::job_plan::PlannedJob;

/// Pause after the first refusal.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause after a refusal.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// All jobs that become due by themselves.
#[derive(Debug, Default)]
pub struct Agenda {
    entries: BTreeMap<JobId, Entry>,
    /// Whose due time is being asked for.
    asked: BTreeMap<JobId, DateTime<Utc>>,
    /// What was refused: how often in a row, and until when it rests.
    refused: BTreeMap<JobId, (u32, Instant)>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    calendar: Calendar,
    schedule: Schedule,
    since: DateTime<Utc>,
    /// It is due after this.
    after: DateTime<Utc>,
    /// The next due time; none if there never is one.
    next: Option<DateTime<Utc>>,
}

impl Entry {
    fn taken(&mut self, due_at: DateTime<Utc>) {
        if due_at > self.after {
            self.after = due_at;
            self.next = self.calendar.first_due_after(self.after);
        }
    }
}

impl Agenda {
    /// Takes over what the jobs are now. A job that has not changed keeps what was taken of it since.
    pub fn replace(&mut self, jobs: Vec<PlannedJob>) {
        let mut before = std::mem::take(&mut self.entries);
        for job in jobs {
            let after = job.due_taken.map_or(job.since, |taken| taken.max(job.since));
            let known = before.remove(&job.job_id);
            let is_same = |known: &Entry| known.since == job.since && known.schedule == job.schedule;
            let entry = match known.filter(is_same) {
                Some(mut known) => {
                    known.taken(after);
                    known
                }
                None => {
                    // It was checked when the job was defined; by a newer program perhaps.
                    let Some(calendar) = Calendar::read(&job.schedule, &mut Fields::new()) else {
                        tracing::warn!(job = job.name, "has a schedule that this program cannot read");
                        continue;
                    };
                    let next = calendar.first_due_after(after);
                    let PlannedJob { name, schedule, since, .. } = job;
                    Entry { name, calendar, schedule, since, after, next }
                }
            };
            self.entries.insert(job.job_id, entry);
        }
        self.refused.retain(|job_id, _| self.entries.contains_key(job_id));
    }

    /// Up to `count` jobs that are due and can be asked for, each with the latest due time that has come, the longest due first.
    pub fn due(&self, now: DateTime<Utc>, at: Instant, count: usize) -> Vec<(JobId, String, Due)> {
        let are_due = self.entries.iter().filter(|(job_id, entry)| {
            entry.next.is_some_and(|next| next <= now)
                && !self.asked.contains_key(job_id)
                && self.refused.get(job_id).is_none_or(|(_, rest)| *rest <= at)
        });
        let mut are_due: Vec<_> = are_due.map(|(job_id, entry)| (entry.next, *job_id, entry)).collect();
        are_due.sort_by_key(|(next, job_id, _)| (*next, *job_id));
        let due = are_due.into_iter().take(count).filter_map(|(_, job_id, entry)| {
            let due = entry.calendar.latest_due(entry.after, now)?;
            Some((job_id, entry.name.clone(), due))
        });
        due.collect()
    }

    /// The run of a due time is being asked for.
    pub fn asked(&mut self, job_id: JobId, due_at: DateTime<Utc>) {
        self.asked.insert(job_id, due_at);
    }

    /// A due time that was asked for is in the log, or will never be.
    pub fn taken(&mut self, job_id: JobId) {
        self.refused.remove(&job_id);
        let due_at = self.asked.remove(&job_id);
        if let (Some(entry), Some(due_at)) = (self.entries.get_mut(&job_id), due_at) {
            entry.taken(due_at);
        }
    }

    /// The log has answered. Returns how long the job rests, if that settled nothing: there is nothing new, and yet the time is
    /// still to come. So says a log whose clock has been put back since the job was found due.
    pub fn answered(
        &mut self,
        job_id: JobId,
        made: bool,
        now: DateTime<Utc>,
        at: Instant,
    ) -> Option<Duration> {
        if !made && self.asked.get(&job_id).is_some_and(|due_at| *due_at > now) {
            return Some(self.refused(job_id, at));
        }
        self.taken(job_id);
        None
    }

    /// What was asked for is not to be had now. Returns how long it rests.
    pub fn refused(&mut self, job_id: JobId, at: Instant) -> Duration {
        self.asked.remove(&job_id);
        let (times, rest) = self.refused.entry(job_id).or_insert((0, at));
        let pause = PAUSE_MIN.saturating_mul(1 << (*times).min(10)).min(PAUSE_MAX);
        *times += 1;
        *rest = at + pause;
        pause
    }

    /// How many due times are being asked for.
    pub fn asked_count(&self) -> usize {
        self.asked.len()
    }

    /// Until a job can be asked for, as the time is now: nothing if one is due already. None if there never will be one, unless
    /// something happens.
    pub fn wait(&self, now: DateTime<Utc>, at: Instant) -> Option<Duration> {
        let waiting = self.entries.iter().filter(|(job_id, _)| !self.asked.contains_key(job_id));
        let wait = waiting.filter_map(|(job_id, entry)| {
            let until = (entry.next? - now).to_std().unwrap_or_default();
            let rest = self.refused.get(job_id).map(|(_, rest)| rest.saturating_duration_since(at));
            Some(until.max(rest.unwrap_or_default()))
        });
        wait.min()
    }

    /// How many jobs there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn every(seconds: u32, name: &str, since: &str) -> PlannedJob {
        PlannedJob {
            job_id: JobId::named(name),
            name: name.to_owned(),
            schedule: Schedule::Interval { seconds },
            since: at(since),
            due_taken: None,
        }
    }

    fn due_at(agenda: &Agenda, now: DateTime<Utc>) -> Vec<(JobId, String, Due)> {
        agenda.due(now, Instant::now(), 10)
    }

    fn due(agenda: &Agenda, now: &str) -> Vec<(String, String, u32)> {
        let due = due_at(agenda, at(now)).into_iter();
        due.map(|(_, name, due)| (name, due.due_at.format("%H:%M:%S").to_string(), due.missed)).collect()
    }

    fn take(agenda: &mut Agenda, name: &str, due_at: &str) {
        agenda.asked(JobId::named(name), at(due_at));
        agenda.taken(JobId::named(name));
    }

    fn next(agenda: &Agenda) -> Option<DateTime<Utc>> {
        let epoch = DateTime::UNIX_EPOCH;
        agenda.wait(epoch, Instant::now()).map(|wait| epoch + wait)
    }

    #[test]
    fn what_was_missed_is_caught_up_once_with_the_latest_time() {
        let mut agenda = Agenda::default();
        agenda.replace(vec![
            every(3600, "hourly", "2024-03-01T00:30:00Z"),
            every(60, "often", "2024-03-01T05:00:00Z"),
        ]);
        assert_eq!(next(&agenda), Some(at("2024-03-01T01:00:00Z")));
        assert!(due(&agenda, "2024-03-01T00:59:59Z").is_empty());
        let expected = [("hourly", "05:00:00", 4), ("often", "05:01:00", 0)];
        let expected = expected.map(|(name, at, missed)| (name.to_owned(), at.to_owned(), missed));
        assert_eq!(due(&agenda, "2024-03-01T05:01:30Z"), expected);
        assert_eq!(agenda.due(at("2024-03-01T05:01:30Z"), Instant::now(), 1)[0].1, "hourly");
        take(&mut agenda, "hourly", "2024-03-01T05:00:00Z");
        take(&mut agenda, "often", "2024-03-01T05:01:00Z");
        assert!(due(&agenda, "2024-03-01T05:01:30Z").is_empty());
        assert_eq!(next(&agenda), Some(at("2024-03-01T05:02:00Z")));
    }

    #[test]
    fn rows_that_are_behind_do_not_bring_a_due_time_back_and_a_change_does() {
        let mut agenda = Agenda::default();
        let job = every(60, "often", "2024-03-01T05:00:00Z");
        agenda.replace(vec![job.clone()]);
        take(&mut agenda, "often", "2024-03-01T05:07:00Z");
        agenda.replace(vec![PlannedJob { due_taken: Some(at("2024-03-01T05:02:00Z")), ..job.clone() }]);
        assert_eq!(next(&agenda), Some(at("2024-03-01T05:08:00Z")));
        agenda.replace(vec![PlannedJob { due_taken: Some(at("2024-03-01T05:09:00Z")), ..job.clone() }]);
        assert_eq!(next(&agenda), Some(at("2024-03-01T05:10:00Z")), "another scheduler took it");
        // A clock that ran ahead took a time far from now: changing the job mends it.
        take(&mut agenda, "often", "2099-01-01T00:00:00Z");
        assert_eq!(next(&agenda), Some(at("2099-01-01T00:01:00Z")));
        agenda.replace(vec![PlannedJob { since: at("2024-03-01T05:20:30Z"), ..job.clone() }]);
        assert_eq!(next(&agenda), Some(at("2024-03-01T05:21:00Z")));
        agenda.replace(vec![]);
        assert_eq!((next(&agenda), agenda.len()), (None, 0));
    }

    #[test]
    fn a_clock_that_is_put_back_makes_nothing_due() {
        let mut agenda = Agenda::default();
        let job = every(60, "often", "2024-03-01T05:00:00Z");
        agenda.replace(vec![job.clone()]);
        let now = at("2024-03-01T05:07:10Z");
        agenda.asked(job.job_id, due_at(&agenda, now)[0].2.due_at);
        agenda.taken(job.job_id);
        assert!(due_at(&agenda, now - TimeDelta::hours(5)).is_empty());
        assert!(due_at(&agenda, now).is_empty());
        assert_eq!(due_at(&agenda, now + TimeDelta::minutes(1)).len(), 1);
    }

    #[test]
    fn a_due_time_that_a_clock_put_back_made_one_to_come_is_not_taken() {
        let mut agenda = Agenda::default();
        let job = every(60, "often", "2024-03-01T05:00:00Z");
        agenda.replace(vec![job.clone()]);
        let (now, clock, due_at) = (at("2024-03-01T05:07:10Z"), Instant::now(), at("2024-03-01T05:07:00Z"));
        agenda.asked(job.job_id, due_at);
        let back = now - TimeDelta::minutes(10);
        assert_eq!(agenda.answered(job.job_id, false, back, clock), Some(PAUSE_MIN));
        assert_eq!(
            agenda.due(now, clock + PAUSE_MIN, 10)[0].2.due_at,
            due_at,
            "when the time has come again"
        );
        for (made, now) in [(false, now), (true, back)] {
            agenda.replace(vec![]);
            agenda.replace(vec![job.clone()]);
            agenda.asked(job.job_id, due_at);
            assert_eq!(agenda.answered(job.job_id, made, now, clock), None);
            assert_eq!(agenda.due(at("2024-03-01T05:07:10Z"), clock, 10), vec![]);
        }
    }

    #[test]
    fn what_is_asked_for_is_not_asked_again_and_what_is_refused_rests_longer_each_time() {
        let mut agenda = Agenda::default();
        let jobs = [every(60, "bad", "2024-03-01T05:00:00Z"), every(60, "good", "2024-03-01T05:00:00Z")];
        agenda.replace(jobs.to_vec());
        let (now, mut clock, bad) = (at("2024-03-01T05:01:10Z"), Instant::now(), jobs[0].job_id);
        let names = |agenda: &Agenda, clock: Instant| -> Vec<String> {
            agenda.due(now, clock, 10).into_iter().map(|(_, name, _)| name).collect()
        };
        assert_eq!(agenda.wait(now, clock), Some(Duration::ZERO));
        for job in &jobs {
            agenda.asked(job.job_id, at("2024-03-01T05:01:00Z"));
        }
        assert_eq!((names(&agenda, clock), agenda.wait(now, clock), agenda.asked_count()), (vec![], None, 2));
        agenda.taken(jobs[1].job_id);
        for seconds in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let pause = agenda.refused(bad, clock);
            assert_eq!(pause, Duration::from_secs_f64(seconds));
            assert_eq!(agenda.wait(now, clock), Some(pause.min(Duration::from_secs(50))), "not before");
            assert_eq!(names(&agenda, clock + pause - Duration::from_millis(1)), [""; 0]);
            clock += pause;
            assert_eq!(names(&agenda, clock), ["bad"]);
            agenda.asked(bad, at("2024-03-01T05:01:00Z"));
        }
        agenda.taken(bad);
        agenda.asked(bad, at("2024-03-01T05:02:00Z"));
        assert_eq!(agenda.refused(bad, clock), PAUSE_MIN, "a success forgets what was refused before");
    }
}
