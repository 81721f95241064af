"""What a process is: its folders, its identity, its signals, and what it keeps for later."""
