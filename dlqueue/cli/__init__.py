"""The program `dlqueue`: commands, and how things are shown."""
