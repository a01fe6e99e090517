CREATE OR REPLACE FUNCTION earmark._private_decide(lines earmark._private_line[])
RETURNS boolean[] LANGUAGE plpgsql IMMUTABLE SET search_path = earmark, pg_temp AS $$
DECLARE
    granted boolean[];
    used bigint[];
    line _private_line;
    taken _private_line[] := '{}';
BEGIN
    FOREACH line IN ARRAY lines LOOP
        IF granted[line.ordinal] IS NULL THEN
            granted[line.ordinal] := true;
            taken := '{}';
        END IF;
        CONTINUE WHEN NOT granted[line.ordinal];
        used[line.balance] := coalesce(used[line.balance], line.used);
        IF line.amount <= coalesce(line.quota, 9223372036854775807) - used[line.balance] THEN
            used[line.balance] := used[line.balance] + line.amount;
            taken := taken || line;
        ELSE
            granted[line.ordinal] := false;
            FOREACH line IN ARRAY taken LOOP
                used[line.balance] := used[line.balance] - line.amount;
            END LOOP;
        END IF;
    END LOOP;
    RETURN granted;
END $$;
COMMENT ON FUNCTION earmark._private_decide IS
    'Grants or denies each request in order, whole or not at all, as if they had come one after another. Indexed by ordinal; NULL where nothing was to decide.';
