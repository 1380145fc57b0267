"""Tier (a) of the proof: the real sync engine against the executable model of the service, over virtual time.

A seed decides everything: who asks for what, which exchange fails and how, when a process dies, sleeps or is joined
by another, what the clocks say. ``python -m tests.simulation --seed N`` replays one; docs/simulation.md is the manual.

    schedule ──moves──> world ──> processes ──effects──> disk (memory, or the real driver on real tables)
                          │                       └────> network ──faults──> server (document_client.model)
                          └──> promises (the oracles), asked again and again and at the end
"""
