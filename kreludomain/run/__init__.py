"""The command line and its commands.

``cli`` reads arguments; ``config`` reads YAML files; ``engine`` computes rows in processes with limits and keeps them
in a folder; ``output`` has tables, figures and the screen. Each command has a folder of its own.
"""
