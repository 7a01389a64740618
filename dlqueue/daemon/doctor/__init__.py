"""`dlqueue doctor`: what is wrong with an installation, and what to do about it. A module for each thing looked at."""
