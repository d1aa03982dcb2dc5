"""``kreludomain report``: an HTML page about runs of ``certify`` and ``compare``."""
