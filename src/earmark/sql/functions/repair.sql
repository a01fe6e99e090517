CREATE OR REPLACE FUNCTION earmark.repair(reason text, subject text DEFAULT NULL, actor text DEFAULT NULL)
RETURNS TABLE (subject text, resource text, period_start timestamptz, reservation uuid, item text, seq bigint,
    committed_before bigint, held_before bigint, committed_after bigint, held_after bigint, reason text)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
    SELECT _private_authorize(NULL);
    SELECT * FROM _private_repair(repair.subject, repair.reason, coalesce(repair.actor, 'repair'));
$$;
COMMENT ON FUNCTION earmark.repair IS
'Makes balance, holds and journal agree where verify finds that they do not, of one subject or of all, in one transaction.
The holds are right: about what is held, and, with the adjustments, about what is committed. Each change is an adjust entry in the journal
that carries the reason and what was found; a hold that is not as the journal last said of it, or is missing, gets one that names it, and its reservation,
where that is missing or was not granted. A subject whose count of entries is lower than their last number, which would stop him, goes on behind that. A broken hash chain is evidence, and
stays; a hold that is not its owner''s is put back by hand.
Returns what was done: the entry''s seq, the balance before and after. Errors: QT001 (no reason), QT005.
Locks the trees of the subjects that drifted; safe beside live traffic, and to repeat.';
