-- After a loss every tenant's numbers of this year go on behind a gap: also of a tenant whose first document of the
-- year was made after the copy, so that the copy has no counter for it.
CREATE OR REPLACE FUNCTION document.renew_epoch() RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE v_epoch text := replace(gen_random_uuid()::text, '-', '');
BEGIN
    UPDATE document.service_state SET value = v_epoch, updated_at = now() WHERE key = 'sync_epoch';
    INSERT INTO document.document_numbers (tenant_id, year, last)
        SELECT tenant_id, extract(year FROM now() AT TIME ZONE 'UTC')::integer, 0 FROM document.tenants
        ON CONFLICT DO NOTHING;
    UPDATE document.document_numbers SET last = (last / 10000 + 1) * 10000;
    PERFORM pg_notify('sync_epoch', v_epoch);
    RETURN v_epoch;
END $$;
