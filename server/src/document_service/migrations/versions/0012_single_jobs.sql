-- A tenant that has nothing else in its lane goes before what other tenants have there: behind a backlog of twenty
-- thousand, a nurse's one form waited for the 32 that the engine held already (3 s on a loaded machine). One job of a
-- tenant at a time, so nobody gains by it who asks for many. Renders that somebody waits for (10) and scans (5) are
-- before it.
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
        PERFORM document.put_entry(p_tenant, p_job, p_generation, p_lane,
            greatest(p_priority, CASE taken WHEN 1 THEN 2 ELSE 0 END));
    END IF;
END $$;
