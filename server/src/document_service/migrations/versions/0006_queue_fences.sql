-- A transaction without a tenant is no tenant's: null is not distinct from null, so it passed the checks of 0002 and
-- 0004. And an entry was taken back by its job's id alone, in which LIKE also read wildcards.
CREATE OR REPLACE FUNCTION document.enqueue_render(p_tenant text, p_job text, p_generation integer, p_lane text,
    p_priority integer DEFAULT 0) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_tenant IS NULL OR p_tenant IS DISTINCT FROM current_setting('app.tenant_id', true) THEN
        RAISE EXCEPTION 'a tenant can only enqueue its own jobs' USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO queue.pgqueuer (priority, entrypoint, payload, execute_after, dedupe_key, status)
    VALUES (p_priority, CASE p_lane WHEN 'large' THEN 'render_large' ELSE 'render' END,
        convert_to(json_build_object('tenant', p_tenant, 'job', p_job)::text, 'UTF8'),
        now(), p_job || ':' || p_generation, 'queued')
    ON CONFLICT DO NOTHING;
END $$;

CREATE OR REPLACE FUNCTION document.dequeue_render(p_tenant text, p_job text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_tenant IS NULL OR p_tenant IS DISTINCT FROM current_setting('app.tenant_id', true) THEN
        RAISE EXCEPTION 'a tenant can only dequeue its own jobs' USING ERRCODE = 'insufficient_privilege';
    END IF;
    DELETE FROM queue.pgqueuer WHERE starts_with(dedupe_key, p_job || ':') AND status = 'queued'
        AND convert_from(payload, 'UTF8')::jsonb ->> 'tenant' = p_tenant;
END $$;

CREATE OR REPLACE FUNCTION document.enqueue_scan(p_tenant text, p_upload text, p_generation integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_tenant IS NULL OR p_tenant IS DISTINCT FROM current_setting('app.tenant_id', true) THEN
        RAISE EXCEPTION 'a tenant can only enqueue its own scans' USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO queue.pgqueuer (priority, entrypoint, payload, execute_after, dedupe_key, status)
    VALUES (5, 'scan', convert_to(json_build_object('tenant', p_tenant, 'job', p_upload)::text, 'UTF8'),
        now(), p_upload || ':' || p_generation, 'queued')
    ON CONFLICT DO NOTHING;
END $$;
