"""The fault suite: kills, races, disks and signals, and a ledger that says what has to be there afterwards."""
