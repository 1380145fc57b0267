"""The audit chain at work: links every second, heads every minute, and the check of both (design §6)."""

from __future__ import annotations

from datetime import timedelta

from document_service import audit_chain, tenants
from document_service.audit_chain import Finding, Head, Tail
from document_service.database import Connection, system_transaction
from document_service.errors import KeyStoreUnusable, TenantKeyMissing
from document_service.keys import KeyStore
from document_service.runtime import Runtime
from document_service.store import ObjectStore
from document_service.telemetry import log

#: Events are chained within two seconds (design §6): a look every second, and milliseconds of work.
CHAIN_ROUND = timedelta(seconds=1)

#: How much of a tail could be cut off unseen; and one small write a minute for each tenant that did something.
HEAD_ROUND = timedelta(minutes=1)


async def chain_events(runtime: Runtime) -> int:
    """Chain what waits for a link, in this process if no other does it just now; how many events it was."""
    chained = 0
    while True:
        async with system_transaction(runtime.database) as connection:
            if not await audit_chain.take_lock(connection, audit_chain.SEQUENCER_LOCK):
                return chained
            more = False
            for tail in await audit_chain.tails(connection, unchained_only=True):
                try:
                    key = audit_chain.chain_key(runtime.keys.mac, tail.tenant_id)
                except (TenantKeyMissing, KeyStoreUnusable):
                    # One tenant's key file that cannot be read stops nobody else's chain.
                    log.warning("audit.no-key", tenant=tail.tenant_id)
                    continue
                linked = (await audit_chain.append(connection, tail, key)).chain_seq - tail.chain_seq
                chained += linked
                # Only a batch that was full leaves events behind. What arrived meanwhile has time until the next
                # look; a busy service would otherwise never leave this loop, one commit for every few events.
                more = more or linked == audit_chain.BATCH
        if not more:
            return chained


async def sign_heads(runtime: Runtime, known: dict[str, int] | None = None) -> int:
    """Write the head of every chain that grew since its last one; how many were written.

    ``known`` is kept between calls: the last head of each tenant, so that a quiet tenant costs no read of the store.

    A head is never replaced by one that contradicts it: a chain that was cut keeps its evidence, and is reported.
    """
    written = 0
    known = {} if known is None else known
    async with system_transaction(runtime.database) as connection:
        # Held while the marks are written: two processes must not put an older head over a newer one.
        if not await audit_chain.take_lock(connection, audit_chain.HEADS_LOCK):
            return 0
        epoch = await connection.fetchval("SELECT value FROM service_state WHERE key = 'sync_epoch'")
        for tail in await audit_chain.tails(connection):
            if known.get(tail.tenant_id, 0) == tail.chain_seq:
                continue
            name = audit_chain.head_name(tail.tenant_id)
            try:
                mark = await runtime.store.read_mark(name)
                heads = audit_chain.read_heads(mark, tail.tenant_id, runtime.keys.public_keys())
            except ValueError:
                log.warning("audit.head-not-genuine", tenant=tail.tenant_id)
                continue
            last = heads[-1] if heads and heads[-1].epoch == epoch else None
            if last is not None:
                found = await audit_chain.hash_at(connection, tail.tenant_id, last.chain_seq)
                if found is None or found.hex() != last.hash:
                    log.warning("audit.chain-contradicts-head", tenant=tail.tenant_id, head=last.chain_seq)
                    continue
            if last is None or last.chain_seq != tail.chain_seq:
                await runtime.store.write_mark(name, _mark(runtime, heads, tail, epoch))
                written += 1
            known[tail.tenant_id] = tail.chain_seq
    return written


def _mark(runtime: Runtime, heads: list[Head], tail: Tail, epoch: str) -> bytes:
    kept = [head for head in heads if head.epoch != epoch]
    newest = Head(epoch, tail.chain_seq, tail.hash.hex(), audit_chain.now_text())
    return audit_chain.write_heads([*kept, newest], tail.tenant_id, runtime.keys.sign)


async def verify_trail(
    connection: Connection, keys: KeyStore, store: ObjectStore, only: str | None = None
) -> tuple[list[Finding], dict[str, int]]:
    """Check the chains and heads of all tenants, or of one: findings, and whole events by tenant. Owner role."""
    found: list[Finding] = []
    whole: dict[str, int] = {}
    epoch = await connection.fetchval("SELECT value FROM document.service_state WHERE key = 'sync_epoch'")
    listed = [await tenants.show(connection, only)] if only else await tenants.list_all(connection)
    for tenant in listed:
        name = tenant.tenant_id
        try:
            key = audit_chain.chain_key(keys.mac, name)
        except (TenantKeyMissing, KeyStoreUnusable) as reason:
            if tenant.shredded_at is not None:
                found.append(Finding("note", name, "its key was destroyed; the links cannot be computed again"))
            else:
                found.append(Finding("key", name, f"its key cannot be opened ({reason.code}); nothing was checked"))
            continue
        async for result in audit_chain.verify_links(connection, name, key):
            if isinstance(result, int):
                whole[name] = result
            else:
                found.append(result)
        try:
            mark = await store.read_mark(audit_chain.head_name(name))
            heads = audit_chain.read_heads(mark, name, keys.public_keys())
        except ValueError as reason:
            found.append(Finding("head", name, str(reason)))
            continue
        found += await audit_chain.verify_heads(connection, name, heads, epoch)
    return found, whole
