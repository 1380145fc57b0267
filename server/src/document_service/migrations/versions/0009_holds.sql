-- A shred destroys everything of a tenant, so one hold in force is enough to refuse it. A database from before a shred
-- is told of it at the next start: then the key is gone already, and the setting says so.
CREATE FUNCTION document.refuse_shred_under_hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.shredded_at IS NOT NULL AND OLD.shredded_at IS NULL
        AND coalesce(current_setting('app.key_is_gone', true), '') <> 'yes'
        AND EXISTS (SELECT FROM document.legal_holds h WHERE h.tenant_id = OLD.tenant_id AND h.released_at IS NULL) THEN
        RAISE EXCEPTION 'the tenant has documents under a legal hold' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER under_hold BEFORE UPDATE OF shredded_at ON document.tenants
    FOR EACH ROW EXECUTE FUNCTION document.refuse_shred_under_hold();

-- A file in quarantine was sent for a patient whose records a case may need.
CREATE FUNCTION document.refuse_destroy_under_hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (TG_OP = 'DELETE' OR (OLD.status = 'quarantined' AND NEW.status = 'failed'))
        AND EXISTS (SELECT FROM document.legal_holds h WHERE h.tenant_id = OLD.tenant_id AND h.released_at IS NULL
            AND h.patient_id = OLD.patient_id) THEN
        RAISE EXCEPTION 'the patient''s records are under a legal hold' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER under_hold BEFORE UPDATE OF status OR DELETE ON document.uploads
    FOR EACH ROW EXECUTE FUNCTION document.refuse_destroy_under_hold();
