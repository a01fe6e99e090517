CREATE OR REPLACE FUNCTION earmark._private_period(
    anchor timestamptz, period text, at timestamptz, OUT period_start timestamptz, OUT period_end timestamptz
) LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
DECLARE
    base timestamp := anchor AT TIME ZONE 'UTC';
    moment timestamp := at AT TIME ZONE 'UTC';
    step interval;
    months integer;
    count bigint;
BEGIN
    IF period = 'lifetime' THEN
        period_start := '-infinity';
        period_end := 'infinity';
        RETURN;
    END IF;
    step := period::interval;
    months := extract(year FROM step) * 12 + extract(month FROM step);
    IF months > 0 THEN
        count := floor(((extract(year FROM moment) - extract(year FROM base)) * 12
            + extract(month FROM moment) - extract(month FROM base)) / months);
        IF base + count * step > moment THEN
            count := count - 1;
        END IF;
    ELSE
        count := floor(extract(epoch FROM moment - base) / extract(epoch FROM step));
    END IF;
    period_start := (base + count * step) AT TIME ZONE 'UTC';
    period_end := (base + (count + 1) * step) AT TIME ZONE 'UTC';
END $$;
COMMENT ON FUNCTION earmark._private_period IS
    'The period [start, end) that contains a moment. Steps are counted from the anchor, so the 31st does not drift in short months.';
