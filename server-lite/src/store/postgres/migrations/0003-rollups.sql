-- Kept rollups. A page is what 64 series of an agent come to in the spans of one level that end in one day of
-- UTC: (00:00, 24:00]. Levels: 1 is a minute, 2 ten minutes, 3 an hour, 4 the day. `grp` is the series' number
-- divided by 64. Pages are compressed already.
CREATE TABLE pages (
    agent bigint NOT NULL,
    level smallint NOT NULL,
    grp bigint NOT NULL,
    day bigint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (agent, level, grp, day)
);
ALTER TABLE pages ALTER data SET STORAGE EXTERNAL;
CREATE INDEX pages_by_day ON pages (level, day);

-- An agent's samples of that day with a tick below this are in its pages.
CREATE TABLE paged (
    agent bigint NOT NULL,
    day bigint NOT NULL,
    tick bigint NOT NULL,
    PRIMARY KEY (agent, day)
) WITH (fillfactor = 80);

-- And the agent has others of that day. `taken` is 0 until pages are being made of them; then it is the tick
-- up to which, and what comes meanwhile has a row of its own. Whoever stores samples sees to the row, under
-- the lock of the agent's.
CREATE TABLE unpaged (
    agent bigint NOT NULL,
    day bigint NOT NULL,
    taken bigint NOT NULL,
    since_ms bigint NOT NULL,
    PRIMARY KEY (agent, day, taken)
);

-- Samples of days before this one have been dropped, or are about to be: what comes for them is a stray.
CREATE TABLE dropped (
    before_day bigint NOT NULL
);
INSERT INTO dropped VALUES (-9223372036854775808);

-- The day whose page a sample belongs to: its last is that of midnight.
CREATE FUNCTION page_day(at bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS 'SELECT floor((at::numeric - 1) / 86400000)::bigint';

-- The last day of whose samples a page was made. One that is old has none left: it isn't counted, and there
-- for what is kept of it.
ALTER TABLE series ADD COLUMN last_day bigint;
ALTER TABLE series ADD COLUMN is_old boolean NOT NULL DEFAULT false;

-- Nothing of what is there is in a page yet.
INSERT INTO unpaged SELECT DISTINCT s.agent, page_day(t.at), 0, 0 FROM
    (SELECT stream, at FROM ticks UNION ALL SELECT stream, at FROM stray_ticks) t
    JOIN streams s ON s.id = t.stream;

-- With the values in the index, a series' samples lie together: on the table's pages there is one of each.
DROP INDEX samples_by_series;
CREATE INDEX samples_by_series ON samples (series, at) INCLUDE (value, tick);
