"""The fault suite: kills, races, disks and signals, and a ledger that says what must be stored afterwards."""
