"""Units as clinicians read them, for Quantities that bring nothing but a UCUM code.

``Quantity.unit`` is FHIR's human display and wins. Many senders leave it out or repeat the code in it; then the page
would say ``10*9/L`` and ``mm[Hg]``. Only what this table names is turned, whole codes only: a unit that is not in it
prints as it was recorded, because a guess about a unit is a guess about a dose.

``ug`` of a dose prints as ``mcg`` and that of a concentration as ``µg``: on prescriptions µg has been read as mg, a
thousand times the dose, and the lists of error-prone abbreviations (ISMP, Joint Commission) ask for mcg; laboratories
everywhere write µg/L.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

UCUM = "http://unitsofmeasure.org"

_COUNTS = {
    # The sign of multiplication keeps the number apart from the ten: "7.5 ×10⁹/L" and never "7.510⁹/L".
    "10*3/uL": "×10³/µL",
    "10*4/uL": "×10⁴/µL",
    "10*6/uL": "×10⁶/µL",
    "10*3/mL": "×10³/mL",
    "10*6/mL": "×10⁶/mL",
    "10*3/L": "×10³/L",
    "10*6/L": "×10⁶/L",
    "10*9/L": "×10⁹/L",
    "10*12/L": "×10¹²/L",
    "10*6/kg": "×10⁶/kg",
    "/uL": "/µL",
    "{cells}/uL": "cells/µL",
    "{copies}/mL": "copies/mL",
    "/[HPF]": "/HPF",
    "/[LPF]": "/LPF",
    "[CFU]/mL": "CFU/mL",
    "{CFU}/mL": "CFU/mL",
}

_DOSES = {
    "ug": "mcg",
    "ug/kg": "mcg/kg",
    "ug/h": "mcg/h",
    "ug/min": "mcg/min",
    "ug/d": "mcg/d",
    "ug/kg/h": "mcg/kg/h",
    "ug/kg/min": "mcg/kg/min",
    "ug/kg/d": "mcg/kg/d",
    "ug/m2": "mcg/m²",
    "mg/m2": "mg/m²",
    "g/m2": "g/m²",
    "[drp]": "drops",
    "[drp]/min": "drops/min",
    "uL": "µL",
    "meq": "mEq",
    "meq/kg": "mEq/kg",
}

_CONCENTRATIONS = {
    "ug/L": "µg/L",
    "ug/dL": "µg/dL",
    "ug/mL": "µg/mL",
    "ug/g": "µg/g",
    "ug/mg": "µg/mg",
    "umol/L": "µmol/L",
    "umol/mL": "µmol/mL",
    "umol/g": "µmol/g",
    "umol": "µmol",
    "ukat/L": "µkat/L",
    "meq/L": "mEq/L",
    "mosm/kg": "mOsm/kg",
    "mosm/L": "mOsm/L",
    "g/(24.h)": "g/24 h",
    "mg/(24.h)": "mg/24 h",
    "mL/(24.h)": "mL/24 h",
    "mmol/(24.h)": "mmol/24 h",
    "umol/(24.h)": "µmol/24 h",
    "ug/(24.h)": "µg/24 h",
    "mL/min/{1.73_m2}": "mL/min/1.73 m²",
    "mL/min/(1.73.m2)": "mL/min/1.73 m²",
    "{INR}": "INR",
    "[pH]": "pH",
    "[ppm]": "ppm",
}

#: UCUM writes the international unit in two ways that mean the same.
_INTERNATIONAL = {
    spelt.format(unit): shown
    for unit in ("[IU]", "[iU]")
    for spelt, shown in {
        "{}": "IU",
        "{}/L": "IU/L",
        "{}/mL": "IU/mL",
        "{}/kg": "IU/kg",
        "{}/h": "IU/h",
        "m{}/L": "mIU/L",
        "m{}/mL": "mIU/mL",
        "u{}/L": "µIU/L",
        "u{}/mL": "µIU/mL",
        "k{}/L": "kIU/L",
        "k{}/mL": "kIU/mL",
    }.items()
}

_MEASURES = {
    "mm[Hg]": "mmHg",
    "cm[H2O]": "cmH2O",
    "Cel": "°C",
    "[degF]": "°F",
    "kg/m2": "kg/m²",
    "m2": "m²",
    "cm2": "cm²",
    "mm2": "mm²",
    "cm3": "cm³",
    "mm3": "mm³",
    "um": "µm",
    "[in_i]": "in",
    "[ft_i]": "ft",
    "[lb_av]": "lb",
    "[oz_av]": "oz",
}

#: Code → what is printed. Every sign of it is in both of the service's fonts; a test looks.
PRINTED: Mapping[str, str] = MappingProxyType({**_COUNTS, **_DOSES, **_CONCENTRATIONS, **_INTERNATIONAL, **_MEASURES})


def printed_unit(unit: str, code: str, system: str) -> str:
    """What stands behind the number for a Quantity's ``unit``, ``code`` and ``system``, each "" where absent.

    A display that differs from the code is somebody's choice and stays. A code of another system than UCUM stays too.
    """
    recorded = unit or code
    if (code and recorded != code) or system not in ("", UCUM):
        return recorded
    return PRINTED.get(recorded, recorded)
