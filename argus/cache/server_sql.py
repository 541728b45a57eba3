"""The tables of the server's store and the statements that work on them."""

from __future__ import annotations

from argus.cache.ledger import Policy

# Latents do not compress, so their column is stored as it is. `priority` has no index: then a use
# updates a row in place, without new index lines.
SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS argus_cache_entry (
        partition text, prompt text, steps integer NOT NULL, ks integer[] NOT NULL,
        owner text NOT NULL, created_unix_s double precision NOT NULL, nbytes bigint NOT NULL,
        last_use_unix_s double precision NOT NULL, uses bigint NOT NULL,
        benefit double precision NOT NULL, priority double precision NOT NULL,
        PRIMARY KEY (partition, prompt)
    ) WITH (fillfactor = 80)
    """,
    """
    CREATE TABLE IF NOT EXISTS argus_cache_state (
        partition text, prompt text, k integer, shape integer[] NOT NULL, dtype text NOT NULL,
        crc32 bigint NOT NULL, data bytea NOT NULL,
        PRIMARY KEY (partition, prompt, k),
        FOREIGN KEY (partition, prompt) REFERENCES argus_cache_entry ON DELETE CASCADE
    )
    """,
    "ALTER TABLE argus_cache_state ALTER COLUMN data SET STORAGE EXTERNAL",
    """
    CREATE TABLE IF NOT EXISTS argus_cache_floor (
        one boolean PRIMARY KEY DEFAULT true CHECK (one), priority double precision NOT NULL
    )
    """,
    "INSERT INTO argus_cache_floor (priority) VALUES (0) ON CONFLICT DO NOTHING",
)

USE = """
    UPDATE argus_cache_entry SET uses = uses + 1, benefit = benefit + %(k)s::float8 / steps,
        last_use_unix_s = %(now)s,
        priority = (SELECT priority FROM argus_cache_floor) + benefit + %(k)s::float8 / steps
    WHERE partition = %(partition)s AND prompt = %(prompt)s AND %(k)s = ANY (ks)
        AND created_unix_s > %(oldest)s
"""
GET = f"""
    WITH used AS ({USE} RETURNING steps, ks, owner, created_unix_s, nbytes)
    SELECT shape, dtype, crc32, data, used.* FROM argus_cache_state, used
    WHERE partition = %(partition)s AND prompt = %(prompt)s AND k = %(k)s
"""
PUT = """
    INSERT INTO argus_cache_entry AS e VALUES (
        %(partition)s, %(prompt)s, %(steps)s, %(ks)s, %(owner)s, %(created)s, %(nbytes)s,
        %(now)s, 0, %(benefit)s, (SELECT priority FROM argus_cache_floor) + %(benefit)s
    )
    ON CONFLICT (partition, prompt) DO UPDATE SET steps = excluded.steps, ks = excluded.ks,
        owner = excluded.owner, created_unix_s = excluded.created_unix_s,
        nbytes = excluded.nbytes, last_use_unix_s = excluded.last_use_unix_s,
        priority = (SELECT priority FROM argus_cache_floor) + e.benefit
"""
ORDER = {
    Policy.BENEFIT: "priority DESC, last_use_unix_s DESC",
    Policy.LRU: "last_use_unix_s DESC",
    Policy.FIFO: "created_unix_s DESC",
}
EVICT = """
    WITH ranked AS (
        SELECT partition, prompt, sum(nbytes) OVER (
            ORDER BY (partition, prompt) = (%s, %s) DESC, {order}, prompt
        ) AS kept
        FROM argus_cache_entry
    )
    DELETE FROM argus_cache_entry e USING ranked r
    WHERE e.partition = r.partition AND e.prompt = r.prompt AND r.kept > %s
    RETURNING e.partition, e.prompt, e.priority
"""
SELECTED = """
    (%(owner)s::text IS NULL OR owner = %(owner)s)
    AND (%(partition)s::text IS NULL OR partition = %(partition)s)
    AND (%(before)s::float8 IS NULL OR created_unix_s < %(before)s)
"""
