-- A target of remote write is an agent that isn't there: `job` is its label of that name, and `hostname` its
-- label `instance`. It has one stream, named as it is, in which each time of a request is a tick.
ALTER TABLE agents ADD COLUMN job text;

-- What was said of metrics apart from their series: it holds for those that come later too. Whoever writes
-- here, or adds series of targets, holds an advisory lock.
CREATE TABLE families (
    metric text PRIMARY KEY,
    kind smallint NOT NULL,
    help text NOT NULL,
    said_ms bigint NOT NULL
);
