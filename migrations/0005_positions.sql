-- A log begins at position 1. Whoever reads it from there on would never see a row below, and so neither would a judge.
--
-- What is there already is looked at by the next migration, so that nobody waits while a large log is read. What holds this
-- table (a dump, insight verify) is not waited for for long: appends would wait behind us. The process ends, and is started again.

set local lock_timeout = '10s';

alter table events add constraint events_position_positive check (position > 0) not valid;
