-- Why a version was withdrawn is free text like every other reason, and may name whom it harmed.
ALTER TABLE document.template_versions ADD COLUMN withdrawn_reason_sealed bytea;
ALTER TABLE document.template_versions DROP COLUMN withdrawn_reason;

CREATE OR REPLACE FUNCTION document.refuse_version_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR (OLD.withdrawn_at IS NOT NULL)
        OR (to_jsonb(NEW) - 'withdrawn_at' - 'withdrawn_reason_sealed')
            IS DISTINCT FROM (to_jsonb(OLD) - 'withdrawn_at' - 'withdrawn_reason_sealed') THEN
        RAISE EXCEPTION 'a published template version never changes' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
GRANT UPDATE (withdrawn_reason_sealed) ON document.template_versions TO document_service_app;

-- The neighbours of an event in its device's chain.
CREATE INDEX audit_events_device ON document.audit_events
    (tenant_id, device_id, ((detail->'event'->>'sequence')::bigint)) WHERE device_event_id IS NOT NULL;

-- What a sender began within a day, or has on the way.
CREATE INDEX uploads_by_sender ON document.uploads (tenant_id, created_by, created_at);
