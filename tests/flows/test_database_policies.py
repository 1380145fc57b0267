"""Who may see and change what, asked of the database itself: row-level security, grants, triggers, keys (design §2)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import pytest

from raw_database import APP_ROLE, SYSTEM_ROLE, Connection, as_tenant, connected, tenant_tables
from running_service import Api, Service, request_for

#: Tables without row-level security, and why.
EXEMPT = {
    "service_state": "facts about the database as a whole: the epoch and its high-water mark; no tenant data",
    "sync_marks": "random tokens of the last hour, by which a restored database is noticed; no tenant data",
}

#: Deleting is for these alone, and why.
MAY_DELETE = {
    (APP_ROLE, "document_render_jobs"): "a synchronous request that ended in an error does not consume its id",
    (SYSTEM_ROLE, "document_render_jobs"): "tombstones older than the dedup window",
    (APP_ROLE, "upload_pieces"): "the pieces of an upload that ended",
    (SYSTEM_ROLE, "upload_pieces"): "the pieces of an upload that was abandoned",
    (APP_ROLE, "uploads"): "an upload that was abandoned",
    (SYSTEM_ROLE, "uploads"): "an upload that was abandoned",
    (SYSTEM_ROLE, "swept_objects"): "names that a row has after all",
    (APP_ROLE, "logos"): "a picture that no branding and no document names",
    (APP_ROLE, "template_pins"): "a tenant that follows a platform form again",
}

#: Unique keys that hold across tenants, and why.
UNIQUE_EVERYWHERE = {
    "documents_verify_code_key": "the code alone finds the document on the public page; it is random",
    "templates_platform_form": "only rows of the tenant platform",
}


@pytest.fixture(scope="module")
def inhabited(service: Service, fhir_url: str) -> str:
    """A tenant that has something in the tables that matter."""
    tenant = service.create_tenant(fhir_url)
    with service.caller(tenant) as caller:
        platform = caller.get("/v1/document-templates", params={"platformFormKey": "general-test-requisition"}).json()[
            "items"
        ][0]
        fork = caller.post(f"/v1/document-templates/{platform['id']}/fork", json={"name": "Ours"}).json()
        path = f"/v1/document-templates/{fork['id']}/publish"
        version = caller.post(path, json={}, headers={"Idempotency-Key": "k"}).json()
        assert caller.render(request_for(version["id"]))["status"] == "completed"
    return tenant


@pytest.fixture
async def owner(service: Service) -> AsyncIterator[Connection]:
    async with connected(service, role=None) as connection:
        yield connection


@dataclass(frozen=True)
class Policy:
    role: str
    command: str
    using: str | None
    check: str | None


async def _policies(owner: Connection, table: str) -> list[Policy]:
    rows = await owner.fetch(
        "SELECT roles::text[], cmd, qual, with_check FROM pg_policies WHERE schemaname = 'document' AND tablename = $1",
        table,
    )
    return [Policy(role, row["cmd"], row["qual"], row["with_check"]) for row in rows for role in row["roles"]]


# --- The catalogue ------------------------------------------------------------------------------------------------


async def test_every_table_has_its_policy_or_its_exemption(service: Service, owner: Connection) -> None:
    tables = await owner.fetch(
        """SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class
           WHERE relnamespace = 'document'::regnamespace AND relkind IN ('r', 'p')"""
    )
    with_tenant = set(await tenant_tables(owner))
    for table in tables:
        name = table["relname"]
        if name in EXEMPT:
            assert name not in with_tenant, f"{name} holds tenant data and is not exempt"
            continue
        assert name in with_tenant, f"{name} has no tenant_id: add it, or say in EXEMPT why it needs none"
        assert table["relrowsecurity"], name
        assert table["relforcerowsecurity"], name
        own = [p for p in await _policies(owner, name) if p.role == APP_ROLE]
        everything = [p for p in own if p.command == "ALL"]
        assert [(p.using, p.check) for p in everything] == [
            ("(tenant_id = current_tenant())", "(tenant_id = current_tenant())")
        ], name
        for more in own:
            if more.command != "ALL":
                assert (name in ("templates", "template_versions"), more.command) == (True, "SELECT")
                assert more.using is not None
                assert "'platform'" in more.using
                assert "current_tenant() IS NOT NULL" in more.using
    assert set(EXEMPT) <= {table["relname"] for table in tables}


async def test_no_policy_is_for_everybody(owner: Connection) -> None:
    roles = await owner.fetch("SELECT DISTINCT unnest(roles) AS role FROM pg_policies WHERE schemaname = 'document'")
    superuser = await owner.fetchval("SELECT current_user")
    assert {row["role"] for row in roles} == {APP_ROLE, SYSTEM_ROLE, superuser}


async def test_every_foreign_key_between_tenants_tables_carries_the_tenant(owner: Connection) -> None:
    keys = await owner.fetch(
        """SELECT conrelid::regclass::text AS child, confrelid::regclass::text AS parent,
               (SELECT array_agg(attname ORDER BY k.n) FROM unnest(conkey) WITH ORDINALITY k(attnum, n)
                   JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = k.attnum)::text[] AS own,
               (SELECT array_agg(attname ORDER BY k.n) FROM unnest(confkey) WITH ORDINALITY k(attnum, n)
                   JOIN pg_attribute a ON a.attrelid = confrelid AND a.attnum = k.attnum)::text[] AS theirs
           FROM pg_constraint WHERE contype = 'f' AND connamespace = 'document'::regnamespace"""
    )
    assert keys
    for key in keys:
        # Checks of foreign keys ignore row-level security: without the tenant they would reach into another one.
        assert key["theirs"][0] == "tenant_id", dict(key)
        assert key["own"][0] in ("tenant_id", "template_tenant_id"), dict(key)
    narrowed = await owner.fetch(
        """SELECT conrelid::regclass::text AS child FROM pg_constraint WHERE contype = 'c'
           AND connamespace = 'document'::regnamespace
           AND pg_get_constraintdef(oid) LIKE '%(template_tenant_id = tenant_id) OR (template_tenant_id = %'"""
    )
    platform = {key["child"] for key in keys if key["own"][0] == "template_tenant_id"}
    assert {row["child"] for row in narrowed} >= platform


async def test_no_unique_key_tells_one_tenant_of_another(owner: Connection) -> None:
    indexes = await owner.fetch(
        """SELECT i.indexrelid::regclass::text AS name, a.attname AS first FROM pg_index i
           JOIN pg_class c ON c.oid = i.indrelid AND c.relnamespace = 'document'::regnamespace
           LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] WHERE i.indisunique"""
    )
    without = {row["name"].removeprefix("document.") for row in indexes if row["first"] != "tenant_id"}
    assert without - {"service_state_pkey", "sync_marks_pkey", "tenants_pkey"} == set(UNIQUE_EVERYWHERE)


async def test_the_roles_own_nothing_and_cannot_bypass_anything(owner: Connection) -> None:
    for role in (APP_ROLE, SYSTEM_ROLE):
        row = await owner.fetchrow(
            """SELECT rolsuper, rolbypassrls, rolcreatedb, rolcreaterole, rolreplication
               FROM pg_roles WHERE rolname = $1""",
            role,
        )
        assert tuple(row) == (False,) * 5
        owned = "SELECT count(*) FROM pg_class WHERE relowner = (SELECT oid FROM pg_roles WHERE rolname = $1)"
        assert await owner.fetchval(owned, role) == 0
        member_of = "SELECT count(*) FROM pg_auth_members WHERE member = (SELECT oid FROM pg_roles WHERE rolname = $1)"
        assert await owner.fetchval(member_of, role) == 0


async def test_deleting_is_granted_where_it_has_a_reason_and_nothing_worse_is(owner: Connection) -> None:
    grants = await owner.fetch(
        """SELECT grantee, table_schema, table_name, privilege_type FROM information_schema.role_table_grants
           WHERE grantee IN ($1, $2, 'PUBLIC') AND table_schema IN ('document', 'queue', 'public')""",
        APP_ROLE,
        SYSTEM_ROLE,
    )
    assert not [g for g in grants if g["grantee"] == "PUBLIC"]
    assert {g["privilege_type"] for g in grants} <= {"SELECT", "INSERT", "UPDATE", "DELETE"}
    ours = [g for g in grants if g["table_schema"] == "document"]
    deletes = {(g["grantee"], g["table_name"]) for g in ours if g["privilege_type"] == "DELETE"}
    assert deletes <= set(MAY_DELETE), deletes - set(MAY_DELETE)
    # The queue holds ids of all tenants: the application reaches it through functions alone.
    assert not [g for g in grants if g["grantee"] == APP_ROLE and g["table_schema"] == "queue"]


async def test_functions_that_run_as_the_owner_are_fenced(owner: Connection) -> None:
    functions = await owner.fetch(
        """SELECT p.oid::regprocedure::text AS name, proconfig,
               has_function_privilege('public', p.oid, 'EXECUTE') AS open
           FROM pg_proc p WHERE prosecdef AND pronamespace IN ('document'::regnamespace, 'queue'::regnamespace)"""
    )
    assert functions
    for function in functions:
        assert function["proconfig"] == ["search_path=pg_catalog, pg_temp"], function["name"]
        assert not function["open"], function["name"]


# --- What a query sees --------------------------------------------------------------------------------------------


async def test_without_a_tenant_the_application_sees_no_row(
    service: Service, inhabited: str, owner: Connection
) -> None:
    filled = 0
    async with connected(service) as connection:
        for table in await tenant_tables(owner):
            filled += await owner.fetchval(f"SELECT count(*) FROM document.{table} WHERE tenant_id = $1", inhabited) > 0
            assert await connection.fetch(f"SELECT tenant_id FROM document.{table}") == [], table
            await connection.execute("SELECT set_config('app.tenant_id', '', false)")
            assert await connection.fetch(f"SELECT tenant_id FROM document.{table}") == [], table
    assert filled >= 6, "the tables must hold something, or this proves nothing"


async def test_in_a_tenant_the_application_sees_that_tenant_and_the_platforms_forms(
    service: Service, inhabited: str, owner: Connection
) -> None:
    async with as_tenant(service, inhabited) as connection:
        for table in await tenant_tables(owner):
            rows = await connection.fetch(f"SELECT DISTINCT tenant_id FROM document.{table}")
            seen = {row["tenant_id"] for row in rows}
            assert seen <= {inhabited, "platform"}, table
            assert "platform" not in seen or table in ("templates", "template_versions"), table


async def test_the_tenant_ends_with_its_transaction(service: Service, inhabited: str) -> None:
    async with connected(service) as connection:
        async with connection.transaction():
            await connection.execute("SELECT set_config('app.tenant_id', $1, true)", inhabited)
            assert await connection.fetchval("SELECT count(*) FROM documents") > 0
        assert await connection.fetchval("SELECT count(*) FROM documents") == 0


@pytest.mark.parametrize("table", ["templates", "audit_events", "changes", "idempotent_actions"])
async def test_a_row_of_another_tenant_cannot_be_written(service: Service, inhabited: str, table: str) -> None:
    async with as_tenant(service, "platform" if table == "templates" else "elsewhere") as connection:
        columns, values = {
            "templates": ("id, name, category, created_by", "'tmpl_x', 'n', 'letter', 'x'"),
            "audit_events": ("id, occurred_at, action, actor", "'aud_x', now(), 'a', 'x'"),
            "changes": ("kind, entity_id", "'job', 'x'"),
            "idempotent_actions": ("idempotency_key, action, target_id, fingerprint", "'k', 'a', 't', ''"),
        }[table]
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await connection.execute(f"INSERT INTO {table} (tenant_id, {columns}) VALUES ('{inhabited}', {values})")


async def test_the_platforms_forms_are_only_read(service: Service, inhabited: str) -> None:
    async with as_tenant(service, inhabited) as connection:
        assert await connection.fetchval("SELECT count(*) FROM templates WHERE tenant_id = 'platform'") > 0
        changed = await connection.execute("UPDATE templates SET name = 'x' WHERE tenant_id = 'platform'")
        assert changed == "UPDATE 0"


async def test_a_tenant_enqueues_only_its_own(service: Service, inhabited: str) -> None:
    async with as_tenant(service, inhabited) as connection:
        for call in ("enqueue_render('elsewhere', 'rjob_x', 1, 'normal')", "dequeue_render('elsewhere', 'rjob_x')"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with connection.transaction():
                    await connection.execute(f"SELECT document.{call}")
    async with connected(service) as connection:
        for call in ("enqueue_render(NULL, 'rjob_x', 1, 'normal')", "dequeue_render(NULL, 'rjob_x')"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"SELECT document.{call}")


async def test_a_tenant_takes_back_only_its_own_entries(service: Service, inhabited: str, owner: Connection) -> None:
    transaction = owner.transaction()
    await transaction.start()
    for tenant, job in ((inhabited, "rjob_a"), ("elsewhere", "rjob_b")):
        await owner.execute("SELECT set_config('app.tenant_id', $1, true)", tenant)
        await owner.execute("SELECT document.enqueue_render($1, $2, 1, 'normal')", tenant, job)
    for job in ("rjob_a", "rjob__", "%"):
        await owner.execute("SELECT document.dequeue_render('elsewhere', $1)", job)
    left = "SELECT dedupe_key FROM queue.pgqueuer WHERE dedupe_key LIKE 'rjob\\__:1' ORDER BY 1"
    assert [row["dedupe_key"] for row in await owner.fetch(left)] == ["rjob_a:1", "rjob_b:1"]
    await owner.execute("SELECT document.dequeue_render('elsewhere', 'rjob_b')")
    assert [row["dedupe_key"] for row in await owner.fetch(left)] == ["rjob_a:1"]
    await transaction.rollback()


async def test_the_application_cannot_widen_what_it_sees(service: Service) -> None:
    async with connected(service) as connection:
        for statement in (
            "ALTER TABLE document.documents DISABLE ROW LEVEL SECURITY",
            "DROP POLICY tenant ON document.documents",
            "SET ROLE postgres",
            f"SET ROLE {SYSTEM_ROLE}",
            "SELECT * FROM queue.pgqueuer",
            "CREATE TABLE document.mine (x int)",
            "CREATE TABLE public.mine (x int)",
            "COPY document.documents TO PROGRAM 'cat'",
            "SELECT pg_read_file('postgresql.conf')",
            "SELECT document.requeue_lost(interval '1 s')",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)


async def test_housekeeping_reaches_only_what_its_policies_name(service: Service, inhabited: str) -> None:
    async with connected(service, SYSTEM_ROLE) as connection:
        assert await connection.fetchval("SELECT count(*) FROM document_render_jobs WHERE tenant_id = $1", inhabited)
        for table in ("templates", "template_versions", "idempotent_actions", "document_numbers"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"SELECT * FROM document.{table}")
        for statement in ("UPDATE documents SET sha256 = ''", "DELETE FROM audit_events"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)


# --- What never changes -------------------------------------------------------------------------------------------

VERSION_CHANGES = [
    "UPDATE template_versions SET definition = '{}'",
    "UPDATE template_versions SET checksum = 'x'",
    "UPDATE template_versions SET semver = '9.9.9'",
    "UPDATE template_versions SET effective_to = now()",
    "UPDATE template_versions SET published_by = 'x'",
    "DELETE FROM template_versions",
]
AUDIT_CHANGES = [
    "UPDATE audit_events SET actor = 'x'",
    "UPDATE audit_events SET detail = '{}'",
    "DELETE FROM audit_events",
]


@pytest.mark.parametrize("statement", VERSION_CHANGES + AUDIT_CHANGES)
async def test_what_is_recorded_does_not_change_for_the_application(
    service: Service, inhabited: str, statement: str
) -> None:
    async with as_tenant(service, inhabited) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


@pytest.mark.parametrize("statement", VERSION_CHANGES + AUDIT_CHANGES)
async def test_nor_for_the_owner_by_mistake(inhabited: str, owner: Connection, statement: str) -> None:
    with pytest.raises(asyncpg.RestrictViolationError):
        await owner.execute(f"{statement} WHERE tenant_id = '{inhabited}'")


async def test_a_withdrawal_is_for_ever(service: Service, inhabited: str) -> None:
    async with as_tenant(service, inhabited) as connection:
        ours = "WHERE tenant_id = document.current_tenant()"
        assert await connection.execute(f"UPDATE template_versions SET withdrawn_at = now() {ours}") == "UPDATE 1"
        with pytest.raises(asyncpg.RestrictViolationError):
            await connection.execute(f"UPDATE template_versions SET withdrawn_at = NULL {ours}")


@pytest.mark.parametrize("column", ["sha256", "object_name", "number", "patient_id", "render_job_id", "title_sealed"])
async def test_a_document_is_only_taken_back(service: Service, inhabited: str, column: str) -> None:
    async with as_tenant(service, inhabited) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"UPDATE documents SET {column} = NULL")


async def test_a_document_is_not_deleted(service: Service, inhabited: str) -> None:
    async with as_tenant(service, inhabited) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("DELETE FROM documents")


async def test_two_documents_of_one_job_cannot_be(service: Service, inhabited: str, api: Api) -> None:
    async with as_tenant(service, inhabited) as connection:
        with pytest.raises(asyncpg.UniqueViolationError, match="documents_render_job"):
            await connection.execute(
                """INSERT INTO documents (tenant_id, id, number, kind, category, title_sealed, patient_id, content_type,
                       size, sha256, render_job_id, object_name, created_by)
                   SELECT tenant_id, 'doc_second', 'second', kind, category, title_sealed, patient_id, content_type,
                       size, sha256, render_job_id, object_name, created_by FROM documents LIMIT 1"""
            )
