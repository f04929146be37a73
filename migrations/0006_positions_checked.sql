-- Every position so far is above 0: read once, as long as it takes, while others append and read.

set local statement_timeout = 0;

alter table events validate constraint events_position_positive;
