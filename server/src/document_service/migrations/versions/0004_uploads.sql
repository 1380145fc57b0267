-- Uploads: what is known of a file on its way in. Its bytes are sealed pieces in the object store until the verdict.
CREATE TABLE document.uploads (
    tenant_id text NOT NULL REFERENCES document.tenants,
    id text NOT NULL,
    status text NOT NULL DEFAULT 'receiving'
        CHECK (status IN ('receiving', 'scanning', 'accepted', 'quarantined', 'failed')),
    file_name_sealed bytea NOT NULL,
    title_sealed bytea NOT NULL,
    content_type text NOT NULL,
    category text NOT NULL,
    size bigint NOT NULL CHECK (size > 0),
    sha256 text NOT NULL,
    received bigint NOT NULL DEFAULT 0 CHECK (received BETWEEN 0 AND size),
    patient_id text NOT NULL,
    encounter_id text,
    -- Why it was not accepted; findings are names of rules and signatures.
    reason_code text,
    reason_title text,
    findings jsonb NOT NULL DEFAULT '[]',
    -- One queue entry per scan; a repeated finalize or a re-scan is the next.
    generation integer NOT NULL DEFAULT 0,
    scanning_since timestamptz,
    rescan boolean NOT NULL DEFAULT false,
    document_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    facility_ids text[],
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX uploads_by_status ON document.uploads (tenant_id, status, id DESC);
CREATE INDEX uploads_open ON document.uploads (updated_at) WHERE status IN ('receiving', 'scanning');

-- The sealed pieces of an upload, in order; a piece is written once at the offset that was free.
CREATE TABLE document.upload_pieces (
    tenant_id text NOT NULL,
    upload_id text NOT NULL,
    start bigint NOT NULL,
    size bigint NOT NULL,
    object_name text NOT NULL,
    PRIMARY KEY (tenant_id, upload_id, start),
    FOREIGN KEY (tenant_id, upload_id) REFERENCES document.uploads (tenant_id, id) ON DELETE CASCADE
);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['uploads', 'upload_pieces'] LOOP
        EXECUTE format('ALTER TABLE document.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE document.%I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON document.%I TO document_service_app '
            'USING (tenant_id = document.current_tenant()) '
            'WITH CHECK (tenant_id = document.current_tenant())', t);
        EXECUTE format('CREATE POLICY owner ON document.%I TO %I USING (true) WITH CHECK (true)', t, current_user);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON document.%I TO document_service_app', t);
    END LOOP;
END $$;
CREATE POLICY housekeeping ON document.uploads FOR SELECT TO document_service_system USING (true);
GRANT SELECT ON document.uploads TO document_service_system;

ALTER TABLE document.documents ADD FOREIGN KEY (tenant_id, upload_id)
    REFERENCES document.uploads (tenant_id, id);

-- The scan of an upload enters the queue in the transaction that finalizes it.
CREATE FUNCTION document.enqueue_scan(p_tenant text, p_upload text, p_generation integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_tenant IS DISTINCT FROM nullif(current_setting('app.tenant_id', true), '') THEN
        RAISE EXCEPTION 'a tenant can only enqueue its own scans' USING ERRCODE = 'insufficient_privilege';
    END IF;
    INSERT INTO queue.pgqueuer (priority, entrypoint, payload, execute_after, dedupe_key, status)
    VALUES (5, 'scan', convert_to(json_build_object('tenant', p_tenant, 'job', p_upload)::text, 'UTF8'),
        now(), p_upload || ':' || p_generation, 'queued')
    ON CONFLICT DO NOTHING;
END $$;
REVOKE ALL ON FUNCTION document.enqueue_scan(text, text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION document.enqueue_scan(text, text, integer) TO document_service_app;

-- Scans that are due and have no entry: an engine that dropped one must not leave an upload scanning for ever.
CREATE FUNCTION document.requeue_lost_scans(p_older_than interval) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE n integer;
BEGIN
    INSERT INTO queue.pgqueuer (priority, entrypoint, payload, execute_after, dedupe_key, status)
    SELECT 5, 'scan', convert_to(json_build_object('tenant', u.tenant_id, 'job', u.id)::text, 'UTF8'),
        now(), u.id || ':' || u.generation, 'queued'
    FROM document.uploads u
    WHERE u.status = 'scanning' AND u.updated_at < now() - p_older_than
        AND NOT EXISTS (SELECT FROM queue.pgqueuer q WHERE q.dedupe_key = u.id || ':' || u.generation
            AND q.status IN ('queued', 'picked'))
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
REVOKE ALL ON FUNCTION document.requeue_lost_scans(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION document.requeue_lost_scans(interval) TO document_service_system;
