"""The daemon: wiring, run order, signals, logs."""
