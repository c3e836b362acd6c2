"""The verbs of the command line by room; each module adds its own to the parser. A new verb is a function there."""
