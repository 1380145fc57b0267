-- Starts since the last answer of an attempt: a job whose worker dies each time ends by itself.
ALTER TABLE document.document_render_jobs ADD COLUMN unanswered_starts integer NOT NULL DEFAULT 0;

-- A large job takes a minute where a page takes 10 ms, so each lane has slots of its own: a tenant's tables of ten
-- thousand rows do not hold up its requisitions. The slots are counted anew by the next round of housekeeping.
DELETE FROM queue.render_slots;
ALTER TABLE queue.render_slots ADD COLUMN lane text NOT NULL;
ALTER TABLE queue.render_slots DROP CONSTRAINT render_slots_pkey, ADD PRIMARY KEY (tenant_id, lane);
CREATE INDEX render_backlog_lane ON queue.render_backlog (tenant_id, lane, seq);
DROP INDEX queue.render_backlog_tenant;
INSERT INTO queue.render_slots (tenant_id, lane, admitted)
    SELECT j.tenant_id, j.lane, count(*) FROM document.document_render_jobs j
    WHERE j.status IN ('queued', 'running') AND NOT EXISTS
        (SELECT FROM queue.render_backlog b WHERE b.job_id = j.id AND b.generation = j.generation)
    GROUP BY 1, 2;

-- The ordinary lane: enough to keep every worker of a small deployment busy, few enough that the next tenant's first
-- job waits less than a second behind them. The large lane: one that is typeset and one whose data is read meanwhile.
CREATE FUNCTION document.slots_per_tenant(p_lane text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_lane WHEN 'large' THEN 2 ELSE 32 END
$$;

CREATE OR REPLACE FUNCTION document.enqueue_render(p_tenant text, p_job text, p_generation integer, p_lane text,
    p_priority integer DEFAULT 0) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE taken integer;
BEGIN
    IF p_tenant IS NULL OR p_tenant IS DISTINCT FROM current_setting('app.tenant_id', true) THEN
        RAISE EXCEPTION 'a tenant can only enqueue its own jobs' USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO queue.render_slots AS s (tenant_id, lane, admitted) VALUES (p_tenant, p_lane, 1)
    ON CONFLICT (tenant_id, lane) DO UPDATE SET admitted = s.admitted + 1
        WHERE s.admitted < document.slots_per_tenant(p_lane) OR p_priority > 0
    RETURNING admitted INTO taken;
    IF taken IS NULL THEN
        INSERT INTO queue.render_backlog (tenant_id, job_id, generation, lane)
        VALUES (p_tenant, p_job, p_generation, p_lane) ON CONFLICT DO NOTHING;
    ELSE
        PERFORM document.put_entry(p_tenant, p_job, p_generation, p_lane, p_priority);
    END IF;
END $$;

-- An attempt is finished, in the transaction that says so: its slot goes to the oldest job that waits in its lane.
CREATE FUNCTION document.release_slot(p_tenant text, p_lane text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE following queue.render_backlog;
BEGIN
    IF p_tenant IS NULL OR p_tenant IS DISTINCT FROM current_setting('app.tenant_id', true) THEN
        RAISE EXCEPTION 'a tenant can only release its own slots' USING ERRCODE = 'insufficient_privilege';
    END IF;
    DELETE FROM queue.render_backlog WHERE seq = (SELECT seq FROM queue.render_backlog
        WHERE tenant_id = p_tenant AND lane = p_lane ORDER BY seq LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING * INTO following;
    IF following.seq IS NULL THEN
        UPDATE queue.render_slots SET admitted = greatest(admitted - 1, 0) WHERE tenant_id = p_tenant AND lane = p_lane;
    ELSE
        PERFORM document.put_entry(following.tenant_id, following.job_id, following.generation, following.lane, 0);
    END IF;
END $$;
REVOKE ALL ON FUNCTION document.release_slot(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION document.release_slot(text, text) TO document_service_app;
DROP FUNCTION document.release_slot(text);

CREATE OR REPLACE FUNCTION document.reconcile_slots() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE waiting record; n integer := 0;
BEGIN
    DELETE FROM queue.render_backlog b WHERE NOT EXISTS (SELECT FROM document.document_render_jobs j
        WHERE j.tenant_id = b.tenant_id AND j.id = b.job_id AND j.generation = b.generation
            AND j.status IN ('queued', 'running'));
    -- One order of locks, so that two housekeepers cannot wait for each other.
    PERFORM 1 FROM queue.render_slots ORDER BY tenant_id, lane FOR UPDATE;
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

DROP FUNCTION document.slots_per_tenant();
