"""More words of clinics beside codes: Latin, weekdays in three languages, spoons, weights, rates of infusion, sides.

As in ``test_free_words``: what agrees is printed and what contradicts refuses.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from coded_dosages import EN, FOUR_TO_SIX, IM, NEEDED, PO, TABLET, WEEKLY, given, often
from document_service.formatting import ValueMismatch, format_value
from form_rows import bare

MWF = {"dayOfWeek": ["mon", "wed", "fri"]}
EYE = {"route": {"coding": [{"code": "54485002"}]}}
REGULAR = {"asNeededBoolean": False}


def site(words: str) -> dict[str, Any]:
    return {"site": {"text": words}}


def rate(value: str, unit: str) -> dict[str, Any]:
    return {"doseAndRate": [{"rateQuantity": {"value": Decimal(value), "unit": unit}}]}


def ratio(value: str, per: str) -> dict[str, Any]:
    volume, hours = {"value": Decimal(value), "unit": "mL"}, {"value": Decimal(per), "unit": "h"}
    return {"doseAndRate": [{"rateRatio": {"numerator": volume, "denominator": hours}}]}


AGREE: list[tuple[str, dict[str, Any]]] = [
    ("bis in die", {**TABLET, **often(2)}),
    ("ter die sumendum", {**TABLET, **often(3)}),
    ("quater in die", {**TABLET, **often(4)}),
    ("semel in die", {**TABLET, **often(1)}),
    ("omni nocte", {**TABLET, **often(1)}),
    ("alternis diebus", {**TABLET, **often(1, 2)}),
    ("bis die", {**TABLET, **often(2)}),
    ("1 tab BDS", {**TABLET, **often(2)}),
    ("1 tab HS", {**TABLET, **often(1)}),
    ("1 tab SOS", {**TABLET, **NEEDED}),
    ("pro re nata", {**TABLET, **NEEDED}),
    ("twice daily on Mon, Wed, Fri", {**TABLET, **often(2, **MWF)}),
    ("twice daily on Monday, Wednesday and Friday", {**TABLET, **often(2, **MWF)}),
    ("every Monday, Wednesday and Friday", {**TABLET, **often(3, 1, "wk")}),
    ("Mon/Wed/Fri", {**TABLET, **often(1, **MWF)}),
    ("Monday to Friday", {**TABLET, **often(1, dayOfWeek=["mon", "tue", "wed", "thu", "fri"])}),
    ("Start on Monday, 1 tablet daily", {**TABLET, **often(1)}),
    ("1 tablet daily from Monday", {**TABLET, **often(1)}),
    ("daily except Friday", {**TABLET, **often(1)}),
    ("come back on Monday; 1 tablet daily", {**TABLET, **often(1)}),
    ("هر دوشنبه", WEEKLY),
    ("روز جمعه 70 mg", WEEKLY),
    ("د جمعې په ورځ 70 mg", WEEKLY),
    ("هره دوشنبه", WEEKLY),
    ("روزهای دوشنبه، چهارشنبه و جمعه", {**TABLET, **often(1, **MWF)}),
    ("د دوشنبې، چارشنبې او جمعې په ورځو", {**TABLET, **often(1, **MWF)}),
    ("هر روز دو شنبه", WEEKLY),
    ("روز یک‌شنبه یک تابلیت", {**TABLET, **often(1, 1, "wk", dayOfWeek=["sun"])}),
    ("یک قاشق چای‌خوری روز سه بار", {**given("5", "mL"), **often(3)}),
    ("یک قاشق نان‌خوری", given("15", "mL")),
    ("یوه د چایو کاشوغه", given("5", "mL")),
    ("one table spoon", given("15", "mL")),
    ("one dessertspoonful", given("10", "mL")),
    ("two 5 ml spoonfuls tds", {**given("10", "mL"), **often(3)}),
    ("1 tsp", given("1", "[tsp_us]")),
    ("15 mg/kg", given("15", "mg/kg")),
    ("45 mg/kg/day", {**given("15", "mg/kg"), **often(3)}),
    ("15 mg/kg for 20 kg", given("300", "mg")),
    ("15 mg/kg, weight 20 kg", given("320", "mg")),
    ("50 mg/kg, weight 80 kg, max 2 g", given("2000", "mg")),
    ("total 750 mg per day", {**given("250", "mg"), **often(3)}),
    ("45 mg/kg/day in 3 doses for 10 kg", {**given("150", "mg"), **often(3)}),
    ("1 gtt OD", {**given("1", "drop"), **often(4)}),
    ("OD", {**given("1", "drop"), **often(4), **EYE}),
    ("OD", {**given("1", "drop"), **often(4)}),
    ("Ointment OD bd", {**given("1", "cm"), **EYE, **often(2)}),
    ("Check INR weekly", {**TABLET, **often(1)}),
    ("weekly INR, 1 tablet daily", {**TABLET, **often(1)}),
    ("daily dressing; 1 tablet bd", {**TABLET, **often(2)}),
    ("drink 2 litres of water a day", {**TABLET, **often(2)}),
    ("drink plenty of fluids daily", {**TABLET, **often(2)}),
    ("not regularly", {**TABLET, **NEEDED}),
    ("only when needed, not regularly", {**TABLET, **NEEDED}),
    ("do not take it regularly", {**TABLET, **NEEDED}),
    ("به صورت غیر منظم", {**TABLET, **NEEDED}),
    ("15 mg Monday", {**given("15", "mg"), **often(1, 1, "wk", dayOfWeek=["mon"])}),
    ("125 ml/h", rate("125", "mL/h")),
    ("1 g over 30 minutes", {**given("1", "g")}),
    ("125 ml/hr", rate("125", "mL/h")),
    ("125 ml per hour", ratio("1000", "8")),
    ("20 drops/min", rate("20", "[drp]/min")),
    ("2 ml/min", rate("120", "mL/h")),
    ("0.1 mcg/kg/min", rate("0.1", "ug/kg/min")),
    ("5 mcg/kg/hr", rate("5", "ug/kg/h")),
    ("500 mg daily, reduce dose if eGFR < 30 ml/min", {**given("500", "mg"), **often(1)}),
    ("1½ tablets daily", {**given("1.5", "tablet"), **often(1)}),
    ("1 1/2 tablets", given("1.5", "tablet")),
    ("1/2 tablet", given("0.5", "tablet")),
    ("half a tablet OD", {**given("0.5", "tablet"), **often(1)}),
    ("one and a half tablets", given("1.5", "tablet")),
    ("یک و نیم تابلیت", given("1.5", "tablet")),
    ("a quarter of a tablet", given("0.25", "tablet")),
    ("نیم تابلیت", given("0.5", "tablet")),
    ("2 pills at night", {**given("2", "tablet"), **often(1)}),
    ("2 vials of 500 mg", given("1000", "mg")),
    ("Take with plenty of water 3 times a day", {**TABLET, **often(3)}),
    ("1 tablet daily, blood test every 3 months", {**TABLET, **often(1)}),
    ("1 tab daily. Return on Monday", {**TABLET, **often(1)}),
    ("1 tab daily until Monday", {**TABLET, **often(1)}),
    ("1 tablet daily; skip Friday", {**TABLET, **often(1)}),
    ("1 tablet daily (from Sat)", {**TABLET, **often(1)}),
    ("avoid sun exposure, 1 tab daily", {**TABLET, **often(1)}),
    ("keep wed-to-dry dressing; 1 tab daily", {**TABLET, **often(1)}),
    ("O2 sat > 94; 1 tablet daily", {**TABLET, **often(1)}),
    ("1 tab daily, next dose Friday", {**TABLET, **often(1)}),
    ("10 mg weekly on Monday and folic acid on Tuesday", {**given("10", "mg"), **often(1, 1, "wk")}),
    ("instil 1 drop in both eyes qid", {**given("1", "drop"), **often(4), **site("Both eyes")}),
    ("right eye", {**given("1", "drop"), **site("Structure of right eye")}),
    ("R eye", {**given("1", "drop"), **site("Right eye")}),
    ("چشم راست", {**given("1", "drop"), **site("چشم راست")}),
    ("هر دو چشم", {**given("1", "drop"), **site("Both eyes")}),
    ("take 1 tablet as needed for pain", {**TABLET, **NEEDED}),
    ("adjust as needed", {**TABLET, **REGULAR}),
    ("repeat if needed", {**TABLET, **REGULAR}),
    ("15 mg/kg/dose, 12 kg", given("180", "mg")),
    ("15mg/kg (12.5kg)", given("187.5", "mg")),
    ("90 mg/kg/day, 10 kg", {**given("450", "mg"), **often(2)}),
    ("for children > 20 kg: 15 mg/kg", given("500", "mg")),
    ("750 mg/day", {**given("250", "mg"), **often(3)}),
    ("daily dose 750 mg in 3 parts", {**given("250", "mg"), **often(3)}),
    ("30 mg per day", {**given("15", "mg"), **often(2)}),
    ("2 tablets per day", {**TABLET, **often(2)}),
    ("3 times per day", {**TABLET, **often(3)}),
    (
        "10 mg daily x 5 days, max daily dose 40 mg",
        {**given("10", "mg"), **often(1, boundsDuration={"value": 5, "unit": "d"})},
    ),
    ("paracetamol 500 mg, total 20 tablets", given("500", "mg")),
    ("دوشنبه شب 70 mg", WEEKLY),
    ("شب جمعه", {**TABLET, **often(1, 1, "wk", dayOfWeek=["thu"])}),
    ("1 tablet every Friday night", {**TABLET, **often(1, 1, "wk", dayOfWeek=["fri"])}),
    ("once a week (Friday)", WEEKLY),
    ("every second Monday", {**TABLET, **often(1, 2, "wk")}),
    ("first Monday of every month", {**TABLET, **often(1, 1, "mo")}),
    ("Monday-Friday 1 tablet, weekend none", {**TABLET, **often(1, dayOfWeek=["mon", "tue", "wed", "thu", "fri"])}),
    ("Take on Mon, Tue, Wed, Thu, Fri, Sat and Sun", {**TABLET, **often(1)}),
    ("روز دوبار، صبح و شب بعد از غذا", {**TABLET, **often(2)}),
    ("روزی ۳ بار", {**TABLET, **often(3)}),
    ("هر ۸ ساعت یک کپسول", {**given("1", "capsule"), **often(3)}),
    ("درې ورځې، هره ورځ یو ټابلېټ", {**TABLET, **often(1, boundsDuration={"value": 3, "unit": "d"})}),
    ("د اړتیا پر وخت", {**TABLET, **NEEDED}),
    ("INR 2-3. 5 mg daily", {**given("5", "mg"), **often(1)}),
    ("weekly weight; 40 mg daily", {**given("40", "mg"), **often(1)}),
    ("daily exercise; 1 tab bd", {**TABLET, **often(2)}),
    ("change dressing daily; 1 tab bd", {**TABLET, **often(2)}),
    ("1 tablet 1 hour before meals 3 times daily", {**TABLET, **often(3)}),
    ("0.5 mL IM x 3 (0, 1, 6 months)", {**given("0.5", "mL"), **IM}),
    ("Dissolve 1 sachet in 1 litre of water and drink after each stool", given("1", "sachet")),
    ("ORS 200 ml after every loose stool", given("200", "mL")),
    ("1 tablet twice daily with meals, not regularly", {**TABLET, **often(2), **NEEDED}),
    ("take 4 tablets on Monday", {**given("4", "tablet"), **often(1, 1, "wk", dayOfWeek=["mon"])}),
    ("Insulin 10 units before breakfast", given("10", "U")),
    ("10 IU sc od", {**given("10", "[IU]"), **often(1)}),
    ("6 mg/m2", given("6", "mg/m2")),
]

# As prescribers write them, whole.
IN_FULL: list[tuple[str, dict[str, Any]]] = [
    ("Take one tablet by mouth every morning with food", {**TABLET, **often(1), **PO}),
    ("Take 1 tablet by mouth daily at bedtime as needed for sleep", {**TABLET, **often(1), **PO, **NEEDED}),
    ("1 tab q6h prn pain, max 4/day", {**TABLET, **often(4), **NEEDED}),
    (
        "Take 2 tablets four times a day when required. Do not take more than 8 in 24 hours",
        {**given("2", "tablet"), **often(4), **NEEDED},
    ),
    (
        "One to two tablets every 4 to 6 hours as required, maximum 8 tablets per day",
        {
            "doseAndRate": [
                {"doseRange": {"low": {"value": 1, "unit": "tablet"}, "high": {"value": 2, "unit": "tablet"}}}
            ],
            **FOUR_TO_SIX,
            **NEEDED,
        },
    ),
    (
        "Apply to affected area twice daily for 2 weeks",
        {**given("1", "application"), **often(2, boundsDuration={"value": 14, "unit": "d"})},
    ),
    (
        "Inject 10 units subcutaneously every night at bedtime. Check blood sugar every morning",
        {**given("10", "U"), **often(1)},
    ),
    ("Take half tablet (12.5 mg) twice daily", {**given("12.5", "mg"), **often(2)}),
    ("40 mg once daily in the morning; weigh yourself daily", {**given("40", "mg"), **often(1)}),
    ("2 puffs twice a day, rinse your mouth after each use", {**given("2", "puff"), **often(2)}),
    ("1 sachet dissolved in a glass of water once daily", {**given("1", "sachet"), **often(1)}),
    ("500 mg IV every 8 hours over 30 minutes", {**given("500", "mg"), **often(3)}),
    ("1 g IV q12h x 7 days, then review", {**given("1", "g"), **often(2, boundsDuration={"value": 7, "unit": "d"})}),
    (
        "Give 5 ml three times a day for 5 days, 30 minutes before meals",
        {**given("5", "mL"), **often(3, boundsDuration={"value": 5, "unit": "d"})},
    ),
    ("5 ml (250 mg) tds", {**given("5", "mL"), **often(3)}),
    ("5 ml (250 mg) tds", {**given("250", "mg"), **often(3)}),
    ("Warfarin 5 mg daily at 6 pm. INR check on Monday", {**given("5", "mg"), **often(1)}),
    ("20 mg on Mondays, Wednesdays and Fridays after dialysis", {**given("20", "mg"), **often(1, **MWF)}),
    (
        "50,000 IU once weekly for 8 weeks",
        {**given("50000", "IU"), **often(1, 1, "wk", boundsDuration={"value": 8, "unit": "wk"})},
    ),
    ("Vitamin D 50 000 units every week", {**given("50000", "U"), **often(1, 1, "wk")}),
    ("1 capsule twice daily. Avoid sunlight. Not with milk.", {**given("1", "capsule"), **often(2)}),
    ("Insert one suppository at night", {**given("1", "suppository"), **often(1)}),
    ("1 drop to right eye 4 times daily", {**given("1", "drop"), **often(4), **site("Right eye")}),
    ("2 drops both ears bd", {**given("2", "drop"), **often(2), "site": {"coding": [{"display": "Both ears"}]}}),
    ("1 patch every 72 hours", {**given("1", "patch"), **often(1, 72, "h")}),
    ("Change patch every 3 days", {**given("1", "patch"), **often(1, 3, "d")}),
    (
        "0.3 mg IM stat, repeat after 5 minutes if needed",
        {**given("0.3", "mg"), **IM, "timing": {"repeat": {"count": 1}}},
    ),
    ("take with first bite of each meal three times daily", {**TABLET, **often(3)}),
    ("روزانه یک تابلیت صبح ناشتا", {**TABLET, **often(1)}),
    ("یک تابلیت هر ۱۲ ساعت برای یک هفته", {**TABLET, **often(2, boundsDuration={"value": 7, "unit": "d"})}),
    ("نیم تابلیت شب وقت خواب", {**given("0.5", "tablet"), **often(1)}),
    ("پنج سی‌سی روز سه بار بعد از غذا", {**given("5", "mL"), **often(3)}),
    ("دو پف صبح و دو پف شام", {**given("2", "puff"), **often(2)}),
    ("در صورت درد، هر ۶ ساعت، روزانه بیشتر از ۴ تابلیت نه", {**TABLET, **often(4), **NEEDED}),
    ("د ورځې درې ځله یوه ګولۍ له ډوډۍ وروسته", {**TABLET, **often(3)}),
    ("هره ورځ سهار او ماښام یو کپسول", {**given("1", "capsule"), **often(2)}),
    ("سهار یوه ګولۍ، ماښام یوه ګولۍ", {**TABLET, **often(2)}),
    ("په اونۍ کې یو ځل د جمعې په ورځ", {**TABLET, **often(1, 1, "wk", dayOfWeek=["fri"])}),
    (
        "د سترګو قطره، په هره سترګه کې یو څاڅکی، ورځ کې څلور ځله",
        {**given("1", "drop"), **often(4), **site("Both eyes")},
    ),
    ("1 tablet at 08:00 and 20:00", {**TABLET, **often(2)}),
    ("1 tablet every day except Sunday", {**TABLET, **often(1, dayOfWeek=["mon", "tue", "wed", "thu", "fri", "sat"])}),
    ("Take on an empty stomach, 1 hour before or 2 hours after food", {**TABLET, **often(4)}),
    ("Take the whole course. Finish all tablets even if you feel better after 2 days", {**TABLET, **often(3)}),
    ("Test dose given. 1.2 MU IM monthly", {**IM, **given("1.2", "MU"), **often(1, 1, "mo")}),
    ("every 3 months", {**given("150", "mg"), **often(1, 3, "mo")}),
    ("every 12 weeks", {**given("150", "mg"), **often(1, 12, "wk")}),
    ("once daily for 21 days then 7 day break", {**TABLET, **often(1, boundsDuration={"value": 21, "unit": "d"})}),
    ("mane", {**TABLET, **often(1)}),
    ("1 nocte prn", {**TABLET, **often(1), **NEEDED}),
    ("10 mg/kg/dose every 6 hours", {**given("100", "mg"), **often(4)}),
    ("Weight 12 kg. 10 mg/kg/dose (= 120 mg) every 6 hours", {**given("120", "mg"), **often(4)}),
    ("Paracetamol 15 mg/kg (wt 9.4 kg) = 140 mg q6h", {**given("140", "mg"), **often(4)}),
    ("Gentamicin 7 mg/kg/day once daily for 60 kg: 420 mg", {**given("420", "mg"), **often(1)}),
    ("75 mg/kg/day in 2 divided doses (8 kg)", {**given("300", "mg"), **often(2)}),
    ("100 mg/kg/day IV in 2 doses, weight 20kg, max 4 g/day", {**given("1", "g"), **often(2)}),
    ("0.1 unit/kg/hr", rate("0.1", "U/kg/h")),
    ("Run 1000 ml at 125 ml/hr over 8 hours", {**given("1000", "mL")}),
    ("Titrate up by 5 mg each week as needed, currently 10 mg daily", {**given("10", "mg"), **often(1)}),
]

DIFFER: list[tuple[str, dict[str, Any]]] = [
    ("bis in die", {**TABLET, **often(1)}),
    ("ter die", {**TABLET, **often(2)}),
    ("quater die", {**TABLET, **often(3)}),
    ("omni mane", WEEKLY),
    ("alternis diebus", {**TABLET, **often(1)}),
    ("1 tab BDS", {**TABLET, **often(3)}),
    ("1 tab HS", {**TABLET, **often(3)}),
    ("on Mondays", {**given("70", "mg"), **often(1)}),
    ("15 mg Monday", {**given("15", "mg"), **often(1)}),
    ("Mon/Wed/Fri", {**TABLET, **often(1)}),
    ("Mon, Wed and Fri", {**TABLET, **often(1, 1, "wk")}),
    ("every Tuesday", {**given("70", "mg"), **often(1, 1, "wk", dayOfWeek=["mon"])}),
    ("Monday and Thursday", {**TABLET, **often(1, **MWF)}),
    ("هر دوشنبه", {**TABLET, **often(1)}),
    ("روز جمعه", {**TABLET, **often(1)}),
    ("د جمعې په ورځ", {**TABLET, **often(1)}),
    ("هره شنبه", {**TABLET, **often(1)}),
    ("هر روز شنبه", {**TABLET, **often(1)}),
    ("هر سه شنبه", {**given("70", "mg"), **often(1, 1, "wk", dayOfWeek=["mon"])}),
    ("د پنجشنبې په ورځ", {**TABLET, **often(1)}),
    ("یک قاشق نان‌خوری", given("5", "mL")),
    ("یک قاشق غذاخوری", given("5", "mL")),
    ("د ډوډۍ یوه کاشوغه", given("5", "mL")),
    ("یوه د چایو کاشوغه", given("15", "mL")),
    ("one dessertspoon", given("5", "mL")),
    ("one tea spoon", given("15", "mL")),
    ("two 5 ml spoonfuls", given("5", "mL")),
    ("10 mg/kg", given("15", "mg/kg")),
    ("30 mg/kg/day", {**given("15", "mg/kg"), **often(3)}),
    ("15 mg/kg for 20 kg", given("500", "mg")),
    ("15 mg/kg, weight 10 kg", given("1500", "mg")),
    ("15 mg/kg (10 kg)", given("15", "mg")),
    ("total 750 mg per day", {**given("500", "mg"), **often(3)}),
    ("total daily dose 1500 mg", {**given("250", "mg"), **often(3)}),
    ("Dissolve in water and drink twice daily", {**TABLET, **often(1)}),
    ("Drink 3 times a day", {**TABLET, **often(1)}),
    ("Check INR and take 1 tablet twice daily", {**TABLET, **often(1)}),
    ("INR target 2-3: take twice daily", {**TABLET, **often(1)}),
    ("after INR check 5 mg weekly", {**given("5", "mg"), **often(1)}),
    ("not prn but regularly", {**TABLET, **NEEDED}),
    ("as needed", {**TABLET, **REGULAR}),
    ("125 ml/h", rate("12", "mL/h")),
    ("right eye", {**given("1", "drop"), **EYE, "site": {"text": "Left eye"}}),
    ("125 ml/hr", rate("12.5", "mL/h")),
    ("125 ml per hour", ratio("1000", "10")),
    ("60 drops/min", rate("20", "[drp]/min")),
    ("1 mcg/kg/min", rate("0.1", "ug/kg/min")),
    ("1½ tablets daily", {**TABLET, **often(1)}),
    ("half a tablet", TABLET),
    ("1/2 tablet", TABLET),
    ("یک و نیم تابلیت", TABLET),
    ("1 1/2 tablets", given("2", "tablet")),
    ("3 pills", given("2", "tablet")),
    ("left eye", {**given("1", "drop"), **site("Structure of right eye")}),
    ("چشم چپ", {**given("1", "drop"), **site("چشم راست")}),
    ("both eyes", {**given("1", "drop"), **site("Right eye")}),
    ("کیڼه سترګه", {**given("1", "drop"), **site("ښۍ سترګه")}),
    ("as needed for pain", {**TABLET, **REGULAR}),
    ("90 mg/kg/day, 10 kg", {**given("900", "mg"), **often(2)}),
    ("15 mg/kg (weight 10 kg)", given("15", "mg")),
    ("30 mg per day", {**given("30", "mg"), **often(2)}),
    ("daily dose 750 mg", {**given("750", "mg"), **often(3)}),
    ("every second Monday", {**TABLET, **often(1, 1, "wk")}),
    ("Saturday to Wednesday", {**TABLET, **often(1, dayOfWeek=["sat", "sun", "mon"])}),
    ("شنبه تا چهارشنبه", {**TABLET, **often(1, dayOfWeek=["sat", "sun", "mon"])}),
    ("6 mg/m2", given("60", "mg/m2")),
    ("يك تابليت روز سه بار", {**TABLET, **often(2)}),
    ("every day, morning and evening", {**TABLET, **often(1)}),
    ("هره ورځ سهار او ماښام", {**TABLET, **often(1)}),
    ("Titrate up by 5 mg each week, currently 10 mg daily", {**given("20", "mg"), **often(1)}),
]


@pytest.mark.parametrize(("words", "coded"), [*AGREE, *IN_FULL])
def test_ordinary_words_are_printed(words: str, coded: dict[str, Any]) -> None:
    assert bare(format_value("text", words, EN)) in bare(format_value("dosage", {**coded, "text": words}, EN))


@pytest.mark.parametrize(("words", "coded"), DIFFER)
def test_words_that_contradict_the_codes_refuse(words: str, coded: dict[str, Any]) -> None:
    with pytest.raises(ValueMismatch, match="words and codes agree"):
        format_value("dosage", {**coded, "text": words}, EN)


@pytest.mark.parametrize(
    ("text", "instruction"),
    [("on Mondays", "daily"), ("every Monday", "on Tuesday"), ("as needed", "regularly"), ("right eye", "left eye")],
)
def test_two_texts_without_codes_are_compared_with_each_other(text: str, instruction: str) -> None:
    with pytest.raises(ValueMismatch, match="words and codes agree"):
        format_value("dosage", {"text": text, "patientInstruction": instruction}, EN)


@pytest.mark.parametrize(
    "piece", ["on monday, ", "15 mg/kg ", "20 kg ", "not regularly ", "drink 1 ", "right eye ", "د چای 1 ", "1 mg/day "]
)
def test_a_hostile_text_is_read_in_time_that_grows_with_its_length(piece: str) -> None:
    words = {"text": piece * 20_000}
    try:
        assert format_value("dosage", words, EN)
    except ValueMismatch:
        assert piece == "15 mg/kg "
