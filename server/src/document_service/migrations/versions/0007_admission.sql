-- Admission (design §3): the engine holds at most so many entries of a tenant; the rest wait in a backlog of ours, so
-- that a tenant behind another's twenty thousand jobs starts at once. Both tables are reached by the functions below
-- only; they hold ids and no tenant data, and so live beside the engine's own tables without row-level security.
CREATE TABLE queue.render_backlog (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL,
    job_id text NOT NULL,
    generation integer NOT NULL,
    lane text NOT NULL,
    UNIQUE (job_id, generation)
);
CREATE INDEX render_backlog_tenant ON queue.render_backlog (tenant_id, seq);

CREATE TABLE queue.render_slots (
    tenant_id text PRIMARY KEY,
    admitted integer NOT NULL CHECK (admitted >= 0)
) WITH (fillfactor = 50);

-- How many entries of one tenant the engine holds: enough to keep every worker of a small deployment busy, few enough
-- that the next tenant's first job waits less than a second behind them.
CREATE FUNCTION document.slots_per_tenant() RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT 32 $$;

CREATE FUNCTION document.put_entry(p_tenant text, p_job text, p_generation integer, p_lane text, p_priority integer)
RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO queue.pgqueuer (priority, entrypoint, payload, execute_after, dedupe_key, status)
    VALUES (p_priority, CASE p_lane WHEN 'large' THEN 'render_large' ELSE 'render' END,
        convert_to(json_build_object('tenant', p_tenant, 'job', p_job)::text, 'UTF8'),
        now(), p_job || ':' || p_generation, 'queued')
    ON CONFLICT DO NOTHING;
$$;
REVOKE ALL ON FUNCTION document.put_entry(text, text, integer, text, integer) FROM PUBLIC;

-- Whoever waits for a synchronous render is never sent to the backlog; the slot is counted all the same.
CREATE OR REPLACE FUNCTION document.enqueue_render(p_tenant text, p_job text, p_generation integer, p_lane text,
    p_priority integer DEFAULT 0) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE taken integer;
BEGIN
    IF p_tenant IS NULL OR p_tenant IS DISTINCT FROM current_setting('app.tenant_id', true) THEN
        RAISE EXCEPTION 'a tenant can only enqueue its own jobs' USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO queue.render_slots AS s (tenant_id, admitted) VALUES (p_tenant, 1)
    ON CONFLICT (tenant_id) DO UPDATE SET admitted = s.admitted + 1
        WHERE s.admitted < document.slots_per_tenant() OR p_priority > 0
    RETURNING admitted INTO taken;
    IF taken IS NULL THEN
        INSERT INTO queue.render_backlog (tenant_id, job_id, generation, lane)
        VALUES (p_tenant, p_job, p_generation, p_lane) ON CONFLICT DO NOTHING;
    ELSE
        PERFORM document.put_entry(p_tenant, p_job, p_generation, p_lane, p_priority);
    END IF;
END $$;

-- A job is finished, in the transaction that says so: its slot goes to the oldest job that waits.
CREATE FUNCTION document.release_slot(p_tenant text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE following queue.render_backlog;
BEGIN
    IF p_tenant IS NULL OR p_tenant IS DISTINCT FROM current_setting('app.tenant_id', true) THEN
        RAISE EXCEPTION 'a tenant can only release its own slots' USING ERRCODE = 'insufficient_privilege';
    END IF;
    DELETE FROM queue.render_backlog WHERE seq = (SELECT seq FROM queue.render_backlog
        WHERE tenant_id = p_tenant ORDER BY seq LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING * INTO following;
    IF following.seq IS NULL THEN
        UPDATE queue.render_slots SET admitted = greatest(admitted - 1, 0) WHERE tenant_id = p_tenant;
    ELSE
        PERFORM document.put_entry(following.tenant_id, following.job_id, following.generation, following.lane, 0);
    END IF;
END $$;
REVOKE ALL ON FUNCTION document.release_slot(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION document.release_slot(text) TO document_service_app;

-- Counts drift when a worker dies between its entry and its commit; housekeeping sets them right from the jobs and
-- admits what there is room for.
CREATE FUNCTION document.reconcile_slots() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE waiting record; n integer := 0;
BEGIN
    DELETE FROM queue.render_backlog b WHERE NOT EXISTS (SELECT FROM document.document_render_jobs j
        WHERE j.tenant_id = b.tenant_id AND j.id = b.job_id AND j.generation = b.generation
            AND j.status IN ('queued', 'running'));
    -- One order of locks, so that two housekeepers cannot wait for each other.
    PERFORM 1 FROM queue.render_slots ORDER BY tenant_id FOR UPDATE;
    UPDATE queue.render_slots s SET admitted = (SELECT count(*) FROM document.document_render_jobs j
        WHERE j.tenant_id = s.tenant_id AND j.status IN ('queued', 'running') AND NOT EXISTS
            (SELECT FROM queue.render_backlog b WHERE b.job_id = j.id AND b.generation = j.generation));
    FOR waiting IN SELECT b.* FROM queue.render_slots s CROSS JOIN LATERAL
            (SELECT * FROM queue.render_backlog b WHERE b.tenant_id = s.tenant_id ORDER BY b.seq
             LIMIT greatest(document.slots_per_tenant() - s.admitted, 0)) b LOOP
        DELETE FROM queue.render_backlog WHERE seq = waiting.seq;
        PERFORM document.put_entry(waiting.tenant_id, waiting.job_id, waiting.generation, waiting.lane, 0);
        UPDATE queue.render_slots SET admitted = admitted + 1 WHERE tenant_id = waiting.tenant_id;
        n := n + 1;
    END LOOP;
    RETURN n;
END $$;
REVOKE ALL ON FUNCTION document.reconcile_slots() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION document.reconcile_slots() TO document_service_system;

-- A job in the backlog has not lost its entry.
CREATE OR REPLACE FUNCTION document.requeue_lost(p_older_than interval) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE n integer;
BEGIN
    INSERT INTO queue.pgqueuer (priority, entrypoint, payload, execute_after, dedupe_key, status)
    SELECT 0, CASE j.lane WHEN 'large' THEN 'render_large' ELSE 'render' END,
        convert_to(json_build_object('tenant', j.tenant_id, 'job', j.id)::text, 'UTF8'),
        now(), j.id || ':' || j.generation, 'queued'
    FROM document.document_render_jobs j
    WHERE j.status IN ('queued', 'running') AND coalesce(j.started_at, j.created_at) < now() - p_older_than
        AND NOT EXISTS (SELECT FROM queue.pgqueuer q WHERE q.dedupe_key = j.id || ':' || j.generation
            AND q.status IN ('queued', 'picked'))
        AND NOT EXISTS (SELECT FROM queue.render_backlog b WHERE b.job_id = j.id AND b.generation = j.generation)
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
GRANT SELECT ON queue.render_backlog TO document_service_system;

-- A withdrawn synchronous job may wait in the backlog after it was let live on.
CREATE OR REPLACE FUNCTION document.dequeue_render(p_tenant text, p_job text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_tenant IS NULL OR p_tenant IS DISTINCT FROM current_setting('app.tenant_id', true) THEN
        RAISE EXCEPTION 'a tenant can only dequeue its own jobs' USING ERRCODE = 'insufficient_privilege';
    END IF;
    DELETE FROM queue.pgqueuer WHERE starts_with(dedupe_key, p_job || ':') AND status = 'queued'
        AND convert_from(payload, 'UTF8')::jsonb ->> 'tenant' = p_tenant;
    DELETE FROM queue.render_backlog WHERE tenant_id = p_tenant AND job_id = p_job;
END $$;

-- Bulk requests: a name for many jobs, so that progress can be asked and the rest be cancelled.
CREATE TABLE document.bulk_requests (
    tenant_id text NOT NULL REFERENCES document.tenants,
    id text NOT NULL,
    template_version_id text NOT NULL,
    items integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    cancelled_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);
ALTER TABLE document.bulk_requests ENABLE ROW LEVEL SECURITY;
ALTER TABLE document.bulk_requests FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON document.bulk_requests TO document_service_app
    USING (tenant_id = document.current_tenant()) WITH CHECK (tenant_id = document.current_tenant());
DO $$ BEGIN
    EXECUTE format('CREATE POLICY owner ON document.bulk_requests TO %I USING (true) WITH CHECK (true)', current_user);
END $$;
GRANT SELECT, INSERT, UPDATE (cancelled_at) ON document.bulk_requests TO document_service_app;
CREATE INDEX render_jobs_bulk ON document.document_render_jobs (tenant_id, bulk_id) WHERE bulk_id IS NOT NULL;

-- The public page knows a code and no tenant: it learns what the paper shows anyway, and whether it still counts.
CREATE FUNCTION document.find_verification(p_code text)
RETURNS TABLE (tenant_id text, document_id text, number text, status text, rendered_at timestamptz, issuer text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.tenant_id, d.id, d.number, d.status, d.rendered_at, t.name FROM document.documents d
    JOIN document.tenants t USING (tenant_id) WHERE d.verify_code = p_code AND t.shredded_at IS NULL
$$;
REVOKE ALL ON FUNCTION document.find_verification(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION document.find_verification(text) TO document_service_system;
