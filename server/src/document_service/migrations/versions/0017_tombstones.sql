CREATE INDEX render_jobs_tombstones ON document.document_render_jobs (created_at)
    WHERE purged_at IS NOT NULL AND document_id IS NULL;
