CREATE OR REPLACE FUNCTION document.reconcile_slots() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE waiting record; n integer := 0;
BEGIN
    DELETE FROM queue.render_backlog b WHERE NOT EXISTS (SELECT FROM document.document_render_jobs j
        WHERE j.tenant_id = b.tenant_id AND j.id = b.job_id AND j.generation = b.generation
            AND j.status IN ('queued', 'running'));
    -- One order of locks, so that two housekeepers cannot wait for each other, nor one of them for a job that moves
    -- from the normal lane to the large one.
    PERFORM 1 FROM queue.render_slots ORDER BY tenant_id, lane DESC FOR UPDATE;
    UPDATE queue.render_slots s SET admitted = (SELECT count(*) FROM document.document_render_jobs j
        WHERE j.tenant_id = s.tenant_id AND j.lane = s.lane AND j.status IN ('queued', 'running') AND NOT EXISTS
            (SELECT FROM queue.render_backlog b WHERE b.job_id = j.id AND b.generation = j.generation));
    FOR waiting IN SELECT b.* FROM queue.render_slots s CROSS JOIN LATERAL
            (SELECT * FROM queue.render_backlog b WHERE b.tenant_id = s.tenant_id AND b.lane = s.lane ORDER BY b.seq
             LIMIT greatest(document.slots_per_tenant(s.lane) - s.admitted, 0)) b LOOP
        DELETE FROM queue.render_backlog WHERE seq = waiting.seq;
        PERFORM document.put_entry(waiting.tenant_id, waiting.job_id, waiting.generation, waiting.lane, 0);
        UPDATE queue.render_slots SET admitted = admitted + 1
            WHERE tenant_id = waiting.tenant_id AND lane = waiting.lane;
        n := n + 1;
    END LOOP;
    RETURN n;
END $$;

-- A file in quarantine was sent for a patient whose records a case may need, while it is scanned again too.
CREATE OR REPLACE FUNCTION document.refuse_destroy_under_hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (TG_OP = 'DELETE' OR ((OLD.status = 'quarantined' OR OLD.rescan) AND NEW.status = 'failed'))
        AND EXISTS (SELECT FROM document.legal_holds h WHERE h.tenant_id = OLD.tenant_id AND h.released_at IS NULL
            AND h.patient_id = OLD.patient_id) THEN
        RAISE EXCEPTION 'the patient''s records are under a legal hold' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
