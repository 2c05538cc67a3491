-- TimescaleDB under its community licence: a chunk a day of UTC, in columns by series once it is over.
CREATE TABLE samples (
    series bigint NOT NULL,
    at bigint NOT NULL,
    value double precision NOT NULL,
    tick bigint NOT NULL
);
SELECT create_hypertable('samples', by_range('at', 86400000), create_default_indexes => false);
CREATE INDEX samples_by_series ON samples (series, at);
ALTER TABLE samples SET (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'series',
    timescaledb.orderby = 'at, tick'
);

CREATE TABLE ticks (
    id bigint NOT NULL,
    stream bigint NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL
);
SELECT create_hypertable('ticks', by_range('at', 86400000), create_default_indexes => false);
ALTER TABLE ticks SET (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'stream',
    timescaledb.orderby = 'id'
);
