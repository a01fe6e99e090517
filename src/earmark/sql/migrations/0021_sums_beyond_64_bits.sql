-- What is carried is one side of a sum, the other of which may be in the tables yet: alone it may be beyond 64 bits.
ALTER TABLE earmark._private_carried
    ALTER COLUMN journal_committed TYPE numeric,
    ALTER COLUMN journal_held TYPE numeric,
    ALTER COLUMN holds_committed TYPE numeric;
COMMENT ON COLUMN earmark._private_carried.holds_committed IS
    'On the side of the holds: committed use of pruned holds, pruned adjustments, what refunds found given back before, and less what repair
adjusted to agree with the holds';
