"""login, logout, whoami, status, doctor, rekey."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ..client import DocumentClient
from ..errors import UsageProblem
from ..words import sentence
from .frame import Screen, also, counted, shared, size

if TYPE_CHECKING:
    from ..issuer import Prompt


@click.command()
@click.option("--server", envvar="DOCUMENTS_SERVER", metavar="URL", help="The service; also DOCUMENTS_SERVER.")
@click.option("--token", metavar="T", help="A bearer token, - reads it from standard input; without: by device flow.")
@click.option("--keep-sealed", is_flag=True, help="Keep another user's pending requests here, sealed.")
@click.option("--discard-pending", is_flag=True, help="Give up another user's pending requests.")
@click.option("--cache-ttl", type=float, metavar="SECONDS", help="Keep documents readable here for less than allowed.")
@click.option("--trust-new-keys", is_flag=True, help="Accept that the service has new signing keys.")
@shared
def login(
    client: DocumentClient,
    screen: Screen,
    server: str | None,
    token: str | None,
    keep_sealed: bool,
    discard_pending: bool,
    cache_ttl: float | None,
    trust_new_keys: bool,
) -> None:
    """Sign in to a service; makes this device's keys the first time.

    Without --token the service names its sign-in page: open it on any device and type the code that is shown here.
    """
    if not server:
        raise UsageProblem("name the service with --server URL or DOCUMENTS_SERVER")
    if token == "-":
        token = sys.stdin.readline()
    who = client.login(
        server,
        token,
        show=Showing(screen),
        keep_sealed=keep_sealed,
        discard_pending=discard_pending,
        trust_new_keys=trust_new_keys,
        cache_ttl=cache_ttl,
    )

    def words() -> None:
        click.echo(f"Signed in as {who['user']} of {who['tenant']} at {who['server']}.")
        for notice in who["notices"]:
            click.echo(f"Note: {notice}", err=True)

    screen.answer(who, words)


class Showing:
    """Tells the person where to sign in and which code to type, once; a program gets it as a line of JSON."""

    def __init__(self, screen: Screen) -> None:
        """Say nothing yet."""
        self._screen = screen
        self._told = False

    def __call__(self, prompt: Prompt) -> None:
        """Say it, on standard error: standard output is for the answer."""
        if self._told:
            return
        self._told = True
        if self._screen.as_json:
            told = {"verificationUri": prompt.address, "userCode": prompt.code, "expiresIn": int(prompt.seconds_left)}
            click.echo(json.dumps({**told, "verificationUriComplete": prompt.address_with_code}), err=True)
            return
        click.echo("To sign in, open this page on this or any other device:", err=True)
        click.echo(f"\n    {prompt.address}\n\nand type this code:\n\n    {prompt.code}\n", err=True)
        if prompt.address_with_code:
            click.echo(f"The page with the code already typed: {prompt.address_with_code}", err=True)
        minutes = counted(max(1, round(prompt.seconds_left / 60)), "minute")
        click.echo(f"Waiting; the code is good for {minutes}. Ctrl-C gives up, and nothing is changed.", err=True)
        also(partial(sentence, "device sign-in"), err=True)


@click.command()
@click.option("--keep-sealed", is_flag=True, help="Keep pending requests here, sealed, for your return.")
@click.option("--discard-pending", is_flag=True, help="Give up pending requests; each is recorded.")
@shared
def logout(client: DocumentClient, screen: Screen, keep_sealed: bool, discard_pending: bool) -> None:
    """Sign out; the documents on this device become unreadable."""
    left = client.logout(keep_sealed=keep_sealed, discard_pending=discard_pending)
    fate = "discarded" if discard_pending else "kept, sealed"

    def words() -> None:
        click.echo("Signed out. The documents on this device were removed.")
        if left.requests:
            click.echo(f"{counted(left.requests, 'request')}: {fate}.")
        if left.evidence_sent:
            click.echo(f"sent {counted(left.evidence_sent, 'audit record')}")
        if left.evidence_waiting:
            _say(
                "evidence unheard" if left.evidence_unheard == left.evidence_waiting else "evidence left",
                waiting=left.evidence_waiting,
            )

    shown = {"signedOut": True, "requests": left.requests, "fate": fate if left.requests else None}
    screen.answer({**shown, "recordsSent": left.evidence_sent, "recordsWaiting": left.evidence_waiting}, words)


def _say(name: str, **values: int) -> None:
    """Print a sentence, in the person's language too."""
    click.echo(sentence(name, None, **values))
    also(lambda language: sentence(name, language, **values))


@click.command()
@shared
def whoami(client: DocumentClient, screen: Screen) -> None:
    """Show who is signed in, where, and on which device."""
    who = client.whoami()

    def words() -> None:
        click.echo(f"{who['user']} of {who['tenant']} at {who['server']}")
        click.echo(f"roles: {', '.join(who['roles']) or 'none named'}; device: {who['deviceId']}")
        if who["tokenExpiresAt"]:
            renewed = ", and is renewed by itself" if who["tokenRenews"] else ""
            click.echo(f"the token is valid until {who['tokenExpiresAt']}{renewed}")

    screen.answer(who, words)


@click.command()
@shared
def status(client: DocumentClient, screen: Screen) -> None:
    """Is everything sent? Is everything here? The facts, the cache and the clock."""
    facts = client.status()
    shown = facts.as_json()
    sent = _sent(shown) if facts.everything_sent else _not_sent(shown)
    received = sentence(_received(shown)) if facts.everything_received else _not_received(shown)
    shown["sentences"] = [sent, received]
    screen.answer(shown, lambda: _print_status(shown))


def _translated(name: str, values: dict[str, Any], language: str) -> str:
    return sentence(name, language, **{key: value for key, value in values.items() if isinstance(value, int)})


def _sent(shown: dict[str, Any]) -> str:
    """Return the sentence for requests that are all sent: records that wait are not left out of "everything"."""
    return sentence(_sent_name(shown), records=shown["audit"]["pending"], files=len(shown["setAside"]))


def _sent_name(shown: dict[str, Any]) -> str:
    # What a file that was set aside held is not known: it is in no count, and in no "everything".
    if shown["setAside"]:
        return "sent besides"
    return "requests sent" if shown["audit"]["pending"] else "sent"


def _received(shown: dict[str, Any]) -> str:
    if shown["setAside"]:
        return "received besides"
    return "received" if shown["lastSuccess"] else "received never"


def _not_sent(shown: dict[str, Any]) -> str:
    parts = []
    if shown["pending"]:
        remedy = "sign in to send them" if shown["lastStop"] == "SIGN_IN" else "run `documents sync`"
        parts.append(f"{shown['pending']} waiting to be sent ({remedy})")
    refused = shown["quarantined"] - shown["takenBack"] - shown["recovered"]
    if refused:
        parts.append(f"{refused} refused by the service (see `documents queue`)")
    if shown["recovered"]:
        parts.append(f"{shown['recovered']} recovered, for you to decide (see `documents queue`)")
    if shown["takenBack"]:
        parts.append(f"{shown['takenBack']} taken back, the service to be asked (run `documents sync`)")
    return "Not everything is sent: " + " and ".join(parts) + "."


def _not_received(shown: dict[str, Any]) -> str:
    parts = []
    if shown["acknowledged"]:
        parts.append(f"{shown['acknowledged']} accepted, document not here yet")
    if shown["failed"]:
        parts.append(f"{shown['failed']} failed (see `documents queue`)")
    return "Not everything has arrived: " + " and ".join(parts) + "."


def _print_status(shown: dict[str, Any]) -> None:
    # Taken back, it waits for the service's word and not for a decision.
    waiting = shown["pending"] + shown["takenBack"]
    asked = shown["quarantined"] - shown["takenBack"] - shown["recovered"]
    records = shown["audit"]["pending"]
    told = {**shown, "pending": waiting, "quarantined": asked, "records": records, "files": len(shown["setAside"])}
    for number, text in enumerate(shown["sentences"]):
        click.echo(text)
        holds = (shown["everythingSent"], shown["everythingReceived"])[number]
        kept = (_sent_name(shown), _received(shown))
        undone = ("not sent, recovered" if shown["recovered"] else "not sent", "not received")
        name = kept[number] if holds else undone[number]
        also(partial(_translated, name, told))
    click.echo(
        f"pending {shown['pending']}, quarantined {shown['quarantined']}, failed {shown['failed']};"
        f" last attempt {shown['lastAttempt'] or 'never'}, last success {shown['lastSuccess'] or 'never'}"
    )
    cache = shown["cache"]
    line = f"{counted(cache['documents'], 'document')} here ({size(cache['bytes'])} of {size(cache['quotaBytes'])})"
    if cache["nextExpiry"]:
        line += f", the next expires {cache['nextExpiry']}"
    click.echo(line + (f", {cache['expired']} expired: connect to refresh" if cache["expired"] else ""))
    if cache["locked"]:
        click.echo("The documents are locked: this device was without contact for too long. Connect and sync.")
        also(partial(sentence, "locked"))
    if cache["policyProblem"]:
        click.echo(f"Warning: {cache['policyProblem']}")
    if shown["clock"]["confidence"] == "suspect":
        click.echo("Warning: the clock of this device was set back. Check date and time.")
        also(partial(sentence, "clock"))
    if records and not shown["everythingSent"]:
        _say("records wait", records=records)
    if shown["audit"]["refused"]:
        click.echo(f"{counted(shown['audit']['refused'], 'record')} that the service refused, kept here.")
    if shown["sealed"]["people"]:
        _say("sealed", **shown["sealed"])
    for path in shown["setAside"]:
        click.echo(f"Attention: a file that could not be read was kept as {path}")
    for notice in shown["notices"]:
        click.echo(f"Note: {notice}", err=True)


@click.command()
@shared
def doctor(client: DocumentClient, screen: Screen) -> int:
    """Look at clock, server, keys, disk and spooler; exit 0 when the client can work."""
    from ..doctor import examine

    findings = examine(client)

    def words() -> None:
        for finding in findings:
            click.echo(f"{finding['state']:8} {finding['part']}: {finding['text']}")

    ready = not any(finding["state"] == "broken" for finding in findings)
    screen.answer({"ready": ready, "findings": findings}, words)
    return 0 if ready else 78


@click.command()
@click.option("--keyring", is_flag=True, help="Let the operating system's keyring hold the keys from now on.")
@shared
def rekey(client: DocumentClient, screen: Screen, keyring: bool) -> None:
    """Seal this device's keys anew: under another passphrase (DOCUMENTS_NEW_PASSPHRASE, or typed), or in the keyring.

    The old passphrase then opens nothing that is written from now on. Whatever happens in between, either the old or
    the new way in works.
    """
    import os

    from ..vault import open_vault
    from ..vault import rekey as seal_anew

    vault = open_vault(client.home, client._unlocking)
    new = None if keyring else os.environ.get("DOCUMENTS_NEW_PASSPHRASE")
    if not new and not keyring and sys.stdin.isatty():
        new = click.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True)
    if not new and not keyring:
        raise UsageProblem("set DOCUMENTS_NEW_PASSPHRASE, run this in a terminal, or choose --keyring")
    seal_anew(client.home, vault, new)
    held = "keyring" if keyring else "passphrase"
    screen.answer({"changed": True, "heldBy": held}, lambda: click.echo(f"Done: the {held} holds the keys now."))
