"""Writes all golden runs anew."""

from tests.golden import CONFIGS, MACHINE, kept, logged, machine

for article in CONFIGS:
    kept(article).write_text(logged(article))
    print(kept(article))
MACHINE.write_text(machine())
