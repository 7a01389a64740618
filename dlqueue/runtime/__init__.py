"""What any long-lived part needs: a clock, a bus, a log context. No domain words."""
