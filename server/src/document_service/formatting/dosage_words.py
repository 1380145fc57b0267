"""The words in which the service itself says a dosage and what is to be dispensed, and the codes that they stand for.

They belong to the types ``dosage`` and ``dispenseRequest`` and not to a form: a form that left one of them out would
leave a part of the dose out. A form may word them otherwise by a label of the same key. Another locale than the
shipped ones must bring them all when it uses one of the two types (``definitions.checks``). Dari and Pashto as used in
Afghanistan, not yet reviewed by a second reader. They are worded so that what is filled in needs no case of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

LOCALES = ("en", "fa-AF", "ps-AF")

# Key: English, Dari, Pashto. {n} is a number or an amount that is isolated already, {period} a number with its unit.
_WORDS: dict[str, tuple[str, str, str]] = {
    "dosageThen": ("then: {n}", "بعد از آن: {n}", "بیا: {n}"),
    "dosageAnd": ("and also: {n}", "و همچنان: {n}", "او همدارنګه: {n}"),
    "dosageAsWritten": ("as written: {n}", "به الفاظ داکتر: {n}", "د ډاکټر په الفاظو: {n}"),
    "dosageRate": ("at a rate of {n}", "به سرعت {n}", "چټکتیا: {n}"),
    "dosageAsNeeded": ("as needed", "در صورت ضرورت", "د اړتیا پر وخت"),
    "dosageAsNeededFor": ("as needed for: {n}", "در صورت ضرورت برای: {n}", "د اړتیا پر وخت، د دې لپاره: {n}"),
    "dosageFor": ("for {n}", "برای {n}", "موده: {n}"),
    "dosageFrom": ("from {n}", "از {n}", "له دې نېټې: {n}"),
    "dosageUntil": ("until {n}", "تا {n}", "تر دې نېټې: {n}"),
    "dosageOver": ("given over {n}", "در مدت {n} داده شود", "د ورکولو موده: {n}"),
    "dosageNotMore": ("not more than {n}", "نه بیشتر از {n}", "له دې زیات نه: {n}"),
    "dosageNotMoreIn": (
        "not more than {n} in {period}",
        "در {period} نه بیشتر از {n}",
        "په {period} کې له دې زیات نه: {n}",
    ),
    "dosageNotMoreAtOnce": (
        "not more than {n} at one time",
        "در یک بار نه بیشتر از {n}",
        "په یو ځل کې له دې زیات نه: {n}",
    ),
    "dosageNotMoreInLife": (
        "not more than {n} in a lifetime",
        "در تمام عمر نه بیشتر از {n}",
        "په ټول عمر کې له دې زیات نه: {n}",
    ),
    "dosageDosesInAll": ("doses in all: {n}", "مجموع دوزها: {n}", "ټول ډوزونه: {n}"),
    # Units of activity, which are never abbreviated.
    "dosageUnits": ("units", "یونت", "یونټ"),
    "dosageInternationalUnits": ("international units", "یونت بین‌المللی", "نړیوال یونټ"),
    # How often.
    "dosageOnce": ("once", "یک بار", "یو ځل"),
    "dosageTimes": ("{n} times", "{n} بار", "{n} ځله"),
    "dosageOnceDaily": ("once a day", "روز یک بار", "په ورځ کې یو ځل"),
    "dosageTwiceDaily": ("twice a day", "روز دو بار", "په ورځ کې دوه ځله"),
    "dosageThreeDaily": ("three times a day", "روز سه بار", "په ورځ کې درې ځله"),
    "dosageFourDaily": ("four times a day", "روز چهار بار", "په ورځ کې څلور ځله"),
    "dosageTimesDaily": ("{n} times a day", "روز {n} بار", "په ورځ کې {n} ځله"),
    "dosageEveryOtherDay": ("every other day", "یک روز در میان", "هره دویمه ورځ"),
    "dosageOnceWeekly": ("once a week", "هفته یک بار", "په اونۍ کې یو ځل"),
    "dosageOnceMonthly": ("once a month", "ماه یک بار", "په میاشت کې یو ځل"),
    "dosageEvery": ("every {period}", "هر {period}", "هر {period}"),
    "dosageTimesIn": ("{n} times in {period}", "{n} بار در {period}", "هر {period}: {n} ځله"),
    # Units of time, of one and of another number.
    "dosageSecond": ("second", "ثانیه", "ثانیه"),
    "dosageSeconds": ("seconds", "ثانیه", "ثانیې"),
    "dosageMinute": ("minute", "دقیقه", "دقیقه"),
    "dosageMinutes": ("minutes", "دقیقه", "دقیقې"),
    "dosageHour": ("hour", "ساعت", "ساعت"),
    "dosageHours": ("hours", "ساعت", "ساعته"),
    "dosageDay": ("day", "روز", "ورځ"),
    "dosageDays": ("days", "روز", "ورځې"),
    "dosageWeek": ("week", "هفته", "اونۍ"),
    "dosageWeeks": ("weeks", "هفته", "اونۍ"),
    "dosageMonth": ("month", "ماه", "میاشت"),
    "dosageMonths": ("months", "ماه", "میاشتې"),
    "dosageYear": ("year", "سال", "کال"),
    "dosageYears": ("years", "سال", "کاله"),
    # When in the day.
    "dosageMorning": ("in the morning", "صبح", "سهار"),
    "dosageEarlyMorning": ("early in the morning", "اول صبح", "سهار وختي"),
    "dosageLateMorning": ("late in the morning", "اواخر صبح", "د سهار په پای کې"),
    "dosageNoon": ("at noon", "چاشت", "غرمه"),
    "dosageAfternoon": ("in the afternoon", "بعد از چاشت", "ماسپښین"),
    "dosageEarlyAfternoon": ("early in the afternoon", "اوایل بعد از چاشت", "د ماسپښین په پیل کې"),
    "dosageLateAfternoon": ("late in the afternoon", "اواخر بعد از چاشت", "د ماسپښین په پای کې"),
    "dosageEvening": ("in the evening", "شام", "ماښام"),
    "dosageEarlyEvening": ("early in the evening", "اوایل شام", "د ماښام په پیل کې"),
    "dosageLateEvening": ("late in the evening", "اواخر شام", "د ماښام په پای کې"),
    "dosageNight": ("at night", "شب", "شپه"),
    "dosageBedtime": ("at bedtime", "وقت خواب", "د خوب پر وخت"),
    "dosageAsleep": ("after going to sleep", "بعد از به خواب رفتن", "له ویده کېدو وروسته"),
    "dosageWaking": ("on waking up", "وقت بیدار شدن", "د راویښېدو پر وخت"),
    "dosageBeforeMeals": ("before meals", "پیش از غذا", "له خوړو مخکې"),
    "dosageWithMeals": ("with meals", "همراه با غذا", "له خوړو سره"),
    "dosageAfterMeals": ("after meals", "بعد از غذا", "له خوړو وروسته"),
    "dosageBeforeBreakfast": ("before breakfast", "پیش از نان صبح", "د سهار له ډوډۍ مخکې"),
    "dosageWithBreakfast": ("with breakfast", "همراه با نان صبح", "د سهار له ډوډۍ سره"),
    "dosageAfterBreakfast": ("after breakfast", "بعد از نان صبح", "د سهار له ډوډۍ وروسته"),
    "dosageBeforeLunch": ("before lunch", "پیش از نان چاشت", "د غرمې له ډوډۍ مخکې"),
    "dosageWithLunch": ("with lunch", "همراه با نان چاشت", "د غرمې له ډوډۍ سره"),
    "dosageAfterLunch": ("after lunch", "بعد از نان چاشت", "د غرمې له ډوډۍ وروسته"),
    "dosageBeforeDinner": ("before dinner", "پیش از نان شب", "د ماښام له ډوډۍ مخکې"),
    "dosageWithDinner": ("with dinner", "همراه با نان شب", "د ماښام له ډوډۍ سره"),
    "dosageAfterDinner": ("after dinner", "بعد از نان شب", "د ماښام له ډوډۍ وروسته"),
    "dosageSaturday": ("Saturday", "شنبه", "شنبه"),
    "dosageSunday": ("Sunday", "یک‌شنبه", "یکشنبه"),
    "dosageMonday": ("Monday", "دوشنبه", "دوشنبه"),
    "dosageTuesday": ("Tuesday", "سه‌شنبه", "سه‌شنبه"),
    "dosageWednesday": ("Wednesday", "چهارشنبه", "چارشنبه"),
    "dosageThursday": ("Thursday", "پنج‌شنبه", "پنجشنبه"),
    "dosageFriday": ("Friday", "جمعه", "جمعه"),
    # By which way.
    "dosageByMouth": ("by mouth", "از راه دهن", "د خولې له لارې"),
    "dosageIntoMuscle": ("injection into muscle", "زرق عضلی", "عضلي زرق"),
    "dosageIntoVein": ("into a vein", "از راه ورید", "د ورید له لارې"),
    "dosageUnderSkin": ("injection under the skin", "زرق زیرجلدی", "تر پوستکي لاندې زرق"),
    "dosageRectal": ("into the rectum", "از راه مقعد", "د مقعد له لارې"),
    "dosageIntoNose": ("into the nose", "در بینی", "په پوزه کې"),
    "dosageIntoEye": ("into the eye", "در چشم", "په سترګه کې"),
    "dosageIntoEar": ("into the ear", "در گوش", "په غوږ کې"),
    "dosageOnSkin": ("on the skin", "روی جلد", "پر پوستکي"),
    "dosageTopically": ("topically", "به‌صورت موضعی", "په موضعي ډول"),
    "dosageVaginal": ("into the vagina", "از راه مهبل", "د مهبل له لارې"),
    "dosageUnderTongue": ("under the tongue", "زیر زبان", "تر ژبې لاندې"),
    "dosageInhaled": ("inhaled", "انشاقی", "انشاقي"),
    # What is dispensed.
    "dispenseRepeats": ("repeats: {n}", "تکرار: {n}", "تکرار: {n}"),
    "dispenseNoRepeats": ("no repeats", "بدون تکرار", "بې تکراره"),
    "dispenseFirst": ("first supply: {n}", "بار اول: {n}", "لومړی ځل: {n}"),
    "dispenseInterval": ("not sooner than after {n}", "نه زودتر از {n}", "له دې مخکې نه: {n}"),
    "dispenseValidFrom": ("valid from {n}", "معتبر از {n}", "اعتبار له: {n}"),
    "dispenseValidUntil": ("valid until {n}", "معتبر تا {n}", "اعتبار تر: {n}"),
    "dispenseEnded": (
        "NO LONGER VALID, ended: {n}",
        "دیگر اعتبار ندارد، ختم شده: {n}",
        "نور اعتبار نه لري، پای ته رسېدلی: {n}",
    ),
    "dispenseBy": ("dispensed by: {n}", "توزیع توسط: {n}", "توزیع کوونکی: {n}"),
}

# Words at which no line ends: behind "not" at a line's end, the next line begins "more than 30 mL".
_TOGETHER = (
    *("not more than", "not sooner than", "no repeats", "NO LONGER VALID,"),
    *("نه بیشتر از", "نه زودتر از", "بدون تکرار", "دیگر اعتبار ندارد،"),
    *("له دې زیات نه:", "له دې مخکې نه:", "بې تکراره", "نور اعتبار نه لري،"),
)


def _together(words: str) -> str:
    for phrase in _TOGETHER:
        words = words.replace(phrase, phrase.replace(" ", "\u00a0"))
    return words


#: The words of each shipped locale by their keys.
DOSAGE_WORDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {locale: {key: _together(words[at]) for key, words in _WORDS.items()} for at, locale in enumerate(LOCALES)}
)
#: Every key, with the placeholders that its words must have.
DOSAGE_WORD_KEYS: Mapping[str, frozenset[str]] = MappingProxyType(
    {key: frozenset(name for name in ("n", "period") if f"{{{name}}}" in words[0]) for key, words in _WORDS.items()}
)

#: UCUM codes of FHIR's value set units-of-time: the keys for one and for several.
TIME_UNITS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "s": ("dosageSecond", "dosageSeconds"),
        "min": ("dosageMinute", "dosageMinutes"),
        "h": ("dosageHour", "dosageHours"),
        "d": ("dosageDay", "dosageDays"),
        "wk": ("dosageWeek", "dosageWeeks"),
        "mo": ("dosageMonth", "dosageMonths"),
        "a": ("dosageYear", "dosageYears"),
    }
)

#: FHIR's value set event-timing (required in R4): another code refuses.
MOMENTS: Mapping[str, str] = MappingProxyType(
    {
        "MORN": "dosageMorning",
        "MORN.early": "dosageEarlyMorning",
        "MORN.late": "dosageLateMorning",
        "NOON": "dosageNoon",
        "AFT": "dosageAfternoon",
        "AFT.early": "dosageEarlyAfternoon",
        "AFT.late": "dosageLateAfternoon",
        "EVE": "dosageEvening",
        "EVE.early": "dosageEarlyEvening",
        "EVE.late": "dosageLateEvening",
        "NIGHT": "dosageNight",
        "PHS": "dosageAsleep",
        "HS": "dosageBedtime",
        "WAKE": "dosageWaking",
        "C": "dosageWithMeals",
        "CM": "dosageWithBreakfast",
        "CD": "dosageWithLunch",
        "CV": "dosageWithDinner",
        "AC": "dosageBeforeMeals",
        "ACM": "dosageBeforeBreakfast",
        "ACD": "dosageBeforeLunch",
        "ACV": "dosageBeforeDinner",
        "PC": "dosageAfterMeals",
        "PCM": "dosageAfterBreakfast",
        "PCD": "dosageAfterLunch",
        "PCV": "dosageAfterDinner",
    }
)

DAYS: Mapping[str, str] = MappingProxyType(
    {
        "sat": "dosageSaturday",
        "sun": "dosageSunday",
        "mon": "dosageMonday",
        "tue": "dosageTuesday",
        "wed": "dosageWednesday",
        "thu": "dosageThursday",
        "fri": "dosageFriday",
    }
)

#: Codes of SNOMED CT and of HL7 v3 RouteOfAdministration that clinics here use; others print their own words.
ROUTES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("26643006", "PO"), "dosageByMouth"),
        **dict.fromkeys(("78421000", "IM"), "dosageIntoMuscle"),
        **dict.fromkeys(("47625008", "IV", "IVINJ"), "dosageIntoVein"),
        **dict.fromkeys(("34206005", "SC", "SQ"), "dosageUnderSkin"),
        **dict.fromkeys(("37161004", "PR"), "dosageRectal"),
        **dict.fromkeys(("46713006",), "dosageIntoNose"),
        **dict.fromkeys(("54485002", "OPTHALTA"), "dosageIntoEye"),
        **dict.fromkeys(("10547007", "OTICINSTL"), "dosageIntoEar"),
        **dict.fromkeys(("448598008",), "dosageOnSkin"),
        # An eye and the vagina are treated topically, too.
        **dict.fromkeys(("6064005", "TOPICAL"), "dosageTopically"),
        **dict.fromkeys(("16857009",), "dosageVaginal"),
        **dict.fromkeys(("37839007", "SL"), "dosageUnderTongue"),
        **dict.fromkeys(("447694001", "IPINHL"), "dosageInhaled"),
    }
)

#: Words that say in general what another says in particular: where codings of one way have both, that one is said.
GENERAL_WORDS: Mapping[str, str] = MappingProxyType({"dosageTopically": "dosageOnSkin"})

#: Words that came after the first forms in locales of tenants' own; where one lacks them, the sender's are said.
LATER_WORDS = frozenset({"dosageTopically"})

#: HL7 v3 GTSAbbreviation: times, and the period with its unit.
RHYTHMS: Mapping[str, tuple[int, int, str]] = MappingProxyType(
    {
        "QD": (1, 1, "d"),
        "BID": (2, 1, "d"),
        "TID": (3, 1, "d"),
        "QID": (4, 1, "d"),
        "QOD": (1, 2, "d"),
        "Q1H": (1, 1, "h"),
        "Q2H": (1, 2, "h"),
        "Q3H": (1, 3, "h"),
        "Q4H": (1, 4, "h"),
        "Q6H": (1, 6, "h"),
        "Q8H": (1, 8, "h"),
        "WK": (1, 1, "wk"),
        "MO": (1, 1, "mo"),
    }
)
#: GTSAbbreviation that names a moment of every day.
DAILY_MOMENTS: Mapping[str, str] = MappingProxyType(
    {"AM": "dosageMorning", "PM": "dosageAfternoon", "BED": "dosageBedtime"}
)
