-- An index is read alone only where the table has been looked over since something was stored.
ALTER TABLE samples SET (autovacuum_vacuum_insert_scale_factor = 0.05);
