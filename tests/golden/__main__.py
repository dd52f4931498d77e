"""Writes all golden runs anew."""

from tests.golden import ARTICLES, MACHINE, kept, logged, machine

for article in ARTICLES:
    kept(article).write_text(logged(article))
    print(kept(article))
MACHINE.write_text(machine())
