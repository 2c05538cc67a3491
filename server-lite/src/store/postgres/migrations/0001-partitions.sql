-- Plain PostgreSQL: a partition a day of UTC, made when something of that day comes. Times are Unix
-- milliseconds.
CREATE TABLE samples (
    series bigint NOT NULL,
    at bigint NOT NULL,
    value double precision NOT NULL,
    tick bigint NOT NULL
) PARTITION BY RANGE (at);
CREATE INDEX samples_by_series ON samples (series, at);

CREATE TABLE ticks (
    id bigint NOT NULL,
    stream bigint NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL
) PARTITION BY RANGE (at);
