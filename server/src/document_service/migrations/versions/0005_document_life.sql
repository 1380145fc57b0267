-- Devices: installations of the client, each with an Ed25519 key of its own (contract §1).
CREATE TABLE document.devices (
    tenant_id text NOT NULL REFERENCES document.tenants,
    id text NOT NULL,
    name text,
    -- Who enrolled it first; who else signed in on it is in device_users.
    user_id text NOT NULL,
    public_key bytea NOT NULL CHECK (length(public_key) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    revoked_by text,
    revoked_reason_sealed bytea,
    PRIMARY KEY (tenant_id, id)
);
-- A ward's computer has many users, each with a cache and a cursor of its own. The cursor that a device sends back is
-- its word that everything before it was applied: what was revoked before that place is gone from this user's cache.
CREATE TABLE document.device_users (
    tenant_id text NOT NULL,
    device_id text NOT NULL,
    user_id text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    feed_xid xid8,
    feed_seq bigint,
    feed_at timestamptz,
    PRIMARY KEY (tenant_id, device_id, user_id),
    FOREIGN KEY (tenant_id, device_id) REFERENCES document.devices (tenant_id, id)
);

-- The chain of the audit trail (design §6): one row for each event, in feed order, made by the sequencer.
-- hash = HMAC, under a key that is not in this database, of the previous hash and the event's canonical form.
CREATE TABLE document.audit_chain (
    tenant_id text NOT NULL REFERENCES document.tenants,
    chain_seq bigint NOT NULL,
    event_id text NOT NULL,
    xid xid8 NOT NULL,
    seq bigint NOT NULL,
    previous_hash bytea NOT NULL,
    hash bytea NOT NULL,
    chained_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, chain_seq),
    UNIQUE (tenant_id, event_id)
);
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON document.audit_chain
    FOR EACH ROW EXECUTE FUNCTION document.refuse_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON document.audit_chain
    FOR EACH STATEMENT EXECUTE FUNCTION document.refuse_change();
CREATE TRIGGER never_emptied BEFORE TRUNCATE ON document.audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION document.refuse_change();
-- Who touched this document, what happened to this patient's documents.
CREATE INDEX audit_events_document ON document.audit_events (tenant_id, document_id, id)
    WHERE document_id IS NOT NULL;
CREATE INDEX audit_events_patient ON document.audit_events (tenant_id, patient_id, id)
    WHERE patient_id IS NOT NULL;

-- The place of a document's revocation in the feed, to compare with how far a device has read.
CREATE INDEX changes_revoked ON document.changes (tenant_id, entity_id) WHERE kind = 'revocation';

-- Retention: how long documents of a category are kept; no row = for ever.
CREATE TABLE document.retention_classes (
    tenant_id text NOT NULL REFERENCES document.tenants,
    category text NOT NULL,
    keep_days integer NOT NULL CHECK (keep_days > 0),
    PRIMARY KEY (tenant_id, category)
);

-- Legal holds belong to a case; each covers one document or everything of one patient.
CREATE TABLE document.legal_holds (
    tenant_id text NOT NULL REFERENCES document.tenants,
    id text NOT NULL,
    case_id text NOT NULL,
    document_id text,
    patient_id text,
    reason_sealed bytea,
    placed_at timestamptz NOT NULL DEFAULT now(),
    placed_by text NOT NULL,
    released_at timestamptz,
    released_by text,
    PRIMARY KEY (tenant_id, id),
    CHECK ((document_id IS NULL) <> (patient_id IS NULL)),
    FOREIGN KEY (tenant_id, document_id) REFERENCES document.documents (tenant_id, id)
);
CREATE UNIQUE INDEX legal_holds_in_force
    ON document.legal_holds (tenant_id, case_id, coalesce(document_id, patient_id)) WHERE released_at IS NULL;

ALTER TABLE document.documents
    -- The HL7 confidentiality code of the patient's or encounter's record, for the access rule.
    ADD COLUMN security_label text,
    -- An end of its own, over its category's; null = the category decides.
    ADD COLUMN retention_until timestamptz,
    -- Set when the bytes were deleted on purpose: the row stays and says so.
    ADD COLUMN purged_at timestamptz,
    ADD COLUMN purged_objects_at timestamptz;
CREATE INDEX documents_to_sweep ON document.documents (tenant_id)
    WHERE purged_at IS NOT NULL AND purged_objects_at IS NULL;

-- A hold is enforced where the delete happens, whoever deletes and by whatever statement.
CREATE FUNCTION document.refuse_purge_under_hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (TG_OP = 'DELETE' OR (NEW.purged_at IS NOT NULL AND OLD.purged_at IS NULL))
        AND EXISTS (SELECT FROM document.legal_holds h WHERE h.tenant_id = OLD.tenant_id AND h.released_at IS NULL
            AND (h.document_id = OLD.id OR h.patient_id = OLD.patient_id)) THEN
        RAISE EXCEPTION 'the document is under a legal hold' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER under_hold BEFORE UPDATE OF purged_at OR DELETE ON document.documents
    FOR EACH ROW EXECUTE FUNCTION document.refuse_purge_under_hold();

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['devices', 'device_users', 'audit_chain', 'retention_classes', 'legal_holds'] LOOP
        EXECUTE format('ALTER TABLE document.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE document.%I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON document.%I TO document_service_app '
            'USING (tenant_id = document.current_tenant()) '
            'WITH CHECK (tenant_id = document.current_tenant())', t);
        EXECUTE format('CREATE POLICY owner ON document.%I TO %I USING (true) WITH CHECK (true)', t, current_user);
    END LOOP;
END $$;
GRANT SELECT, INSERT ON document.devices, document.device_users TO document_service_app;
GRANT UPDATE (name, last_seen_at, revoked_at, revoked_by, revoked_reason_sealed) ON document.devices
    TO document_service_app;
GRANT UPDATE (feed_xid, feed_seq, feed_at) ON document.device_users TO document_service_app;
GRANT SELECT ON document.audit_chain, document.retention_classes, document.legal_holds TO document_service_app;

-- The sequencer reads every tenant's events and appends to the chain; it can change neither.
CREATE POLICY housekeeping ON document.audit_chain FOR SELECT TO document_service_system USING (true);
CREATE POLICY sequencer ON document.audit_chain FOR INSERT TO document_service_system WITH CHECK (true);
GRANT SELECT, INSERT ON document.audit_chain TO document_service_system;
-- One look a process tells all who wait at the change feed whether there is something new.
CREATE POLICY housekeeping ON document.changes FOR SELECT TO document_service_system USING (true);
GRANT SELECT ON document.changes TO document_service_system;
