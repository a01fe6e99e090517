CREATE OR REPLACE FUNCTION earmark.journal_export(subject text, after_seq bigint DEFAULT 0, max_entries int DEFAULT 1000)
RETURNS TABLE (root text, subject text, seq bigint, at_microseconds bigint, kind text, resource text, period_start_microseconds bigint,
    reservation uuid, item text, committed bigint, held bigint, cause text, actor text, reason text, previous text, hash text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp SET plan_cache_mode = force_custom_plan AS $$
    SELECT _private_authorize(journal_export.subject);
    SELECT j.root, j.subject, j.seq, (extract(epoch FROM j.at) * 1000000)::bigint, j.kind, j.resource,
        (extract(epoch FROM nullif(j.period_start, '-infinity')) * 1000000)::bigint, j.reservation, j.item, j.committed, j.held, j.cause,
        j.actor, j.reason, encode(coalesce(p.hash, CASE WHEN j.seq = s.pruned_seq + 1 THEN s.pruned_head END), 'hex'), encode(j.hash, 'hex')
    FROM _private_subject s
    JOIN _private_journal j ON (j.root, j.subject) = (s.root, s.subject)
    LEFT JOIN _private_journal p ON (p.root, p.subject, p.seq) = (j.root, j.subject, j.seq - 1)
    WHERE s.subject = journal_export.subject AND j.seq > journal_export.after_seq
    ORDER BY j.seq
    LIMIT greatest(least(journal_export.max_entries, 10000), 0)
$$;
COMMENT ON FUNCTION earmark.journal_export IS
'The subject''s journal, oldest first, at most 10000 entries a call, with all that its hash chain covers; the next page is after the last seq.
Times are microseconds since 1970 in UTC, period_start NULL for a lifetime; previous and hash are hex, previous the hash of the entry before.
hash = sha256(previous || UTF-8 of the JSON array [root, subject, seq, at, kind, resource, period_start, reservation, item, committed, held,
cause, actor, reason], as jsonb prints it). earmark.ledger.chain checks it without a database. Errors: QT005.';
