//! Carries out the plan, and looks after the processes as a service manager would: what ended is started again.
//!
//! Nothing waits in here but the clock: what ends later (a thaw, a start, the end of a server's start) is looked at again
//! every few milliseconds, so faults overlap as planned.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::figures::Figures;
use crate::line::Heal;
use crate::operator::Operator;
use crate::plan::{Fault, Kind};
use crate::system::{Role, Servers, System};

const TICK: Duration = Duration::from_millis(20);
/// A role that was asked to end and has all it needs.
const ENDS_WITHIN: Duration = Duration::from_secs(11);
/// A process that failed to start is started again after this.
const RESTART_AFTER: Duration = Duration::from_millis(300);
/// A start that failed is the fault of a server that was away then.
const FORGIVEN_FOR: Duration = Duration::from_secs(20);

/// What a role is just going through.
enum Mood {
    Runs,
    Down { until: Instant },
    Frozen { until: Instant },
    Ending { since: Instant, excused: bool },
    Cut { until: Instant, how: Heal, is_clients: bool },
}

/// What a server is just going through.
enum Trouble {
    None,
    Down { until: Instant },
    Frozen { until: Instant },
    Cut { until: Instant },
    Starting(JoinHandle<()>),
}

/// A process that is in the group for a while.
struct Guest {
    role: Role,
    leaves: Instant,
    asked: Option<Instant>,
}

/// The standby that takes over at the end.
enum Backup {
    At(Duration),
    Goes(JoinHandle<()>),
    Done,
}

/// The hand that does it.
pub struct Hand<'a> {
    pub system: &'a mut System,
    pub figures: &'a mut Figures,
    began: Instant,
    moods: Vec<Mood>,
    postgres: Trouble,
    kafka: Trouble,
    guests: Vec<Guest>,
    guests_so_far: usize,
    operator: Operator,
    backup: Backup,
    /// Kinds that could not be made when they should, and have not been made since.
    postponed: Vec<Fault>,
    /// When a server was last away.
    away: Option<Instant>,
}

impl<'a> Hand<'a> {
    /// A hand that copies the standby after so long.
    pub fn new(system: &'a mut System, figures: &'a mut Figures, back_up_at: Duration) -> Self {
        let backup = if system.servers.is_some() { Backup::At(back_up_at) } else { Backup::Done };
        let moods = system.roles.iter().map(|_| Mood::Runs).collect();
        Self {
            system,
            figures,
            began: Instant::now(),
            moods,
            postgres: Trouble::None,
            kafka: Trouble::None,
            guests: Vec::new(),
            guests_so_far: 0,
            operator: Operator::default(),
            backup,
            postponed: Vec::new(),
            away: None,
        }
    }

    /// Does all of it, then lets everything recover. Ends early when a statement was violated.
    pub async fn carry_out(&mut self, plan: &[Fault], length: Duration) {
        let mut to_come = plan.iter().peekable();
        while self.began.elapsed() < length && crate::violation().is_none() {
            for fault in std::mem::take(&mut self.postponed) {
                if !self.figures.has(fault.kind) {
                    self.begin(&fault).await;
                }
            }
            while let Some(fault) = to_come.next_if(|fault| fault.at <= self.began.elapsed()) {
                self.begin(fault).await;
            }
            self.look_after_backup(false).await;
            self.look_after(false).await;
            tokio::time::sleep(TICK).await;
        }
        while !self.is_well() && crate::violation().is_none() {
            self.look_after_backup(true).await;
            self.look_after(true).await;
            tokio::time::sleep(TICK).await;
        }
        self.say("all faults are over");
        let planned: BTreeSet<Kind> = plan.iter().map(|fault| fault.kind).collect();
        let missing: Vec<String> = planned
            .into_iter()
            .filter(|kind| !self.figures.has(*kind))
            .map(|kind| kind.to_string())
            .collect();
        let missing = if missing.is_empty() { "none".to_owned() } else { missing.join(", ") };
        self.figures.count("kinds of fault that were planned and never made", missing);
    }

    /// It is copied while everything goes wrong, but for PostgreSQL itself.
    async fn look_after_backup(&mut self, all: bool) {
        let Some(servers) = &self.system.servers else { return };
        match &mut self.backup {
            Backup::At(at)
                if matches!(self.postgres, Trouble::None) && (all || self.began.elapsed() >= *at) =>
            {
                let postgres = servers.postgres.clone();
                self.backup = Backup::Goes(tokio::task::spawn_blocking(move || postgres.back_up()));
                self.say("the standby is copied");
            }
            Backup::Goes(copying) if copying.is_finished() => {
                copying.await.expect("a backup");
                self.backup = Backup::Done;
            }
            _ => {}
        }
    }

    fn say(&self, text: &str) {
        println!("{:8.2} s  {text}", self.began.elapsed().as_secs_f64());
    }

    async fn begin(&mut self, fault: &Fault) {
        let until = Instant::now() + fault.lasts;
        let did = match fault.kind {
            Kind::KillPostgres | Kind::StopPostgres | Kind::FreezePostgres => {
                self.trouble_postgres(fault.kind, until)
            }
            Kind::KillKafka | Kind::FreezeKafka | Kind::CutKafka => self.trouble_kafka(fault.kind, until),
            Kind::GrowGroup => {
                let role = self.system.guest(self.guests_so_far).await;
                self.guests_so_far += 1;
                self.guests.push(Guest { role, leaves: until, asked: None });
                Some("the projectors".to_owned())
            }
            Kind::Rebuild => self.operator.rebuild(self.system, fault.role, until).await,
            Kind::DeleteRecords => self.operator.delete_records(self.system, fault.role),
            kind => self.trouble_role(kind, fault.role, until),
        };
        let Some(whom) = did else {
            // Something else was in its way.
            if !self.figures.has(fault.kind) && self.postponed.iter().all(|it| it.kind != fault.kind) {
                self.postponed.push(Fault { is_alone: false, ..*fault });
            }
            return;
        };
        self.say(&format!("{:<31} {whom}, for {:.1} s", fault.kind, fault.lasts.as_secs_f64()));
        self.figures.fault(fault.kind, fault.is_alone, Instant::now(), until);
    }

    fn trouble_postgres(&mut self, kind: Kind, until: Instant) -> Option<String> {
        let servers = self.system.servers.as_ref()?;
        if !matches!(self.postgres, Trouble::None) || matches!(self.backup, Backup::Goes(_)) {
            return None;
        }
        self.postgres = match kind {
            Kind::FreezePostgres => {
                servers.postgres.freeze();
                Trouble::Frozen { until }
            }
            Kind::KillPostgres => {
                servers.postgres.kill();
                Trouble::Down { until }
            }
            _ => {
                let postgres = servers.postgres.clone();
                let began = Instant::now();
                // What follows is the start.
                Trouble::Starting(tokio::task::spawn_blocking(move || {
                    postgres.stop();
                    std::thread::sleep(until.saturating_duration_since(began));
                    postgres.start_again();
                }))
            }
        };
        Some("PostgreSQL".to_owned())
    }

    fn trouble_kafka(&mut self, kind: Kind, until: Instant) -> Option<String> {
        let servers = self.system.servers.as_ref()?;
        if !matches!(self.kafka, Trouble::None) {
            return None;
        }
        self.kafka = match kind {
            Kind::KillKafka => {
                servers.kafka.kill();
                Trouble::Down { until }
            }
            Kind::FreezeKafka => {
                servers.kafka.freeze();
                Trouble::Frozen { until }
            }
            _ => {
                servers.kafka_line.hold();
                Trouble::Cut { until }
            }
        };
        Some("Kafka".to_owned())
    }

    /// Does something to the role of this number, or the next one that nothing is being done to.
    fn trouble_role(&mut self, kind: Kind, number: usize, until: Instant) -> Option<String> {
        let count = self.system.roles.len();
        let clients = kind == Kind::CutClients;
        let is_it = |at: &usize| {
            matches!(self.moods[*at], Mood::Runs) && (!clients || *at < self.system.clients.len())
        };
        let at = (number..number + count).map(|at| at % count).find(is_it)?;
        let role = &mut self.system.roles[at];
        if role.process.ended().is_some() {
            self.ended_by_itself(at);
            return None;
        }
        let role = &mut self.system.roles[at];
        self.moods[at] = match kind {
            Kind::KillRole => {
                role.process.kill();
                Mood::Down { until }
            }
            Kind::EndRole => {
                role.process.terminate();
                let excused = !role.came_up() || self.servers_are_away();
                Mood::Ending { since: Instant::now(), excused }
            }
            Kind::PauseRole | Kind::FreezeRole => {
                role.process.freeze();
                Mood::Frozen { until }
            }
            Kind::CutClients => {
                self.system.clients[at].hold();
                let how = if number.is_multiple_of(2) { Heal::Resume } else { Heal::Reset };
                Mood::Cut { until, how, is_clients: true }
            }
            _ => {
                role.database.as_ref()?.hold();
                let how = if kind == Kind::CutRole { Heal::Resume } else { Heal::Reset };
                Mood::Cut { until, how, is_clients: false }
            }
        };
        Some(self.system.roles[at].name.clone())
    }

    fn servers_are_away(&self) -> bool {
        !matches!((&self.postgres, &self.kafka), (Trouble::None, Trouble::None))
    }

    /// Whether nothing is being done to anybody.
    fn is_well(&self) -> bool {
        !self.servers_are_away()
            && self.guests.is_empty()
            && self.operator.is_idle()
            && matches!(self.backup, Backup::Done)
            && self.moods.iter().all(|mood| matches!(mood, Mood::Runs))
            && self.system.roles.iter().all(|role| role.came_up() || role.stands_by())
    }

    /// Ends what is over, or all of it, and starts what is down.
    async fn look_after(&mut self, all: bool) {
        let now = Instant::now();
        let over = |until: &Instant| all || now >= *until;
        if self.servers_are_away() {
            self.away = Some(now);
        }
        if let Some(servers) = &self.system.servers {
            look_after_servers(servers, &mut self.postgres, &mut self.kafka, over).await;
        }
        for at in 0..self.moods.len() {
            let role = &mut self.system.roles[at];
            match &self.moods[at] {
                Mood::Runs if role.process.ended().is_some() => self.ended_by_itself(at),
                Mood::Down { until } if over(until) => self.start(at),
                Mood::Frozen { until } if over(until) => {
                    role.process.thaw();
                    self.moods[at] = Mood::Runs;
                }
                Mood::Cut { until, how, is_clients } if over(until) => {
                    let line =
                        if *is_clients { Some(&self.system.clients[at]) } else { role.database.as_ref() };
                    if let Some(line) = line {
                        line.heal(*how);
                    }
                    self.away = Some(now);
                    self.moods[at] = Mood::Runs;
                }
                Mood::Ending { since, excused } => {
                    let took = since.elapsed();
                    let Some(ended) = role.process.ended() else {
                        assert!(
                            took < ENDS_WITHIN,
                            "a graceful stop takes at most 10 s: {} is still there",
                            role.name
                        );
                        continue;
                    };
                    assert!(
                        ended.success() || *excused || self.away.is_some_and(|away| away >= *since),
                        "a graceful stop is a success: {} ended with {ended}: {}",
                        role.name,
                        role.process.last_words()
                    );
                    self.figures.ended(took);
                    self.start(at);
                }
                _ => {}
            }
        }
        self.look_after_guests(all);
        let forgiven = self.away.is_some_and(|at| at.elapsed() < FORGIVEN_FOR);
        self.operator.look_after(self.system, all && !self.servers_are_away(), forgiven).await;
    }

    fn look_after_guests(&mut self, all: bool) {
        let forgiven = self.servers_are_away() || self.away.is_some_and(|at| at.elapsed() < FORGIVEN_FOR);
        self.guests.retain_mut(|Guest { role, leaves, asked }| {
            if asked.is_none() && (all || Instant::now() >= *leaves) {
                role.process.terminate();
                *asked = Some(Instant::now());
            }
            let Some(ended) = role.process.ended() else {
                let in_time = asked.is_none_or(|asked| asked.elapsed() < ENDS_WITHIN);
                assert!(in_time, "a graceful stop takes at most 10 s: {} is still there", role.name);
                return true;
            };
            assert!(
                forgiven || (asked.is_some() && (ended.success() || !role.came_up())),
                "a member leaves its group in good order: {} ended with {ended}: {}",
                role.name,
                role.process.last_words()
            );
            false
        });
    }

    fn start(&mut self, at: usize) {
        let role = &mut self.system.roles[at];
        role.process.start_again();
        role.started = Instant::now();
        self.moods[at] = Mood::Runs;
    }

    /// A start may fail while a server is away: a service manager tries again. Nothing else may end a process.
    fn ended_by_itself(&mut self, at: usize) {
        let role = &self.system.roles[at];
        let forgiven = self.away.is_some_and(|away| away >= role.started || away.elapsed() < FORGIVEN_FOR);
        assert!(
            forgiven && !role.came_up(),
            "a process ends only when it is told to: {} ended: {}",
            role.name,
            role.process.last_words()
        );
        self.figures.failed_starts += 1;
        self.moods[at] = Mood::Down { until: Instant::now() + RESTART_AFTER };
    }
}

async fn look_after_servers(
    servers: &Servers,
    postgres: &mut Trouble,
    kafka: &mut Trouble,
    over: impl Fn(&Instant) -> bool,
) {
    match postgres {
        Trouble::Frozen { until } if over(until) => {
            servers.postgres.thaw();
            *postgres = Trouble::None;
        }
        Trouble::Down { until } if over(until) => {
            let server = servers.postgres.clone();
            *postgres = Trouble::Starting(tokio::task::spawn_blocking(move || server.start_again()));
        }
        Trouble::Starting(start) if start.is_finished() => {
            start.await.expect("PostgreSQL starts again");
            *postgres = Trouble::None;
        }
        _ => {}
    }
    match kafka {
        Trouble::Frozen { until } if over(until) => {
            servers.kafka.thaw();
            *kafka = Trouble::None;
        }
        Trouble::Cut { until } if over(until) => {
            servers.kafka_line.heal(Heal::Reset);
            *kafka = Trouble::None;
        }
        Trouble::Down { until } if over(until) => {
            let server = servers.kafka.clone();
            *kafka = Trouble::Starting(tokio::task::spawn_blocking(move || server.start_again()));
        }
        Trouble::Starting(start) if start.is_finished() => {
            start.await.expect("the broker starts again");
            *kafka = Trouble::None;
        }
        _ => {}
    }
}
