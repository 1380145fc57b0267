-- What a tenant puts on every page. No patient data: plain columns, so that they can be searched and repaired.

-- Pictures are named by their SHA-256 and never change or go: a document's snapshot names the one it was printed with.
CREATE TABLE document.logos (
    tenant_id text NOT NULL REFERENCES document.tenants,
    sha256 text NOT NULL,
    content_type text NOT NULL CHECK (content_type IN ('image/png', 'image/jpeg')),
    width integer NOT NULL,
    height integer NOT NULL,
    content bytea NOT NULL CHECK (octet_length(content) <= 1048576),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    PRIMARY KEY (tenant_id, sha256)
);
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON document.logos
    FOR EACH ROW EXECUTE FUNCTION document.refuse_change();

CREATE TABLE document.branding (
    tenant_id text PRIMARY KEY REFERENCES document.tenants,
    -- Null: the name under which the operator made the tenant.
    name text,
    address text[] NOT NULL DEFAULT '{}',
    phone text,
    footer text,
    accent text NOT NULL DEFAULT '#1f4e79' CHECK (accent ~ '^#[0-9a-f]{6}$'),
    logo_sha256 text,
    revision bigint NOT NULL DEFAULT 1,
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL,
    FOREIGN KEY (tenant_id, logo_sha256) REFERENCES document.logos
);
INSERT INTO document.branding (tenant_id, address, phone, footer, accent, updated_by)
SELECT tenant_id,
    coalesce((SELECT array_agg(line) FROM jsonb_array_elements_text(profile -> 'address') line), '{}'),
    profile ->> 'phone', profile ->> 'footer', coalesce(lower(profile ->> 'accent'), '#1f4e79'), 'operator'
FROM document.tenants WHERE profile <> '{}';

-- A tenant that asks for reviewed translations has taken responsibility for exactly these words of a platform form.
CREATE TABLE document.translation_acceptances (
    tenant_id text NOT NULL REFERENCES document.tenants,
    template_id text NOT NULL,
    locale text NOT NULL,
    -- SHA-256 of the locale's labels: words that changed since have to be accepted again, unchanged ones have not.
    words_digest text NOT NULL,
    version_id text NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT now(),
    accepted_by text NOT NULL,
    PRIMARY KEY (tenant_id, template_id, locale, words_digest)
);

-- Who saved the draft last: somebody else's is overwritten only by an editor who shows which state was read.
ALTER TABLE document.templates ADD COLUMN draft_saved_by text;

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['logos', 'branding', 'translation_acceptances'] LOOP
        EXECUTE format('ALTER TABLE document.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE document.%I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON document.%I TO document_service_app '
            'USING (tenant_id = document.current_tenant()) '
            'WITH CHECK (tenant_id = document.current_tenant())', t);
        EXECUTE format('CREATE POLICY owner ON document.%I TO %I USING (true) WITH CHECK (true)', t, current_user);
    END LOOP;
END $$;
GRANT SELECT, INSERT ON document.logos, document.translation_acceptances TO document_service_app;
GRANT SELECT, INSERT, UPDATE ON document.branding TO document_service_app;
