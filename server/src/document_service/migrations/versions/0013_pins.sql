-- A tenant follows the platform's forms, or stays with one version of a form until it says otherwise.
CREATE TABLE document.template_pins (
    tenant_id text NOT NULL REFERENCES document.tenants,
    -- A template and a version of the tenant 'platform'; both are there for ever.
    template_id text NOT NULL,
    version_id text NOT NULL,
    pinned_at timestamptz NOT NULL DEFAULT now(),
    pinned_by text NOT NULL,
    PRIMARY KEY (tenant_id, template_id)
);
ALTER TABLE document.template_pins ENABLE ROW LEVEL SECURITY;
ALTER TABLE document.template_pins FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON document.template_pins TO document_service_app
    USING (tenant_id = document.current_tenant()) WITH CHECK (tenant_id = document.current_tenant());
DO $$
BEGIN
    EXECUTE format('CREATE POLICY owner ON document.template_pins TO %I USING (true) WITH CHECK (true)', current_user);
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON document.template_pins TO document_service_app;

-- A version published for a later day waits: the one before it serves until then. When the day has come it becomes
-- current, and the feed says so. Housekeeping calls this for every tenant at once and reaches nothing else of the tables.
CREATE INDEX template_versions_waiting ON document.template_versions (effective_from)
    WHERE effective_from IS NOT NULL;
CREATE FUNCTION document.promote_due_versions() RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH due AS (
        SELECT DISTINCT ON (t.tenant_id, t.id) t.tenant_id, t.id, t.current_version_id, v.id AS version_id
        FROM document.template_versions v
        JOIN document.templates t ON t.tenant_id = v.tenant_id AND t.id = v.template_id AND t.status = 'published'
        JOIN document.template_versions c ON c.tenant_id = t.tenant_id AND c.id = t.current_version_id
        WHERE v.effective_from <= now() AND (v.effective_to IS NULL OR v.effective_to > now())
            AND v.withdrawn_at IS NULL AND v.published_at > c.published_at
        ORDER BY t.tenant_id, t.id, v.published_at DESC
    ), promoted AS (
        UPDATE document.templates t
        SET current_version_id = due.version_id, revision = t.revision + 1, updated_at = now()
        FROM due
        WHERE t.tenant_id = due.tenant_id AND t.id = due.id AND t.current_version_id = due.current_version_id
        RETURNING t.tenant_id, t.id, t.facility_id
    ), announced AS (
        INSERT INTO document.changes (tenant_id, kind, entity_id, facility_ids)
        SELECT tenant_id, 'template', id, CASE WHEN facility_id IS NOT NULL THEN ARRAY[facility_id] END
        FROM promoted RETURNING 1
    )
    SELECT count(*) FROM announced
$$;
REVOKE ALL ON FUNCTION document.promote_due_versions() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION document.promote_due_versions() TO document_service_system;

-- A page of the catalogue is the newest rows of the tenant and the platform together, which the key by tenant cannot give
-- in one order.
CREATE INDEX templates_newest ON document.templates (id);
