CREATE OR REPLACE FUNCTION earmark._private_position_at(cursor text)
RETURNS earmark._private_position LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
DECLARE
    parts jsonb;
    behind _private_position := ROW('0', '', '', 0);
BEGIN
    IF cursor IS NOT NULL THEN
        parts := cursor::jsonb;
        behind := ROW((parts->>0)::xid8, parts->>1, parts->>2, (parts->>3)::bigint);
        IF jsonb_array_length(parts) <> 4 OR NOT behind IS NOT NULL OR parts->>0 !~ '^[0-9]+$' THEN -- PostgreSQL 15 takes "x" for 0
            RAISE invalid_text_representation;
        END IF;
    END IF;
    RETURN behind;
EXCEPTION WHEN data_exception THEN
    PERFORM _private_raise('QT001', 'This is not a cursor of journal_since.', '{"field": "cursor"}');
END $$;
COMMENT ON FUNCTION earmark._private_position_at IS 'What a cursor of journal_since stands for: the entry last taken.';
