"""The words in which a diamond is graded, worst to best as the trade counts them."""

from enum import StrEnum


class Cut(StrEnum):
    """How well it was cut."""

    FAIR = "Fair"
    GOOD = "Good"
    VERY_GOOD = "Very Good"
    PREMIUM = "Premium"
    IDEAL = "Ideal"


class Color(StrEnum):
    """How little colour it has."""

    J = "J"
    I = "I"  # noqa: E741 - the name of the grade
    H = "H"
    G = "G"
    F = "F"
    E = "E"
    D = "D"


class Clarity(StrEnum):
    """How few inclusions it has."""

    I1 = "I1"
    SI2 = "SI2"
    SI1 = "SI1"
    VS2 = "VS2"
    VS1 = "VS1"
    VVS2 = "VVS2"
    VVS1 = "VVS1"
    IF = "IF"
