"""UCUM codes as clinicians read them: only what the table names, and nothing in it that says another quantity."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest

from document_service.formatting import format_value, style
from document_service.formatting.units import PRINTED, UCUM
from document_service.typesetting.fonts import drawable

EN = style("en", time_zone="Asia/Kabul")

#: Printed by another name than that of the code; read them with care.
OTHER_NAMES = {
    "Cel": "°C",
    "[degF]": "°F",
    "[drp]": "drops",
    "[drp]/min": "drops/min",
    "[in_i]": "in",
    "[ft_i]": "ft",
    "[lb_av]": "lb",
    "[oz_av]": "oz",
}


def shown(**members: Any) -> str:
    """The value as the eye sees it."""
    text = format_value("quantity", {"value": Decimal("7.50"), **members}, EN)
    return re.sub("[\u2060\u2066-\u2069]", "", text).replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("members", "seen"),
    [
        # Only a code, or the code again as the display.
        ({"code": "10*9/L", "system": UCUM}, "7.50 ×10⁹/L"),
        ({"unit": "10*6/uL", "code": "10*6/uL", "system": UCUM}, "7.50 ×10⁶/µL"),
        ({"unit": "mm[Hg]", "code": "mm[Hg]", "system": UCUM}, "7.50 mmHg"),
        ({"code": "Cel", "system": UCUM}, "7.50 °C"),
        ({"code": "[IU]", "system": UCUM}, "7.50 IU"),
        ({"code": "m[iU]/L", "system": UCUM}, "7.50 mIU/L"),
        ({"unit": "ug/L"}, "7.50 µg/L"),
        # A dose in micrograms has no sign that was ever read as milligrams.
        ({"code": "ug", "system": UCUM}, "7.50 mcg"),
        ({"code": "ug/kg/min", "system": UCUM}, "7.50 mcg/kg/min"),
        # The sender's own display wins, whatever the code.
        ({"unit": "µg", "code": "ug", "system": UCUM}, "7.50 µg"),
        ({"unit": "mcg", "code": "ug", "system": UCUM}, "7.50 mcg"),
        ({"unit": "thousand/µL", "code": "10*3/uL", "system": UCUM}, "7.50 thousand/µL"),
        ({"unit": "ug", "code": "ug/L", "system": UCUM}, "7.50 ug"),
        # What the table does not name stays as it is: parts of it, other cases, other systems.
        ({"code": "10*9/L{cells}", "system": UCUM}, "7.50 10*9/L{cells}"),
        ({"code": "UG", "system": UCUM}, "7.50 UG"),
        ({"code": "[arb'U]/mL", "system": UCUM}, "7.50 [arb'U]/mL"),
        ({"code": "ug", "system": "http://example.org/units"}, "7.50 ug"),
        ({"unit": "U", "code": "U", "system": UCUM}, "7.50 U"),
        ({"code": "1", "system": UCUM}, "7.50"),
    ],
)
def test_a_unit_is_turned_only_when_it_is_nothing_but_a_known_code(members: dict[str, Any], seen: str) -> None:
    assert shown(**members) == seen


def test_both_sides_of_a_range_are_one_unit() -> None:
    sides = {"low": {"value": 4, "code": "10*9/L"}, "high": {"value": 11, "unit": "10*9/L", "code": "10*9/L"}}
    text = re.sub("[\u2060\u2066-\u2069]", "", format_value("range", sides, EN)).replace("\u00a0", " ")
    assert text == "4–11 ×10⁹/L"


def plain(text: str) -> str:
    """Code or print without what either adds for its readers."""
    text = text.replace("×10", "10*").translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹µ", "0123456789u")).replace("mcg", "ug")
    return re.sub(r"[\[\]{}() ._]", "", text).lower()


@pytest.mark.parametrize(("code", "printed"), PRINTED.items())
def test_what_is_printed_says_the_code_and_nothing_else(code: str, printed: str) -> None:
    if code in OTHER_NAMES:
        assert printed == OTHER_NAMES[code]
    else:
        assert plain(printed) == plain(code)
    assert not set(printed) & set("[]{}*")


def test_every_sign_is_in_a_font_in_both_weights() -> None:
    assert drawable().issuperset("".join(PRINTED.values()))
