-- The first schema. Rules that every table follows (docs/decisions/0003):
--   tenant data carries tenant_id, has row-level security enabled and forced, and foreign keys that include it;
--   the application role owns nothing; only the columns and verbs granted here are its own;
--   columns named *_sealed hold AES-256-GCM envelopes: no readable patient data reaches the files or the WAL.

CREATE SCHEMA IF NOT EXISTS document;

-- Who asks: the tenant of the running transaction, or null, which no policy matches.
CREATE FUNCTION document.current_tenant() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT nullif(current_setting('app.tenant_id', true), '') $$;

CREATE TABLE document.tenants (
    tenant_id text PRIMARY KEY,
    name text NOT NULL,
    fhir_url text,
    fhir_token_sealed bytea,
    -- Presentation and policy: address lines, time zone, digits, calendar, cache policy, reprint permission.
    profile jsonb NOT NULL DEFAULT '{}',
    policy_version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    shredded_at timestamptz
);

-- Facts about this database as a whole: the sync epoch and its high-water mark. No tenant data.
CREATE TABLE document.service_state (
    key text PRIMARY KEY,
    value text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO document.service_state (key, value) VALUES ('sync_epoch', replace(gen_random_uuid()::text, '-', ''));

CREATE TABLE document.templates (
    tenant_id text NOT NULL REFERENCES document.tenants,
    id text NOT NULL,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    category text NOT NULL CHECK (category IN ('prescription', 'lab_requisition', 'report', 'letter', 'consent',
        'discharge_summary', 'referral', 'scanned_record', 'other')),
    status text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'published', 'retired')),
    origin text NOT NULL DEFAULT 'tenant' CHECK (origin IN ('platform', 'tenant')),
    platform_form_key text,
    forked_from_platform_form_key text,
    forked_from_version_id text,
    facility_id text,
    current_version_id text,
    draft_definition text,
    revision bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CHECK ((origin = 'platform') = (tenant_id = 'platform'))
);
CREATE UNIQUE INDEX templates_name ON document.templates (tenant_id, category, lower(name));
CREATE UNIQUE INDEX templates_platform_form ON document.templates (platform_form_key)
    WHERE tenant_id = 'platform';

CREATE TABLE document.template_versions (
    tenant_id text NOT NULL,
    id text NOT NULL,
    template_id text NOT NULL,
    semver text NOT NULL,
    definition text NOT NULL,
    checksum text NOT NULL,
    effective_from timestamptz,
    effective_to timestamptz,
    published_at timestamptz NOT NULL DEFAULT now(),
    published_by text NOT NULL,
    idempotency_key text,
    withdrawn_at timestamptz,
    withdrawn_reason text,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, template_id) REFERENCES document.templates (tenant_id, id),
    UNIQUE (tenant_id, template_id, semver)
);
CREATE UNIQUE INDEX template_versions_idempotency
    ON document.template_versions (tenant_id, template_id, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- A published version never changes: not by the application, not by its owner by mistake.
CREATE FUNCTION document.refuse_version_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR (OLD.withdrawn_at IS NOT NULL)
        OR (to_jsonb(NEW) - 'withdrawn_at' - 'withdrawn_reason')
            IS DISTINCT FROM (to_jsonb(OLD) - 'withdrawn_at' - 'withdrawn_reason') THEN
        RAISE EXCEPTION 'a published template version never changes' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON document.template_versions
    FOR EACH ROW EXECUTE FUNCTION document.refuse_version_change();

CREATE TABLE document.document_render_jobs (
    tenant_id text NOT NULL REFERENCES document.tenants,
    id text NOT NULL,
    client_mutation_id uuid NOT NULL,
    fingerprint bytea NOT NULL,
    fingerprint_version integer NOT NULL,
    kind text NOT NULL DEFAULT 'async' CHECK (kind IN ('async', 'sync', 'bulk')),
    lane text NOT NULL DEFAULT 'normal' CHECK (lane IN ('normal', 'large')),
    status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'completed', 'failed')),
    template_tenant_id text NOT NULL,
    template_version_id text NOT NULL,
    patient_id text NOT NULL,
    encounter_id text,
    locale text NOT NULL,
    -- Inputs and patientCheck, sealed: they may name the patient.
    request_sealed bytea,
    facility_ids text[],
    requested_at timestamptz NOT NULL,
    not_after timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    started_at timestamptz,
    finished_at timestamptz,
    -- Every start counts; the number fences an attempt whose worker was thought dead.
    attempts integer NOT NULL DEFAULT 0,
    -- Failures that may pass, since the last explicit retry; and what each attempt ended with.
    transient_failures integer NOT NULL DEFAULT 0,
    attempt_causes jsonb NOT NULL DEFAULT '[]',
    -- One queue entry per generation; an explicit retry starts the next.
    generation integer NOT NULL DEFAULT 1,
    document_number text,
    document_id text,
    error_code text,
    error_title text,
    error_detail text,
    bulk_id text,
    -- Set when the row became a tombstone: it still answers replays, its request is gone.
    purged_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT document_render_jobs_client_mutation UNIQUE (tenant_id, client_mutation_id),
    CHECK (template_tenant_id IN (tenant_id, 'platform')),
    FOREIGN KEY (template_tenant_id, template_version_id) REFERENCES document.template_versions (tenant_id, id)
);
CREATE INDEX render_jobs_mine ON document.document_render_jobs (tenant_id, created_by, id DESC);
CREATE INDEX render_jobs_unfinished ON document.document_render_jobs (created_at)
    WHERE status IN ('queued', 'running');
CREATE INDEX render_jobs_finished ON document.document_render_jobs (finished_at) WHERE purged_at IS NULL;

-- Document numbers count up per tenant and year; a job keeps the number of its first attempt.
CREATE TABLE document.document_numbers (
    tenant_id text NOT NULL REFERENCES document.tenants,
    year integer NOT NULL,
    last integer NOT NULL,
    PRIMARY KEY (tenant_id, year)
) WITH (fillfactor = 50);

CREATE TABLE document.documents (
    tenant_id text NOT NULL REFERENCES document.tenants,
    id text NOT NULL,
    number text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('generated', 'uploaded')),
    status text NOT NULL DEFAULT 'current' CHECK (status IN ('current', 'superseded', 'entered-in-error')),
    category text NOT NULL,
    title_sealed bytea NOT NULL,
    patient_id text NOT NULL,
    encounter_id text,
    facility_id text,
    content_type text NOT NULL,
    size bigint NOT NULL,
    sha256 text NOT NULL,
    original_sha256 text,
    pages integer,
    template_tenant_id text,
    template_version_id text,
    render_job_id text,
    upload_id text,
    requested_at timestamptz,
    rendered_at timestamptz,
    data_as_of timestamptz,
    locale text,
    supersedes text,
    superseded_by text,
    withdrawn_at timestamptz,
    withdrawn_reason_sealed bytea,
    object_name text NOT NULL,
    -- Resources read, request and branding, sealed in the object store: what `prove` renders again from.
    snapshot_name text,
    original_name text,
    engine jsonb NOT NULL DEFAULT '{}',
    provenance jsonb NOT NULL DEFAULT '[]',
    verify_code text UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, number),
    CONSTRAINT documents_render_job UNIQUE (tenant_id, render_job_id),
    UNIQUE (tenant_id, upload_id),
    FOREIGN KEY (tenant_id, render_job_id) REFERENCES document.document_render_jobs (tenant_id, id),
    FOREIGN KEY (template_tenant_id, template_version_id) REFERENCES document.template_versions (tenant_id, id),
    CHECK (template_tenant_id IN (tenant_id, 'platform'))
);
CREATE INDEX documents_patient ON document.documents (tenant_id, patient_id, id DESC);

-- Append-only; chained afterwards by the sequencer (design §6). Details are ids and codes only.
CREATE TABLE document.audit_events (
    tenant_id text NOT NULL REFERENCES document.tenants,
    id text NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq bigint GENERATED ALWAYS AS IDENTITY,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    occurred_at timestamptz NOT NULL,
    action text NOT NULL,
    outcome text NOT NULL DEFAULT 'success' CHECK (outcome IN ('success', 'failure')),
    actor text NOT NULL,
    device_id text,
    document_id text,
    job_id text,
    template_id text,
    upload_id text,
    patient_id text,
    request_id text,
    -- The device's own event: its id deduplicates, its body is kept as it was hashed there.
    device_event_id text,
    detail jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX audit_events_device_event ON document.audit_events (tenant_id, device_event_id)
    WHERE device_event_id IS NOT NULL;
CREATE INDEX audit_events_order ON document.audit_events (tenant_id, xid, seq);
CREATE FUNCTION document.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON document.audit_events
    FOR EACH ROW EXECUTE FUNCTION document.refuse_change();

-- The change feed. Readers take rows below the oldest running transaction, in order of (xid, seq), so that a
-- transaction that commits after its successor is still seen.
CREATE TABLE document.changes (
    tenant_id text NOT NULL REFERENCES document.tenants,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL CHECK (kind IN ('template', 'job', 'document', 'revocation')),
    entity_id text NOT NULL,
    facility_ids text[],
    -- Jobs are fed to the user who asked; everything else to all who may see it.
    user_id text,
    reason text,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, xid, seq)
);
CREATE INDEX changes_revocations ON document.changes (tenant_id, xid, seq) WHERE kind = 'revocation';

-- One row per finished action that takes an Idempotency-Key and has no natural unique row of its own.
CREATE TABLE document.idempotent_actions (
    tenant_id text NOT NULL REFERENCES document.tenants,
    idempotency_key text NOT NULL,
    action text NOT NULL,
    target_id text NOT NULL,
    fingerprint bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, action, idempotency_key)
);

-- Row-level security: enabled and forced on every table above that holds tenant data.
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['tenants', 'templates', 'template_versions', 'document_render_jobs',
        'document_numbers', 'documents', 'audit_events', 'changes', 'idempotent_actions'] LOOP
        EXECUTE format('ALTER TABLE document.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE document.%I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON document.%I TO document_service_app '
            'USING (tenant_id = document.current_tenant()) '
            'WITH CHECK (tenant_id = document.current_tenant())', t);
    END LOOP;
    FOREACH t IN ARRAY ARRAY['templates', 'template_versions'] LOOP
        EXECUTE format('CREATE POLICY platform_forms ON document.%I FOR SELECT TO document_service_app '
            'USING (tenant_id = ''platform'' AND document.current_tenant() IS NOT NULL)', t);
    END LOOP;
END $$;
-- Housekeeping crosses tenants; these are the only tables it reaches.
CREATE POLICY housekeeping ON document.tenants TO document_service_system USING (true);
CREATE POLICY housekeeping ON document.document_render_jobs TO document_service_system USING (true);
CREATE POLICY housekeeping ON document.documents FOR SELECT TO document_service_system USING (true);
CREATE POLICY housekeeping ON document.audit_events FOR SELECT TO document_service_system USING (true);
-- The owner role runs migrations and tenant commands; forced security would hide every row from it too.
DO $$
DECLARE t record;
BEGIN
    FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'document' AND rowsecurity LOOP
        EXECUTE format('CREATE POLICY owner ON document.%I TO %I USING (true) WITH CHECK (true)',
            t.tablename, current_user);
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA document TO document_service_app, document_service_system;
GRANT SELECT ON document.tenants, document.service_state TO document_service_app;
GRANT SELECT, INSERT, UPDATE ON document.templates TO document_service_app;
GRANT SELECT, INSERT, UPDATE (withdrawn_at, withdrawn_reason) ON document.template_versions
    TO document_service_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON document.document_render_jobs TO document_service_app;
GRANT SELECT, INSERT, UPDATE ON document.document_numbers TO document_service_app;
GRANT SELECT, INSERT ON document.documents TO document_service_app;
GRANT UPDATE (status, supersedes, superseded_by, withdrawn_at, withdrawn_reason_sealed) ON document.documents
    TO document_service_app;
GRANT SELECT, INSERT ON document.audit_events, document.changes, document.idempotent_actions
    TO document_service_app;
GRANT SELECT ON document.tenants, document.documents, document.audit_events, document.service_state
    TO document_service_system;
GRANT SELECT, UPDATE, DELETE ON document.document_render_jobs TO document_service_system;
GRANT INSERT, UPDATE ON document.service_state TO document_service_system;
