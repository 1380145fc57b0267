-- When the scan in hand was begun, null as soon as anything was heard of it, and how many before it never were: their
-- worker was lost, or the whole service with its database. Without them a file that ends every worker which examines
-- it is begun for ever, and takes the clinic's service down each time.
ALTER TABLE document.uploads
    ADD COLUMN scan_began_at timestamptz,
    ADD COLUMN workers_lost integer NOT NULL DEFAULT 0,
    ADD COLUMN services_lost integer NOT NULL DEFAULT 0;
