"""Runs from the command line: YAML configurations, samples, rows of results, tables and plots.

From the bottom up: ``yaml_text`` reads YAML, ``schema`` words what is wrong in it, ``options`` turns items of
``methods`` into methods, ``config`` is the whole file, ``data`` its samples; ``results`` is the folder of a run,
``record`` what it is of. ``worker`` is a process with hard limits, ``pool`` many of them, ``cluster`` the same on Ray,
``machine`` what there is to share out, ``schedule`` what comes next; ``runner`` asks every question, ``progress`` is
seen meanwhile. ``summary`` counts, ``tables`` and ``plots`` show, ``screen`` is where to. The commands are ``commands``
(certify, compare) and ``bounds``; ``cli`` is their arguments.
"""
