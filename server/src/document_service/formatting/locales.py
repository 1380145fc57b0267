"""What a locale and a tenant decide about a page: direction, digits, calendar, zone and the standard words.

A form's own labels win over the standard words; a locale that is not shipped (anything but en, fa-AF and ps-AF) must
bring all of them itself, which ``definitions.check`` asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from document_service.formatting.dosage_words import DOSAGE_WORDS

Direction = Literal["ltr", "rtl"]
Digits = Literal["latin", "native"]
Calendar = Literal["gregorian", "solarHijri", "both"]

LATIN_DIGITS = "0123456789"
# CLDR's default native digits: arabext for Dari, Persian, Pashto and Urdu, arab for Arabic.
_EXTENDED_ARABIC = "۰۱۲۳۴۵۶۷۸۹"
_NATIVE_DIGITS = {"fa": _EXTENDED_ARABIC, "ps": _EXTENDED_ARABIC, "ur": _EXTENDED_ARABIC, "ar": "٠١٢٣٤٥٦٧٨٩"}
# Languages of the world's official ones that are written from right to left unless their tag names another script.
_RTL_LANGUAGES = frozenset({"ar", "dv", "fa", "he", "ku", "ps", "sd", "ug", "ur", "yi"})
_RTL_SCRIPTS = frozenset({"arab", "hebr", "syrc", "thaa", "nkoo", "adlm"})
# The locales in which Solar Hijri dates are printed when the tenant asks for them.
SOLAR_HIJRI_LOCALES = frozenset({"fa-AF", "ps-AF"})

# The words that the service itself puts on a page. Dari and Pashto as used in Afghanistan; not yet reviewed by a
# second reader (the platform forms say so in ``translations``).
STANDARD_WORDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "en": {
            "notRecorded": "Not recorded",
            "noneRecorded": "None recorded",
            "yes": "Yes",
            "no": "No",
            "documentNumber": "Document no.",
            "issuedAt": "Issued",
            "template": "Form",
            "dataAsOf": "Data as of",
            "pageOf": "Page {page} of {pages}",
            "birthDate": "Date of birth",
            "identifier": "Patient no.",
            "gregorian": "CE",
        },
        "fa-AF": {
            "notRecorded": "ثبت نشده",
            "noneRecorded": "موردی ثبت نشده",
            "yes": "بلی",
            "no": "نخیر",
            "documentNumber": "شماره سند",
            "issuedAt": "تاریخ صدور",
            "template": "فورم",
            "dataAsOf": "معلومات تا تاریخ",
            "pageOf": "صفحه {page} از {pages}",
            "birthDate": "تاریخ تولد",
            "identifier": "شماره مریض",
            "gregorian": "میلادی",
        },
        "ps-AF": {
            "notRecorded": "نه دی ثبت شوی",
            "noneRecorded": "هېڅ مورد نه دی ثبت شوی",
            "yes": "هو",
            "no": "نه",
            "documentNumber": "د سند شمېره",
            "issuedAt": "د صدور نېټه",
            "template": "فورمه",
            "dataAsOf": "معلومات تر نېټې",
            "pageOf": "مخ {page} له {pages} څخه",
            "birthDate": "د زېږون نېټه",
            "identifier": "د ناروغ شمېره",
            "gregorian": "میلادي",
        },
    }
)
STANDARD_LABEL_KEYS = frozenset(STANDARD_WORDS["en"])

# The months as Afghan calendars print them.
SOLAR_HIJRI_MONTHS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "fa": ("حمل", "ثور", "جوزا", "سرطان", "اسد", "سنبله", "میزان", "عقرب", "قوس", "جدی", "دلو", "حوت"),
        "ps": (
            "وری", "غویی", "غبرګولی", "چنګاښ", "زمری", "وږی",
            "تله", "لړم", "لیندۍ", "مرغومی", "سلواغه", "کب",
        ),
    }
)  # fmt: skip
# Never digits only in English: 03/04 is a March day to one reader and an April day to the next.
ENGLISH_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def direction(locale: str) -> Direction:
    """The writing direction of a BCP 47 tag, by its script subtag when it has one, else by its language."""
    language, *rest = locale.split("-")
    for subtag in rest:
        if len(subtag) == 4 and subtag.isalpha():
            return "rtl" if subtag.lower() in _RTL_SCRIPTS else "ltr"
    return "rtl" if language.lower() in _RTL_LANGUAGES else "ltr"


class UnknownTimeZone(ValueError):
    """The tenant's time zone is not an IANA name that this machine knows."""


@dataclass(frozen=True, slots=True)
class Style:
    """How values are written on one page: the locale with the tenant's choices."""

    locale: str
    language: str
    direction: Direction
    numerals: str
    calendar: Calendar
    zone: ZoneInfo
    words: Mapping[str, str]
    #: When the document is issued, as far as values depend on it; None where nobody said.
    issued: datetime | None = None

    @property
    def comma(self) -> str:
        """The separator of a list in running text, with its space."""
        return "، " if self.direction == "rtl" and self.language != "he" else ", "


@lru_cache(maxsize=256)  # A few locales for each tenant policy; a bound so that a hostile zone list cannot grow it.
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UnknownTimeZone(name) from error


def style(
    locale: str,
    *,
    digits: Digits = "latin",
    calendar: Calendar = "gregorian",
    time_zone: str = "UTC",
    labels: Mapping[str, str] | None = None,
    issued: datetime | None = None,
) -> Style:
    """The Style of a page in ``locale``; ``labels`` are the form's words, which win over the standard ones.

    ``issued`` is the moment of issue with its zone, by which a prescription is still valid or is not.

    Native digits and Solar Hijri dates apply only where the locale has them. Raises UnknownTimeZone.
    """
    language = locale.split("-")[0].lower()
    words = {**STANDARD_WORDS.get(locale, {}), **DOSAGE_WORDS.get(locale, {}), **(labels or {})}
    return Style(
        locale=locale,
        language=language,
        direction=direction(locale),
        numerals=_NATIVE_DIGITS.get(language, LATIN_DIGITS) if digits == "native" else LATIN_DIGITS,
        calendar=calendar if locale in SOLAR_HIJRI_LOCALES else "gregorian",
        zone=_zone(time_zone),
        words=words,
        issued=issued,
    )
