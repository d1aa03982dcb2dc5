"""Runs from the command line: YAML configurations, samples, rows of results, tables and plots.

From the bottom up: ``yaml_text`` reads YAML, ``schema`` words what is wrong in it, ``options`` turns items of
``methods`` into methods, ``config`` is the whole file, ``data`` its samples; ``results`` is the folder of a run,
``runner`` asks every question; ``summary`` counts, ``tables`` and ``plots`` show, ``screen`` is where to. The commands
are ``commands`` (certify, compare) and ``bounds``; ``cli`` is their arguments.
"""
