-- Our doors into the queue engine's schema. The engine's tables hold ids only, have no row-level security and no
-- grants to the application role; these functions run as the owner with a fixed search path (design §2).

-- Put a render job into the queue, in the caller's transaction. `p_generation` makes an explicit retry a new entry
-- even while the engine still holds the entry of the attempt that failed.
CREATE FUNCTION document.enqueue_render(p_tenant text, p_job text, p_generation integer, p_lane text,
    p_priority integer DEFAULT 0) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_tenant IS DISTINCT FROM nullif(current_setting('app.tenant_id', true), '') THEN
        RAISE EXCEPTION 'a tenant can only enqueue its own jobs' USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO queue.pgqueuer (priority, entrypoint, payload, execute_after, dedupe_key, status)
    VALUES (p_priority, CASE p_lane WHEN 'large' THEN 'render_large' ELSE 'render' END,
        convert_to(json_build_object('tenant', p_tenant, 'job', p_job)::text, 'UTF8'),
        now(), p_job || ':' || p_generation, 'queued')
    ON CONFLICT DO NOTHING;
END $$;
REVOKE ALL ON FUNCTION document.enqueue_render(text, text, integer, text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION document.enqueue_render(text, text, integer, text, integer) TO document_service_app;

-- Take a job's waiting entry back (a synchronous render that finished, or that stored nothing).
CREATE FUNCTION document.dequeue_render(p_tenant text, p_job text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_tenant IS DISTINCT FROM nullif(current_setting('app.tenant_id', true), '') THEN
        RAISE EXCEPTION 'a tenant can only dequeue its own jobs' USING ERRCODE = 'insufficient_privilege';
    END IF;
    DELETE FROM queue.pgqueuer WHERE dedupe_key LIKE p_job || ':%' AND status = 'queued';
END $$;
REVOKE ALL ON FUNCTION document.dequeue_render(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION document.dequeue_render(text, text) TO document_service_app;

-- Jobs that are not finished and have no entry: an engine that dropped one must not lose a request.
CREATE FUNCTION document.requeue_lost(p_older_than interval) RETURNS integer
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
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
REVOKE ALL ON FUNCTION document.requeue_lost(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION document.requeue_lost(interval) TO document_service_system;

GRANT USAGE ON SCHEMA queue TO document_service_system;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA queue TO document_service_system;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA queue TO document_service_system;

-- A process that starts looks here before it loads the migration machinery.
GRANT SELECT ON public.schema_version TO document_service_system;
