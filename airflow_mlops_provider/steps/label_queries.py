"""The queries of :mod:`label_matching`; what stands in braces are names and expressions of ours."""

from __future__ import annotations

LABELS = """
    CREATE OR REPLACE TABLE labels AS SELECT * FROM (
        SELECT {key} AS key, label, {optional}, COALESCE({known}) AS label_ts
        FROM read_parquet($path)
    ) WHERE {come}
"""
"""Table ``labels``: the rows that have come, with text as key and ``label_ts``."""
SETTLED = """
    CREATE OR REPLACE TABLE settled AS
    SELECT row_number() OVER (ORDER BY {unit}) AS id, key, min(row) AS row, min(event) AS event,
        min(label) AS label, max(label_ts) AS label_ts, count(*) AS n,
        count(DISTINCT label) AS answers
    FROM (
        SELECT * FROM labels
        QUALIFY rank() OVER (PARTITION BY {unit} ORDER BY updated DESC NULLS LAST) = 1
    ) GROUP BY {unit}
"""
"""Table ``settled``: of each unit (key, and row or time) the last label, and how many differ."""
MATCHED_BY_ID = """
    CREATE OR REPLACE TABLE matched AS
    SELECT id, number, label, label_ts, CASE
        WHEN number IS NULL THEN 'unknown'
        WHEN event < ts - $skew::INTERVAL THEN 'early'
        WHEN event > ts + $delay::INTERVAL THEN 'expired'
        ELSE 'joined' END AS fate
    FROM settled LEFT JOIN predictions ON {same}
"""
"""Table ``matched``: what becomes of each label, by an id of the predictions."""
ASKED = """
    CREATE OR REPLACE TABLE asked AS
    SELECT key, request, row, min(ts) AS ts FROM predictions
    WHERE key IS NOT NULL GROUP BY key, request, row
    QUALIFY row_number() OVER (PARTITION BY key, min(ts) ORDER BY request DESC, row DESC) = 1
"""
"""Table ``asked``: when each key was predicted for, one request for each moment."""
MATCHED_IN_TIME = """
    CREATE OR REPLACE TABLE matched AS
    WITH near AS (
        SELECT settled.id, label, label_ts, event, before.ts AS last_ts, after.ts AS next_ts,
            event <= before.ts + COALESCE($delay::INTERVAL, event - before.ts) AS fits,
            CASE WHEN fits THEN before.request ELSE after.request END AS request,
            CASE WHEN fits THEN before.row ELSE after.row END AS row
        FROM settled
        ASOF LEFT JOIN asked AS before ON settled.key = before.key AND event >= before.ts
        ASOF LEFT JOIN asked AS after ON settled.key = after.key AND event < after.ts
    ), placed AS (
        SELECT *, CASE
            WHEN fits OR next_ts <= event + $skew::INTERVAL THEN 'joined'
            WHEN last_ts IS NOT NULL THEN 'expired'
            WHEN next_ts IS NOT NULL THEN 'early'
            ELSE 'unknown' END AS fate
        FROM near
    ), first AS (
        SELECT id, label, label_ts, request, row, CASE
            WHEN fate = 'joined'
                AND row_number() OVER (PARTITION BY fate, request, row ORDER BY event, id) > 1
            THEN 'surplus' ELSE fate END AS fate
        FROM placed
    )
    SELECT id, number, label, label_ts, fate
    FROM first LEFT JOIN predictions
        ON fate = 'joined' AND first.request = predictions.request AND first.row = predictions.row
"""
"""Table ``matched``: what becomes of each label, by the last request before it."""
FATES = """
    SELECT fate, count(*) FROM (
        SELECT CASE WHEN bool_or(fate = 'joined') THEN 'joined' ELSE min(fate) END AS fate
        FROM matched GROUP BY id
    ) GROUP BY fate
"""
"""How many labels became what; one that fits some prediction is joined."""
