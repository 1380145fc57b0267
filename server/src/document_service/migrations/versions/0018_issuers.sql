-- A letterhead bears the name that the tenant chose for itself, and goes on bearing it when the tenant chooses another.
-- Documents from before have none of their own: they were made under the present name, or under one that is not known.
ALTER TABLE document.documents ADD COLUMN issuer text;

CREATE OR REPLACE FUNCTION document.find_verification(p_code text)
RETURNS TABLE (tenant_id text, document_id text, number text, status text, rendered_at timestamptz, issuer text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT d.tenant_id, d.id, d.number, d.status, d.rendered_at, coalesce(d.issuer, b.name, t.name)
    FROM document.documents d JOIN document.tenants t USING (tenant_id) LEFT JOIN document.branding b USING (tenant_id)
    WHERE d.verify_code = p_code AND t.shredded_at IS NULL
$$;
