//! Which jobs are due, and when the next one will be. Pure.
//!
//! What is due follows from the definition and the last due time that was taken. The latter is remembered here as soon as the
//! log has it, since the read model that tells it is a moment behind.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::domain::fields::Fields;
use crate::domain::ids::JobId;
use crate::domain::job::Schedule;
use crate::domain::job::calendar::{Calendar, Due};
use crate::queries::job_plan::PlannedJob;

/// All jobs that become due by themselves.
#[derive(Debug, Default)]
pub struct Agenda {
    entries: BTreeMap<JobId, Entry>,
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
    }

    /// The jobs that are due, each with the latest due time that has come, the longest due first.
    pub fn due(&self, now: DateTime<Utc>) -> Vec<(JobId, String, Due)> {
        let are_due = self.entries.iter().filter(|(_, entry)| entry.next.is_some_and(|next| next <= now));
        let due = are_due.filter_map(|(job_id, entry)| {
            let due = entry.calendar.latest_due(entry.after, now)?;
            Some((entry.next, *job_id, entry.name.clone(), due))
        });
        let mut due: Vec<_> = due.collect();
        due.sort_by_key(|(next, job_id, ..)| (*next, *job_id));
        due.into_iter().map(|(_, job_id, name, due)| (job_id, name, due)).collect()
    }

    /// A due time is in the log, or will never be.
    pub fn taken(&mut self, job_id: JobId, due_at: DateTime<Utc>) {
        if let Some(entry) = self.entries.get_mut(&job_id) {
            entry.taken(due_at);
        }
    }

    /// When the next job is due; in the past if one is due now.
    pub fn next(&self) -> Option<DateTime<Utc>> {
        self.entries.values().filter_map(|entry| entry.next).min()
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

    fn due(agenda: &Agenda, now: &str) -> Vec<(String, String, u32)> {
        let due = agenda.due(at(now)).into_iter();
        due.map(|(_, name, due)| (name, due.due_at.format("%H:%M:%S").to_string(), due.missed)).collect()
    }

    #[test]
    fn what_was_missed_is_caught_up_once_with_the_latest_time() {
        let mut agenda = Agenda::default();
        agenda.replace(vec![
            every(3600, "hourly", "2024-03-01T00:30:00Z"),
            every(60, "often", "2024-03-01T05:00:00Z"),
        ]);
        assert_eq!(agenda.next(), Some(at("2024-03-01T01:00:00Z")));
        assert!(due(&agenda, "2024-03-01T00:59:59Z").is_empty());
        let expected = [("hourly", "05:00:00", 4), ("often", "05:01:00", 0)];
        let expected = expected.map(|(name, at, missed)| (name.to_owned(), at.to_owned(), missed));
        assert_eq!(due(&agenda, "2024-03-01T05:01:30Z"), expected);
        agenda.taken(JobId::named("hourly"), at("2024-03-01T05:00:00Z"));
        agenda.taken(JobId::named("often"), at("2024-03-01T05:01:00Z"));
        assert!(due(&agenda, "2024-03-01T05:01:30Z").is_empty());
        assert_eq!(agenda.next(), Some(at("2024-03-01T05:02:00Z")));
    }

    #[test]
    fn rows_that_are_behind_do_not_bring_a_due_time_back_and_a_change_does() {
        let mut agenda = Agenda::default();
        let job = every(60, "often", "2024-03-01T05:00:00Z");
        agenda.replace(vec![job.clone()]);
        agenda.taken(job.job_id, at("2024-03-01T05:07:00Z"));
        agenda.replace(vec![PlannedJob { due_taken: Some(at("2024-03-01T05:02:00Z")), ..job.clone() }]);
        assert_eq!(agenda.next(), Some(at("2024-03-01T05:08:00Z")));
        agenda.replace(vec![PlannedJob { due_taken: Some(at("2024-03-01T05:09:00Z")), ..job.clone() }]);
        assert_eq!(agenda.next(), Some(at("2024-03-01T05:10:00Z")), "another scheduler took it");
        // A clock that ran ahead took a time far from now: changing the job mends it.
        agenda.taken(job.job_id, at("2099-01-01T00:00:00Z"));
        assert_eq!(agenda.next(), Some(at("2099-01-01T00:01:00Z")));
        agenda.replace(vec![PlannedJob { since: at("2024-03-01T05:20:30Z"), ..job.clone() }]);
        assert_eq!(agenda.next(), Some(at("2024-03-01T05:21:00Z")));
        agenda.replace(vec![]);
        assert_eq!((agenda.next(), agenda.len()), (None, 0));
    }

    #[test]
    fn a_clock_that_is_put_back_makes_nothing_due() {
        let mut agenda = Agenda::default();
        let job = every(60, "often", "2024-03-01T05:00:00Z");
        agenda.replace(vec![job.clone()]);
        let now = at("2024-03-01T05:07:10Z");
        agenda.taken(job.job_id, agenda.due(now)[0].2.due_at);
        assert!(agenda.due(now - TimeDelta::hours(5)).is_empty());
        assert!(agenda.due(now).is_empty());
        assert_eq!(agenda.due(now + TimeDelta::minutes(1)).len(), 1);
    }
}
