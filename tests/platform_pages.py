"""Every platform form with a full record and with next to none, as jobs for the typesetting pool.

The record is the made-up one of each language (sample_patients) with what it lacks added here: a dose that is a range,
a medicine for when it is needed, results with each kind of value. The words of the inputs are in the page's language.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from document_service import sample_patients
from document_service.definitions import read_json
from document_service.exact_json import dumps_exact
from document_service.platform_forms import PlatformForm, catalogue
from document_service.typesetting.jobs import TypesetJob
from pages import LOGO

LOCALES = ("en", "fa-AF", "ps-AF")
FORMS = {form.key: form for form in catalogue()}
ISSUED_AT = datetime.fromisoformat("2026-09-18T12:00:00+04:30")

#: Twelve ordinary tests as a LOINC server names them; the first is urgent, two need a note for the patient.
TWELVE_TESTS = (
    "Hemoglobin A1c/Hemoglobin.total in Blood",
    "Glucose [Mass/volume] in Serum or Plasma --fasting",
    "CBC panel - Blood by Automated count",
    "Platelets [#/volume] in Blood by Automated count",
    "Creatinine [Mass/volume] in Serum or Plasma",
    "Sodium [Moles/volume] in Serum or Plasma",
    "Potassium [Moles/volume] in Serum or Plasma",
    "Alanine aminotransferase [Enzymatic activity/volume] in Serum or Plasma",
    "Thyrotropin [Units/volume] in Serum or Plasma",
    "Lipid 1996 panel - Serum or Plasma",
    "C reactive protein [Mass/volume] in Serum or Plasma",
    "Urinalysis complete panel - Urine",
)
_FASTING = (1, 9)

# English, Dari, Pashto.
Words = tuple[str, str, str]

_WORDS: dict[str, Words] = {
    "doctor": ("Dr. Amina Example", "داکتر امینه نمونه", "ډاکټره امینه بېلګه"),
    "facility": (
        "Kabul Central Hospital, cardiology",
        "شفاخانه مرکزی کابل، شعبه قلب",
        "د کابل مرکزي روغتون، د زړه څانګه",
    ),
    "reason": (
        "Chest pain for 2 weeks, BP 138/86 mmHg. Ischaemia? Echocardiography, please.",
        "درد سینه از ۲ هفته، فشار 138/86 mmHg. اسکیمی؟ لطفاً ایکوکاردیوگرافی.",
        "له ۲ اونیو راهیسې د سینې درد، فشار 138/86 mmHg. اسکیمي؟ مهرباني وکړئ ایکوکاردیوګرافي.",
    ),
    "summary": (
        "Admitted with hyperglycaemia; fluids and insulin; discharged well on Metformin 500 mg twice a day.",
        "به علت بلند بودن قند خون بستر شد؛ با مایعات و انسولین تداوی شد؛ با Metformin 500 mg روز دو بار رخصت شد.",
        "د وینې د لوړې شکرې له امله بستر شوه؛ په مایعاتو او انسولین درملنه وشوه؛ له Metformin 500 mg سره رخصت شوه.",
    ),
    "advice": (
        "Come back at once with fever above 38.5 °C or vomiting.",
        "اگر تب بالاتر از 38.5 °C یا استفراغ داشتید، فوراً برگردید.",
        "که تبه له 38.5 °C لوړه شوه یا مو کانګې وکړې، سمدستي راشئ.",
    ),
    "procedure": (
        "Appendectomy (open)",
        "عملیات اپندکس (باز)",
        "د اپنډکس عملیات (خلاص)",
    ),
    "site": ("Right lower abdomen", "قسمت راست پایین بطن", "د خېټې ښۍ کښته برخه"),
    "purpose": (
        "To remove the inflamed appendix before it ruptures.",
        "برداشتن اپندکس التهابی پیش از پاره شدن آن.",
        "د پړسېدلي اپنډکس ایستل مخکې له دې چې وچوي.",
    ),
    "risks": (
        "Bleeding, infection of the wound (about 3–5 %), injury of the bowel, risks of anaesthesia.",
        "خون‌ریزی، عفونت زخم (حدود 3–5 %)، آسیب روده، خطرهای بی‌هوشی.",
        "وینه بهېدل، د ټپ عفونت (شاوخوا 3–5 %)، د کولمو زیان، د بې‌هوښۍ خطرونه.",
    ),
    "alternatives": ("Antibiotics and observation.", "انتی‌بیوتیک و نظارت.", "انټي‌بیوټیک او څارنه."),
    "person": ("Karim Patient", "کریم نمونه", "کریم بېلګه"),
    "relation": ("Husband", "شوهر", "خاوند"),
    "employer": ("Ministry of Education", "وزارت معارف", "د پوهنې وزارت"),
    "comment": (
        "Sample slightly haemolysed; potassium may read high.",
        "نمونه کمی همولیز شده؛ پتاشیم شاید بلندتر نشان داده شود.",
        "نمونه لږ همولیز شوې؛ پوتاشیم ښايي لوړ ښکاره شي.",
    ),
    "hand": (
        "Paracetamol 500 mg tablet",
        "تابلیت Paracetamol 500 mg",
        "Paracetamol 500 mg ټابلېټ",
    ),
    "handDose": ("1–2 tablets", "1–2 تابلیت", "1–2 ټابلېټه"),
    "handHow": (
        "every 6 hours when needed, at most 4 g a day",
        "هر ۶ ساعت در صورت ضرورت، حد اکثر 4 g در روز",
        "د اړتیا پر وخت هر ۶ ساعته، په ورځ کې تر ټولو زیات 4 g",
    ),
    "fasting": (
        "Sample text: fasting for 8–12 hours before the sample.",
        "نمونه باید پس از 8–12 ساعت ناشتا گرفته شود.",
        "نمونه باید له 8–12 ساعتونو لوږې وروسته واخیستل شي.",
    ),
    "diabetes": ("Diabetes mellitus type 2", "دیابت نوع ۲", "دوهم ډول شکر ناروغي"),
    "days": ("5 days", "۵ روز", "۵ ورځې"),
}


def _inputs(key: str, words: dict[str, str]) -> dict[str, Any]:
    """What a nurse would type into the form ``key``."""
    return {
        "general-test-requisition": {"reason": words["reason"], "priority": "urgent", "requester": words["doctor"]},
        "outpatient-prescription": {
            "registration": "MC-00001",
            "weightNow": Decimal("64.0"),
            "advice": words["advice"],
            "medicines": [
                {
                    "medicine": words["hand"],
                    "dose": words["handDose"],
                    "howToTake": words["handHow"],
                    "duration": words["days"],
                    "quantity": "20",
                }
            ],
        },
        "discharge-summary": {
            "outcome": "improved",
            "diagnosis": words["reason"],
            "course": words["summary"],
            "followUp": words["advice"],
        },
        "referral-letter": {
            "referredTo": words["facility"],
            "urgency": "urgent",
            "reason": words["reason"],
            "summary": words["summary"],
        },
        "laboratory-report": {"from": "2026-09-01", "comment": words["comment"], "requester": words["doctor"]},
        "consent": {
            "procedure": words["procedure"],
            "site": words["site"],
            "purpose": words["purpose"],
            "risks": words["risks"],
            "alternatives": words["alternatives"],
            "anaesthesia": "general",
            "signer": words["person"],
            "relation": words["relation"],
        },
        "sick-leave-certificate": {
            "from": "2026-09-18",
            "until": "2026-09-24",
            "addressedTo": words["employer"],
            "registration": "MC-00001",
        },
        "immunization-card": {"nextVisit": "2026-11-01"},
        "patient-label-sheet": {},
    }[key]


def _more_orders(subject: str, encounter: str) -> list[dict[str, Any]]:
    """A medicine for when it is needed, whose dose is a range, and two that may not be seen."""
    of = {"subject": {"reference": f"Patient/{subject}"}, "encounter": {"reference": f"Encounter/{encounter}"}}
    ucum = "http://unitsofmeasure.org"
    return [
        {
            "resourceType": "MedicationRequest",
            "id": "more-1",
            "status": "active",
            "intent": "order",
            "medicationCodeableConcept": {"text": "Ibuprofen 200 mg"},
            "dosageInstruction": [
                {
                    "timing": {"repeat": {"frequency": 3, "period": 1, "periodUnit": "d", "when": ["PC"]}},
                    "asNeededBoolean": True,
                    "route": {"coding": [{"system": "http://snomed.info/sct", "code": "26643006"}]},
                    "doseAndRate": [
                        {"doseRange": {"low": {"value": 1, "unit": "tablet"}, "high": {"value": 2, "unit": "tablet"}}}
                    ],
                    "maxDosePerPeriod": {
                        "numerator": {"value": Decimal("1.20"), "unit": "g", "system": ucum},
                        "denominator": {"value": 24, "unit": "h", "system": ucum},
                    },
                }
            ],
            "dispenseRequest": {
                "quantity": {"value": 20, "unit": "tablet"},
                "expectedSupplyDuration": {"value": 5, "unit": "d", "system": ucum, "code": "d"},
            },
            **of,
        },
        # Neither of these may be seen on any page.
        {
            "resourceType": "MedicationRequest",
            "id": "more-2",
            "status": "entered-in-error",
            "intent": "order",
            "medicationCodeableConcept": {"text": "NEVER PRINT THIS"},
            **of,
        },
        {
            "resourceType": "MedicationRequest",
            "id": "more-3",
            "status": "active",
            "intent": "proposal",
            "medicationCodeableConcept": {"text": "NEVER PRINT THIS"},
            **of,
        },
    ]


def _panel(taken: dict[str, Any]) -> dict[str, Any]:
    """A panel without a mark of its own, with one part that has one."""
    ucum = {"unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"}
    return {
        "resourceType": "Observation",
        "id": "more-10",
        "code": {"text": "Electrolyte panel"},
        "component": [
            {
                "code": {"text": "Sodium"},
                "valueQuantity": {"value": 128, **ucum},
                "referenceRange": [{"low": {"value": 135, **ucum}, "high": {"value": 145, **ucum}}],
                "interpretation": [{"coding": [{"code": "L"}]}],
            },
            {
                "code": {"text": "Chloride"},
                "valueQuantity": {"value": 101, **ucum},
                "interpretation": [{"coding": [{"code": "N"}]}],
            },
        ],
        **taken,
    }


def _more_results(subject: str, encounter: str) -> list[dict[str, Any]]:
    """A result of each kind, one that is not final and one that is entered in error."""
    of = {"subject": {"reference": f"Patient/{subject}"}, "encounter": {"reference": f"Encounter/{encounter}"}}
    ucum = "http://unitsofmeasure.org"
    laboratory = [{"coding": [{"code": "laboratory"}]}]
    taken = {"status": "final", "category": laboratory, "effectiveDateTime": "2026-09-14T09:30:00+04:30", **of}
    return [
        {
            "resourceType": "Observation",
            "id": "more-4",
            "code": {"text": "Triglyceride"},
            "valueQuantity": {"value": Decimal("1.10"), "unit": "mmol/L", "system": ucum, "code": "mmol/L"},
            "referenceRange": [{"high": {"value": Decimal("1.70"), "unit": "mmol/L", "system": ucum}}],
            **taken,
        },
        {
            "resourceType": "Observation",
            "id": "more-5",
            "code": {"text": "C-reactive protein"},
            "valueQuantity": {"value": 5, "comparator": "<", "unit": "mg/L", "system": ucum, "code": "mg/L"},
            "referenceRange": [{"text": "< 10 mg/L"}],
            **taken,
            "status": "preliminary",
        },
        {
            "resourceType": "Observation",
            "id": "more-6",
            "code": {"text": "HBs antigen"},
            "valueCodeableConcept": {"text": "Not detected"},
            "interpretation": [{"coding": [{"code": "NEG"}]}],
            **taken,
        },
        {
            "resourceType": "Observation",
            "id": "more-7",
            "code": {"text": "Widal test, titre"},
            "valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 160}},
            "interpretation": [{"coding": [{"code": "A"}]}],
            **taken,
        },
        {
            "resourceType": "Observation",
            "id": "more-8",
            "code": {"text": "Potassium"},
            "valueQuantity": {"value": Decimal("6.8"), "unit": "mmol/L", "system": ucum, "code": "mmol/L"},
            "referenceRange": [
                {
                    "low": {"value": Decimal("3.5"), "unit": "mmol/L"},
                    "high": {"value": Decimal("5.1"), "unit": "mmol/L"},
                }
            ],
            "interpretation": [{"coding": [{"code": "HH"}]}],
            **taken,
        },
        _panel(taken),
        {
            "resourceType": "Observation",
            "id": "more-9",
            "code": {"text": "NEVER PRINT THIS"},
            "valueString": "NEVER PRINT THIS",
            **taken,
            "status": "entered-in-error",
        },
    ]


def full_resources(form: PlatformForm, locale: str) -> dict[str, Any]:
    """The made-up record of the language and what it lacks, as a read of the form's context would find it."""
    record = sample_patients.for_locale(locale)
    of = ("sample-patient", "sample-encounter")
    more = (*_more_orders(*of), *_more_results(*of))
    definition: dict[str, Any] = read_json(form.definition)
    return replace(record, resources=(*record.resources, *more)).fill(definition["context"]).resources


def twelve_orders(locale: str) -> list[dict[str, Any]]:
    """Active orders of the made-up patient for ``TWELVE_TESTS``."""
    words = {name: texts[LOCALES.index(locale)] for name, texts in _WORDS.items()}
    return [
        {
            "resourceType": "ServiceRequest",
            "id": f"ordinary-{number}",
            "status": "active",
            "intent": "order",
            "priority": "routine" if number else "urgent",
            "code": {"text": name},
            "subject": {"reference": "Patient/sample-patient"},
            "authoredOn": "2026-09-14T08:30:00+04:30",
            "reasonCode": [{"text": words["diabetes"]}],
            "note": [{"text": words["fasting"]}] if number in _FASTING else [],
        }
        for number, name in enumerate(TWELVE_TESTS)
    ]


def bare_resources(form: PlatformForm) -> dict[str, Any]:
    """A patient of whom only the name is known, and no visit."""
    definition: dict[str, Any] = read_json(form.definition)
    patient = {"resourceType": "Patient", "id": "bare", "name": [{"family": "Karimi"}]}
    found = {name: [] if "search" in entry else None for name, entry in definition["context"].items()}
    return {**found, "patient": patient}


def full_inputs(key: str, locale: str) -> dict[str, Any]:
    return _inputs(key, {name: words[LOCALES.index(locale)] for name, words in _WORDS.items()})


def least_inputs(form: PlatformForm) -> dict[str, Any]:
    """Only what the form's schema requires."""
    definition: dict[str, Any] = read_json(form.definition)
    schema = definition["inputs"]
    values = full_inputs(form.key, "en")
    return {name: values[name] for name in schema.get("required", ())}


def request(form: PlatformForm, locale: str, inputs: dict[str, Any], **tenant: Any) -> dict[str, Any]:
    return {
        "locale": locale,
        "inputs": inputs,
        "documentNumber": "KCC-2026-000481",
        "issuedAt": ISSUED_AT.isoformat(),
        "dataAsOf": "2026-09-18T11:59:58+04:30",
        "templateName": form.name,
        "templateVersion": form.semver,
        "timeZone": "Asia/Kabul",
        "tenant": {
            "name": ("Kabul Central Clinic", "کلینیک مرکزی کابل", "د کابل مرکزي کلینیک")[LOCALES.index(locale)],
            "address": [("Karte Seh, Kabul", "کارته سه، کابل", "درېیمه کارته، کابل")[LOCALES.index(locale)]],
            "phone": "+93 20 555 0100",
            "footer": None,
            "accent": None,
            # Both calendars and native digits are the widest that a page can be asked for.
            "digits": "latin" if locale == "en" else "native",
            "calendar": "gregorian" if locale == "en" else "both",
            **tenant,
        },
        "verificationUrl": "https://documents.example/verify/4c1d8f0e7a2b4d6f",
        "patientCheck": None,
    }


def job(
    form: PlatformForm, locale: str, resources: dict[str, Any], inputs: dict[str, Any], **members: Any
) -> TypesetJob:
    return TypesetJob(
        issued_at=ISSUED_AT,
        definition_json=form.definition.encode(),
        resources_json=dumps_exact(resources),
        request_json=dumps_exact(request(form, locale, inputs)),
        images={"logo": LOGO},
        **members,
    )


def full_job(key: str, locale: str, **members: Any) -> TypesetJob:
    """The form with everything filled in."""
    form = FORMS[key]
    return job(form, locale, full_resources(form, locale), full_inputs(key, locale), **members)


def bare_job(key: str, locale: str, **members: Any) -> TypesetJob:
    """The form for a patient of whom nothing but a name is recorded, with the fewest inputs."""
    form = FORMS[key]
    return job(form, locale, bare_resources(form), least_inputs(form), **members)
