CREATE OR REPLACE FUNCTION earmark._private_reserve_outcomes(
    asked earmark._private_request[], lines earmark._private_line[], granted boolean[], moment timestamptz
) RETURNS earmark._private_request[] LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
DECLARE
    one _private_request;
    earlier _private_request;
    short jsonb;
    root text;
    prefix bytea;
BEGIN
    IF false = ANY (granted) THEN
        SELECT jsonb_object_agg(s.ordinal, s.short) INTO short FROM _private_shortage(lines, granted) s;
    END IF;
    FOREACH one IN ARRAY asked LOOP
        CONTINUE WHEN one.replayed;
        IF one.first < one.ordinal THEN
            earlier := asked[one.first];
            one.replayed := true;
            IF earlier.request = one.request THEN
                one.outcome := earlier.outcome;
                one.reservation := earlier.reservation;
                one.expires_at := earlier.expires_at;
                one.detail := earlier.detail;
            ELSE
                one.outcome := 'conflict';
                one.detail := _private_differs(earlier.request, one.request);
            END IF;
        ELSE
            IF granted[one.ordinal] THEN
                one.outcome := 'granted';
            ELSE
                one.outcome := 'denied';
                one.detail := jsonb_build_object('short', short->(one.ordinal::text));
            END IF;
            IF one.root IS DISTINCT FROM root THEN
                root := one.root;
                prefix := _private_id_prefix(root, moment);
            END IF;
            one.reservation := encode(prefix || substring(uuid_send(gen_random_uuid()) FROM 9), 'hex')::uuid;
            one.expires_at := moment + (one.request->>'ttl_seconds')::float8 * interval '1 second';
        END IF;
        asked[one.ordinal] := one;
    END LOOP;
    RETURN asked;
END $$;
COMMENT ON FUNCTION earmark._private_reserve_outcomes IS
    'The requests with their outcomes: what was decided, or what an earlier request of the batch under the same key was answered.';
