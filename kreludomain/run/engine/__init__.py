"""The engine that runs every study: tasks, processes with limits, the folder of results."""
