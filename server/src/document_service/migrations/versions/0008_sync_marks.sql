-- The high-water mark (contract §3): a random token is committed here first and then written to the object store.
-- A database that does not hold the token found there has lost commits that were acknowledged: it was restored.
CREATE TABLE document.sync_marks (
    token text PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX sync_marks_newest ON document.sync_marks (xid DESC);
GRANT SELECT ON document.sync_marks TO document_service_system;

-- Which database this is: its copies share it, another one that uses the same store has another.
INSERT INTO document.service_state (key, value) VALUES ('database_id', replace(gen_random_uuid()::text, '-', ''));

-- Commit a mark after the one that the store holds (null: it holds none). False: this is not the database any more
-- in which that mark was found. Old tokens go; an hour is longer than any writer stands between commit and store.
CREATE FUNCTION document.record_sync_mark(p_token text, p_after text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO document.sync_marks (token)
    SELECT p_token WHERE p_after IS NULL OR EXISTS (SELECT FROM document.sync_marks WHERE token = p_after);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM document.sync_marks WHERE at < clock_timestamp() - interval '1 hour' AND token <> p_after;
    RETURN true;
END $$;
REVOKE ALL ON FUNCTION document.record_sync_mark(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION document.record_sync_mark(text, text) TO document_service_system;

-- A new epoch, told at once to every process that listens. Numbers that were printed after the lost point must not
-- be given to other documents: each counter goes on behind a gap that no clinic fills between two backups.
CREATE FUNCTION document.renew_epoch() RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE v_epoch text := replace(gen_random_uuid()::text, '-', '');
BEGIN
    UPDATE document.service_state SET value = v_epoch, updated_at = now() WHERE key = 'sync_epoch';
    UPDATE document.document_numbers SET last = (last / 10000 + 1) * 10000;
    PERFORM pg_notify('sync_epoch', v_epoch);
    RETURN v_epoch;
END $$;
REVOKE ALL ON FUNCTION document.renew_epoch() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION document.renew_epoch() TO document_service_system;

-- Objects that the sweep is deleting or has deleted: from the moment a name stands here, no row can name it. So an
-- attempt that was asleep for a week between storing and committing fails, and is tried again with a new object.
CREATE TABLE document.swept_objects (
    tenant_id text NOT NULL REFERENCES document.tenants,
    name text NOT NULL,
    swept_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name)
);
ALTER TABLE document.swept_objects ENABLE ROW LEVEL SECURITY;
ALTER TABLE document.swept_objects FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON document.swept_objects TO document_service_app
    USING (tenant_id = document.current_tenant()) WITH CHECK (tenant_id = document.current_tenant());
CREATE POLICY housekeeping ON document.swept_objects TO document_service_system USING (true) WITH CHECK (true);
DO $$ BEGIN
    EXECUTE format('CREATE POLICY owner ON document.swept_objects TO %I USING (true) WITH CHECK (true)', current_user);
END $$;
GRANT SELECT ON document.swept_objects TO document_service_app;
GRANT SELECT, INSERT, DELETE ON document.swept_objects TO document_service_system;
-- The sweep asks which objects the pieces name.
CREATE POLICY housekeeping ON document.upload_pieces FOR SELECT TO document_service_system USING (true);
GRANT SELECT ON document.upload_pieces TO document_service_system;

-- After the row is in place and not before: then its transaction has an id, and the sweep can wait for its end.
CREATE FUNCTION document.refuse_swept_objects() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE v_names text[];
BEGIN
    IF TG_TABLE_NAME = 'documents' THEN
        v_names := ARRAY[NEW.object_name, NEW.snapshot_name, NEW.original_name];
    ELSE
        v_names := ARRAY[NEW.object_name];
    END IF;
    IF EXISTS (SELECT FROM document.swept_objects WHERE tenant_id = NEW.tenant_id AND name = ANY (v_names)) THEN
        RAISE EXCEPTION 'the object was swept; store it anew' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION document.refuse_swept_objects() FROM PUBLIC;
CREATE TRIGGER object_is_kept AFTER INSERT ON document.documents
    FOR EACH ROW EXECUTE FUNCTION document.refuse_swept_objects();
CREATE TRIGGER object_is_kept AFTER INSERT ON document.upload_pieces
    FOR EACH ROW EXECUTE FUNCTION document.refuse_swept_objects();
