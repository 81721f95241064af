"""For all tests, those of the plugins too."""

from tests.interrupts import allow_interrupts

allow_interrupts()
